"""How good generated scans are: distances and neighborhoods beside held-out real ones, by class and by subgroup.

Every figure compares as many generated as real scans, and its floor is the same figure between two disjoint sets of
real scans, of that number and of different patients: where there are too few reals for such a floor, fewer scans are
compared. Its interval comes of halves of the patients and of the generated scans (``metrics/halves.py``).
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.dataset.manifest import Intensity
from medgan_ray.errors import InputError
from medgan_ray.evaluate.plausible import plausible_values
from medgan_ray.ingest.deidentify import word
from medgan_ray.metrics.figure import Figure, absent, as_share
from medgan_ray.metrics.halves import FEWEST_GROUPS, disjoint, disjoint_size, half, interval_of_halves
from medgan_ray.metrics.images import WINDOW, pair_similarity
from medgan_ray.metrics.kernel import frechet, kid, rank_deficient
from medgan_ray.metrics.manifold import neighborhoods
from medgan_ray.metrics.sliced import PATCH, patch_sliced_wasserstein, sliced_wasserstein
from medgan_ray.metrics.spectrum import high_frequency_power, lattice_index, spectrum_distance
from medgan_ray.metrics.texture import glcm_distance, glcm_features, histogram_distance

FEWEST = 50
"""Real scans, of all or of a class or subgroup, below which nothing is claimed."""
_TINY = 1e-12
_SHARES = ("precision", "recall", "coverage")
BY_CLASS = ("kid", "precision", "recall", "coverage", "power", "histogram", "similarity")
MEANINGS = {
    "fidelity.whole": "sliced Wasserstein distance of whole images; least is best",
    "fidelity.patches": "the same of 7x7 patches of the Laplacian pyramid, in the reals' standard deviations",
    "fidelity.power": "power of high frequencies over the reals'; 1 is ideal",
    "fidelity.lattice": "power on the lines that up-sampling leaves, over the reals'; 1 is ideal",
    "fidelity.spectrum": "difference of radial power spectra in decibels",
    "fidelity.histogram": "Wasserstein distance of all pixels; black to white is 2",
    "fidelity.texture": "Wasserstein distance of co-occurrence features, in the reals' standard deviations",
    "fidelity.frechet": "Fréchet distance of features",
    "fidelity.kid": "kernel distance of features, unbiased; 0 for one law",
    "fidelity.precision": "generated scans that lie within neighborhoods of real ones",
    "fidelity.recall": "real scans that lie within neighborhoods of generated ones",
    "fidelity.density": "how thick real neighborhoods lie around generated scans; about 1 for one law",
    "fidelity.coverage": "real neighborhoods that hold a generated scan",
    "fidelity.similarity": "likeness (MS-SSIM) of two generated scans; above the reals' is too alike",
    "values.implausible": "generated scans whose values lie beyond those of real ones",
}


@dataclasses.dataclass(frozen=True)
class Featured:
    """Scans and their features, as arrays that share their first axis.

    Attributes:
        images: float32 [n, C, H, W] in [-1, 1].
        features: float32 [n, F].
        labels: [n], class in the first label set, -1 unknown.
        subjects: [n]; scans whose subject is unknown have each their own.
        attributes: [n, A], coded as in the manifest, -1 unknown; A may be 0.
        texture: co-occurrence features; found where they aren't given.
    """

    images: NDArray[np.float32]
    features: NDArray[np.float32]
    labels: NDArray[np.signedinteger]
    subjects: NDArray[np.signedinteger]
    attributes: NDArray[np.signedinteger]
    texture: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.images)

    def rows(self, index: NDArray[np.int64]) -> "Featured":
        """Return the scans at ``index``."""
        return Featured(
            self.images[index],
            self.features[index],
            self.labels[index],
            self.subjects[index],
            self.attributes[index],
            None if self.texture is None else self.texture[index],
        )

    def first(self, count: int) -> "Featured":
        """Return the first scans."""
        return self if count == len(self) else self.rows(np.arange(count))


Found = dict[str, float]


class _Sets(NamedTuple):
    """What is compared: held-out real scans, generated ones, and all real ones for floors."""

    real: Featured
    fake: Featured
    pool: Featured


class Measure(NamedTuple):
    """What is measured of judged scans against a reference, on how many halves and between how many pairs of reals."""

    of: Callable[[Featured, Featured, Sequence[str]], Found]
    names: tuple[str, ...]
    halves: int = 20
    floors: int = 4


def fidelity(
    real: Featured,
    fake: Featured,
    pool: Featured,
    intensity: Intensity,
    *,
    classes: Sequence[str] = (),
    attributes: Sequence[str] = (),
    seed: int = 0,
) -> dict[str, Figure]:
    """Return the figures of generated scans by name: ``fidelity.NAME`` and ``values.implausible``, see ``MEANINGS``.

    ``fidelity.NAME[class=CLASS]`` are ``BY_CLASS`` for generated and real scans of a class;
    ``fidelity.recall[ATTRIBUTE=VALUE]`` and ``coverage`` say how much of the real scans of a subgroup all generated
    ones reach, since no generator is asked for a sex or an age. Groups of fewer than 50 scans don't apply, and say so.

    Precision, recall, density, coverage and similarity have as floor what two sets of real scans reach; of the first
    four more is better. Recall rests on the widest neighborhoods of generated scans, so that one outlier may reach far:
    coverage is the steadier sign of a missing kind. Scans of one patient are alike, which raises the kernel distance of
    any set to the reals a little; its floor has the same.

    Args:
        real: held-out scans.
        fake: generated scans, with the labels that were asked for.
        pool: all real scans there are for floors and plausible values; those of ``real`` may be among them.
        intensity: what the values mean.
        classes: names of the classes by code.
        attributes: names of the attributes' columns.
        seed: names all draws.

    Raises:
        InputError: if shapes or widths of features differ.
    """
    _check(real, fake, pool)
    sets = _Sets(_with_texture(real), _with_texture(fake), _with_texture(pool))
    found = {f"fidelity.{name}": each for name, each in _compared(sets, attributes, seed).items()}
    for code, name in enumerate(classes):
        of_class = _Sets(*(each.rows(np.flatnonzero(each.labels == code)) for each in sets))
        figures = _compared(of_class, (), seed, only=BY_CLASS)
        found |= {f"fidelity.{key}[class={name}]": figure for key, figure in figures.items()}
    return found | plausible_values(fake.images, pool.images, pool.subjects.astype(np.int64), intensity)


def _compared(sets: _Sets, attributes: Sequence[str], seed: int, only: Sequence[str] = ()) -> dict[str, Figure]:
    """Return the figures of all measures (of ``only`` those named), for as many scans as there are of each."""
    real, fake, pool = sets
    measures = [each for each in MEASURES if not only or set(only) & set(each.names)]
    n = min(len(real), len(fake), disjoint_size(pool.subjects))
    names = [name for each in measures for name in each.names if not only or name in only]
    if n < FEWEST:
        counts = f"{len(real)} real and {len(fake)} generated scans, {len(pool)} real ones for floors"
        return dict.fromkeys(names, absent(f"too few: {counts}; {FEWEST} of each and twice that are needed", n))
    real, fake = (each.rows(seeds.permutation(len(each), "fidelity", seed)[:n]) for each in (real, fake))
    sets = _Sets(real, fake, pool)
    figures: dict[str, Figure] = {}
    for measure in measures:
        why = _unfit(measure, real)
        found = dict.fromkeys(measure.names, absent(why, n)) if why else _figures(measure, sets, attributes, seed)
        figures |= {key: figure for key, figure in found.items() if key.partition("[")[0] in names}
    return figures


def _figures(measure: Measure, sets: _Sets, attributes: Sequence[str], seed: int) -> dict[str, Figure]:
    """Return a measure's figures with their intervals and floors."""
    real, fake, pool = sets
    groups = subgroups(real.attributes, attributes)
    values = measure.of(fake, real, attributes)
    floors = []
    for draw in range(measure.floors):
        one, other = (pool.rows(rows) for rows in disjoint(pool.subjects, len(real), "floor", seed, draw))
        floors.append(measure.of(one, other, attributes))
    of_halves = _on_halves(measure, sets, attributes, seed)
    found = {}
    for key, value in values.items():
        name, bracket, group = key.partition("[")
        members = groups[group.removesuffix("]")] if bracket else np.ones(len(real), np.bool_)
        n = int(members.sum())
        if bracket and n < FEWEST:
            found[key] = absent(f"a small group: {n} real scans, {FEWEST} are needed", n)
        elif not np.isfinite(value):
            found[key] = absent("no number: all scans are alike", n)
        else:
            ends = interval_of_halves(value, [each.get(key, np.nan) for each in of_halves])
            low, high = _within(name, value, ends, len(np.unique(real.subjects[members])))
            floor = _mean([each.get(key, np.nan) for each in floors])
            found[key] = Figure(value=value, low=low, high=high, floor=floor, n=n)
    return found


