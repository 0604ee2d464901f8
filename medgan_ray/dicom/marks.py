"""Marks in a frame that could be letters: thin strokes, brighter or darker than what is around, of letter size.

Strokes are what a morphological opening removes (the white top-hat); the frame is looked at in its own resolution and
halved twice, so that strokes of 1 to 16 pixels are found with one small structuring element.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

LEVELS = 3
"""The frame, its half and its quarter."""
LEAST_SIDE, LEAST_STRIP = 96, 16
"""Frames whose longer or shorter side is below are not looked at: hardly more than a word fits in."""
STROKE = 5
"""Side of the structuring element: strokes are thinner."""
READABLE = 0.2
"""Least contrast of a stroke, as a share of the frame's range."""
LEAST_STEPS = 6
"""The same in 255ths of what is looked at: fainter is noise."""
NEIGHBORHOOD = 9
SHARES = (0.5, 0.7)
"""A stroke ends at this share of the greatest contrast in the neighborhood."""
LEAST_HEIGHT, MOST_HEIGHT = 6, 28
"""Of a letter, pixels of a level."""
WIDEST = 2.0
"""Greatest width of a letter, or of two that touch, as a share of its height."""
LARGE = 1 << 24
"""A frame of more pixels is halved before it is looked at."""

Gray = NDArray[np.uint8]


@dataclass(frozen=True)
class Marks:
    """Connected marks of one polarity at one level.

    Attributes:
        boxes: int64 [n, 4]: top, left, bottom, right (exclusive), pixels of the level.
        contrast: [n], greatest difference to the surroundings, steps of ``Level.step``.
        value: [n], mean gray, the same steps; of dark marks, of the inverted picture.
        strokes: contrast of every pixel [H, W].
        pixels: flat indices of all marks' pixels, mark by mark.
        starts: [n + 1], where each mark's pixels start.
    """

    boxes: NDArray[np.int64]
    contrast: NDArray[np.float64]
    value: NDArray[np.float64]
    strokes: Gray
    pixels: NDArray[np.int64]
    starts: NDArray[np.int64]

    def of(self, mark: int) -> NDArray[np.int64]:
        """Return the flat indices of a mark's pixels."""
        return self.pixels[self.starts[mark] : self.starts[mark + 1]]


@dataclass(frozen=True)
class Level:
    """A frame at one resolution.

    Attributes:
        scale: pixels of the frame a pixel of the level.
        gray: uint8 [H, W]; outliers are clipped.
        values: the frame's own values at this resolution.
        step: values a step of ``gray``.
        range: steps of ``gray`` between the frame's percentiles 1 and 99.
    """

    scale: int
    gray: Gray
    values: NDArray[Any]
    step: float
    range: float


def levels(frame: NDArray[Any]) -> Iterator[Level]:
    """Yield a frame [H, W] at each resolution; none if it is constant or tiny."""
    scale = 1
    while frame.size > LARGE:
        frame, scale = _half(frame), 2 * scale
    if max(frame.shape) < LEAST_SIDE or min(frame.shape) < LEAST_STRIP or frame.min() == frame.max():
        return
    gray, step, spread = _gray(frame)
    for _ in range(LEVELS):
        yield Level(scale, gray, frame, step, spread)
        gray, frame, scale = np.rint(_half(gray)).astype(np.uint8), _half(frame), 2 * scale


def marks(level: Level, bright: bool) -> Iterator[Marks]:
    """Yield the marks that are brighter, or darker, than what is around them, if there are any.

    In the frame's own resolution a second time, cut at a higher share of their contrast: it tells small letters apart
    that run into each other.
    """
    gray = level.gray if bright else 255 - level.gray
    strokes = gray - _opened(gray)
    strong = np.flatnonzero(strokes > max(READABLE * level.range, LEAST_STEPS))
    if len(strong) < 2 * STROKE:
        return
    nearby, contrast = _dilated(strokes).ravel()[strong], strokes.ravel()[strong]
    for share in SHARES if level.scale == 1 else SHARES[:1]:
        found = _marks(strong[contrast >= np.multiply(nearby, np.float32(share))], strokes, gray)
        if found is not None:
            yield found


def _marks(strong: NDArray[np.int64], strokes: Gray, gray: Gray) -> Marks | None:
    pixels, starts = _connected(strong, gray.shape[1])
    boxes = _boxes(pixels, starts, gray.shape[1])
    wide = _is_wide(boxes)
    if wide.any():
        # Letters that touch: what is left of a word without its level strokes falls apart into upright ones.
        owner = np.repeat(np.arange(len(boxes)), np.diff(starts))
        word = np.zeros(gray.shape, bool)
        word.ravel()[pixels[wide[owner]]] = True
        stems, stem_starts = _connected(np.flatnonzero(_upright(word)), gray.shape[1])
        pixels, sizes = pixels[~wide[owner]], np.diff(starts)[~wide]
        pixels = np.concatenate([pixels, stems])
        starts = np.concatenate([[0], np.cumsum(np.concatenate([sizes, np.diff(stem_starts)]))]).astype(np.int64)
        boxes = _boxes(pixels, starts, gray.shape[1])
    first = starts[:-1]
    if not len(first):
        return None
    contrast = np.maximum.reduceat(strokes.ravel()[pixels], first).astype(np.float64)
    value = np.add.reduceat(gray.ravel()[pixels].astype(np.float64), first) / np.diff(starts)
    return Marks(boxes, contrast, value, strokes, pixels, starts)


