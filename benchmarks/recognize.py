"""Claim: recognizers that know what they don't know, against honest baselines on the same scans, by groups.

    python benchmarks/recognize.py ../shared/data/brain_mri out/recognize --peers out/peers

One split of the groups (patients, or near-duplicates where there are no patients) a seed: half of them to train, a
quarter each for val and test. On each, recognizers ``scratch`` (residual) and ``lite0`` (fine-tuned; ImageNet), and in
the same run the baselines: raw 24x24 pixels, HOG and EfficientNet-Lite0's features, each with logistic regression whose
strength is chosen by cross-validation over groups, and MONAI's ResNet-18. Prints accuracy with intervals over seeds and
groups, paired differences, and the CPU-seconds of each. Then, for each recognizer, the held-out groups are divided in
two by turns, to calibrate and to ask: calibration error, sets of classes, what is answered, foreign scans.
"""

import argparse
import csv
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import skimage.feature
import torch
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from medgan_ray import ingest_scans, seeds
from medgan_ray.config import expand, from_words, merge
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.dataset.shards import Samples, own_subjects
from medgan_ray.engine.watch import to_signed
from medgan_ray.evaluate.features import Lite0
from medgan_ray.inference.recognizer import Recognizer, load_recognizer
from medgan_ray.metrics import anomaly, calibrate, classify
from medgan_ray.verbs.train import train

SPLIT = {"val": 0.25, "test": 0.25}
DRAWS, TURNS, COVERAGE = 1000, 4, 0.9
AUGMENT = {"probability": 0.5, "flip": True, "rotate_degrees": 10, "scale": 0.1, "brightness": 0.05, "contrast": 0.2}
OURS: dict[str, dict[str, Any]] = {
    "scratch": {"images": 40_000},
    "lite0": {
        "images": 5_000,
        "model": {"name": "efficientnet-lite0"},
        "train": {"lr": 3e-4, "lr_final": 3e-5},
    },
}
BASELINES = ("pixels", "hog", "lite0 features", "resnet18")
Features = NDArray[np.floating]


