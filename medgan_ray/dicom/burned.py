"""Finds lines of text burned into the pixels of a frame, and blanks them.

A line of text is a row of marks (``marks``) of one height on one base line and, because text is drawn in one color, of
one value with sharp edges; anatomy is not. How much a row looks like text is a sum of such features, weighted as
logistic regression weighted them for lines planted into real scans against all rows found in real scans without text
(``benchmarks/burned_in.py``). It does not read: rows of fewer than three letters, such as side markers, are no line.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from medgan_ray.dicom.marks import LEAST_HEIGHT, MOST_HEIGHT, WIDEST, Level, Marks, levels, marks

Box = tuple[int, int, int, int]
"""Top, left, bottom, right (exclusive), pixels of the frame."""

FEWEST = 3
"""Marks of a line; letters that touch are one mark."""
MOST_MARKS = 3000
"""More marks of letter size are a texture."""
SAME_COLOR = 0.06
"""Values within this share of the contrast count as one."""
ROUNDS = 6
FOLLOWED = 16
"""Of so many lines the neighbors are looked for always, of others where they are not covered yet: a page of text has
hundreds, and each leads to all others."""
REACH = 2.5
"""What stands this many letter heights beside or above text and looks alike is blanked with it."""

FEATURES = ("marks", "base", "color", "evenness", "contrast", "height", "blur")
WEIGHTS = np.array([8.90, 7.65, 1.68, 2.50, 5.33, 4.15, -3.99])
BIAS = -21.8
"""A row is text where the weighted sum of its features and this is positive. Features: logarithm of the number of
marks; share of them on the base line; logarithm of the share of pixels that have the row's commonest value; that share
in a mark that has few of them (25th percentile); contrast as a share of the frame's range; share of marks of one
height; how many pixels are half as strong as strokes, for each pixel of a stroke."""


@dataclass(frozen=True)
class Line:
    """A row of marks: where it is, and its marks' height, contrast and value, in pixels and steps of its level."""

    box: Box
    level: Level
    bright: bool
    members: NDArray[np.int64]
    """Boxes of its marks [n, 4] in pixels of the level."""
    height: float
    contrast: float
    value: float
    features: NDArray[np.float64]

    @property
    def score(self) -> float:
        """How much it looks like text; positive is text."""
        return float(self.features @ WEIGHTS) + BIAS


def find_lines(frame: NDArray[Any]) -> list[Line]:
    """Return the lines of text in a frame [H, W] of any real type; one line may be found more than once."""
    return [line for line in rows(frame) if line.score > 0]


def rows(frame: NDArray[Any]) -> Iterator[Line]:
    """Yield all rows of marks, whether they look like text or not."""
    for level in levels(frame):
        for bright in (True, False):
            for found in marks(level, bright):
                for upright in (False, True):
                    for members in _linked(found, upright):
                        yield _line(found, members, level, bright, upright)


def blank(frame: NDArray[Any], fill: float) -> list[Box]:
    """Set text in a frame [H, W], and what stands close and looks like it, to ``fill``; return the boxes blanked.

    What is still found after some rounds costs the whole frame.
    """
    boxes: list[Box] = []
    for _ in range(ROUNDS):
        lines = find_lines(frame)
        if not lines:
            return boxes
        for rows_, columns in _areas(frame.shape, lines):
            frame[rows_, columns] = fill
            boxes.append((rows_.start, columns.start, rows_.stop, columns.stop))
    frame[:] = fill
    return [(0, 0, *frame.shape)]


def _linked(found: Marks, upright: bool) -> Iterator[NDArray[np.int64]]:
    """Yield sets of marks that stand in a row: side by side, of like height, on one line, of like value.

    Args:
        found: the marks.
        upright: look for rows that run from top to bottom.
    """
    boxes = found.boxes[:, [1, 0, 3, 2]] if upright else found.boxes
    heights, widths = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    fit = np.flatnonzero((heights >= LEAST_HEIGHT) & (heights <= MOST_HEIGHT) & (widths <= WIDEST * heights + 1))
    if not FEWEST <= len(fit) <= MOST_MARKS:
        return
    fit = fit[np.argsort(boxes[fit, 1], kind="stable")]
    top, left, bottom, right = boxes[fit].T
    one, other = _pairs(left, right + MOST_HEIGHT)
    height, contrast, value = bottom - top, found.contrast[fit], found.value[fit]
    higher = np.maximum(height[one], height[other])
    lower = np.minimum(height[one], height[other])
    gap = left[other] - right[one]
    near = (left[other] > left[one]) & (gap >= -0.25 * higher) & (gap <= higher) & (lower >= 0.6 * higher)
    near &= np.minimum(bottom[one], bottom[other]) - np.maximum(top[one], top[other]) >= 0.5 * lower
    slack = 0.1 * higher + 1
    near &= (abs(bottom[one] - bottom[other]) <= slack) | (abs(top[one] - top[other]) <= slack)
    stronger = np.maximum(contrast[one], contrast[other])
    near &= (np.minimum(contrast[one], contrast[other]) >= 0.55 * stronger) & (
        abs(value[one] - value[other]) <= 0.3 * stronger
    )
    if np.count_nonzero(near) < FEWEST - 1:
        return
    graph = csr_array((near[near], (one[near], other[near])), shape=(len(fit), len(fit)))
    _, owner = connected_components(graph, directed=False)
    for number in np.flatnonzero(np.bincount(owner) >= FEWEST):
        yield fit[owner == number]


