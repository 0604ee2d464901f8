"""A figure as it is reported: a value with its interval, its real-to-real floor and how many scans it rests on."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.config import Section
from medgan_ray.errors import InputError

DRAWS = 200
COVERAGE = 0.95

Statistic = Callable[[NDArray[np.int64]], float]
"""Takes indices of rows, with repeats, and gives the figure of those rows."""


class Figure(Section):
    """One figure; what can't be said is None, and ``not_applicable`` tells why."""

    value: float | None = None
    low: float | None = None
    """Lower end of the 95 % bootstrap interval."""
    high: float | None = None
    """Upper end of the same interval."""
    floor: float | None = None
    """The same figure between two disjoint sets of real scans."""
    n: int = 0
    """Scans that are judged."""
    not_applicable: str = ""


def absent(why: str, n: int = 0) -> Figure:
    """Return a figure that can't be given, with the reason."""
    return Figure(n=n, not_applicable=why)


def interval(
    statistic: Statistic, groups: NDArray[Any], *, draws: int = DRAWS, seed: int = 0, name: str = ""
) -> tuple[float, float]:
    """Return the 95 % percentile bootstrap interval of a statistic, drawing whole groups (patients) with replacement.

    Source: Efron and Tibshirani, "An Introduction to the Bootstrap" (1993), chapter 13; the cluster bootstrap of
    Davison and Hinkley (1997), section 3.8.

    Args:
        statistic: the figure of rows by index; draws for which it is no number are left out.
        groups: the group of each row [n]; rows that are independent have each their own.
        draws: how often to draw.
        seed: names the draws, together with ``name``.
        name: two statistics that share it see the same draws, and may be compared draw by draw.

    Raises:
        InputError: if there are no rows, or no draw gives a number.
    """
    values = bootstrap(statistic, groups, draws=draws, seed=seed, name=name)
    values = values[np.isfinite(values)]
    if not len(values):
        raise InputError(f"a figure of {len(groups)} scans that no draw can give", name, "give more scans")
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def bootstrap(
    statistic: Statistic, groups: NDArray[Any], *, draws: int = DRAWS, seed: int = 0, name: str = ""
) -> NDArray[np.float64]:
    """Return the statistic of each draw [draws]; arguments as ``interval`` has.

    Raises:
        InputError: if there are no rows.
    """
    if not len(groups):
        raise InputError("a figure of no scans", name, "give some scans")
    _, codes, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    rows_by_group = np.split(np.argsort(codes, kind="stable"), np.cumsum(sizes)[:-1])
    values = np.empty(draws)
    for draw in range(draws):
        chosen = seeds.generator("bootstrap", name, seed, draw).integers(0, len(sizes), len(sizes))
        rows = np.concatenate([rows_by_group[group] for group in chosen])
        values[draw] = statistic(rows.astype(np.int64))
    return values
