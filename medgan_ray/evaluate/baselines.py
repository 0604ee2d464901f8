"""What a recognizer has to be better than: always naming the commonest class, and a linear model of raw pixels.

Where few pixels already tell the classes apart, it may be by the scanner, the view or the collimation: a strong
baseline warns of shortcuts. The linear model weighs all classes alike, as recognizers are trained to, and the strength
of its penalty is what suits the val split best: the same scans teach it and choose for it as they do a recognizer.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax
from torch.nn import functional

from medgan_ray.dataset.batches import Dataset
from medgan_ray.evaluate import sets
from medgan_ray.metrics.classify import Codes, Probabilities, balanced_cross_entropy

SIDE = 24
"""Pixels of a side that the linear model sees."""
MOST = 8_000
"""Scans that it is fitted to, at most."""
STRENGTHS = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Penalties that are tried, the strongest first: each fit starts where the one before ended."""
STEPS = 200

Features = NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Pixels:
    """A split's scans of ``SIDE`` × ``SIDE`` pixels, one row each, and their labels: [n, D] and [n, L]."""

    values: Features
    labels: NDArray[np.int32]


def pixels(dataset: Dataset, name: str, most: int = MOST) -> Pixels:
    """Return the scans of a split at ``sets.drawn``."""
    parts = [_small(images) for images in sets.chunks(dataset, name, most)]
    known = dataset.split(name).known(sets.drawn(dataset, name, most))
    return Pixels(np.concatenate(parts) if parts else np.empty((0, 0)), known.label)


def linear(train: Pixels, val: Pixels, asked: Features, column: int, classes: int) -> Probabilities | None:
    """Return how likely each class of a label set is for other scans, all equally common, by multinomial regression.

    Args:
        train: what it is fitted to.
        val: what chooses the penalty; without scans of known class there it is 1.
        asked: scans [n, D].
        column: of the label set.
        classes: how many it has.

    Returns:
        [n, K]; None where fewer than two classes have training scans.
    """
    rows, judges = train.labels[:, column] >= 0, val.labels[:, column] >= 0
    labels = train.labels[rows, column].astype(np.int64)
    if len(np.unique(labels)) < 2:
        return None
    mean, scale = train.values[rows].mean(0), np.maximum(train.values[rows].std(0), 1e-6)
    fitted, judged, given = ((each - mean) / scale for each in (train.values[rows], val.values[judges], asked))
    wanted = val.labels[judges, column].astype(np.int64)
    best, least = None, np.inf
    weights = np.zeros((fitted.shape[1] + 1, classes))
    for strength in STRENGTHS if len(wanted) else (1.0,):
        weights = fit(fitted, labels, weights, strength)
        loss = balanced_cross_entropy(_answers(judged, weights), wanted) if len(wanted) else 0.0
        if loss < least:
            best, least = weights, loss
    return None if best is None else _answers(given, best)


def fit(values: Features, labels: Codes, start: Features, strength: float) -> Features:
    """Return the weights [D + 1, K] of a multinomial regression, the last row the intercepts, found by L-BFGS.

    What is least: the mean over classes of their scans' mean cross-entropy, and strength / 2 times the squares of all
    weights but the intercepts. A class without scans has no part in the mean.

    Args:
        values: standardized, [n, D].
        labels: [n].
        start: weights to begin with, [D + 1, K].
        strength: of the penalty.
    """
    n, classes = len(values), start.shape[1]
    counts = np.bincount(labels, minlength=classes)
    share = (1 / (np.count_nonzero(counts) * counts[labels]))[:, None]
    wanted = np.eye(classes)[labels]

    def loss(flat: Features) -> tuple[float, Features]:
        weights = flat.reshape(start.shape)
        scores = log_softmax(values @ weights[:-1] + weights[-1], axis=1)
        off = share * (np.exp(scores) - wanted)
        slope = np.concatenate([values.T @ off + strength * weights[:-1], off.sum(0, keepdims=True)])
        penalty = strength / 2 * float((weights[:-1] ** 2).sum())
        return float(-(share[:, 0] * scores[np.arange(n), labels]).sum()) + penalty, slope.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": STEPS})
    weights: Features = found.x.reshape(start.shape)
    return weights


def _answers(values: Features, weights: Features) -> Probabilities:
    found: Probabilities = softmax(values @ weights[:-1] + weights[-1], axis=1)
    return found


def _small(images: NDArray[np.float32]) -> Features:
    small = functional.interpolate(torch.from_numpy(images), (SIDE, SIDE), mode="area")
    return small.numpy().reshape(len(images), -1).astype(np.float64)
