"""Canaries of the privacy audit: copies of real scans as a leaking generator would return them."""

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.metrics.neighbors import LEAST_DEVIATION, SHIFT, contrast

NOISE = 0.04
"""Standard deviation of the noise on a copy, in those of its own pixels."""
GAIN, OFFSET = 0.2, 0.1

Images = NDArray[np.float32]


def plantable(images: Images, count: int, *parts: str | int) -> NDArray[np.int64]:
    """Return rows of at most ``count`` scans to copy, drawn by ``parts``: none that is blank or there twice."""
    flat = np.ascontiguousarray(images.reshape(len(images), -1)).view(np.uint8).reshape(len(images), -1)
    _, first = np.unique(flat.view(f"V{flat.shape[1]}")[:, 0], return_index=True)
    good = np.zeros(len(images), bool)
    good[first] = True
    rows = np.flatnonzero(good & (contrast(images) > 5 * LEAST_DEVIATION))
    drawn: NDArray[np.int64] = rows[seeds.permutation(len(rows), "plants", *parts)[:count]]
    return drawn


def copies(images: Images, *parts: str | int) -> Images:
    """Return disguised copies of scans, drawn by ``parts``.

    Each is mirrored or not, shifted by up to ``SHIFT`` of a side, with contrast times 1 ± ``GAIN`` and brightness plus
    ± ``OFFSET``, with noise of ``NOISE`` times its own deviation; edges are repeated.

    Args:
        images: float32 [n, C, H, W] in [-1, 1].
    """
    draw = seeds.generator("copies", *parts)
    n, _, height, width = images.shape
    furthest = max(1, round(SHIFT * min(height, width)))
    down, right = draw.integers(-furthest, furthest, (2, n, 1), endpoint=True)
    rows = np.clip(np.arange(height)[None] + down, 0, height - 1)
    columns = np.clip(np.arange(width)[None] + right, 0, width - 1)
    mirrored = draw.random((n, 1)) < 0.5
    columns = np.where(mirrored, columns[:, ::-1], columns)
    moved = images[np.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]].transpose(0, 3, 1, 2)
    gain = 1 + draw.uniform(-GAIN, GAIN, (n, 1, 1, 1))
    offset = draw.uniform(-OFFSET, OFFSET, (n, 1, 1, 1))
    noise = draw.normal(0, NOISE, images.shape) * contrast(images)[:, None, None, None]
    return np.clip(moved * gain + offset + noise, -1, 1).astype(np.float32)
