"""From a scan's pixel grid to the dataset's: a centered crop of the same shape in millimeters, then area resampling."""

import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Spacing = tuple[float, float]


def crop(rows: int, columns: int, size: tuple[int, int], spacing: Spacing | None) -> tuple[slice, slice]:
    """Return the largest centered part whose height to width, in millimeters, is that of ``size``.

    Nothing is padded and no pixel is stretched: anisotropic spacing (rows, columns; millimeters) is taken into account.
    """
    row_mm, column_mm = spacing if spacing and min(spacing) > 0 else (1.0, 1.0)
    wanted = size[0] / size[1] * column_mm / row_mm  # rows a column
    height, width = min(rows, round(columns * wanted)), min(columns, round(rows / wanted))
    top, left = (rows - max(height, 1)) // 2, (columns - max(width, 1)) // 2
    return slice(top, top + max(height, 1)), slice(left, left + max(width, 1))


def resize(image: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    """Return ``image`` [H, W] at ``size``: the mean over each new pixel's area; linear where it is enlarged."""
    if image.shape == size:
        return image
    rows = _weights(image.shape[0], size[0]) @ image
    return np.asarray((_weights(image.shape[1], size[1]) @ rows.T).T, np.float64)


@functools.lru_cache(maxsize=1024)
def _weights(old: int, new: int) -> Any:
    """Return the sparse matrix [new, old] that resamples one axis; each row sums to 1.

    Sparse because it is faster, and because its sums do not depend on the number of threads.
    """
    edges = np.arange(new + 1) * (old / new)
    pixels = np.arange(old)
    if new <= old:
        weights = np.maximum(np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels), 0)
    else:
        centers = np.clip((edges[1:] + edges[:-1]) / 2 - 0.5, 0, old - 1)
        weights = np.maximum(1 - np.abs(centers[:, None] - pixels), 0)
    return csr_array(weights / weights.sum(1, keepdims=True))


def spacing_after(spacing: Spacing | None, part: tuple[slice, slice], size: tuple[int, int]) -> Spacing:
    """Return the spacing of the resized image, millimeters; NaN where unknown."""
    if spacing is None or min(spacing) <= 0:
        return float("nan"), float("nan")
    rows, columns = (axis.stop - axis.start for axis in part)
    return spacing[0] * rows / size[0], spacing[1] * columns / size[1]
