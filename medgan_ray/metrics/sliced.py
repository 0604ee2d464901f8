"""Sliced Wasserstein distances between sets of images, whole or in Laplacian patches, and their real-to-real floor.

Images are float32 [n, C, H, W] in [-1, 1]; two sets that are compared hold the same number. Patches follow Karras et
al., "Progressive growing of GANs" (ICLR 2018), but are normalized by the reference's mean and standard deviation, so
that an error of contrast counts. ``b`` is always the reference.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.errors import InputError

Images = NDArray[np.float32]
Metric = Callable[[Images, Images], float]

PATCH = 7
PATCHES_PER_IMAGE = 64
SMALLEST_LEVEL = 16
WHOLE_PROJECTIONS = 512
PATCH_PROJECTIONS = 256
_CHUNK_PROJECTIONS = 32
_BLUR = np.array([1, 4, 6, 4, 1], np.float32) / 16


class Floor(NamedTuple):
    """A metric between disjoint halves of real images: its mean, least and greatest value over the draws."""

    mean: float
    low: float
    high: float


def sliced_wasserstein(a: Images, b: Images, seed: int = 0) -> float:
    """Return the mean 1-Wasserstein distance of whole images over random unit directions.

    Args:
        a: images [n, C, H, W].
        b: as many reference images of the same shape.
        seed: names the directions.

    Raises:
        InputError: if the sets differ in number or shape, or are empty.
    """
    _check(a, b)
    width = a[0].size
    return _distance(a.reshape(len(a), width), b.reshape(len(b), width), WHOLE_PROJECTIONS, seed)


def patch_sliced_wasserstein(a: Images, b: Images, seed: int = 0) -> float:
    """Return the sliced distance of 7x7 patches, the mean over the levels of the Laplacian pyramid."""
    return float(np.mean(patch_levels(a, b, seed)))


def patch_levels(a: Images, b: Images, seed: int = 0) -> tuple[float, ...]:
    """Return the sliced distance of 7x7 patches at each level of the Laplacian pyramid, finest first.

    A pyramid halves while both sides are even and stay at least 16 pixels; its last level is the blurred rest.

    Raises:
        InputError: if the sets differ in number or shape, are empty, or are smaller than a patch.
    """
    _check(a, b)
    if min(a.shape[2:]) < PATCH:
        raise InputError(f"images of {a.shape[2]}x{a.shape[3]} pixels", "", f"patches need at least {PATCH} a side")
    distances = []
    for level, (of_a, of_b) in enumerate(zip(laplacian_pyramid(a), laplacian_pyramid(b), strict=True)):
        patches_a, patches_b = _patches(of_a, level, seed), _patches(of_b, level, seed)
        axes = (0, 2)
        mean, deviation = patches_b.mean(axes, keepdims=True), patches_b.std(axes, keepdims=True)
        scale = 1 / np.maximum(deviation, 1e-8)
        flat = [((patches - mean) * scale).reshape(len(patches), -1) for patches in (patches_a, patches_b)]
        distances.append(_distance(flat[0], flat[1], PATCH_PROJECTIONS, seed))
    return tuple(distances)


def floor(metric: Metric, real: Images, n: int, draws: int = 20, seed: int = 0) -> Floor:
    """Return ``metric`` between two disjoint random draws of ``n`` real images, over several draws.

    Args:
        metric: takes two image sets, gives a figure.
        real: at least ``2 * n`` images.
        n: how many images the figure to be judged compares.
        draws: how often to draw.
        seed: names the draws.

    Raises:
        InputError: if there are fewer than ``2 * n`` images.
    """
    if n < 1 or draws < 1 or len(real) < 2 * n:
        raise InputError(f"{len(real)} real images", "", f"a floor at n={n} needs {2 * max(n, 1)} and a draw")
    values = [floor_draw(metric, real, n, draw, seed) for draw in range(draws)]
    return Floor(float(np.mean(values)), min(values), max(values))


def floor_draw(metric: Metric, real: Images, n: int, draw: int, seed: int = 0) -> float:
    """Return one draw of ``floor``: draws cost most where images are many, so that ranks may share them out."""
    order = seeds.permutation(len(real), "floor", seed, draw)
    return metric(real[order[:n]], real[order[n : 2 * n]])


def laplacian_pyramid(images: Images) -> list[Images]:
    """Return the band-pass levels of images [n, C, H, W], finest first, and the low-pass rest last."""
    levels, current = [], np.asarray(images, np.float32)
    while min(current.shape[2:]) // 2 >= SMALLEST_LEVEL and not (current.shape[2] % 2 or current.shape[3] % 2):
        small = _blur(current)[:, :, ::2, ::2]
        spread = np.zeros_like(current)
        spread[:, :, ::2, ::2] = 4 * small
        levels.append(current - _blur(spread))
        current = np.ascontiguousarray(small)
    return [*levels, current]


def _blur(images: Images) -> Images:
    for axis in (2, 3):
        pad = [(0, 0)] * 4
        pad[axis] = (2, 2)
        padded = np.pad(images, pad, mode="reflect")
        size = images.shape[axis]
        images = np.zeros_like(images)
        for offset, weight in enumerate(_BLUR):
            images += weight * np.take(padded, range(offset, offset + size), axis)
    return images


def _patches(images: Images, level: int, seed: int) -> Images:
    """Return [n * PATCHES_PER_IMAGE, C, 49] at the same places for every set of n images."""
    n, channels, height, width = images.shape
    draw = seeds.generator("patches", seed, level)
    top = draw.integers(0, height - PATCH + 1, (n, PATCHES_PER_IMAGE))
    left = draw.integers(0, width - PATCH + 1, (n, PATCHES_PER_IMAGE))
    windows = np.lib.stride_tricks.sliding_window_view(images, (PATCH, PATCH), (2, 3))
    taken = windows[np.arange(n)[:, None], :, top, left]
    return taken.reshape(n * PATCHES_PER_IMAGE, channels, PATCH * PATCH)


def _distance(a: Images, b: Images, projections: int, seed: int) -> float:
    """Return the mean |difference| of sorted projections of rows [n, width], a few directions at a time."""
    directions = seeds.generator("directions", seed, a.shape[1]).standard_normal((projections, a.shape[1]), np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    total = 0.0
    for start in range(0, projections, _CHUNK_PROJECTIONS):
        some = directions[start : start + _CHUNK_PROJECTIONS]
        one, other = np.sort(some @ a.T, axis=1), np.sort(some @ b.T, axis=1)
        total += float(np.abs(one - other).mean(axis=1, dtype=np.float64).sum())
    return total / projections


def _check(a: Images, b: Images) -> None:
    if a.ndim != 4 or a.shape != b.shape or not len(a):
        raise InputError(f"image sets of shapes {a.shape} and {b.shape}", "", "give two equal [n, C, H, W] with n > 0")