def _pairs(left: NDArray[np.int64], reach: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return all pairs of marks, sorted by ``left``, of which the second starts within the first's reach."""
    first = np.arange(len(left))
    counts = np.maximum(np.searchsorted(left, reach, "right") - first - 1, 0)
    one = np.repeat(first, counts)
    return one, one + 1 + np.arange(len(one)) - np.repeat(np.cumsum(counts) - counts, counts)


def _line(found: Marks, members: NDArray[np.int64], level: Level, bright: bool, upright: bool) -> Line:
    boxes = found.boxes[members]
    first, last = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    top, _, bottom, _ = (boxes[:, [1, 0, 3, 2]] if upright else boxes).T
    heights = bottom - top
    height, contrast = float(np.percentile(heights, 75)), float(np.median(found.contrast[members]))
    color, evenness = _color(found, members, level, contrast)
    around = found.strokes[max(0, first[0] - 2) : last[0] + 2, max(0, first[1] - 2) : last[1] + 2]
    between = int(np.count_nonzero((around > 0.2 * contrast) & (around < 0.7 * contrast)))
    inside = int(np.count_nonzero(around >= 0.5 * contrast))
    features = [
        np.log(len(members)),
        max(_level_share(bottom, height), _level_share(top, height)),
        np.log(color),
        evenness,
        min(contrast / level.range, 1.5),
        max(_share_of_height(heights, each) for each in heights.tolist()),
        min(between / max(1, inside), 3.0),
    ]
    box = (*(level.scale * first).tolist(), *(level.scale * last).tolist())
    value = float(np.median(found.value[members]))
    return Line(box, level, bright, boxes, height, contrast, value, np.array(features, np.float64))


def _share_of_height(heights: NDArray[np.int64], height: int) -> float:
    return float(np.mean((heights >= height - 1) & (heights <= height + max(1, 0.08 * height))))


def _level_share(edges: NDArray[np.int64], height: float) -> float:
    """Return the share of marks whose edge lies on the line."""
    return float(np.mean(abs(edges - np.median(edges)) <= 0.08 * height + 1))


def _color(found: Marks, members: NDArray[np.int64], level: Level, contrast: float) -> tuple[float, float]:
    """Return the share of the row's pixels that have its commonest value, and that share in the mark that has less of
    them than three quarters of the marks.
    """
    each = [level.values.ravel()[found.of(mark)].astype(np.float64) for mark in members]
    ordered, width = np.sort(np.concatenate(each)), SAME_COLOR * contrast * level.step * (1 + 1e-9)
    counts = np.searchsorted(ordered, ordered + width, "right") - np.arange(len(ordered))
    best = int(counts.argmax())
    color = (ordered[best] + ordered[best + int(counts[best]) - 1]) / 2
    shares = [np.mean(abs(values - color) <= width / 2) for values in each]
    return int(counts[best]) / len(ordered), float(np.percentile(shares, 25))


def _areas(shape: tuple[int, ...], lines: list[Line]) -> list[tuple[slice, slice]]:
    """Return the rectangles that cover lines and what stands close and looks like their letters."""
    covered = np.zeros(shape, bool)
    known: dict[tuple[int, bool], Marks | None] = {}
    for number, line in enumerate(lines):
        scale = line.level.scale
        ends = scale * line.members - np.array([0, 0, 1, 1])
        if number >= FOLLOWED and covered[ends[:, ::2], ends[:, 1::2]].all():
            continue
        if (scale, line.bright) not in known:
            known[scale, line.bright] = next(marks(line.level, line.bright), None)
        down, across = 0.3 * line.height + 2, 0.7 * line.height + 2
        boxes = _with_neighbors(line, known[scale, line.bright])
        grown = ((boxes + np.array([-down, -across, down, across])) * scale).astype(np.int64)
        covered |= _painted(shape, grown + np.array([0, 0, 1, 1]))
    labels, _ = ndimage.label(covered)
    return list(ndimage.find_objects(labels))


def _with_neighbors(line: Line, found: Marks | None) -> NDArray[np.int64]:
    """Return the boxes [n, 4] of a line's marks and of those found that look like them, from neighbor to neighbor."""
    if found is None:
        return line.members
    heights = found.boxes[:, 2] - found.boxes[:, 0]
    alike = (found.contrast >= 0.4 * line.contrast) & (heights <= 1.7 * line.height)
    alike &= abs(found.value - line.value) <= 0.4 * line.contrast
    boxes = np.concatenate([line.members, found.boxes[alike]])
    # Two are neighbors where they touch once each has grown by half of the way between them.
    half = math.ceil(REACH * line.height / 2)
    labels, _ = ndimage.label(_painted(line.level.gray.shape, boxes + np.array([-half, -half, half, half])))
    islands = labels[boxes[:, 0], boxes[:, 1]]
    return boxes[np.isin(islands, islands[: len(line.members)])]


def _painted(shape: tuple[int, ...], boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pixels boxes [n, 4] cover."""
    top, left, bottom, right = np.clip(boxes, 0, [*shape, *shape]).T
    edges = np.zeros((shape[0] + 1, shape[1] + 1), np.int32)
    for rows_, columns, step in ((top, left, 1), (bottom, right, 1), (top, right, -1), (bottom, left, -1)):
        np.add.at(edges, (rows_, columns), step)
    return np.asarray(edges.cumsum(0).cumsum(1)[:-1, :-1] > 0)