def _within(
    name: str, value: float, ends: tuple[float, float] | None, patients: int
) -> tuple[float | None, float | None]:
    """Return an interval without what a figure cannot be, and not narrower than a share of so many patients has."""
    if ends is None:
        return None, None
    low, high = ends
    if name not in _SHARES:
        return low if name == "kid" else max(low, 0.0), high
    return as_share(value, low, high, patients)


def _on_halves(measure: Measure, sets: _Sets, attributes: Sequence[str], seed: int) -> list[Found]:
    """Return a measure's values on random halves of both sets; none where real patients are too few for that."""
    real, fake, _ = sets
    if len(np.unique(real.subjects)) < FEWEST_GROUPS:
        return []
    found = []
    for draw in range(measure.halves):
        halves = [each.rows(half(each.subjects, name, seed, draw)) for name, each in (("real", real), ("fake", fake))]
        count = min(map(len, halves))
        of_real, of_fake = (each.first(count) for each in halves)
        found.append(measure.of(of_fake, of_real, attributes))
    return found


def _mean(values: Sequence[float]) -> float | None:
    finite = [value for value in values if np.isfinite(value)]
    return float(np.mean(finite)) if finite else None


def subgroups(attributes: NDArray[np.signedinteger], names: Sequence[str]) -> dict[str, NDArray[np.bool_]]:
    """Return who is of which subgroup, by what names it, such as ``sex=F``.

    Args:
        attributes: codes [n, A], -1 unknown.
        names: of the A attributes.
    """
    found = {}
    for column, name in enumerate(names):
        codes = attributes[:, column]
        for code in np.unique(codes[codes >= 0]).tolist():
            found[f"{name}={word(name, code)}"] = codes == code
    return found


