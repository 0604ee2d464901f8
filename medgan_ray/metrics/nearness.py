"""Whether generated scans crowd around the scans that a generator was trained on, and how much they differ at all.

Images are float32 [n, C, H, W].
"""

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError

_SIDE = 16
_TINY = 1e-12

Images = NDArray[np.float32]


def nearer_share(images: Images, ours: Images, theirs: Images) -> float:
    """Return the share of images whose nearest neighbor is one of ``ours`` rather than of ``theirs``, 0…1.

    Distances are Euclidean between block means of at most 16x16, so that noise and small shifts count for little.

    Args:
        images: what is judged.
        ours: training scans.
        theirs: as many scans that training never saw.

    Raises:
        InputError: if the sets to choose from differ in number, or one is empty.
    """
    if not len(images) or len(ours) != len(theirs) or not len(ours):
        raise InputError(f"sets of {len(images)}, {len(ours)} and {len(theirs)} images", "", "give two of equal number")
    small, of_ours, of_theirs = (_shrunk(each) for each in (images, ours, theirs))
    return float(np.mean(_nearest(small, of_ours) < _nearest(small, of_theirs)))


def diversity(images: Images) -> float:
    """Return the root mean square deviation of pixels from the set's mean image: 0 where all images are one."""
    return float(np.sqrt(images.astype(np.float64).var(axis=0).mean()) + _TINY)


def _nearest(images: Images, among: Images) -> Images:
    """Return each row's smallest squared distance."""
    squares = (images**2).sum(1)[:, None] + (among**2).sum(1)[None] - 2 * images @ among.T
    nearest: Images = squares.min(1)
    return nearest


def _shrunk(images: Images) -> Images:
    """Return block means, flat [n, C * rows * columns]."""
    n, channels, height, width = images.shape
    tall, wide = max(1, height // _SIDE), max(1, width // _SIDE)
    rows, columns = height // tall, width // wide
    blocks = images[:, :, : rows * tall, : columns * wide].reshape(n, channels, rows, tall, columns, wide)
    shrunk: Images = blocks.mean((3, 5)).reshape(n, -1)
    return shrunk
