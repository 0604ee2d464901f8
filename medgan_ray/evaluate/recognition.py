"""How far a recognizer can be relied on: figures on scans of patients that neither training nor calibration has seen.

All figures are of the same scans, and their intervals of the same draws of whole patients. Figures of the first label
set have plain names (``recognition.accuracy``); those of another one say so (``recognition.accuracy[set=side]``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray.evaluate import fidelity, recognition_words
from medgan_ray.evaluate.answered import RecognizerCase, Said
from medgan_ray.evaluate.chapter import Chapter
from medgan_ray.metrics import calibrate, classify
from medgan_ray.metrics.classify import Codes, Probabilities
from medgan_ray.metrics.figure import Figure, absent, as_share, draws_of, percentiles
from medgan_ray.tasks.recognize import FEWEST

CHAPTER = "recognition"
MEANINGS = {
    "accuracy": "scans that are named rightly",
    "balanced_accuracy": "the same, mean over classes",
    "auroc": "AUROC of each class against the others, mean over classes; 0.5 is chance",
    "auprc": "area under precision and recall, mean over classes",
    "sensitivity": "scans of the class that are named so",
    "specificity": "scans of other classes that are not named so",
    "nll": "negative log-likelihood in nats; least is best",
    "nll_before": "the same before calibration",
    "brier": "Brier score, summed over classes; 0 to 2, least is best",
    "brier_before": "the same before calibration",
    "ece": "calibration error: how far accuracy is from confidence, mean over 15 bins of equal width",
    "ece_before": "the same before calibration",
    "ece_debiased": "calibration error without the bias of few scans, root mean square over bins of equal mass",
    "ece_debiased_before": "the same before calibration",
    "promise": "share of scans whose set is meant to hold the true class; of n calibration patients, it may be",
    "coverage": "share of scans whose set holds the true class, each patient counted once",
    "over_promise": "what it is above what is promised",
    "set_size": "classes in a set, mean",
    "answered": "scans that are answered: not foreign, and the set is one class",
    "foreign": "test scans that are taken for foreign",
    "error": "scans that are named wrongly, of all or of the surest",
    "error_answered": "answered scans that are named wrongly",
    "aurc": "error among the surest scans, mean over all shares of them",
    "majority.accuracy": "accuracy of always naming the commonest class",
    "majority.balanced_accuracy": "balanced accuracy of always naming the commonest class",
    "pixels.accuracy": "accuracy of a linear model of 24x24 raw pixels",
    "pixels.balanced_accuracy": "balanced accuracy of a linear model of 24x24 raw pixels",
    "pixels.auroc": "AUROC of a linear model of 24x24 raw pixels",
    "pixels.auprc": "area under precision and recall of a linear model of 24x24 raw pixels",
    "over_majority": "balanced accuracy, less that of always naming the commonest class",
    "over_pixels": "balanced accuracy, less that of raw pixels",
    "over_pixels_auroc": "AUROC, less that of raw pixels",
}
"""By name, without the chapter's."""
OF_GROUP = ("accuracy", "balanced_accuracy", "auroc", "coverage", "answered")
"""What is told of a subgroup."""
_SUREST = {f"error[answered={share:.0%}]": share for share in (0.5, 0.8)}
_CALIBRATED = ("coverage", "over_promise", "set_size", "answered", "foreign", "error_answered")
_OF_PIXELS = ("pixels.accuracy", "pixels.balanced_accuracy", "pixels.auroc", "pixels.auprc")
_OVER_PIXELS = ("over_pixels", "over_pixels_auroc")
_MOST_POINTS = 60

Masks = NDArray[np.bool_]
Statistic = Callable[[Codes], float]


class Share(NamedTuple):
    """A share of scans: which are counted, among which, and with what weight, each [n]."""

    hits: Masks
    among: Masks
    weights: NDArray[np.float64]

    def of(self, rows: Codes) -> float:
        """Return the share among rows, NaN where none counts."""
        weights = self.weights[rows] * self.among[rows]
        total = weights.sum()
        return float((weights * self.hits[rows]).sum() / total) if total else float("nan")


def of_recognition(case: RecognizerCase) -> Chapter:
    """How well, how surely and how much better than simple baselines it names what scans show: see ``MEANINGS``."""
    figures: dict[str, Figure] = {}
    words, details = [], {}
    for index, said in enumerate(case.said):
        found = figures_of(said, case.dataset.manifest.attributes, case.settings.draws)
        named = {_named(key, said.labels.name if index else ""): figure for key, figure in found.items()}
        figures |= named
        about = f"{said.labels.name}: " if len(case.said) > 1 else ""
        words.append(about + recognition_words.sentence(said, found))
        details[said.labels.name] = details_of(said)
    return Chapter(figures, " ".join(words), details=details)


