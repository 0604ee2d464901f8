"""What the searches of a privacy audit come to, in pixels or in features: canaries, copies, ratios, distinct scans."""

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from medgan_ray.evaluate.membership import Attack, attack
from medgan_ray.evaluate.nearby import Found
from medgan_ray.evaluate.sampled import Lineup
from medgan_ray.metrics.figure import COVERAGE, Figure, absent, interval
from medgan_ray.metrics.neighbors import LEAST_DEVIATION, Nearest, contrast

RARE = 0.001
"""Share of real scans that have another patient's training scan nearer than a copy has to be."""
TAIL = 0.05
"""Share of real scans from which that is extrapolated."""
CAUGHT = 0.9
"""Share of planted copies of training scans that must be found."""
MISTAKEN = 0.1
"""Share of planted copies of held-out scans that may be taken for memorized ones."""
_TINY = 1e-6

Hits = NDArray[np.bool_]
Distances = NDArray[np.float32]
Rows = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Matches:
    """For each generated scan, what lies nearest to it."""

    trained: Nearest
    held_out: Nearest
    threshold: float
    """At most so far from a training scan are copies."""
    copies: Hits
    """Which are [n]."""


@dataclasses.dataclass(frozen=True)
class Judged:
    """The searches of one space, and how near a copy has to be."""

    lineup: Lineup
    found: Found
    threshold: float

    @classmethod
    def of(cls, lineup: Lineup, found: Found) -> "Judged":
        """Take the threshold from real scans and the training scans of other patients nearest to them."""
        reals = np.concatenate([found.trained[name].distance for name in ("members", "others")])
        return cls(lineup, found, rare_distance(reals))

    @property
    def matches(self) -> Matches:
        """What lies nearest to each generated scan."""
        trained, held_out = self.found.trained["generated"], self.found.held_out["generated"]
        return Matches(trained, held_out, self.threshold, self._copies("generated"))

    @property
    def broken(self) -> str:
        """Why nothing that was found can be believed, or an empty text."""
        caught, mistaken = (figure.value or 0.0 for figure in self.canaries.values())
        if caught < CAUGHT:
            return (
                f"only {caught:.0%} of copies planted among the generated scans were found: the search fails, or"
                " scans of different patients are as alike as copies"
            )
        if mistaken > MISTAKEN:
            return f"{mistaken:.0%} of planted copies of held-out scans were taken for memorized training scans"
        matches = self.matches
        if not (np.isfinite(matches.trained.distance) & np.isfinite(matches.held_out.distance)).all():
            return "nothing was found near some generated scans"
        return ""

    @property
    def canaries(self) -> dict[str, Figure]:
        """Shares of planted copies of training and of held-out scans that count as copies of training scans."""
        members = self.lineup.members
        nearest = self.found.trained["planted"].index
        right = self.lineup.trained[nearest] == members.groups[members.planted]
        caught = self._copies("planted") & (nearest >= 0) & right
        return {"canary": share(caught), "canary_others": share(self._copies("planted_others"))}

    def copies(self) -> Figure:
        """Return the share of generated scans that are copies; the floor is that of real held-out scans."""
        return share(self._copies("generated"), float(self._copies("others").mean()))

    def comparison(self, draws: int, seed: int) -> dict[str, Figure]:
        """Return how near training scans are, beside as many held-out ones, and the same of other held-out scans.

        ``ratio`` is the median of the distance to the nearest training scan over that to the nearest held-out scan,
        ``nearer`` the share that is nearer to a training scan.
        """
        near, far = self.found.equal_members, self.found.equal_others
        groups = {
            "generated": np.arange(len(near["generated"].index)),
            "others": self.lineup.others.groups[: self.lineup.cut],
        }
        figures = {}
        for name, one in (("ratio", _ratio), ("nearer", _nearer)):
            values = {key: one(near[key].distance, far[key].distance) for key in groups}
            summary = np.median if name == "ratio" else np.mean
            floor = float(summary(values["others"]))
            for key, end in (("generated", ""), ("others", "_control")):
                statistic = _over(summary, values[key])
                low, high = interval(statistic, groups[key], draws=draws, seed=seed, name=name)
                figures[f"{name}{end}"] = Figure(
                    value=statistic(np.arange(len(values[key]))),
                    low=low,
                    high=high,
                    floor=None if end else floor,
                    n=len(values[key]),
                )
        return figures

    def attack(self, draws: int, seed: int) -> Attack:
        """Return how well the distance to the nearest generated scan tells members."""
        members, others = (-self.found.generated[name].distance for name in ("members", "others"))
        groups = (self.lineup.members.groups, self.lineup.others.groups)
        return attack(members, others, groups, draws=draws, seed=seed, name="distance")

    def distinct(self) -> Figure:
        """Return the share of generated scans that are neither blank nor within a copy's distance of another one.

        The floor is that of real scans among the training scans of other patients.
        """
        real = self.found.trained["members"].distance > self.threshold
        shown = contrast(self.lineup.generated) >= LEAST_DEVIATION
        return share((self.found.generated["generated"].distance > self.threshold) & shown, float(real.mean()))

    def _copies(self, name: str) -> Hits:
        trained, held_out = (side[name].distance for side in (self.found.trained, self.found.held_out))
        hits: Hits = (trained <= self.threshold) & (trained < held_out)
        return hits


def rare_distance(distances: Distances) -> float:
    """Return the distance below which a share of ``RARE`` lies, extrapolated from the nearest twentieth.

    With a few hundred scans the smallest one would lie below far too few. Source: Weissman, JASA 73 (1978), with Hill's
    estimator of the tail (1975), for the lower tail.
    """
    count = max(1, round(TAIL * len(distances)))
    tail = np.maximum(np.sort(distances)[: count + 1], _TINY).astype(np.float64)
    decay = np.log(tail[-1] / tail[:-1]).mean()
    return float(tail[-1] * (RARE * len(distances) / count) ** decay)


def share(hits: Hits, floor: float | None = None) -> Figure:
    """Return how many of independent scans are hit, with the exact interval of Clopper and Pearson (1934).

    A bootstrap would say that what wasn't seen among a hundred can't be.
    """
    if not len(hits):
        return absent("no scans")
    found = stats.binomtest(int(hits.sum()), len(hits)).proportion_ci(COVERAGE, method="exact")
    return Figure(value=float(hits.mean()), low=float(found.low), high=float(found.high), floor=floor, n=len(hits))


def _ratio(near: Distances, far: Distances) -> NDArray[np.float64]:
    return np.maximum(near, _TINY).astype(np.float64) / np.maximum(far, _TINY)


def _nearer(near: Distances, far: Distances) -> NDArray[np.float64]:
    return np.where(near == far, 0.5, near < far).astype(np.float64)


def _over(
    summary: Callable[[NDArray[np.float64]], np.floating], values: NDArray[np.float64]
) -> Callable[[Rows], float]:
    return lambda rows: float(summary(values[rows]))
