"""Intervals of figures that cost too much for a bootstrap, or that repeated rows would falsify: by random halves.

A bootstrap draws rows twice, and a row's own copy is its nearest neighbor, its closest pixel and its perfect match:
distances between sets come out too great, neighborhoods too small. Half of the patients, none of them twice, have no
copies; and the variance of a mean over half of them, given them all, is that of the mean over all from one sample to
the next: no scale stands between the two. A bias by size cancels, as only the spread is used. Where a figure is near
its least value, as between two sets of one law, its variance falls faster than by size, and the interval is too wide.

Source: Politis, Romano and Wolf, "Subsampling" (1999), chapter 2; half-samples after McCarthy, "Replication: an
approach to the analysis of data from complex surveys" (1966).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medgan_ray import seeds
from medgan_ray.metrics.figure import COVERAGE

FEWEST_GROUPS = 10
"""Patients of whom halves still differ enough to say something."""


def half(groups: NDArray[Any], *parts: str | int) -> NDArray[np.int64]:
    """Return the rows of a random half of the groups (patients), ascending.

    Args:
        groups: the group of each row [n]; rows that are independent have each their own.
        parts: names the draw.
    """
    _, codes = np.unique(groups, return_inverse=True)
    count = int(codes.max(initial=-1)) + 1
    chosen = np.zeros(count, np.bool_)
    chosen[seeds.permutation(count, "half", *parts)[: count // 2]] = True
    return np.flatnonzero(chosen[codes])


def interval_of_halves(value: float, of_halves: Sequence[float]) -> tuple[float, float] | None:
    """Return the 95 % interval of a figure from its values on halves; None if they are fewer than three.

    Student's t for as many draws, around the figure of all rows.
    """
    finite = np.array([each for each in of_halves if np.isfinite(each)])
    if len(finite) < 3:
        return None
    reach = float(stats.t.ppf((1 + COVERAGE) / 2, len(finite) - 1) * finite.std(ddof=1))
    return value - reach, value + reach


def disjoint(groups: NDArray[Any], n: int, *parts: str | int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return two sets of ``n`` rows each, ascending, that share no group, drawn at random.

    Args:
        groups: the group of each row; at least ``2 * n`` rows and those of the largest group more.
        n: rows of each set.
        parts: names the draw.
    """
    _, codes = np.unique(groups, return_inverse=True)
    ranks = seeds.permutation(int(codes.max()) + 1, "disjoint", *parts)
    order = np.argsort(ranks[codes], kind="stable")
    return np.sort(order[:n]), np.sort(order[len(order) - n :])


def disjoint_size(groups: NDArray[Any]) -> int:
    """Return how many rows each of two sets that share no group may have, whatever the draw."""
    if not len(groups):
        return 0
    _, counts = np.unique(groups, return_counts=True)
    largest = int(counts.max())
    return (len(groups) - (largest if largest > 1 else 0)) // 2