def _connected(pixels: NDArray[np.int64], width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the flat indices of connected pixels, one component after the other, and where each component starts.

    Pixels are connected where their sides or corners touch. Few pixels of a frame are strong: looking at their runs
    takes a fraction of the time that labeling all pixels takes.

    Args:
        pixels: flat indices, ascending.
        width: of the image.
    """
    rows = pixels // width
    news = np.ones(len(pixels), bool)
    news[1:] = (np.diff(pixels) != 1) | (np.diff(rows) != 0)
    first = np.flatnonzero(news)
    lengths = np.diff(np.append(first, len(pixels)))
    below = width + 2  # what lies in different rows is never closer than two
    begin = pixels[first] + 2 * rows[first]
    end = begin + lengths
    low, high = np.searchsorted(end, begin + below), np.searchsorted(begin, end + below, "right")
    ends = np.concatenate([[0], np.cumsum(high - low)])
    other = np.arange(ends[-1]) - np.repeat(ends[:-1] - low, high - low)
    graph = csr_array((np.ones(len(other)), other, ends), shape=(len(first), len(first)))
    count, owner = connected_components(graph, directed=False)
    owner = np.repeat(owner, lengths)
    order = np.argsort(owner, kind="stable")
    return pixels[order], np.searchsorted(owner[order], np.arange(count + 1))


def _boxes(pixels: NDArray[np.int64], starts: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Return the box [n, 4] of each component: top, left, bottom, right."""
    rows, columns = np.divmod(pixels, width)
    first = starts[:-1]
    if not len(first):
        return np.empty((0, 4), np.int64)
    edges = [np.minimum.reduceat(side, first) for side in (rows, columns)]
    edges += [np.maximum.reduceat(side, first) + 1 for side in (rows, columns)]
    return np.stack(edges, 1)


def _is_wide(boxes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which components are as high as letters and wider than one."""
    height, width = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    return (height >= LEAST_HEIGHT) & (height <= MOST_HEIGHT) & (width > WIDEST * height + 1)


def _gray(frame: NDArray[Any]) -> tuple[Gray, float, float]:
    """Return a frame in 8 bits, what a step of them is worth, and steps between its percentiles 1 and 99."""
    low, high = np.percentile(frame[::3, ::3].astype(np.float32), (1, 99))
    least, most = float(frame.min()), float(frame.max())
    spread = high - low
    if spread > 0.05 * (most - least):
        least, most = max(least, low - spread), min(most, high + 2 * spread)
    else:
        spread = most - least
    share = np.float32(255 / (most - least))
    gray = np.clip((frame.astype(np.float32) - np.float32(least)) * share, 0, 255)
    return gray.astype(np.uint8), float(1 / share), float(spread * share)


def _half(image: NDArray[Any]) -> NDArray[np.float32]:
    wide = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2].astype(np.float32)
    return np.asarray((wide[::2, ::2] + wide[1::2, ::2] + wide[::2, 1::2] + wide[1::2, 1::2]) / 4, np.float32)


def _slid(image: NDArray[Any], reach: int, axis: int, pick: Any) -> NDArray[Any]:
    """Return the least or greatest of each window of ``reach`` pixels along an axis, which gets that much shorter."""
    have = 1
    while have < reach:
        step = min(have, reach - have)
        rest = image.shape[axis] - step
        image = pick(image[:rest], image[step:]) if axis == 0 else pick(image[:, :rest], image[:, step:])
        have += step
    return image


def _square(image: Gray, side: int, pick: Any) -> Gray:
    return _slid(_slid(image, side, 0, pick), side, 1, pick)


def _opened(gray: Gray) -> Gray:
    return _square(_square(np.pad(gray, STROKE - 1, mode="edge"), STROKE, np.minimum), STROKE, np.maximum)


def _upright(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels that belong to upright strokes as long as a stroke may be wide."""
    padded = np.pad(mask, ((STROKE - 1, STROKE - 1), (0, 0)))
    return _slid(_slid(padded, STROKE, 0, np.minimum), STROKE, 0, np.maximum)


def _dilated(gray: Gray) -> Gray:
    return _square(np.pad(gray, NEIGHBORHOOD // 2, mode="edge"), NEIGHBORHOOD, np.maximum)