def figures_of(said: Said, attributes: Sequence[str], draws: int) -> dict[str, Figure]:
    """Return the figures of one label set, by name without the chapter's.

    Args:
        said: what is said of its test scans.
        attributes: names of the columns of ``said.attributes``.
        draws: bootstrap draws of an interval.
    """
    why = too_few(said.known)
    if why:
        return dict.fromkeys(MEANINGS, absent(why, len(said.known)))
    groups = fidelity.subgroups(said.attributes, attributes)
    shares = _shares(said)
    whole = _whole(said, shares)

    def values(rows: Codes) -> dict[str, float]:
        found = {name: share.of(rows) for name, share in shares.items()}
        found |= {name: statistic(rows) for name, statistic in whole.items()}
        risk = calibrate.risk(said.balanced[rows].max(1), (said.named != said.known)[rows])
        found |= {name: risk.at(share) for name, share in _SUREST.items()} | {"aurc": risk.area}
        for group, members in groups.items():
            inside = rows[members[rows]]
            found |= {f"{name}[{group}]": shares[name].of(inside) for name in OF_GROUP if name in shares}
            found |= {f"{name}[{group}]": whole[name](inside) for name in OF_GROUP if name in whole}
        return found

    known, drawn = values(np.arange(len(said.known))), draws_of(values, said.groups, draws=draws, name=classify.PAIRED)
    found = {}
    for name, value in known.items():
        plain, _, rest = name.partition("[")
        among, share = _among(name, rest.removesuffix("]"), groups, said), shares.get(name) or shares.get(plain)
        if rest.removesuffix("]") in groups and among.sum() < fidelity.FEWEST:
            why = f"a small group: {among.sum()} scans, {fidelity.FEWEST} are needed"
            found[name] = absent(why, int(among.sum()))
        else:
            found[name] = _figure(name, value, drawn[name], among, share, said)
    return found | _missing(said)


def too_few(known: Codes) -> str:
    """Return why figures on scans of these classes would mean nothing; empty where they may."""
    present = len(np.unique(known))
    if len(known) >= FEWEST and present > 1:
        return ""
    return f"{len(known)} test scans of {present} known classes: {FEWEST} of 2 are needed"


def details_of(said: Said) -> dict[str, Any]:
    """Return the curves and counts of a label set, as plain JSON.

    ``confusion``: scans of each class (rows) named so (columns). ``reliability``: bins before and after calibration.
    ``risk``: the error among the surest scans, by the share of scans that they are. ``calibration``: what it was fitted
    to, and the ends between which chance leaves the coverage.
    """
    wrong = said.named != said.known
    risk = calibrate.risk(said.balanced.max(1), wrong)
    steps = np.unique(np.linspace(0, max(0, len(wrong) - 1), min(_MOST_POINTS, len(wrong))).astype(np.int64))
    bins = {
        when: [
            {"confidence": round(float(sure), 6), "accuracy": round(float(right), 6), "scans": int(n)}
            for sure, right, n in zip(*calibrate.reliability(probabilities, said.known), strict=True)
        ]
        for when, probabilities in (("before", said.before), ("after", said.after))
    }
    promise = said.promise
    return {
        "classes": list(said.labels.classes),
        "confusion": classify.confusion(said.named, said.known, len(said.labels.classes)).tolist(),
        "reliability": bins,
        "risk": [
            {"answered": round(float(risk.answered[step]), 6), "error": round(float(risk.error[step]), 6)}
            for step in steps
        ],
        "calibration": {
            **said.fitted.model_dump(mode="json"),
            "coverage": said.coverage,
            "low": promise.low,
            "high": promise.high,
        }
        if said.fitted and promise
        else None,
    }


def _shares(said: Said) -> dict[str, Share]:
    n, right = len(said.known), said.named == said.known
    everyone, alike = np.ones(n, bool), np.ones(n)
    shares = {"accuracy": Share(right, everyone, alike), "error": Share(~right, everyone, alike)}
    for code, name in enumerate(said.labels.classes):
        of_class, called = said.known == code, said.named == code
        shares[f"sensitivity[class={name}]"] = Share(called, of_class, alike)
        shares[f"specificity[class={name}]"] = Share(~called, ~of_class, alike)
    if said.fitted:
        _, codes, counts = np.unique(said.groups, return_inverse=True, return_counts=True)
        held, once = said.held[np.arange(n), said.known], 1 / counts[codes]
        shares["coverage"] = Share(held, everyone, once)
        for code, name in enumerate(said.labels.classes):
            shares[f"coverage[class={name}]"] = Share(held, said.known == code, once)
        shares["answered"] = Share(said.answered, everyone, alike)
        shares["foreign"] = Share(said.foreign, everyone, alike)
        shares["error_answered"] = Share(~right, said.answered, alike)
    commonest = int(np.argmax(said.counts))
    shares["majority.accuracy"] = Share(said.known == commonest, everyone, alike)
    if said.pixels is not None:
        shares["pixels.accuracy"] = Share(said.pixels.argmax(1) == said.known, everyone, alike)
    return shares


