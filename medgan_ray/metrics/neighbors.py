"""Nearest neighbors of images among a set that comes in chunks: in features, and in pixels over flips and small shifts.

The distance in pixels is sqrt(2 - 2r), 0…2, with r the largest correlation (Pearson's, over all pixels and channels) of
a query's middle with any window of the other image that lies at most ``SHIFT`` of a side away, seen as it is or
mirrored left to right. A correlation does not see brightness and contrast, so a copy in another window stays a copy.
Images with sides beyond ``SIDE`` are shifted by means of blocks, and what was shifted is compared by means of blocks
of which about ``_FINE`` make a side: noise and half a pixel's shift change those little. A coarse stage ranks by larger
blocks over some of the shifts, a fine stage compares the best ``CANDIDATES`` over all of them. Copies always come
through the coarse stage; of other scans 94 % get their true nearest, and distances are on average 0.3 % too long
(tests/metrics/test_neighbors.py measures both on real scans).

Whatever chunks a set comes in, it is gone through in blocks of the same size: results don't depend on the chunks, and
memory doesn't depend on the size of the set.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError

SIDE = 64
SHIFT = 3 / 64
"""Furthest shift, as a share of the smaller side."""
LEAST_DEVIATION = 0.02
"""Images in [-1, 1] that deviate less from their mean are blank: they resemble nothing, not even each other."""
CANDIDATES = 16
BLOCK = 256
FREE = -1
"""Group of queries that may find anything."""
_FINE, _COARSE = 28, 14
_QUERIES = 512
_PAIRS = 1024

Images = NDArray[np.float32]
Features = NDArray[np.float32]
Groups = NDArray[np.int64]
Chunks = Callable[[], Iterable[NDArray[Any]]]
"""Gives the chunks of a set, each [some, …], in the same order whenever it is called."""


@dataclasses.dataclass(frozen=True)
class Nearest:
    """What lies nearest to each of n queries."""

    distance: NDArray[np.float32]
    """[n]; infinite where nothing may be found."""
    index: NDArray[np.int64]
    """[n], the position in the set; -1 where nothing may be found."""

    def __getitem__(self, rows: "slice | NDArray[np.int64]") -> "Nearest":
        return Nearest(self.distance[rows], self.index[rows])


def nearest_images(queries: Images, among: Chunks, groups: tuple[Groups, Groups] | None = None) -> Nearest:
    """Return the nearest image of each query, over mirror images and shifts of at most ``SHIFT``.

    Args:
        queries: float32 [n, C, H, W] in [-1, 1].
        among: chunks float32 [some, C, H, W] of the set; called twice.
        groups: a number for each query and one for each image of the set; those that share one (a patient's) don't
            find each other. ``FREE`` for queries that may find anything.

    Raises:
        InputError: for chunks of another shape than the queries', or another number of images than groups.
    """
    grid = _Grid.of(queries)
    small = grid.reduced(queries)
    shape = queries.shape[1:]
    candidates = _candidates(grid, small, among, shape, groups)
    middles = grid.middles(small)
    scores = np.full(candidates.shape, -np.inf, np.float32)
    flat, order = candidates.ravel(), np.argsort(candidates.ravel(), kind="stable")
    ends = flat[order]
    for start, block in _blocks(among, shape):
        first, last = np.searchsorted(ends, [start, start + len(block)])
        windows = grid.windows(grid.reduced(block)) if first < last else []
        for begin in range(first, last, _PAIRS):
            pairs = order[begin : min(begin + _PAIRS, last)]
            scores.flat[pairs] = _correlation(middles[pairs // CANDIDATES], windows, flat[pairs] - start)
    return _best(candidates, scores)


def nearest_features(queries: Features, among: Chunks, groups: tuple[Groups, Groups] | None = None) -> Nearest:
    """Return the nearest row of each query by Euclidean distance; exact.

    Args:
        queries: float32 [n, F].
        among: chunks float32 [some, F] of the set; called once.
        groups: as ``nearest_images`` has them.

    Raises:
        InputError: for chunks of another width than the queries', or another number of rows than groups.
    """
    center = queries.mean(0, dtype=np.float64)
    centered = queries - center
    own = (centered**2).sum(1)
    index = np.full(len(queries), -1, np.int64)
    squares = np.full(len(queries), np.inf)
    for start, block in _blocks(among, queries.shape[1:], groups):
        shifted = block - center
        between = np.maximum(own[:, None] + (shifted**2).sum(1)[None] - 2 * centered @ shifted.T, 0)
        between[_forbidden(groups, slice(None), start, len(block))] = np.inf
        here = between.argmin(1)
        # The product of sums loses the last digits, which is where copies are: the nearest is measured again.
        exact = ((centered - shifted[here]) ** 2).sum(1)
        nearer = np.isfinite(between.min(1)) & (exact < squares)
        squares[nearer], index[nearer] = exact[nearer], here[nearer] + start
    return Nearest(np.sqrt(squares).astype(np.float32), index)


def contrast(images: Images) -> NDArray[np.float32]:
    """Return the standard deviation of each image's pixels [n]."""
    deviation: NDArray[np.float32] = images.std((1, 2, 3))
    return deviation


def chunked(rows: NDArray[Any], size: int = BLOCK) -> Chunks:
    """Return an array as a set that comes in chunks."""
    return lambda: (rows[start : start + size] for start in range(0, len(rows), size))


@dataclasses.dataclass(frozen=True)
class _Grid:
    """How images of one shape are compared: by which factor reduced, how far shifted, in which coarse blocks."""

    factor: int
    height: int
    width: int
    shift: int
    fine: int
    coarse: int

    @classmethod
    def of(cls, images: Images) -> "_Grid":
        if images.ndim != 4:
            raise InputError(f"images of shape {images.shape}", "", "give [n, C, H, W]")
        factor = -(-max(images.shape[2:]) // SIDE)
        height, width = (side // factor for side in images.shape[2:])
        side = min(height, width)
        shift = max(1, round(SHIFT * side))
        if side <= 2 * shift + 1:
            raise InputError(f"images of {images.shape[2]}x{images.shape[3]} pixels", "", "give larger ones")
        fine, coarse = (max(1, (side - 2 * shift) // blocks) for blocks in (_FINE, _COARSE))
        return cls(factor, height, width, shift, fine, coarse)

    def reduced(self, images: NDArray[Any]) -> Images:
        """Return block means of at most ``SIDE`` rows and columns."""
        return _means(images[:, :, : self.height * self.factor, : self.width * self.factor], self.factor)

    def middles(self, small: Images) -> Images:
        """Return what no shift moves out of the image, as it is and mirrored, normalized [n, 2, p]."""
        return np.stack(self._both(small, self.fine), 1)

    def windows(self, small: Images) -> list[Images]:
        """Return windows, one for each shift, normalized, each [n, p]."""
        return self._shifted(small, self.fine, 1)

    def coarse_middles(self, small: Images) -> list[Images]:
        """Return coarse block means of the middle, as it is and mirrored, normalized, each [n, c]."""
        return self._both(small, self.coarse)

    def coarse_windows(self, small: Images) -> list[Images]:
        """Return coarse block means of windows, one for each of some shifts, normalized, each [n, c]."""
        return self._shifted(small, self.coarse, max(1, self.coarse // 2))

    def _both(self, small: Images, blocks: int) -> list[Images]:
        middle = self._window(small, self.shift, self.shift)
        return [_normalized_means(view, blocks) for view in (middle, middle[..., ::-1])]

    def _shifted(self, small: Images, blocks: int, step: int) -> list[Images]:
        reach = self.shift // step * step
        offsets = range(self.shift - reach, self.shift + reach + 1, step)
        places = itertools.product(offsets, repeat=2)
        return [_normalized_means(self._window(small, *place), blocks) for place in places]

    def _window(self, small: Images, down: int, right: int) -> Images:
        tall, wide = self.height - 2 * self.shift, self.width - 2 * self.shift
        return small[:, :, down : down + tall, right : right + wide]


def _candidates(
    grid: _Grid, small: Images, among: Chunks, shape: tuple[int, ...], groups: tuple[Groups, Groups] | None
) -> NDArray[np.int64]:
    """Return positions of each query's best by the coarse stage, sorted [n, CANDIDATES]; -1 where there are fewer."""
    index = np.full((len(small), CANDIDATES), -1, np.int64)
    scores = np.full((len(small), CANDIDATES), -np.inf, np.float32)
    middles = grid.coarse_middles(small)
    for start, block in _blocks(among, shape, groups):
        windows = grid.coarse_windows(grid.reduced(block))
        for first in range(0, len(small), _QUERIES):
            part = slice(first, first + _QUERIES)
            best = np.full((len(small[part]), len(block)), -np.inf, np.float32)
            for middle, window in itertools.product(middles, windows):
                np.maximum(best, middle[part] @ window.T, out=best)
            best[_forbidden(groups, part, start, len(block))] = -np.inf
            both = np.concatenate([scores[part], best], 1)
            names = np.concatenate([index[part], np.broadcast_to(np.arange(len(block)) + start, best.shape)], 1)
            kept = np.argpartition(-both, CANDIDATES - 1, axis=1)[:, :CANDIDATES]
            scores[part], index[part] = (np.take_along_axis(each, kept, 1) for each in (both, names))
    index[np.isneginf(scores)] = -1
    return np.sort(index, 1)


def _correlation(middles: Images, windows: list[Images], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return each middle's largest correlation [pairs] with the windows of its partner, which stands in a row."""
    best = np.full(len(rows), -1, np.float32)
    for window in windows:
        np.maximum(best, np.einsum("pfc,pc->pf", middles, window[rows]).max(1), out=best)
    return best


def _best(candidates: NDArray[np.int64], scores: NDArray[np.float32]) -> Nearest:
    here = scores.argmax(1)[:, None]
    correlation = np.take_along_axis(scores, here, 1)[:, 0]
    index = np.take_along_axis(candidates, here, 1)[:, 0]
    found = ~np.isneginf(correlation)
    distance = np.where(found, np.sqrt(np.maximum(2 - 2 * np.where(found, correlation, 0), 0)), np.inf)
    return Nearest(distance.astype(np.float32), np.where(found, index, -1))


def _blocks(
    among: Chunks, shape: tuple[int, ...], groups: tuple[Groups, Groups] | None = None
) -> Iterator[tuple[int, NDArray[Any]]]:
    """Go through a set in blocks of ``BLOCK``, each with the position of its first row; check shape and number."""
    start, waiting, held = 0, list[NDArray[Any]](), 0
    for chunk in itertools.chain(among(), [None]):
        if chunk is not None:
            if chunk.shape[1:] != shape:
                raise InputError(f"rows of shape {chunk.shape[1:]} among others of {shape}", "", "give one shape")
            waiting.append(chunk)
            held += len(chunk)
        while held >= BLOCK or (chunk is None and held):
            joined = np.concatenate(waiting) if len(waiting) > 1 else waiting[0]
            yield start, joined[:BLOCK]
            start += min(BLOCK, held)
            waiting, held = [joined[BLOCK:]], max(0, held - BLOCK)
    if groups is not None and start != len(groups[1]):
        raise InputError(f"{start} rows in a set with groups of {len(groups[1])}", "", "give one group a row")


def _forbidden(groups: tuple[Groups, Groups] | None, part: slice, start: int, count: int) -> Any:
    """Return an index of the pairs that may not be found."""
    if groups is None:
        return (slice(0, 0),)
    ours, theirs = groups[0][part], groups[1][start : start + count]
    return (ours[:, None] == theirs[None]) & (ours[:, None] != FREE)


def _means(images: NDArray[Any], factor: int) -> Images:
    """Return means of blocks of factor x factor pixels."""
    if factor == 1:
        return np.asarray(images, np.float32)
    rows = sum((images[:, :, first::factor].astype(np.float32) for first in range(1, factor)), images[:, :, ::factor])
    both = sum((rows[..., first::factor] for first in range(1, factor)), rows[..., ::factor])
    means: Images = np.float32(1 / factor**2) * np.asarray(both, np.float32)
    return means


def _normalized_means(window: Images, blocks: int) -> Images:
    """Return block means around the middle as flat rows of mean 0 and norm 1; shorter where they are nearly blank."""
    rows, columns = (side // blocks * blocks for side in window.shape[2:])
    top, left = (window.shape[2] - rows) // 2, (window.shape[3] - columns) // 2
    means = _means(window[:, :, top : top + rows, left : left + columns], blocks).reshape(len(window), -1)
    centered = means - means.mean(1, keepdims=True)
    norms = np.sqrt(np.einsum("nc,nc->n", centered, centered))[:, None]
    normalized: Images = centered / np.maximum(norms, np.float32(LEAST_DEVIATION * means.shape[1] ** 0.5))
    return normalized
