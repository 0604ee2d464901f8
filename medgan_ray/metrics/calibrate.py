"""Probabilities that mean what they say, and sets of classes that hold the true one as often as promised.

How to make them so from held-out scans, and how to tell whether they are.

Logits are float [n, K]; ``offset`` [K] is what is added to them for probabilities at the prevalence of training; labels
are int [n] without unknown ones; groups name whose scan each is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import beta

from medgan_ray.metrics.classify import BINS, Codes, Probabilities

COOLEST, HOTTEST = 0.05, 20.0
"""Temperatures that are looked among."""
TAILS = (0.025, 0.975)

FEWEST_IN_BIN = 5
"""Scans of a bin, of which there are fewer where scans are."""

Logits = NDArray[np.floating]


class Promise(NamedTuple):
    """What a threshold promises: the share of patients meant, and between which ends chance leaves it (95 %)."""

    coverage: float
    low: float
    high: float


class Reliability(NamedTuple):
    """Bins of scans by how sure the surest class is: mean confidence, share named rightly and scans, each [bins]."""

    confidence: NDArray[np.float64]
    accuracy: NDArray[np.float64]
    scans: NDArray[np.int64]


class Risk(NamedTuple):
    """The error among the surest scans, [n], for each share that is answered, [n], ascending to 1."""

    answered: NDArray[np.float64]
    error: NDArray[np.float64]

    @property
    def area(self) -> float:
        """The mean error over all shares (AURC); NaN without scans."""
        return float(self.error.mean()) if len(self.error) else float("nan")

    def at(self, share: float) -> float:
        """Return the error where a share of the scans is answered, rounded to whole scans; NaN without any."""
        n = len(self.error)
        return float(self.error[max(1, round(share * n)) - 1]) if n else float("nan")


def temperature(logits: Logits, offset: NDArray[np.floating], labels: Codes) -> float:
    """Return the temperature T that makes ``probabilities`` fit the labels best (least cross-entropy); 1 without scans.

    Source: Guo et al., "On calibration of modern neural networks" (ICML 2017).
    """
    if not len(labels):
        return 1.0
    rows = np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return float(-log_softmax(logits / np.exp(log_temperature) + offset, axis=1)[rows, labels].mean())

    found = minimize_scalar(loss, bounds=(np.log(COOLEST), np.log(HOTTEST)), method="bounded")
    return float(np.exp(found.x))


def probabilities(logits: Logits, offset: NDArray[np.floating], heat: float) -> Probabilities:
    """Return how likely each class is at the prevalence of training, [n, K]."""
    found: Probabilities = softmax(np.asarray(logits, np.float64) / heat + offset, axis=1)
    return found


def equally(logits: Logits, heat: float) -> Probabilities:
    """Return how likely each class would be if all were equally common, [n, K]."""
    return probabilities(logits, np.zeros(np.shape(logits)[1]), heat)


def threshold(balanced: Probabilities, labels: Codes, groups: Codes, coverage: float) -> float:
    """Return the probability from which on a class belongs to a scan's set: see ``members``.

    Split conformal prediction with the score 1 - p(label); each patient counts once, its scans share that evenly, so
    that the promise is kept for a random scan of a new patient. 0 where there are too few patients to promise anything:
    every class is in every set.

    Sources: Vovk et al., "Algorithmic learning in a random world" (2005); Sadinle et al., "Least ambiguous set-valued
    classifiers" (JASA 2019) for the score; Dunn et al., "Distribution-free prediction sets for two-layer hierarchical
    models" (JASA 2023) for the patients.

    Args:
        balanced: of calibration scans, from ``equally``.
        labels: their true classes.
        groups: whose they are.
        coverage: share of scans whose set holds the true class, 0…1.
    """
    _, codes, counts = np.unique(groups, return_inverse=True, return_counts=True)
    patients = len(counts)
    if not patients or coverage * (patients + 1) > patients:
        return 0.0
    scores = 1 - balanced[np.arange(len(labels)), labels]
    order = np.argsort(scores, kind="stable")
    reached = np.cumsum(1 / counts[codes][order])
    first = int(np.searchsorted(reached, coverage * (patients + 1) - 1e-9))
    return float(1 - scores[order][min(first, len(order) - 1)])


def members(balanced: Probabilities, least: float) -> NDArray[np.bool_]:
    """Return which classes a scan's set holds, [n, K]; the set may be empty."""
    return np.asarray(balanced >= least)


def promise(patients: int, coverage: float) -> Promise:
    """Return what so many calibration patients promise: the coverage reached is itself a matter of chance, beta.

    Source: Vovk, "Conditional validity of inductive conformal predictors" (ACML 2012): Beta(n + 1 - l, l), with
    l = floor((n + 1) (1 - coverage)).
    """
    spared = int(np.floor((patients + 1) * (1 - coverage) + 1e-9))
    if spared < 1:
        return Promise(1.0, 1.0, 1.0)
    low, high = beta.ppf(TAILS, patients + 1 - spared, spared)
    return Promise(coverage, float(low), float(high))


def reliability(probabilities: Probabilities, labels: Codes, bins: int = BINS) -> Reliability:
    """Return bins of as many scans each, the least sure first: at most ``bins``, of ``FEWEST_IN_BIN`` scans or more."""
    n = len(labels)
    surest = probabilities.argmax(1) if n else np.empty(0, np.int64)
    confidence = probabilities[np.arange(n), surest]
    order = np.argsort(confidence, kind="stable")
    parts = np.array_split(order, max(1, min(bins, n // FEWEST_IN_BIN))) if n else []
    return Reliability(
        np.array([confidence[part].mean() for part in parts]),
        np.array([(surest == labels)[part].mean() for part in parts]),
        np.array([len(part) for part in parts], np.int64),
    )


def debiased_error(probabilities: Probabilities, labels: Codes, bins: int = BINS) -> float:
    """Return the calibration error of the surest class without what few scans a bin add to it; NaN without scans.

    The root of the sum over ``reliability``'s bins b, of n_b scans of n, of

        n_b / n * ((accuracy_b - confidence_b)**2 - accuracy_b * (1 - accuracy_b) / (n_b - 1))

    or 0 where that sum is negative. It is a root mean square, and so no less than the mean of the absolute gaps.

    Source: Kumar, Liang and Ma, "Verified uncertainty calibration" (NeurIPS 2019), section 4: the debiased estimator of
    the squared calibration error, with bins of equal mass.
    """
    found = reliability(probabilities, labels, bins)
    if not len(found.scans):
        return float("nan")
    gaps = (found.accuracy - found.confidence) ** 2
    chance = found.accuracy * (1 - found.accuracy) / np.maximum(found.scans - 1, 1)
    return float(np.sqrt(max(0.0, float((found.scans * (gaps - chance)).sum()) / len(labels))))


def risk(certainty: NDArray[np.floating], wrong: NDArray[np.bool_]) -> Risk:
    """Return the error among the most certain scans, for every number of them; scans of one certainty err alike.

    Source: Geifman, Uziel and El-Yaniv, "Bias-reduced uncertainty estimation for deep neural classifiers" (ICLR 2019),
    for the curve and its area.

    Args:
        certainty: [n], higher is surer.
        wrong: whether a scan is named wrongly, [n].
    """
    _, codes, counts = np.unique(-np.asarray(certainty, np.float64), return_inverse=True, return_counts=True)
    alike = np.bincount(codes, weights=wrong, minlength=len(counts)) / np.maximum(counts, 1)
    spread = np.repeat(alike, counts)
    number = np.arange(1, len(spread) + 1)
    return Risk(number / max(len(spread), 1), np.cumsum(spread) / number)
