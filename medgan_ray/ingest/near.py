"""Near-duplicates: images that are almost the same scan (resaved, rescaled, slightly cropped) and belong in one split.

Two images are near if their difference hashes (the signs of horizontal differences of a 9x8 thumbnail; N. Krawetz,
"Kind of like that", 2013) differ in at most ``HASH_BITS`` of 64 bits, their thumbnails correlate beyond
``CORRELATION``, and so do the thumbnails' fine details beyond ``DETAIL``. Without the last, slices of the same place in
different heads chain into groups of dozens, and a split lacks them as a whole. Groups are what is near, directly or
through others. Pairs are compared in blocks: time grows with the square of the number of images. Thumbnails wait on
disk: in memory an image takes a few dozen bytes.
"""

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medgan_ray.ingest.geometry import resize
from medgan_ray.ingest.groups import Union

HASH_BITS = 12
CORRELATION = 0.93
DETAIL = 0.75
DETAIL_PIXELS = 1.0
"""Details are what a Gaussian of this standard deviation takes from a thumbnail."""
SIDE = 32
BLOCK = 2048
READ = 256

Read = Callable[[Sequence[int]], NDArray[np.uint16]]


def near_sets(count: int, read: Read) -> list[tuple[int, ...]]:
    """Return the sets of two or more positions whose images are near-duplicates, each sorted.

    Args:
        count: how many images there are.
        read: returns images [n, H, W] at some positions; called with a few hundred at a time.
    """
    hashes, thumbnails = np.empty(count, np.uint64), _on_disk((count, SIDE * SIDE), np.float16)
    for start in range(0, count, READ):
        images = read(range(start, min(start + READ, count)))
        rows = slice(start, start + len(images))
        hashes[rows], thumbnails[rows] = _hashes(images), _thumbnails(images)
    union = Union(count)
    for first in range(0, count, BLOCK):
        for second in range(first, count, BLOCK):
            one, other = _alike(hashes[first : first + BLOCK], hashes[second : second + BLOCK])
            one, other = one + first, other + second
            ahead = one < other
            for pair in _correlated(thumbnails, one[ahead], other[ahead]).tolist():
                union.join(pair)
    sets: dict[int, list[int]] = {}
    for position in range(count):
        sets.setdefault(union.root(position), []).append(position)
    return [tuple(members) for members in sets.values() if len(members) > 1]


def _on_disk(shape: tuple[int, int], kind: type[np.float16]) -> NDArray[np.float16]:
    """Return an array in a file without a name: real pixels must not outlive an interrupted run."""
    with tempfile.TemporaryFile(prefix="medgan-near-") as file:
        return np.memmap(file, kind, "w+", shape=shape)


def _hashes(images: NDArray[np.uint16]) -> NDArray[np.uint64]:
    small = _small(images, (8, 9))
    bits = (small[:, :, 1:] > small[:, :, :-1]).reshape(len(images), 64)
    return np.packbits(bits, axis=1).view(np.uint64)[:, 0]


def _thumbnails(images: NDArray[np.uint16]) -> NDArray[np.float16]:
    """Return [n, SIDE * SIDE] with mean 0 and norm 1."""
    return _normalized(_small(images, (SIDE, SIDE)).reshape(len(images), -1)).astype(np.float16)


def _details(thumbnails: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is fine in thumbnails [n, SIDE * SIDE], with mean 0 and norm 1."""
    square = thumbnails.reshape(-1, SIDE, SIDE)
    return _normalized((square - gaussian_filter(square, (0, DETAIL_PIXELS, DETAIL_PIXELS))).reshape(thumbnails.shape))


def _normalized(flat: NDArray[Any]) -> NDArray[Any]:
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-9))


def _small(images: NDArray[np.uint16], size: tuple[int, int]) -> NDArray[np.float64]:
    return np.stack([resize(image.astype(np.float64), size) for image in images])


def _alike(one: NDArray[np.uint64], other: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    rows, columns = np.nonzero(np.bitwise_count(one[:, None] ^ other[None]) <= HASH_BITS)
    return rows, columns


def _correlated(thumbnails: NDArray[np.float16], one: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the pairs [m, 2] whose thumbnails and details correlate beyond the limits."""
    kept = [np.empty((0, 2), np.int64)]
    for start in range(0, len(one), BLOCK):
        pairs = np.stack([one[start : start + BLOCK], other[start : start + BLOCK]], axis=1)
        for view, limit in ((np.asarray, CORRELATION), (_details, DETAIL)):
            a, b = (view(thumbnails[side].astype(np.float32)) for side in pairs.T)
            pairs = pairs[np.einsum("ij,ij->i", a, b) > limit]
        kept.append(pairs)
    return np.concatenate(kept)