def main() -> None:
    """Train everything on every split and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/brain_mri"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/recognize"))
    words.add_argument("options", nargs="*", help="key=value for both recognizers")
    words.add_argument("--seeds", type=int, default=5)
    words.add_argument("--peers", type=Path, help="a virtual environment with MONAI")
    words.add_argument("--foreign", type=Path, default=Path("../shared/data/mednist"), help="scans of other things")
    words.add_argument("--ways", nargs="+", default=[*OURS, *BASELINES])
    given = words.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    asked = [_Split(given, seed) for seed in range(given.seeds)]
    ways = [way for way in given.ways if way != "resnet18" or given.peers]
    answers = {way: [split.answers(way) for split in asked] for way in ways}
    _print_accuracy(asked, answers)
    foreign = _foreign(given)
    for way in (way for way in OURS if way in ways):
        _print_sureness(way, asked, foreign)


class _Split:
    """One division of the groups, and what is fitted to its training scans."""

    def __init__(self, given: argparse.Namespace, seed: int) -> None:
        self.given, self.seed, self.folder = given, seed, given.out / f"split{seed}"
        if not (self.folder / "data" / "dataset.json").exists():
            table = _table(given.scans, given.out)
            config = {"size": 64, "split": {**SPLIT, "seed": seed}, "ingest.labels": str(table)}
            ingest_scans(str(given.scans), str(self.folder / "data"), config)
        self.dataset = open_dataset(str(self.folder / "data"))
        self.train, self.val, self.test = (_all(self.dataset, name) for name in ("train", "val", "test"))
        self.labels = self.test.label[:, 0].astype(np.int64)
        self.groups = own_subjects(self.test.subject)

    def answers(self, way: str) -> NDArray[np.float64]:
        """Return the probabilities [n, K] that a way gives the test scans."""
        kept, began = self.folder / f"{way.replace(' ', '_')}.npz", time.process_time()
        if not kept.exists():
            found = self._ours(way) if way in OURS else self._baseline(way)
            np.savez(kept, probabilities=found, seconds=time.process_time() - began)
        arrays = np.load(kept)
        print(f"seed {self.seed}, {way}: {float(arrays['seconds']):.0f} CPU-s", flush=True)
        return np.asarray(arrays["probabilities"], np.float64)

    def recognizer(self, way: str) -> Recognizer:
        """Return a trained recognizer of ours."""
        return load_recognizer(str(self.folder / f"run-{way}"))

    def _ours(self, way: str) -> NDArray[np.float64]:
        common = {"task": "recognize", "seed": self.seed, "augment": AUGMENT, "train": {"writers": []}}
        options = merge(merge(expand(common), OURS[way]), from_words(self.given.options))
        train(str(self.folder / "data"), str(self.folder / f"run-{way}"), options)
        return self.recognizer(way).answers(self.test.image).sets[0].probabilities

    def _baseline(self, way: str) -> NDArray[np.float64]:
        if way == "resnet18":
            return self._resnet()
        shown = {"pixels": _pixels, "hog": _hog, "lite0 features": lambda images: Lite0().features(images)}[way]
        fitted, asked = (shown(to_signed(samples.image)) for samples in (self.train, self.test))
        labels, groups = self.train.label[:, 0], own_subjects(self.train.subject)
        folds = list(GroupKFold(5).split(fitted, labels, groups))
        model = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=np.logspace(-4, 1, 8), cv=folds, max_iter=300))
        return np.asarray(model.fit(fitted, labels).predict_proba(asked))

    def _resnet(self) -> NDArray[np.float64]:
        with tempfile.TemporaryDirectory() as folder:
            given, found = Path(folder) / "in.npz", Path(folder) / "out.npz"
            images, asked = to_signed(self.train.image), to_signed(self.test.image)
            np.savez(given, labels=self.train.label[:, 0], train=images, asked=asked)
            script = Path(__file__).parent / "contenders" / "resnet.py"
            python = str(self.given.peers / "bin" / "python")
            subprocess.run([python, str(script), str(given), str(found), "--seed", str(self.seed)], check=True)
            return np.asarray(np.load(found)["probabilities"])


def _table(scans: Path, out: Path) -> Path:
    """Write the labels with patients, or groups of near-duplicates, as groups; return where."""
    with (scans / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    table = (out / "labels.csv").resolve()
    with table.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file", "label", "group"])
        writer.writerows([row["file"], row["label"], row.get("near_group") or row.get("patient")] for row in rows)
    return table


def _all(dataset: Dataset, name: str) -> Samples:
    split = dataset.split(name)
    return split.take(np.arange(len(split)))


def _pixels(images: Features) -> Features:
    small = torch.nn.functional.interpolate(torch.from_numpy(images), (24, 24), mode="area")
    return small.numpy().reshape(len(images), -1)


def _hog(images: Features) -> Features:
    return np.stack([skimage.feature.hog(image[0], pixels_per_cell=(8, 8), cells_per_block=(2, 2)) for image in images])


def _print_accuracy(asked: list[_Split], answers: dict[str, list[NDArray[np.float64]]]) -> None:
    """Print each way's figures, and how far ours are above the baselines; draws are of seeds and whole groups."""
    draws = [_draw(asked, turn) for turn in range(DRAWS)]

    def mean(way: str, drawn: list[tuple[int, NDArray[np.int64]]], figure: str) -> float:
        found = []
        for seed, rows in drawn:
            said, labels = answers[way][seed][rows], asked[seed].labels[rows]
            balanced = figure == "balanced accuracy"
            found.append(
                classify.balanced_accuracy(said.argmax(1), labels) if balanced else classify.macro_auroc(said, labels)
            )
        return float(np.mean(found))

    whole = [(seed, np.arange(len(split.labels))) for seed, split in enumerate(asked)]
    for figure in ("balanced accuracy", "macro AUROC"):
        print(f"\n{figure}, {len(asked)} splits, {len(asked[0].labels)} test scans each")
        spread = {way: [mean(way, drawn, figure) for drawn in draws] for way in answers}
        for way, values in spread.items():
            low, high = np.percentile(values, [2.5, 97.5])
            each = [mean(way, [one], figure) for one in whole]
            print(f"{way:>16} {np.mean(each):.3f} ({low:.3f}..{high:.3f}); seeds {min(each):.3f}..{max(each):.3f}")
        for mine in (way for way in OURS if way in answers):
            for other in (way for way in answers if way not in OURS):
                less = np.array(spread[mine]) - np.array(spread[other])
                low, high = np.percentile(less, [2.5, 97.5])
                value = mean(mine, whole, figure) - mean(other, whole, figure)
                print(f"{mine:>16} less {other}: {value:+.3f} ({low:+.3f}..{high:+.3f})")


def _draw(asked: list[_Split], turn: int) -> list[tuple[int, NDArray[np.int64]]]:
    draw = seeds.generator("benchmark", "recognize", turn)
    return [(seed, _resampled(asked[seed].groups, draw)) for seed in draw.integers(0, len(asked), len(asked)).tolist()]


def _resampled(groups: NDArray[np.int64], draw: np.random.Generator) -> NDArray[np.int64]:
    """Return the rows of as many groups, drawn with replacement."""
    _, codes = np.unique(groups, return_inverse=True)
    members = np.split(np.argsort(codes, kind="stable"), np.cumsum(np.bincount(codes))[:-1])
    return np.concatenate([members[code] for code in draw.integers(0, len(members), len(members))])


