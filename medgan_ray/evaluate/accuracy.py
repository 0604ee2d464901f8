"""How accurate generated scans are: does a classifier that never saw one name the class that was asked for."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan_ray.metrics.classify import balanced_accuracy
from medgan_ray.metrics.figure import Figure, absent, interval

MEANINGS = {"classes.accuracy": "generated scans in which the class asked for is recognized, mean over classes"}
FEWEST = 20
"""Scans of a class below which nothing is claimed of it."""

Codes = NDArray[np.signedinteger]


def class_accuracy(
    named: Codes, asked: Codes, named_real: Codes, known_real: Codes, classes: Sequence[str], draws: int
) -> dict[str, Figure]:
    """Return ``classes.accuracy``, the mean over the classes, and that of each class, ``classes.accuracy[class=NAME]``.

    The floor is the same share among held-out real scans: a class that is hard to tell in reals is so in these.

    Args:
        named: the class that the classifier gives each generated scan [n].
        asked: the class that was asked for [n].
        named_real: the class that it gives each held-out real scan [m].
        known_real: their labels [m], -1 unknown.
        classes: the classes' names.
        draws: bootstrap draws of an interval.
    """
    known = known_real >= 0
    named_real, known_real = named_real[known], known_real[known]
    present = [code for code in range(len(classes)) if (asked == code).sum() >= FEWEST]
    if len(present) < 2:
        return {"classes.accuracy": absent(f"fewer than two classes with {FEWEST} generated scans", len(asked))}

    def share(rows: NDArray[np.int64]) -> float:
        return balanced_accuracy(named[rows], asked[rows])

    low, high = interval(share, np.arange(len(asked)), draws=draws, name="class accuracy")
    floor = balanced_accuracy(named_real, known_real) if len(known_real) else None
    found = {
        "classes.accuracy": Figure(value=share(np.arange(len(asked))), low=low, high=high, floor=floor, n=len(asked))
    }
    for code, name in enumerate(classes):
        found[f"classes.accuracy[class={name}]"] = _of_class(
            (named == code)[asked == code], (named_real == code)[known_real == code], draws
        )
    return found


def _of_class(right: NDArray[np.bool_], right_real: NDArray[np.bool_], draws: int) -> Figure:
    n = len(right)
    if n < FEWEST:
        return absent(f"a small class: {n} generated scans, {FEWEST} are needed", n)
    low, high = interval(lambda rows: float(right[rows].mean()), np.arange(n), draws=draws, name="class accuracy")
    floor = float(right_real.mean()) if len(right_real) else None
    return Figure(value=float(right.mean()), low=low, high=high, floor=floor, n=n)
