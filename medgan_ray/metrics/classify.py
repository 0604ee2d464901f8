"""How well classes are told apart, and whether the probabilities mean what they say: pure functions of arrays.

Probabilities are float [n, K], rows of sum 1; labels and decisions are int [n], codes 0 … K - 1 without unknown ones.
A class of which there is no scan has no part in a mean over classes.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata

from medgan_ray.errors import InputError
from medgan_ray.metrics.figure import DRAWS, Figure, absent, draws_of, interval, percentiles

BINS = 15
PAIRED = "recognize"
"""Names the draws of all intervals here, so that figures of the same scans may be compared draw by draw."""
_OF_CLASS = "sensitivity_"
_TINY = 1e-12

Codes = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def accuracy(decided: Codes, labels: Codes) -> float:
    """Return the share of scans that are named rightly, 0…1; NaN without scans."""
    return float(np.mean(decided == labels)) if len(labels) else float("nan")


def sensitivities(decided: Codes, labels: Codes, classes: int) -> NDArray[np.float64]:
    """Return of each class the share of its scans that are named rightly, [K]; NaN where there is none."""
    total = np.bincount(labels, minlength=classes).astype(np.float64)
    right = np.bincount(labels[decided == labels], minlength=classes)
    shares: NDArray[np.float64] = np.divide(right, total, out=np.full(classes, np.nan), where=total > 0)
    return shares


def specificities(decided: Codes, labels: Codes, classes: int) -> NDArray[np.float64]:
    """Return of each class the share of all other scans that are not named so, [K]; NaN where there is none."""
    total = np.bincount(labels, minlength=classes)
    wrongly = np.bincount(decided[decided != labels], minlength=classes).astype(np.float64)
    others = (len(labels) - total).astype(np.float64)
    shares: NDArray[np.float64] = np.divide(others - wrongly, others, out=np.full(classes, np.nan), where=others > 0)
    return shares


def confusion(decided: Codes, labels: Codes, classes: int) -> NDArray[np.int64]:
    """Return how many scans of each class (rows) are named so (columns), [K, K]."""
    counts: NDArray[np.int64] = np.bincount(labels * classes + decided, minlength=classes**2).astype(np.int64)
    return counts.reshape(classes, classes)


def balanced_accuracy(decided: Codes, labels: Codes) -> float:
    """Return the mean of the classes' sensitivities, 0…1: 1 / K for whoever always says the same; NaN without scans."""
    if not len(labels):
        return float("nan")
    return float(np.nanmean(sensitivities(decided, labels, int(max(labels.max(), decided.max())) + 1)))


def auroc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the chance that a positive scan scores higher than another one, ties half; NaN where one kind is missing.

    Source: Hanley and McNeil, "The meaning and use of the area under a ROC curve" (Radiology 1982): the Mann-Whitney U.

    Args:
        scores: [n], higher is more positive.
        positive: bool [n].
    """
    values, wanted = np.asarray(scores, np.float64), np.asarray(positive, bool)
    hits, others = int(wanted.sum()), int((~wanted).sum())
    if not hits or not others:
        return float("nan")
    return float((rankdata(values)[wanted].sum() - hits * (hits + 1) / 2) / (hits * others))


def average_precision(scores: ArrayLike, positive: ArrayLike) -> float:
    """Return the area under the precision-recall curve, NaN where one kind is missing; by chance the positives' share.

    The sum over thresholds of (recall gained) times precision, without interpolation; scans of one score are one
    threshold. Source: Davis and Goadrich, "The relationship between precision-recall and ROC curves" (ICML 2006), on
    why lines between its points would flatter.

    Args:
        scores: [n], higher is more positive.
        positive: bool [n].
    """
    values, wanted = np.asarray(scores, np.float64), np.asarray(positive, bool)
    hits = int(wanted.sum())
    if not hits or hits == len(wanted):
        return float("nan")
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))
    found = np.cumsum(wanted[order])[last]
    return float((np.diff(found, prepend=0) / hits * (found / (last + 1))).sum())


def macro_auroc(probabilities: Probabilities, labels: Codes) -> float:
    """Return the mean over classes of each one's AUROC against all others; NaN where no class has both kinds."""
    return _macro(auroc, probabilities, labels)


def macro_auprc(probabilities: Probabilities, labels: Codes) -> float:
    """Return the mean over classes of each one's average precision; NaN where no class has both kinds."""
    return _macro(average_precision, probabilities, labels)


