"""Do generated scans help: recognizers fitted with and without them, asked about real patients that nobody has seen.

way          fitted to
real         the real training scans
augmented    the same, under classical augmentation
duplicated   the same, and as many of them again as there are generated ones, class by class
mixed        the same, and the generated scans
synthetic    the generated scans alone (train on synthetic, test on real)
pretrained   half of the steps the generated scans, then the real ones
both         the real and the generated scans, under classical augmentation

All ways see equally many scans, in the same steps, from the same first weights of a seed, and are asked about the same
test scans. An interval draws whole patients and, as they also differ by chance, seeds; differences are of the same
draws. Each way and seed that is done is kept, so that an experiment goes on where it stopped.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from medgan_ray import seeds
from medgan_ray.artifacts.runs import read_json, write_json
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dataset.shards import Samples, own_subjects
from medgan_ray.evaluate import fit
from medgan_ray.metrics import classify
from medgan_ray.metrics.figure import DRAWS, Figure, absent, bootstrap, percentiles
from medgan_ray.store import Store


@dataclasses.dataclass(frozen=True)
class Plan:
    """What an experiment tries: the ways, ``real`` and ``mixed`` among them, seeds, and how much of the real scans."""

    ways: tuple[str, ...]
    seeds: int
    parts: tuple[str, ...] = ("all",)


WAYS = ("real", "augmented", "duplicated", "mixed", "synthetic", "pretrained", "both")
MODES: Mapping[str, Plan] = {"brief": Plan(("real", "mixed"), 3), "full": Plan(WAYS, 5, ("all", "tenth"))}
IMAGES = 12_800
"""Scans that a recognizer sees, with repeats."""
TENTH = 0.1
FOLDER = "utility"
FEWEST = 20
_RECIPE = "1"
MEANINGS = {
    "utility.gain": "balanced accuracy with generated scans added, less that of real scans alone",
    "utility.over_duplicated": "the same, less that of real scans shown twice",
    "utility.over_augmented": "the same, less that of real scans under classical augmentation",
    "utility.gain_on_augmented": "the gain where both are under classical augmentation",
    "utility.trts": "balanced accuracy on generated scans of recognizers of real ones",
    "utility.real.balanced_accuracy": "balanced accuracy, fitted to real scans",
    "utility.mixed.balanced_accuracy": "balanced accuracy, fitted to real and generated scans",
    "utility.synthetic.balanced_accuracy": "balanced accuracy, fitted to generated scans alone",
}

Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Scans:
    """What an experiment is made with; all ``fit.small``, with a label in the first column.

    Attributes:
        real: the training split.
        test: the test split: other patients.
        synthetic: generated scans with the labels that were asked for, by a generator of ``real`` alone.
        of_tenth: the same, by a generator of ``thinned(real)`` alone; None: there is none, and the one of all real
            scans stands in, which favors it.
    """

    real: Samples
    test: Samples
    synthetic: Samples
    of_tenth: Samples | None = None


@dataclasses.dataclass(frozen=True)
class Utility:
    """What an experiment gave: figures by name, and what they come to in a sentence."""

    figures: Mapping[str, Figure]
    sentence: str


def utility(
    manifest: Manifest,
    scans: Scans,
    store: Store,
    plan: Plan = MODES["brief"],
    *,
    images: int = IMAGES,
    draws: int = DRAWS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Utility:
    """Fit recognizers every way that a mode has, and compare them.

    Figures: ``utility.gain`` is how much higher the balanced accuracy of mixed is than that of real;
    ``utility.gain_WAY`` the same of another way; ``utility.over_WAY`` how much mixed is above that way;
    ``utility.gain_on_augmented`` how much both is above augmented; each also of one class's sensitivity
    (``utility.gain.sensitivity_CLASS``); ``utility.WAY.NAME`` what ``classify.values`` names. ``utility.trts`` is the
    balanced accuracy on generated scans of recognizers of real ones. With a tenth of the real scans:
    ``utility.tenth.…``.

    Args:
        manifest: of the dataset; its first label set is what is recognized.
        scans: real, test and generated ones.
        store: where each finished fit is kept.
        plan: what is tried; see ``MODES``.
        images: scans that each fit sees.
        draws: bootstrap draws of an interval.
        progress: told (fits done, fits).
    """
    given = [_labeled(each) for each in (scans.real, scans.test, scans.synthetic)]
    why = _too_few(*given)
    if why:
        return Utility({"utility.gain": absent(why, len(given[1]))}, f"Not measured: {why}.")
    figures: dict[str, Figure] = {}
    total, done = len(plan.ways) * plan.seeds * len(plan.parts), itertools.count(1)
    for part in plan.parts:
        real, test, synthetic = given
        if part == "tenth":
            real, synthetic = thinned(real), _labeled(scans.of_tenth) if scans.of_tenth else synthetic
        bench = _Bench(manifest, real, test, synthetic, store, images)
        cells: dict[str, list[_Cell]] = {way: [] for way in plan.ways}
        for seed in range(plan.seeds):
            for way in plan.ways:
                cells[way].append(bench.cell(way, seed))
                progress(next(done), total)
        prefix = "utility." if part == "all" else f"utility.{part}."
        figures |= {prefix + name: figure for name, figure in _figures(bench, cells, draws).items()}
    return Utility(figures, _sentence(figures, favored=scans.of_tenth is None))


def thinned(samples: Samples, share: float = TENTH) -> Samples:
    """Return about a share of the samples, by whole patients, with at least one patient of each class that is there."""
    subjects = own_subjects(samples.subject)
    _, codes = np.unique(subjects, return_inverse=True)
    order = seeds.permutation(int(codes.max()) + 1, "thinned")
    sizes = np.bincount(codes)[order]
    kept = set(order[np.cumsum(sizes) <= max(1, share * len(samples))].tolist())
    for label in np.unique(samples.label[samples.label[:, 0] >= 0, 0]):
        having = set(codes[samples.label[:, 0] == label].tolist())
        if not having & kept:
            kept.add(next(patient for patient in order.tolist() if patient in having))
    return samples.rows(np.flatnonzero(np.isin(codes, list(kept))))


@dataclasses.dataclass(frozen=True)
class _Cell:
    """What one fit says: probabilities [n, K] and decisions [n] on the test scans, decisions on generated ones [m]."""

    probabilities: NDArray[np.float64]
    decided: Rows
    of_synthetic: Rows


class _Bench:
    """Fits of the ways with one set of real scans."""

    def __init__(
        self, manifest: Manifest, real: Samples, test: Samples, synthetic: Samples, store: Store, images: int
    ) -> None:
        self.manifest, self.real, self.test, self.synthetic = manifest, real, test, synthetic
        self._store, self._images = store, images
        self.labels, self.groups = test.label[:, 0].astype(np.int64), own_subjects(test.subject)

    def cell(self, way: str, seed: int) -> _Cell:
        """Return what is kept of a way and a seed; fit it if there is nothing."""
        key = f"{FOLDER}/{self._name}/{way}-{seed}.json"
        kept = read_json(self._store, key)
        if kept is None:
            kept = self._fitted(way, seed)
            write_json(self._store, key, kept)
        probabilities = np.asarray(kept["probabilities"], np.float64)
        return _Cell(probabilities, *(np.asarray(kept[name], np.int64) for name in ("decided", "of_synthetic")))

    @functools.cached_property
    def _name(self) -> str:
        """Names scans and settings: another generator, dataset or budget is another experiment."""
        facts = [_RECIPE, self._images, fit.MODEL, fit.TRAIN, fit.CLASSICAL, self.manifest.classes]
        digest = hashlib.sha256(repr(facts).encode())
        for samples in (self.real, self.test, self.synthetic):
            for values in (samples.image, samples.label, samples.subject):
                digest.update(f"{values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()[:16]

    def _fitted(self, way: str, seed: int) -> dict[str, list[int] | list[list[float]]]:
        shown = self._shown(way)
        augment = fit.CLASSICAL if way in ("augmented", "both") else fit.PLAIN
        labels = np.concatenate([samples.label[:, 0] for samples in shown])
        task = fit.recognizer(self.manifest, fit.counts(labels, len(self.manifest.classes)), seed, augment)
        for samples in shown:
            fit.fit(task, samples, self._images // len(shown), seed, augment.probability)
        logits = task.answers(self.test).astype(np.float64)
        return {
            "probabilities": softmax(logits, axis=1).round(6).tolist(),
            "decided": logits.argmax(1).tolist(),
            "of_synthetic": task.answers(self.synthetic).argmax(1).tolist(),
        }

    def _shown(self, way: str) -> list[Samples]:
        """Return what a way is fitted to, one set after another."""
        if way == "pretrained":
            return [self.synthetic, self.real]
        if way in ("duplicated", "mixed", "both"):
            added = _again(self.real, self.synthetic) if way == "duplicated" else self.synthetic
            return [Samples.concatenate([_bare(self.real), _bare(added)])]
        return [self.synthetic if way == "synthetic" else self.real]


def _figures(bench: _Bench, cells: Mapping[str, list[_Cell]], draws: int) -> dict[str, Figure]:
    """Return the figures of all ways, by names without the prefix."""
    classes, labels = bench.manifest.classes, bench.labels

    def of(way: str, name: str) -> Callable[[int, Rows], float]:
        def value(seed: int, rows: Rows) -> float:
            cell, known = cells[way][seed], labels[rows]
            if name in ("auroc", "ece"):
                judged = classify.macro_auroc if name == "auroc" else classify.calibration_error
                return judged(cell.probabilities[rows], known)
            if name == "balanced_accuracy":
                return classify.balanced_accuracy(cell.decided[rows], known)
            code = classes.index(name.removeprefix("sensitivity_"))
            return float(classify.sensitivities(cell.decided[rows], known, len(classes))[code])

        return value

    def less(way: str, other: str, name: str) -> Callable[[int, Rows], float]:
        first, second = of(way, name), of(other, name)
        return lambda seed, rows: first(seed, rows) - second(seed, rows)

    judged = functools.partial(_over, seeds_of=len(cells["real"]), draws=draws)
    sensitivities = [f"sensitivity_{name}" for name in classes]
    names = ("balanced_accuracy", "auroc", "ece", *sensitivities)
    found = {f"{way}.{name}": judged(of(way, name), bench.groups) for way in cells for name in names}
    for name, (way, other) in _compared(tuple(cells)).items():
        found[name] = judged(less(way, other, "balanced_accuracy"), bench.groups)
        found |= {f"{name}.{each}": judged(less(way, other, each), bench.groups) for each in sensitivities}

    asked = bench.synthetic.label[:, 0].astype(np.int64)

    def on_synthetic(seed: int, rows: Rows) -> float:
        return classify.balanced_accuracy(cells["real"][seed].of_synthetic[rows], asked[rows])

    found["trts"] = judged(on_synthetic, np.arange(len(asked)))
    return found


def _compared(ways: tuple[str, ...]) -> dict[str, tuple[str, str]]:
    """Return the differences that are told, by name: of which way, less which."""
    found = {"gain": ("mixed", "real")}
    for way in ways:
        if way not in ("real", "mixed"):
            found |= {f"gain_{way}": (way, "real"), f"over_{way}": ("mixed", way)}
    if {"both", "augmented"} <= set(ways):
        found["gain_on_augmented"] = ("both", "augmented")
    return found


def _over(statistic: Callable[[int, Rows], float], groups: NDArray[np.int64], *, seeds_of: int, draws: int) -> Figure:
    """Return the mean of a statistic (seed, rows) over seeds, its interval over patients and seeds."""
    draw = itertools.count()

    def drawn(rows: Rows) -> float:
        chosen = seeds.generator("bootstrap", "seeds", next(draw)).integers(0, seeds_of, seeds_of)
        return float(np.mean([statistic(int(seed), rows) for seed in chosen]))

    everything = np.arange(len(groups))
    value = float(np.mean([statistic(seed, everything) for seed in range(seeds_of)]))
    values = bootstrap(drawn, groups, draws=draws, name=classify.PAIRED)
    between = percentiles(values)
    if not np.isfinite(value) or between is None:
        return absent("too few scans of a class", len(groups))
    low, high = between
    return Figure(value=value, low=low, high=high, n=len(groups))


def _sentence(figures: Mapping[str, Figure], favored: bool) -> str:
    """Say what the figures hold, and no more."""
    said = [_verdict(figures["utility.gain"], "generated scans, added to the real ones,", "the real ones alone")]
    if not {"utility.over_duplicated", "utility.over_augmented"} & figures.keys():
        said.append("Duplicated scans and classical augmentation were not tried (evaluate.utility=full).")
    for way, other in (("duplicated", "as many real scans again"), ("augmented", "classical augmentation")):
        if f"utility.over_{way}" in figures:
            said.append(_verdict(figures[f"utility.over_{way}"], "they", other))
    if "utility.gain_on_augmented" in figures:
        said.append(_verdict(figures["utility.gain_on_augmented"], "both under augmentation, they", "it alone"))
    if "utility.tenth.gain" in figures:
        told = _verdict(figures["utility.tenth.gain"], "generated scans", "real scans alone")
        caveat = " (by a generator that had seen all of them, which favors it)" if favored else ""
        said.append(f"With a tenth of the real scans{caveat}: {told[0].lower()}{told[1:]}")
    return " ".join(said)


def _verdict(difference: Figure, subject: str, other: str) -> str:
    if difference.value is None or difference.low is None or difference.high is None:
        return f"Nothing can be said of {subject.rstrip(',')} against {other}: {difference.not_applicable}."
    held = f"({100 * difference.low:+.1f} to {100 * difference.high:+.1f} points of balanced accuracy)"
    begin = subject[0].upper() + subject[1:]
    if difference.low > 0:
        return f"{begin} did better than {other} {held}."
    if difference.high < 0:
        return f"{begin} did worse than {other} {held}."
    return f"{begin} were not shown to differ from {other} {held}."


def _labeled(samples: Samples) -> Samples:
    if not samples.label.shape[1]:
        return samples.rows(slice(0, 0))
    return samples.rows(np.flatnonzero(samples.label[:, 0] >= 0))


def _too_few(real: Samples, test: Samples, synthetic: Samples) -> str:
    """Return why an experiment would say nothing; empty where it may. Generated scans may all be of one rare class."""
    for name, samples, needed in (("training", real, 2), ("test", test, 2), ("generated", synthetic, 1)):
        present = len(np.unique(samples.label[:, 0])) if len(samples) else 0
        if len(samples) < FEWEST or present < needed:
            return f"{len(samples)} {name} scans of {present} known classes, {FEWEST} of {needed} are needed"
    return ""


def _again(real: Samples, like: Samples) -> Samples:
    """Return real scans, with repeats, of the same classes as other scans; a class without real ones is left out."""
    chosen = []
    for label in np.unique(like.label[:, 0]):
        there = np.flatnonzero(real.label[:, 0] == label)
        count = int((like.label[:, 0] == label).sum())
        if len(there):
            order = there[seeds.permutation(len(there), "again", int(label))]
            chosen.append(np.resize(order, count))
    return real.rows(np.concatenate(chosen).astype(np.int64))


def _bare(samples: Samples) -> Samples:
    """Return images and labels of the first set, in the form of any other's."""
    n = len(samples)
    return Samples(
        image=samples.image,
        label=samples.label[:, :1],
        subject=samples.subject,
        attribute=np.zeros((n, 0), np.int16),
        spacing=np.full((n, 2), np.nan, np.float32),
    )
