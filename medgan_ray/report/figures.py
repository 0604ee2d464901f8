"""Pictures for reports: sheets of images as PNG data URIs, curves as coordinates for inline SVG."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 46
SHEET_WIDTH = 1040
MARKED_POINTS = 80
"""Up to so many points of a line get a dot that tells its value."""


class _Series(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def x(self) -> Sequence[float]: ...
    @property
    def y(self) -> Sequence[float]: ...


class _Level(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def value(self) -> float: ...


class _Curve(Protocol):
    @property
    def series(self) -> Sequence[_Series]: ...
    @property
    def levels(self) -> Sequence[_Level]: ...


class _Panel(Protocol):
    @property
    def images(self) -> NDArray[np.uint8]: ...
    @property
    def columns(self) -> int: ...


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where in the drawing, and what stands there."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """A line in the drawing's coordinates: ``points`` for SVG, ``dots`` as (x, y, what it says)."""

    name: str
    points: str
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Drawing:
    """A curve as numbers for SVG; ``empty`` if no point is finite."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]
    levels: tuple[Tick, ...]
    empty: bool


@dataclass(frozen=True)
class Sheet:
    """A PNG as a data URI, and the width in CSS pixels at which to show it."""

    uri: str
    width: int
    count: int


def draw(curve: _Curve) -> Drawing:
    """Return the coordinates of a curve's lines, levels and ticks in a drawing of ``WIDTH`` × ``HEIGHT``."""
    kept = [_finite(series) for series in curve.series]
    xs = [x for points in kept for x, _ in points]
    levels = [level for level in curve.levels if math.isfinite(level.value)]
    ys = [y for points in kept for _, y in points] + [level.value for level in levels]
    x_ticks, y_ticks = (
        ticks(min(xs, default=0.0), max(xs, default=1.0)),
        ticks(min(ys, default=0.0), max(ys, default=1.0)),
    )

    def across(x: float) -> float:
        return round(_place(x, min(xs, default=0.0), max(xs, default=1.0), LEFT, WIDTH - RIGHT), 1)

    def up(y: float) -> float:
        return round(_place(y, y_ticks[0], y_ticks[-1], HEIGHT - BOTTOM, TOP), 1)

    inside = [x for x in x_ticks if min(xs, default=0.0) <= x <= max(xs, default=1.0)]
    return Drawing(
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        right=WIDTH - RIGHT,
        top=TOP,
        bottom=HEIGHT - BOTTOM,
        x_ticks=tuple(Tick(across(x), short(x)) for x in inside),
        y_ticks=tuple(Tick(up(y), short(y)) for y in y_ticks),
        lines=tuple(
            Line(
                series.name,
                " ".join(f"{across(x)},{up(y)}" for x, y in points),
                tuple((across(x), up(y), f"{series.name}: {y:.4g} at {short(x)}") for x, y in points)
                if len(points) <= MARKED_POINTS
                else (),
            )
            for series, points in zip(curve.series, kept, strict=True)
        ),
        levels=tuple(Tick(up(level.value), f"{level.name} {level.value:.4g}") for level in levels),
        empty=not xs,
    )


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Return about ``wanted`` round numbers (1, 2, 2.5, 5 times a power of ten) that enclose low and high."""
    if high <= low:
        pad = abs(low) * 0.1 or 0.5
        low, high = low - pad, low + pad
    raw = (high - low) / max(wanted - 1, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 12) for index in range(first, last + 1)]


def short(value: float) -> str:
    """Return a number as an axis shows it: 75000 as 75k, 1500000 as 1.5M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"


def sheet(panel: _Panel, panels: int = 1) -> Sheet:
    """Return a panel's images as one PNG, shown so that ``panels`` of them stand side by side.

    Raises:
        ValueError: if the images are not uint8 of a shape that ``grid_png`` takes.
    """
    picture = tile(_channels_last(panel.images), panel.columns)
    uri = "data:image/png;base64," + base64.b64encode(_png(picture)).decode("ascii")
    zoom = max(1, min(3, SHEET_WIDTH // max(panels, 1) // max(picture.shape[1], 1)))
    return Sheet(uri, picture.shape[1] * zoom, len(panel.images))


def grid_png(images: NDArray[np.uint8], columns: int = 8) -> bytes:
    """Return uint8 images [n, H, W], [n, 1, H, W], [n, 3, H, W] or [n, H, W, 3] as one PNG, in reading order.

    Raises:
        ValueError: for another type or shape.
    """
    return _png(tile(_channels_last(images), columns))


def animated_gif(frames: NDArray[np.uint8], columns: int, frame_ms: int, most_bytes: int) -> bytes:
    """Return uint8 frames [n, k, …] as an endless GIF, each a sheet of k images as ``grid_png`` takes them.

    Where it would be larger than ``most_bytes``, gray levels (colors) are given up, 256 down to 16.

    Raises:
        ValueError: for another type or shape.
    """
    sheets = [Image.fromarray(tile(_channels_last(images), columns)) for images in frames]
    data = b""
    for levels in (256, 64, 32, 16):
        fewer = [
            each if each.mode == "L" and levels == 256 else each.quantize(levels, dither=Image.Dither.NONE)
            for each in sheets
        ]
        buffer = io.BytesIO()
        fewer[0].save(buffer, format="GIF", save_all=True, append_images=fewer[1:], duration=frame_ms, loop=0)
        data = buffer.getvalue()
        if len(data) <= most_bytes:
            break
    return data


def gif_uri(gif: bytes) -> str:
    """Return an animated GIF as a data URI."""
    return f"data:image/gif;base64,{base64.b64encode(gif).decode()}"


def shrunk(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Return images [..., C, H, W] a whole number of times smaller, so that no side is twice ``side`` pixels or more.

    Blocks of k × k pixels become their mean; what is left over at the edges is cut.
    """
    times = max(1, max(images.shape[-2:]) // side)
    if times == 1:
        return images
    height, width = (length // times for length in images.shape[-2:])
    cut = images[..., : height * times, : width * times]
    blocks = cut.reshape(*images.shape[:-2], height, times, width, times)
    means: NDArray[np.uint8] = blocks.mean((-3, -1)).round().astype(np.uint8)
    return means


def tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Return images [n, H, W, …] as one picture, ``columns`` to a row, what is left over in black."""
    count, height, width = images.shape[:3]
    columns = max(1, min(columns, count))
    rows = max(1, math.ceil(count / columns))
    picture = np.zeros((rows * height, columns * width, *images.shape[3:]), np.uint8)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        picture[row * height : (row + 1) * height, column * width : (column + 1) * width] = image
    return picture


def _channels_last(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    images = np.asarray(images)
    if images.dtype == np.uint8 and images.ndim == 4 and images.shape[3] != 3:
        images = images[:, 0] if images.shape[1] == 1 else np.moveaxis(images, 1, -1)
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[3] != 3):
        raise ValueError(f"pictures are uint8 [n, H, W] or [n, H, W, 3], not {images.dtype} {images.shape}")
    return images


def _png(picture: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def _finite(series: _Series) -> list[tuple[float, float]]:
    pairs = zip(series.x, series.y, strict=True)
    return [(float(x), float(y)) for x, y in pairs if math.isfinite(x) and math.isfinite(y)]


def _place(value: float, low: float, high: float, begin: float, end: float) -> float:
    return (begin + end) / 2 if high <= low else begin + (value - low) / (high - low) * (end - begin)