def _foreign(given: argparse.Namespace) -> dict[str, NDArray[np.uint16]]:
    """Return scans that are none of those learned, of the same shape."""
    found = {"noise": np.random.default_rng(0).integers(0, 65536, (100, 1, 64, 64)).astype(np.uint16)}
    for name in ("Hand", "CXR"):
        dataset = given.out / f"foreign-{name}"
        if not (dataset / "dataset.json").exists():
            ingest_scans(str(given.foreign / name), str(dataset), {"size": 64, "split": {"val": 0, "test": 0.5}})
        found[name] = _all(open_dataset(str(dataset)), "test").image[:100]
    return found


def _print_sureness(way: str, asked: list[_Split], foreign: dict[str, NDArray[np.uint16]]) -> None:
    """Print what calibration gives: the held-out groups of each split are divided in two by turns."""
    rows: list[dict[str, float]] = []
    curves: list[NDArray[np.float64]] = []
    pooled: dict[str, list[NDArray[np.float64]]] = {"before": [], "after": []}
    labels_of: list[NDArray[np.int64]] = []
    for split in asked:
        model = split.recognizer(way)
        held = Samples.concatenate([split.val, split.test])
        logits, described = model.seen(held.image)
        known = anomaly.cloud(model.seen(split.train.image)[1])
        distances = anomaly.distances(described, known)
        others = {name: anomaly.distances(model.seen(images)[1], known) for name, images in foreign.items()}
        others["upside down"] = anomaly.distances(
            model.seen(np.ascontiguousarray(split.test.image[:, :, ::-1]))[1], known
        )
        labels, groups = held.label[:, 0].astype(np.int64), own_subjects(held.subject)
        for turn in range(TURNS):
            fitted = _half(groups, split.seed, turn)
            row, after, curve = _one(model, logits, labels, groups, fitted)
            pooled["before"].append(calibrate.probabilities(logits[~fitted], model.offsets()[0], 1.0))
            pooled["after"].append(after)
            labels_of.append(labels[~fitted])
            curves.append(curve)
            row |= {
                f"foreign {name}": classify.auroc(
                    np.concatenate([distances[~fitted], far]), np.arange((~fitted).sum() + len(far)) >= (~fitted).sum()
                )
                for name, far in others.items()
            }
            rows.append(row)
    print(f"\n{way}: {len(rows)} divisions of held-out groups")
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:>34} {np.mean(values):.3f} (sd {np.std(values):.3f})")
    everything = np.concatenate(labels_of)
    for name, parts in pooled.items():
        said = np.concatenate(parts)
        print(f"{name:>8}: pooled ECE {classify.calibration_error(said, everything):.3f}", end=", ")
        print(f"NLL {classify.cross_entropy(said, everything):.3f}, Brier {_brier(said, everything):.3f}")
    print("error by share answered: " + ", ".join(f"{share:.0%} {value:.3f}" for share, value in _curve(curves)))


def _half(groups: NDArray[np.int64], seed: int, turn: int) -> NDArray[np.bool_]:
    names = np.unique(groups)
    order = seeds.permutation(len(names), "benchmark", "half", seed, turn)
    return np.isin(groups, names[order[: len(names) // 2]])


def _one(
    model: Recognizer,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    fitted: NDArray[np.bool_],
) -> tuple[dict[str, float], NDArray[np.float64], NDArray[np.float64]]:
    """Calibrate on one half and ask about the other: figures, probabilities, errors by descending confidence."""
    offset = model.offsets()[0]
    heat = calibrate.temperature(logits[fitted], offset, labels[fitted])
    least = calibrate.threshold(calibrate.equally(logits[fitted], heat), labels[fitted], groups[fitted], COVERAGE)
    asked, wanted = logits[~fitted], labels[~fitted]
    balanced, after = calibrate.equally(asked, heat), calibrate.probabilities(asked, offset, heat)
    held = calibrate.members(balanced, least)
    sure, wrong = held.sum(1) == 1, balanced.argmax(1) != wanted
    order = np.argsort(-balanced.max(1), kind="stable")
    found = {
        "error over all": float(wrong.mean()),
        "coverage of the sets": float(held[np.arange(len(wanted)), wanted].mean()),
        "classes in a set": float(held.sum(1).mean()),
        "share answered": float(sure.mean()),
        "error on those": float(wrong[sure].mean()) if sure.any() else float("nan"),
        "error at 50 % over that of all": float(wrong[order[: len(order) // 2]].mean() / wrong.mean()),
        "error at 80 % over that of all": float(wrong[order[: len(order) * 4 // 5]].mean() / wrong.mean()),
        "temperature": heat,
    }
    return found, after, wrong[order].astype(np.float64)


def _curve(errors: list[NDArray[np.float64]]) -> list[tuple[float, float]]:
    shares = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    return [(share, float(np.mean([each[: round(share * len(each))].mean() for each in errors]))) for share in shares]


def _brier(said: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    return float(((said - np.eye(said.shape[1])[labels]) ** 2).sum(1).mean())


if __name__ == "__main__":
    main()
