"""Which part of a frame shows something: the exposed field of a projection, the body in a slice.

A part is a pair of slices (rows, columns). The field comes from the header where it says so (PS3.3 C.8.7.3 collimator,
C.7.6.11 shutter), else from the pixels: even borders that end in a straight edge were not exposed.
"""

import numpy as np
from numpy.typing import NDArray

Part = tuple[slice, slice]
Box = tuple[float, float, float, float]
"""Top, bottom, left and right as shares of an image's height and width."""

FLAT = 0.03
"""Lines at the border that vary less than this share of the image's range may not have been exposed."""
EDGE = 0.015
"""How far behind such lines the exposed ones are looked at, as a share of the side: edges are soft, and lean."""
EXPOSED = 0.3
"""Least part of a line behind an edge that differs from what is before it: a finger, or the skin's bow, is less."""
SAMPLES = 400
"""Pixels of a line that are looked at, about."""
LEAST_FIELD = 0.25
"""Of each side: a field smaller than this is none, and the frame is taken whole."""
BODY_HU = -500.0
OPENING = 2
"""Iterations by which thin things, such as a table's top, are taken off a body."""
LEAST_MEMBER = 0.1
"""Parts of a body (arms, legs) have at least this share of the area of its largest."""
LEAST_BODY = 0.01
"""Of the frame's area: what is smaller is no body."""
MARGIN = 0.02
"""Around a body, as a share of the frame."""


def whole(size: tuple[int, int]) -> Part:
    """Return the part that is all of an image of ``size``."""
    return slice(0, size[0]), slice(0, size[1])


def field(image: NDArray[np.floating], edges: tuple[int, ...] = ()) -> Part:
    """Return the exposed field of a projection [H, W].

    Args:
        image: the values as they are shown.
        edges: first and last row, first and last column of the field as the header has them, counted from 1; or empty.
    """
    rows, columns = image.shape
    if edges:
        top, bottom, left, right = edges
        found = slice(max(top - 1, 0), min(bottom, rows)), slice(max(left - 1, 0), min(right, columns))
        if _wide(found, image.shape):
            return found
    found = _edged(image)
    return found if _wide(found, image.shape) else whole((rows, columns))


def body(image: NDArray[np.floating], unit: str) -> Box | None:
    """Return the box of the body in a slice [H, W] with a margin, or None if there is none.

    In Hounsfield units the body is what is denser than -500; else what Otsu's threshold leaves of the smoothed image.
    """
    # Few archives ask for it, and every decoding process would take as long to import them as everything else together.
    from scipy import ndimage
    from skimage.filters import threshold_otsu

    smooth = ndimage.gaussian_filter(image.astype(np.float32), 1.0)
    if np.ptp(smooth) == 0:
        return None
    mask = smooth > (BODY_HU if unit == "HU" else threshold_otsu(smooth))  # type: ignore[no-untyped-call]
    members, count = ndimage.label(ndimage.binary_opening(mask, iterations=OPENING))
    areas = np.bincount(members.ravel(), minlength=count + 1)[1:]
    if not count or areas.max() < LEAST_BODY * image.size:
        return None
    chosen = np.flatnonzero(areas >= LEAST_MEMBER * areas.max()) + 1
    rows, columns = (np.flatnonzero(np.isin(members, chosen).any(axis=axis)) for axis in (1, 0))
    return *_ends(rows, image.shape[0]), *_ends(columns, image.shape[1])


def union(one: Box, other: Box) -> Box:
    """Return the box around two boxes."""
    return min(one[0], other[0]), max(one[1], other[1]), min(one[2], other[2]), max(one[3], other[3])


def around(box: Box | None, size: tuple[int, int]) -> Part:
    """Return the smallest part of an image of ``size`` that holds a box and has the image's own shape."""
    if box is None:
        return whole(size)
    share = max(box[1] - box[0], box[3] - box[2])
    return _centered(box[0] + box[1], share, size[0]), _centered(box[2] + box[3], share, size[1])


def _centered(ends: float, share: float, side: int) -> slice:
    """Return ``share`` of a side about the middle of two ends (given by their sum), moved inside the image."""
    length = min(max(round(share * side), 1), side)
    first = min(max(round(ends * side / 2 - length / 2), 0), side - length)
    return slice(first, first + length)


def _ends(lines: NDArray[np.intp], side: int) -> tuple[float, float]:
    return max(float(lines[0]) / side - MARGIN, 0.0), min(float(lines[-1] + 1) / side + MARGIN, 1.0)


def _edged(image: NDArray[np.floating]) -> Part:
    """Return the part of an image inside borders as a collimator leaves them.

    Such a border is even, and the line behind it is another over much of its length; air around a hand is not.
    """
    spread = float(np.subtract(*np.percentile(image[::3, ::3], (99.5, 0.5))))
    rows, columns = whole((image.shape[0], image.shape[1]))
    for _ in range(2):  # two borders that cross are even only once the others have gone
        first, last = (_border(lines, spread) for lines in (image[rows, columns], image[rows, columns][::-1]))
        rows = slice(rows.start + first, rows.stop - last)
        turned = image[rows, columns].T
        first, last = (_border(lines, spread) for lines in (turned, turned[::-1]))
        columns = slice(columns.start + first, columns.stop - last)
    return rows, columns


def _border(lines: NDArray[np.floating], spread: float) -> int:
    """Return how many lines at the top of an image were not exposed."""
    trim = round(EDGE * lines.shape[1])  # where they cross another border's soft edge
    lines = lines[:, trim : lines.shape[1] - trim : max(1, lines.shape[1] // SAMPLES)]
    low, middle, high = np.percentile(lines, (1, 50, 99), axis=1)
    even = (high - low <= FLAT * spread) & (abs(middle - middle[0]) <= FLAT * spread)
    count = len(lines) if even.all() else int(np.argmin(even))
    behind = count + max(1, round(EDGE * len(lines)))
    if not count or behind >= len(lines):
        return 0
    return count if np.mean(abs(lines[behind] - middle[0]) > FLAT * spread) >= EXPOSED else 0


def _wide(part: Part, shape: tuple[int, ...]) -> bool:
    return all(axis.stop - axis.start >= LEAST_FIELD * side for axis, side in zip(part, shape, strict=True))
