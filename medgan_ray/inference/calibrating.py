"""Calibrates a recognizer on held-out scans: temperatures, sets of classes, and what counts as foreign.

The val split is what it is measured on; where known scans lie among features is learned from the training split.
"""

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.artifacts import calibration
from medgan_ray.artifacts.calibration import Calibration, OfSet
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.shards import Samples, own_subjects
from medgan_ray.inference.model import model_store
from medgan_ray.inference.recognizer import Recognizer, load_recognizer
from medgan_ray.metrics import anomaly, calibrate

MOST, MOST_TRAINED = 5_000, 2_000
"""Scans of the val and of the training split that are looked at."""
LEAST_P = 0.01
"""A scan that fewer known scans than this share are as unlike is foreign."""


def calibrate_run(run: str, dataset: Dataset, coverage: float) -> Calibration | None:
    """Fit the calibration of a run's best recognizer and write it beside the weights; return it.

    Args:
        run: a run of task=recognize.
        dataset: what it was trained on.
        coverage: share of scans whose set is to hold the true class.

    Returns:
        None, with nothing written, where the val or the training split holds too few scans.
    """
    if min(len(dataset.split(name)) for name in ("train", "val")) < anomaly.FEWEST:
        return None
    model = load_recognizer(run)
    val, logits, described = _seen(model, dataset, "val", MOST)
    _, _, trained = _seen(model, dataset, "train", MOST_TRAINED)
    known = anomaly.cloud(trained)
    names = [each.name for each in dataset.manifest.labels]
    sets = []
    for index, part in enumerate(model.parts(logits)):
        labels = val.label[:, names.index(model.sets[index].name)].astype(np.int64)
        sets.append(_of_set(model, index, part, labels, val.subject, coverage))
    facts = Calibration(weights=model.card.weights, coverage=coverage, least_p=LEAST_P, sets=tuple(sets))
    tensors = {
        "mean": known.mean,
        "whitening": known.whitening,
        "distances": np.sort(anomaly.distances(described, known)),
    }
    calibration.write(model_store(run), facts, tensors)
    return facts


def _of_set(
    model: Recognizer,
    index: int,
    logits: NDArray[np.float32],
    labels: NDArray[np.int64],
    subjects: NDArray[np.int32],
    coverage: float,
) -> OfSet:
    """Fit one label set to the scans whose class is known."""
    rows = labels >= 0
    logits, labels = logits[rows], labels[rows]
    groups = own_subjects(subjects)[rows]
    heat = calibrate.temperature(logits, model.offsets()[index], labels)
    least = calibrate.threshold(calibrate.equally(logits, heat), labels, groups, coverage)
    return OfSet(
        name=model.sets[index].name,
        temperature=heat,
        least=least,
        scans=len(labels),
        patients=len(np.unique(groups)),
    )


def _seen(
    model: Recognizer, dataset: Dataset, name: str, most: int
) -> tuple[Samples, NDArray[np.float32], NDArray[np.float32]]:
    """Return what is known of at most so many scans of a split, their logits, and what describes them."""
    split = dataset.split(name)
    order = seeds.permutation(len(split), dataset.manifest.content_digest, "calibrate", name)
    chosen = np.sort(order[:most])
    return split.known(chosen), *model.seen_of(split, chosen)
