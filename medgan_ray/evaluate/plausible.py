"""Whether values lie where the modality's do: tissues by Hounsfield units, else quantiles, against real scans."""

import itertools
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medgan_ray.dataset.manifest import Intensity
from medgan_ray.metrics.figure import COVERAGE, Figure, absent
from medgan_ray.metrics.halves import disjoint, disjoint_size

REGIONS = {"air": -np.inf, "fat": -190.0, "soft tissue": -30.0, "bone": 150.0}
"""Where each begins, in HU; it ends where the next begins. Fat and muscle as in Aubrey et al., "Measurement of skeletal
muscle radiation attenuation and basis of its biological variation" (Acta Physiologica 2014); lungs count as air."""
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
PERCENTILES = (0.5, 99.5)
MARGIN = 0.1
"""Of the width of a real range, on either side of it: reals themselves stay within, but for a percent or two."""
LEAST_SHARE, LEAST_VALUE = 0.02, 0.05
"""Of an image's pixels, and of the dataset's range: where all reals have the very same background, which a generator
meets but nearly, a range without width would condemn what nobody sees."""
MISSING = 0.1
"""Of the reals' mean share of a region: with less than that, the region counts as missing."""
NOTABLE = 0.005
"""Mean share of pixels that a region takes up in reals, for one to miss it."""
FEWEST = 50
_FLOORS = 20
_CHUNK = 256

Images = NDArray[np.float32]
_Exact = NDArray[np.float64]


def plausible_values(
    fake: Images, real: Images, subjects: NDArray[np.int64], intensity: Intensity
) -> dict[str, Figure]:
    """Return the share of generated images whose values lie beyond those of real ones: 0 is ideal.

    ``values.implausible`` is that of any statistic; ``values.implausible[STATISTIC]`` that of each. Where the dataset
    is in HU and holds at least two of ``REGIONS``, the statistics are the shares of an image's pixels in each region;
    values beyond the dataset's range count to the nearest region within it. Else they are seven quantiles of the image,
    in its unit. What is plausible: the real images' percentiles 0.5 to 99.5 of the statistic, on either side wider by a
    tenth and by 2 % of the pixels, or 5 % of the range. A region that reals have and generated images as good as never
    is missing: both shares are 1 then.

    The interval is the bootstrap's of generated images; the floor is that of real images by the range of others,
    disjoint by patient.

    Source: after the check of organs' Hounsfield units in MAISI (Guo et al., WACV 2025), which needs a segmentation.

    Args:
        fake: generated images [n, C, H, W] in [-1, 1].
        real: real ones, as many as there are; training scans among them.
        subjects: the patient of each real one.
        intensity: what the values mean.
    """
    regions = _regions(intensity)
    names = list(regions) or [f"quantile {level:g}" for level in QUANTILES]
    plain = "values.implausible"
    keys = [plain, *(f"{plain}[{name}]" for name in names)]
    if len(fake) < FEWEST or disjoint_size(subjects) < FEWEST:
        fewest = min(len(fake), disjoint_size(subjects))
        return {key: absent(f"{fewest} scans, ranges need {FEWEST}", len(fake)) for key in keys}
    measure = _shares_of(list(regions.values()), intensity) if regions else _quantiles_of(intensity)
    least = LEAST_SHARE if regions else LEAST_VALUE * (intensity.high - intensity.low)
    of_fake, of_real = _by_chunks(fake, measure), _by_chunks(real, measure)
    beyond = _beyond(of_fake, of_real, least)
    missing = _missing(of_fake, of_real) if regions else np.zeros(len(names), np.bool_)
    floors = []
    for draw in range(_FLOORS):
        one, other = disjoint(subjects, disjoint_size(subjects), "plausible", draw)
        floors.append(_rates(_beyond(of_real[one], of_real[other], least)))
    floor = np.mean(floors, axis=0)
    lost = [bool(missing.any()), *missing.tolist()]
    columns = np.column_stack([beyond.any(axis=1), beyond])
    return {key: _figure(columns[:, i], float(floor[i]), lost[i]) for i, key in enumerate(keys)}


def _figure(beyond: NDArray[np.bool_], floor: float, missing: bool) -> Figure:
    if missing:
        return Figure(value=1.0, low=1.0, high=1.0, floor=floor, n=len(beyond))
    # A bootstrap of independent yes and no, with all its draws, is binomial.
    n, share = len(beyond), float(beyond.mean())
    low, high = stats.binom.ppf([(1 - COVERAGE) / 2, (1 + COVERAGE) / 2], n, share) / n
    return Figure(value=share, low=float(low), high=float(high), floor=floor, n=n)


def _regions(intensity: Intensity) -> dict[str, float]:
    """Return the regions that the dataset's range holds and where they begin, in images' units; none if only one."""
    if intensity.unit != "HU":
        return {}
    names, starts = list(REGIONS), np.array(list(REGIONS.values()))
    ends = np.append(starts[1:], np.inf)
    held = (starts < intensity.high) & (ends > intensity.low)
    if held.sum() < 2:
        return {}
    scaled = (np.maximum(starts, intensity.low) - intensity.low) / (intensity.high - intensity.low) * 2 - 1
    return {names[i]: float(scaled[i]) for i in np.flatnonzero(held)}


def _shares_of(starts: list[float], intensity: Intensity) -> Callable[[Images], _Exact]:
    def shares(images: Images) -> _Exact:
        pixels = images.reshape(len(images), -1)
        # The first region also takes what is below it.
        reaching = [
            np.ones(len(images)),
            *((pixels >= start).mean(axis=1) for start in starts[1:]),
            np.zeros(len(images)),
        ]
        return np.column_stack([upper - lower for upper, lower in itertools.pairwise(reaching)])

    return shares


def _quantiles_of(intensity: Intensity) -> Callable[[Images], _Exact]:
    def quantiles(images: Images) -> _Exact:
        levels = np.quantile(images.reshape(len(images), -1), QUANTILES, axis=1).T
        return np.asarray(intensity.low + (levels + 1) / 2 * (intensity.high - intensity.low), np.float64)

    return quantiles


def _beyond(judged: _Exact, reference: _Exact, least: float) -> NDArray[np.bool_]:
    """Return which statistics of which images [n, S] are out of the reference's ranges."""
    low, high = np.percentile(reference, PERCENTILES, axis=0)
    margin = MARGIN * (high - low) + least
    beyond: NDArray[np.bool_] = (judged < low - margin) | (judged > high + margin)
    return beyond


def _missing(judged: _Exact, reference: _Exact) -> NDArray[np.bool_]:
    usual = reference.mean(axis=0)
    missing: NDArray[np.bool_] = (usual >= NOTABLE) & (judged.mean(axis=0) < MISSING * usual)
    return missing


def _rates(beyond: NDArray[np.bool_]) -> _Exact:
    return np.append(beyond.any(axis=1).mean(), beyond.mean(axis=0))


def _by_chunks(images: Images, measure: Callable[[Images], _Exact]) -> _Exact:
    def some() -> Iterator[_Exact]:
        for start in range(0, len(images), _CHUNK):
            yield measure(images[start : start + _CHUNK])

    return np.concatenate(list(some()))