def calibration_error(probabilities: Probabilities, labels: Codes, bins: int = BINS) -> float:
    """Return the expected calibration error of the surest class, 0…1; NaN without scans.

    Bins of equal width over the confidence, each weighted by its scans: the mean of |accuracy - confidence|. It is
    biased upwards where there are few scans a bin.

    Source: Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning" (AAAI 2015); Guo et al., "On
    calibration of modern neural networks" (ICML 2017).
    """
    if not len(labels):
        return float("nan")
    surest = probabilities.argmax(1)
    confidence = probabilities[np.arange(len(labels)), surest]
    places = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    gaps = np.bincount(places, weights=(surest == labels) - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def brier(probabilities: Probabilities, labels: Codes) -> float:
    """Return the mean over scans of the squared distance to what is true, summed over classes, 0…2; NaN without scans.

    Source: Brier, "Verification of forecasts expressed in terms of probability" (Monthly Weather Review 1950). Of two
    classes it is twice what is often given.
    """
    if not len(labels):
        return float("nan")
    of_label = probabilities[np.arange(len(labels)), labels]
    return float(np.mean((probabilities**2).sum(1) - 2 * of_label + 1))


def cross_entropy(probabilities: Probabilities, labels: Codes) -> float:
    """Return the mean of -log p(label), in nats; NaN without scans."""
    return float(np.mean(_surprise(probabilities, labels))) if len(labels) else float("nan")


def balanced_cross_entropy(probabilities: Probabilities, labels: Codes) -> float:
    """Return the mean over classes of their scans' mean -log p(label), in nats; NaN without scans."""
    if not len(labels):
        return float("nan")
    total = np.bincount(labels).astype(np.float64)
    summed = np.bincount(labels, weights=_surprise(probabilities, labels))
    return float(np.mean(summed[total > 0] / total[total > 0]))


def at_prevalence(probabilities: Probabilities, shares: ArrayLike) -> Probabilities:
    """Return the probabilities [n, K] that hold where classes are in other proportions, by Bayes' rule.

    Args:
        probabilities: as they hold where all classes are equally common.
        shares: how common each class is, [K], positive.
    """
    weighted = probabilities * np.asarray(shares, np.float64)
    weighted = np.maximum(weighted, _TINY)
    prevalent: Probabilities = weighted / weighted.sum(1, keepdims=True)
    return prevalent


def values(probabilities: Probabilities, decided: Codes, labels: Codes, classes: Sequence[str]) -> dict[str, float]:
    """Return accuracy, balanced accuracy, macro AUROC (``auroc``), calibration error (``ece``) and sensitivities.

    Those that the scans can't tell are NaN; ``sensitivity_CLASS`` is that of a class.

    Args:
        probabilities: [n, K].
        decided: the class that is named, [n].
        labels: the class that is known, [n].
        classes: the classes' names, K of them.

    Raises:
        InputError: if the arrays don't fit each other.
    """
    n = len(labels)
    if probabilities.shape != (n, len(classes)) or len(decided) != n:
        raise InputError(f"{probabilities.shape} probabilities of {n} scans", "", f"give [{n}, {len(classes)}]")
    found = {
        "accuracy": accuracy(decided, labels),
        "balanced_accuracy": balanced_accuracy(decided, labels),
        "auroc": macro_auroc(probabilities, labels),
        "ece": calibration_error(probabilities, labels),
    }
    each = sensitivities(decided, labels, len(classes))
    return found | {f"sensitivity_{name}": float(each[code]) for code, name in enumerate(classes)}


def intervals(
    probabilities: Probabilities,
    decided: Codes,
    labels: Codes,
    groups: NDArray[np.int64],
    classes: Sequence[str],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> dict[str, Figure]:
    """Return what ``values`` does with intervals; arguments and errors as there, and:

    Args:
        probabilities: [n, K].
        decided: [n].
        labels: [n].
        groups: whose scans they are, [n]: whole patients are drawn.
        classes: K names.
        draws: bootstrap draws; all figures see the same ones.
        seed: names the draws.
    """

    def of(rows: Codes) -> dict[str, float]:
        return values(probabilities[rows], decided[rows], labels[rows], classes)

    known = values(probabilities, decided, labels, classes)
    if len(groups) != len(labels):
        raise InputError(f"{len(groups)} groups of {len(labels)} scans", "", "give one for each")
    drawn = draws_of(of, groups, draws=draws, seed=seed, name=PAIRED) if len(labels) else {}
    found = {}
    for name, value in known.items():
        between = percentiles(drawn.get(name, np.empty(0)))
        if not np.isfinite(value) or between is None:
            found[name] = absent("too few scans of a class", len(labels))
            continue
        low, high = between
        counted = (
            int((labels == classes.index(name.removeprefix(_OF_CLASS))).sum()) if _OF_CLASS in name else len(labels)
        )
        found[name] = Figure(value=value, low=low, high=high, n=counted)
    return found


def paired_difference(
    first: Callable[[Codes], float],
    second: Callable[[Codes], float],
    groups: NDArray[np.int64],
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> Figure:
    """Return first - second, both figures of the same rows in every draw of whole groups.

    Args:
        first: a figure of rows by index.
        second: the figure that it is compared with.
        groups: whose scan each row is, [n].
        draws: bootstrap draws.
        seed: names the draws.

    Raises:
        InputError: if there are no rows, or no draw gives a number.
    """

    def difference(rows: Codes) -> float:
        return first(rows) - second(rows)

    low, high = interval(difference, groups, draws=draws, seed=seed, name=PAIRED)
    return Figure(value=difference(np.arange(len(groups))), low=low, high=high, n=len(groups))


def _macro(figure: Callable[[ArrayLike, ArrayLike], float], probabilities: Probabilities, labels: Codes) -> float:
    each = [figure(probabilities[:, code], labels == code) for code in range(probabilities.shape[1])]
    known = [value for value in each if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _surprise(probabilities: Probabilities, labels: Codes) -> NDArray[np.float64]:
    chosen = probabilities[np.arange(len(labels)), labels]
    surprise: NDArray[np.float64] = -np.log(np.maximum(chosen, _TINY))
    return surprise
