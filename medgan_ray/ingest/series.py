"""Slices of a series in space: their order, what is wrong with it, and which slices are wanted.

A slice's place is the projection of ImagePositionPatient on the normal of ImageOrientationPatient (PS3.3 C.7.6.2.1.1);
instance numbers and file names say nothing. Several slices at each place (echoes, phases) are as many stacks.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

GAP = 1.5
"""A step longer than this many medians, or as much shorter, makes a series uneven."""
TILT_DEGREES = 1.0
"""How far the way from slice to slice may lean against the slices' normal."""
SAME_PLACE_MM = 1e-2
SAME_DIRECTION = 1e-2
FEWEST = 3
"""Slices from which on steps can be compared."""


@dataclass(frozen=True)
class Geometry:
    """A series in space.

    Attributes:
        order: positions of the slices, sorted along the normal; those of other orientations left out.
        steps_mm: distances between neighboring places.
        tilt_degrees: angle between the way from slice to slice and the normal; 0 where there is only one place.
        flags: what is wrong with the whole series: ``uneven_slices``, ``tilted``.
        apart: slices that go for their own sake, by position: ``mixed_orientation`` or ``duplicate_slice``.
    """

    order: tuple[int, ...]
    steps_mm: tuple[float, ...]
    tilt_degrees: float
    flags: tuple[str, ...]
    apart: dict[int, str]


def examine(
    places: Sequence[Sequence[float] | None], orientations: Sequence[Sequence[float] | None], ranks: Sequence[Any]
) -> Geometry:
    """Return the geometry of a series.

    Args:
        places: ImagePositionPatient of each slice in millimeters, or None.
        orientations: ImageOrientationPatient of each slice, or None.
        ranks: what decides between slices at one place, so that the order of files does not.

    Slices without a place are left in front, in the order of their ranks.
    """
    known = [i for i in range(len(places)) if places[i] is not None and orientations[i] is not None]
    unknown = sorted(set(range(len(places))) - set(known), key=lambda i: ranks[i])
    if len(known) < 2:  # an archive of single slices has as many series as files
        return Geometry((*unknown, *known), (), 0.0, (), {})
    directed = _directions({i: tuple(map(float, orientations[i] or ())) for i in known})
    counts = Counter(directed.values())
    chosen = min(counts, key=lambda name: (-counts[name], name))
    apart = {i: "mixed_orientation" for i in known if directed[i] != chosen}
    known = [i for i in known if i not in apart]
    points = np.asarray([places[i] for i in known], float)
    directions = np.asarray(orientations[known[0]], float)
    normal = np.cross(directions[:3], directions[3:])
    normal /= max(float(np.linalg.norm(normal)), 1e-9)
    along = points @ normal
    rows = sorted(range(len(known)), key=lambda row: (round(float(along[row]) / SAME_PLACE_MM), ranks[known[row]]))
    levels = _levels(along[rows])
    apart |= {known[rows[row]]: "duplicate_slice" for row in _surplus(levels)}
    firsts = np.flatnonzero(np.diff(levels, prepend=-1))
    ways = np.diff(points[np.asarray(rows)[firsts]], axis=0)
    steps = np.linalg.norm(ways, axis=1)
    tilt = _tilt(ways, steps, normal)
    order = [known[row] for row in rows if known[row] not in apart]
    return Geometry(
        tuple(unknown + order), tuple(np.round(steps, 2).tolist()), round(tilt, 1), _flags(steps, tilt), apart
    )


def _directions(orientations: dict[int, tuple[float, ...]]) -> dict[int, tuple[float, ...]]:
    """Return for each slice the orientation that stands for all that are the same but for rounding."""
    found: list[tuple[float, ...]] = []
    stands: dict[tuple[float, ...], tuple[float, ...]] = {}
    for each in sorted(set(orientations.values())):
        alike = (one for one in reversed(found) if np.abs(np.subtract(one, each)).max() <= SAME_DIRECTION)
        stands[each] = next(alike, each)
        if stands[each] == each:
            found.append(each)
    return {i: stands[each] for i, each in orientations.items()}


def wanted(slices: str, order: Sequence[int], steps: int) -> list[int]:
    """Return the members of ``order`` that ``slices`` (all, every:N, central:N) asks for.

    Args:
        slices: the setting.
        order: a series' slices, sorted along its normal.
        steps: how many steps there are between its places; a place with several slices counts once.
    """
    kind, _, number = slices.partition(":")
    if kind == "all":
        return list(order)
    each = max(1, len(order) // (steps + 1))
    stacks = [order[start : start + each] for start in range(0, len(order), each)]
    if kind == "every":
        chosen = stacks[:: int(number)]
    else:
        first = max(0, (len(stacks) - int(number)) // 2)
        chosen = stacks[first : first + int(number)]
    return [member for stack in chosen for member in stack]


def _levels(along: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of the place of each slice, for sorted projections."""
    return np.cumsum(np.diff(along, prepend=along[0]) > SAME_PLACE_MM).astype(np.int64)


def _surplus(levels: NDArray[np.int64]) -> list[int]:
    """Return the rows by which a place has more slices than most places have."""
    counts = np.bincount(levels)
    usual = min(Counter(counts.tolist()).items(), key=lambda item: (-item[1], item[0]))[0]
    return [row for level in np.flatnonzero(counts > usual) for row in np.flatnonzero(levels == level)[usual:].tolist()]


def _tilt(ways: NDArray[np.float64], steps: NDArray[np.float64], normal: NDArray[np.float64]) -> float:
    if not len(ways):
        return 0.0
    cosines = np.abs(ways @ normal) / np.maximum(steps, 1e-9)
    return float(np.degrees(np.arccos(np.clip(np.median(cosines), 0, 1))))


def _flags(steps: NDArray[np.float64], tilt: float) -> tuple[str, ...]:
    flags = []
    if len(steps) + 1 >= FEWEST:
        usual = float(np.median(steps))
        if steps.max() > GAP * usual + SAME_PLACE_MM or steps.min() < usual / GAP - SAME_PLACE_MM:
            flags.append("uneven_slices")
    if len(steps) and tilt > TILT_DEGREES:
        flags.append("tilted")
    return tuple(flags)