def _whole(said: Said, shares: Mapping[str, Share]) -> dict[str, Statistic]:
    """Return what is no share of scans, as functions of rows."""
    named, known = said.named, said.known

    def balanced(decided: Codes) -> Statistic:
        return lambda rows: classify.balanced_accuracy(decided[rows], known[rows])

    def of(figure: Callable[[Probabilities, Codes], float], probabilities: Probabilities) -> Statistic:
        return lambda rows: figure(probabilities[rows], known[rows])

    ours, auroc = balanced(named), of(classify.macro_auroc, said.after)
    majority = balanced(np.full(len(known), int(np.argmax(said.counts))))
    found: dict[str, Statistic] = {"balanced_accuracy": ours, "auroc": auroc}
    found["auprc"] = of(classify.macro_auprc, said.after)
    for end, probabilities in (("", said.after), ("_before", said.before)):
        found[f"nll{end}"] = of(classify.cross_entropy, probabilities)
        found[f"brier{end}"] = of(classify.brier, probabilities)
        found[f"ece{end}"] = of(classify.calibration_error, probabilities)
        found[f"ece_debiased{end}"] = of(calibrate.debiased_error, probabilities)
    found["majority.balanced_accuracy"] = majority
    found["over_majority"] = lambda rows: ours(rows) - majority(rows)
    if said.fitted:
        coverage = shares["coverage"]
        found["over_promise"] = lambda rows: coverage.of(rows) - said.coverage
        found["set_size"] = lambda rows: float(said.held[rows].sum(1).mean()) if len(rows) else float("nan")
    if said.pixels is not None:
        theirs, their_auroc = balanced(said.pixels.argmax(1)), of(classify.macro_auroc, said.pixels)
        found["pixels.balanced_accuracy"], found["pixels.auroc"] = theirs, their_auroc
        found["pixels.auprc"] = of(classify.macro_auprc, said.pixels)
        found["over_pixels"] = lambda rows: ours(rows) - theirs(rows)
        found["over_pixels_auroc"] = lambda rows: auroc(rows) - their_auroc(rows)
    return found


def _among(name: str, group: str, groups: Mapping[str, Masks], said: Said) -> Masks:
    """Return among which scans a figure is: all, those of a subgroup, or the surest ones."""
    n = len(said.known)
    if name in _SUREST:
        ranks = np.argsort(np.argsort(-said.balanced.max(1), kind="stable"))
        return np.asarray(ranks < max(1, round(_SUREST[name] * n)))
    return groups.get(group, np.ones(n, bool))


def _figure(
    name: str, value: float, drawn: NDArray[np.float64], among: Masks, share: Share | None, said: Said
) -> Figure:
    """Return a figure with its interval: as wide as a share's at least, and for calibration errors without their bias.

    A calibration error is larger in draws with repeats than in the scans themselves, by about as much as it is too
    large in these: the draws are moved by what they are larger (Efron and Tibshirani, chapter 10).
    """
    among = among if share is None else among & share.among
    n = int(among.sum())
    if name.startswith("ece"):
        drawn = np.maximum(drawn - (np.nanmean(drawn) - value), 0.0)
    between = percentiles(drawn)
    if not np.isfinite(value) or between is None:
        return absent("no scan that would tell", n)
    low, high = between
    if share is not None or name == "over_promise":
        less = said.coverage if name == "over_promise" else 0.0
        patients = len(np.unique(said.groups[among]))
        low, high = (end - less for end in as_share(value + less, low + less, high + less, patients))
    return Figure(value=value, low=low, high=high, n=n)


def _missing(said: Said) -> dict[str, Figure]:
    """Return what can't be had of these scans, with the reason, and what the calibration promises."""
    n, promise = len(said.known), said.promise
    found: dict[str, Figure] = {}
    if promise is None or said.fitted is None:
        why = "not calibrated: too few scans in the val split, or training has not ended"
        found |= dict.fromkeys(("promise", *_CALIBRATED), absent(why, n))
    else:
        found["promise"] = Figure(value=said.coverage, low=promise.low, high=promise.high, n=said.fitted.patients)
    if said.pixels is None:
        found |= dict.fromkeys((*_OF_PIXELS, *_OVER_PIXELS), absent("fewer than two classes have training scans", n))
    return found


def _named(key: str, label_set: str) -> str:
    """Return a figure's whole name; of another label set than the first, that set stands first in the brackets."""
    plain, bracket, rest = key.partition("[")
    if not label_set:
        return f"{CHAPTER}.{key}"
    return f"{CHAPTER}.{plain}[set={label_set}{f', {rest}' if bracket else ']'}"


CHAPTERS: Mapping[str, Callable[[RecognizerCase], Chapter]] = {CHAPTER: of_recognition}
