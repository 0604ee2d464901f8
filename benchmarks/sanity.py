"""Claim: each way in which generated scans go wrong is seen by the figure that is meant to see it; reals are at floors.

    python benchmarks/sanity.py ../shared/data out/sanity

Judges real scans and spoiled real scans as if they had been generated, on head CTs and six classes of MedNIST and on
four of brain MRI: other real scans, blurred, noised, one class missing, a few scans over and over. Copies of training
scans are good scans by every figure of fidelity: the privacy audit is for them, and their row shows that they pass
here. Each line of the table has the figure, its value with its 95 % interval, and its real-to-real floor; a line is
SEEN where the interval lies on the worse side of the other real scans' own interval, worse where the value alone does.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from medgan_ray import ingest_scans
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.engine.watch import to_signed
from medgan_ray.errors import UsageError
from medgan_ray.evaluate.features import Extractor, open_extractor
from medgan_ray.evaluate.fidelity import Featured, fidelity
from medgan_ray.metrics.figure import Figure

SETS = {"head CT": ("mednist/HeadCT", False), "MedNIST": ("mednist", True), "brain MRI": ("brain_mri", True)}
MEANT = {
    "other reals": ("whole", "patches", "kid", "precision", "recall", "coverage", "similarity"),
    "blurred": ("power", "spectrum", "patches", "texture", "kid"),
    "noised": ("power", "spectrum", "patches", "texture", "kid", "precision"),
    "class missing": ("coverage", "kid", "whole"),
    "five scans": ("similarity", "recall", "coverage"),
    "copies of training": ("whole", "kid", "precision", "coverage"),
}
"""What each set is judged by; the first and the last are to pass."""
MORE_IS_BETTER = ("precision", "recall", "coverage", "density")
SIGMA, NOISE = 0.7, 0.06
"""Blur in pixels and noise on -1…1: slight, for the eye to find beside the scan alone."""


class Pixels:
    """Means of 16x16 blocks, where the extra with Lite0 isn't installed."""

    name, digest, width = "pixels", "0" * 64, 256

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return features [n, 256]."""
        n, _, height, width = images.shape
        return images[:, 0].reshape(n, 16, height // 16, 16, width // 16).mean((2, 4)).reshape(n, -1)


def main() -> None:
    """Judge every set and print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/sanity"))
    words.add_argument("--most", type=int, default=1000, help="scans that are judged, at most")
    words.add_argument("--pool", type=int, default=3000, help="real scans of a dataset that are read, at most")
    words.add_argument("--only", nargs="+", choices=list(MEANT), default=list(MEANT), help="beside other reals")
    words.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    given = words.parse_args()
    try:
        extractor = open_extractor("efficientnet-lite0")
    except UsageError:
        extractor = Pixels()
    print(f"features: {extractor.name}")
    for name in given.sets:
        folder, classes = SETS[name]
        dataset = given.out / folder.replace("/", "_")
        if not (dataset / "dataset.json").exists():
            ingest_scans(str(given.scans / folder), str(dataset), {"size": 64})
        began = time.monotonic()
        _judge(name, dataset, extractor, given, classes)
        print(f"{name}: {time.monotonic() - began:.0f} s", flush=True)


def _judge(name: str, folder: Path, extractor: Extractor, given: argparse.Namespace, classes: bool) -> None:
    """Print one dataset's lines."""
    dataset = open_dataset(str(folder))
    pool = _featured(dataset, extractor, given.pool)
    n = min(given.most, len(pool) // 3)
    real, other, train = (pool.rows(np.arange(part * n, (part + 1) * n)) for part in range(3))
    noise = np.random.default_rng(1).normal(0, NOISE, other.images.shape)
    last = len(dataset.manifest.classes) - 1
    made: dict[str, Callable[[], Featured]] = {
        "other reals": lambda: other,
        "blurred": lambda: _altered(other, gaussian_filter(other.images, (0, 0, SIGMA, SIGMA)), extractor),
        "noised": lambda: _altered(other, np.clip(other.images + noise, -1, 1), extractor),
        "five scans": lambda: other.rows(np.arange(n) % 5),
        "copies of training": lambda: train,
    }
    if classes:
        made["class missing"] = lambda: other.rows(np.resize(np.flatnonzero(other.labels != last), n))
    print(
        f"\n{name}: {n} judged, {len(pool)} real\n"
        f"{'set':<20}{'figure':<12}{'value':>9}{'95 % interval':>20}{'floor':>9}"
    )
    reals: dict[str, Figure] = {}
    for kind, make in made.items():
        if reals and kind not in given.only:
            continue
        found = fidelity(real, make(), pool, dataset.manifest.intensity)
        reals = reals or found
        for figure in MEANT[kind]:
            print(_line(kind, figure, found[f"fidelity.{figure}"], reals[f"fidelity.{figure}"]), flush=True)


def _line(kind: str, name: str, figure: Figure, good: Figure) -> str:
    if figure.value is None or figure.low is None or figure.high is None:
        return f"{kind:<20}{name:<12}{figure.not_applicable}"
    if good.low is None or good.high is None:
        return f"{kind:<20}{name:<12}no interval of reals"
    ends = f"{figure.low:.4f} to {figure.high:.4f}"
    return f"{kind:<20}{name:<12}{figure.value:9.4f}{ends:>20}{figure.floor or 0:9.4f}  {_mark(name, figure, good)}"


def _mark(name: str, figure: Figure, good: Figure) -> str:
    """Return how a figure stands to that of other real scans; both have a value and an interval."""
    below = (figure.high or 0) < (good.low or 0), (figure.value or 0) < (good.low or 0)
    above = (figure.low or 0) > (good.high or 0), (figure.value or 0) > (good.high or 0)
    if name == "power":
        apart = below[0] or above[0], below[1] or above[1]
    else:
        apart = below if name in MORE_IS_BETTER else above
    return "SEEN" if apart[0] else "worse" if apart[1] else "-"


def _featured(dataset: Dataset, extractor: Extractor, most: int) -> Featured:
    """Return scans of all splits, drawn at random, in random order."""
    splits = [dataset.split(name) for name in ("train", "val", "test") if len(dataset.split(name))]
    taken = [split.take(np.arange(len(split))) for split in splits]
    images = to_signed(np.concatenate([each.image for each in taken]))
    labels = [each.label[:, 0] if each.label.shape[1] else np.full(len(each), -1) for each in taken]
    chosen = np.random.default_rng(0).permutation(len(images))[:most]
    alone = np.arange(len(chosen))
    features = extractor.features(images[chosen])
    return Featured(
        images[chosen], features, np.concatenate(labels)[chosen], alone, np.zeros((len(chosen), 0), np.int16)
    )


def _altered(scans: Featured, images: np.ndarray, extractor: Extractor) -> Featured:
    changed = images.astype(np.float32)
    return Featured(changed, extractor.features(changed), scans.labels, scans.subjects, scans.attributes)


if __name__ == "__main__":
    main()
