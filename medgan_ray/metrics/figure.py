"""A figure as it is reported: a value with its interval, its real-to-real floor and how many scans it rests on."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
    found = percentiles(values)
    if found is None:
        raise InputError(f"a figure of {len(groups)} scans that no draw can give", name, "give more scans")
    return found


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


def draws_of(
    statistics: Callable[[NDArray[np.int64]], Mapping[str, float]],
    groups: NDArray[Any],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    name: str = "",
) -> dict[str, NDArray[np.float64]]:
    """Return the draws [draws] of each of several figures of the same rows, NaN where a draw can't give one.

    Args:
        statistics: the figures of rows by index, by name.
        groups: as ``interval`` has, like all that follows.
        draws: how often to draw; all figures see the same draws.
        seed: names the draws, together with ``name``.
        name: names the draws.

    Raises:
        InputError: if there are no rows.
    """
    drawn: list[Mapping[str, float]] = []

    def remembered(rows: NDArray[np.int64]) -> float:
        drawn.append(statistics(rows))
        return 0.0

    bootstrap(remembered, groups, draws=draws, seed=seed, name=name)
    return {key: np.array([each.get(key, np.nan) for each in drawn]) for key in drawn[0]} if drawn else {}


def percentiles(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """Return the ends between which 95 % of the draws lie that are numbers; None if none is."""
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    tail = 100 * (1 - COVERAGE) / 2
    low, high = np.percentile(values, [tail, 100 - tail])
    return float(low), float(high)


def as_share(value: float, low: float, high: float, independent: int) -> tuple[float, float]:
    """Return an interval within 0…1 that is not narrower than a share of so many patients has.

    Near 0 and 1 draws may all agree, by chance; what is left then is the binomial's, as Wilson (1927) has it.
    """
    binomial = stats.binomtest(round(value * independent), independent).proportion_ci(method="wilson")
    return max(min(low, float(binomial.low)), 0.0), min(max(high, float(binomial.high)), 1.0)