def _unfit(measure: Measure, real: Featured) -> str:
    """Return why a measure can't be had of these scans, or an empty text."""
    n, width = real.features.shape
    side = min(real.images.shape[2:])
    if "frechet" in measure.names and rank_deficient(n, width):
        return f"{n} scans are no more than the {width} features: covariances are singular; see kid"
    least = {"patches": PATCH, "similarity": WINDOW}.get(measure.names[0], 0)
    return f"images of {side} pixels a side, {least} are needed" if side < least else ""


def _with_texture(scans: Featured) -> Featured:
    known = scans.texture is not None or not len(scans)
    return scans if known else dataclasses.replace(scans, texture=glcm_features(scans.images))


def _check(*sets: Featured) -> None:
    shapes = {each.images.shape[1:] for each in sets}
    widths = {each.features.shape[1:] for each in sets}
    if len(shapes) > 1 or len(widths) > 1 or any(len(each.features) != len(each) for each in sets):
        what = f"scans of shapes {sorted(shapes)} with features of shapes {[each.features.shape for each in sets]}"
        raise InputError(what, "", "give sets of one shape, and features of one extractor")


def _whole(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    return {"whole": sliced_wasserstein(judged.images, reference.images)}


def _patches(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    return {"patches": patch_sliced_wasserstein(judged.images, reference.images)}


def _frequencies(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    power = high_frequency_power(judged.images) / max(high_frequency_power(reference.images), _TINY)
    lattice = lattice_index(judged.images) / max(lattice_index(reference.images), _TINY)
    return {"power": power, "lattice": lattice, "spectrum": spectrum_distance(judged.images, reference.images)}


def _levels(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    return {"histogram": histogram_distance(judged.images, reference.images)}


def _cooccurrence(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    if judged.texture is None or reference.texture is None:
        return {}
    return {"texture": glcm_distance(judged.texture, reference.texture)}


def _gaussians(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    return {"frechet": frechet(judged.features, reference.features)}


def _kernel(judged: Featured, reference: Featured, _: Sequence[str]) -> Found:
    return {"kid": kid(judged.features, reference.features)}


def _near(judged: Featured, reference: Featured, attributes: Sequence[str]) -> Found:
    found = neighborhoods(reference.features, judged.features)
    figures = {name: getattr(found, name) for name in ("precision", "recall", "density", "coverage")}
    for group, members in subgroups(reference.attributes, attributes).items():
        figures[f"recall[{group}]"] = float(found.reached[members].mean())
        figures[f"coverage[{group}]"] = float(found.covered[members].mean())
    return figures


def _likeness(judged: Featured, _: Featured, __: Sequence[str]) -> Found:
    return {"similarity": float(pair_similarity(judged.images).mean())}


MEASURES = (
    Measure(_whole, ("whole",)),
    Measure(_patches, ("patches",), halves=8, floors=3),
    Measure(_frequencies, ("power", "lattice", "spectrum")),
    Measure(_levels, ("histogram",)),
    Measure(_cooccurrence, ("texture",)),
    Measure(_gaussians, ("frechet",)),
    Measure(_kernel, ("kid",)),
    Measure(_near, ("precision", "recall", "density", "coverage")),
    Measure(_likeness, ("similarity",)),
)
"""Patches cost most by far, and are drawn least."""
