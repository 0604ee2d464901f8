"""From a scan's pixel grid to the dataset's: a part of the same shape, or pixels of given millimeters.

Resampling takes the mean over each new pixel's area, and is linear where an image is enlarged.
"""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

Spacing = tuple[float, float]

_EXACT = (1, 2, 4, 8, 16, 32, 64, 128)
"""Whole steps by which sums of 16-bit values fit into 32 bits, and means are exact."""


def crop(rows: int, columns: int, size: tuple[int, int], spacing: Spacing | None) -> tuple[slice, slice]:
    """Return the largest centered part whose height to width, in millimeters, is that of ``size``.

    Nothing is padded and no pixel is stretched: anisotropic spacing (rows, columns; millimeters) is taken into account.
    """
    row_mm, column_mm = spacing if spacing and min(spacing) > 0 else (1.0, 1.0)
    wanted = size[0] / size[1] * column_mm / row_mm  # rows a column
    height, width = min(rows, round(columns * wanted)), min(columns, round(rows / wanted))
    top, left = (rows - max(height, 1)) // 2, (columns - max(width, 1)) // 2
    return slice(top, top + max(height, 1)), slice(left, left + max(width, 1))


def resize(image: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return ``image`` [H, W] at ``size``."""
    if image.shape == size:
        return image.astype(np.float64, copy=False)
    steps = [old // new for old, new in zip(image.shape, size, strict=True)]
    whole = all(step in _EXACT and step * new == old for step, new, old in zip(steps, size, image.shape, strict=True))
    if whole and image.dtype.kind in "iu" and image.dtype.itemsize <= 2:
        # A slice of 512 x 512 pixels, most often: sums of whole numbers over powers of two are exact, so these are the
        # same bits as below in a third of the time.
        return np.asarray(_sums(_sums(image, steps[0]).T, steps[1]).T / (steps[0] * steps[1]), np.float64)
    rows = _weights(image.shape[0], size[0]) @ image.astype(np.float64, copy=False)
    return np.asarray((_weights(image.shape[1], size[1]) @ rows.T).T, np.float64)


def _sums(image: NDArray[Any], step: int) -> NDArray[np.int32]:
    """Return the sums of each ``step`` rows."""
    total = image[::step].astype(np.int32)
    for row in range(1, step):
        total += image[row::step]
    return total


def resample(
    image: NDArray[np.float64], size: tuple[int, int], scale: tuple[float, float], around: float
) -> NDArray[np.float64]:
    """Return the middle of ``image`` [H, W] at another scale.

    Args:
        image: what is resampled.
        size: height and width of the result.
        scale: how many pixels of the image one of the result covers, down and across.
        around: value beyond the image's borders.
    """
    weights = [_centered(old, new, step) for old, new, step in zip(image.shape, size, scale, strict=True)]
    shown = (weights[1] @ (weights[0] @ (image - around)).T).T
    return np.asarray(shown + around, np.float64)


@functools.lru_cache(maxsize=1024)
def _weights(old: int, new: int) -> Any:
    """Return the sparse matrix [new, old] that resamples one axis; each row sums to 1.

    Sparse because it is faster, and because its sums do not depend on the number of threads.
    """
    weights = _overlaps(np.arange(new + 1) * (old / new), old)
    return _sparse(weights / weights.sum(1, keepdims=True))


@functools.lru_cache(maxsize=1024)
def _centered(old: int, new: int, step: float) -> Any:
    """Return the sparse matrix [new, old] of an axis' middle; a row sums to the share of its pixel that is inside."""
    edges = (old - new * step) / 2 + np.arange(new + 1) * step
    inside = np.maximum(np.minimum(edges[1:], old) - np.maximum(edges[:-1], 0), 0) / step
    weights = _overlaps(edges, old)
    return _sparse(weights * (inside / np.maximum(weights.sum(1), 1e-12))[:, None])


def _sparse(weights: NDArray[Any]) -> Any:
    from scipy.sparse import csr_array  # slices of 512 x 512 do without, and it takes as long to import as pydicom

    return csr_array(weights)


def _overlaps(edges: NDArray[Any], old: int) -> NDArray[Any]:
    """Return how much each pixel of an axis counts between two edges, [len(edges) - 1, old]."""
    pixels = np.arange(old)
    if edges[1] - edges[0] >= 1:
        return np.asarray(np.maximum(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0))
    centers = np.clip((edges[1:] + edges[:-1]) / 2 - 0.5, 0, old - 1)
    return np.asarray(np.maximum(1 - np.abs(centers[:, None] - pixels), 0))


def spacing_after(spacing: Spacing | None, part: tuple[slice, slice], size: tuple[int, int]) -> Spacing:
    """Return the spacing of the resized image, millimeters; NaN where unknown."""
    if spacing is None or min(spacing) <= 0:
        return float("nan"), float("nan")
    rows, columns = (axis.stop - axis.start for axis in part)
    return spacing[0] * rows / size[0], spacing[1] * columns / size[1]
