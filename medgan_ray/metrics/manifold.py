"""Precision, recall, density and coverage: what lies within whose neighborhoods, in features [n, F].

The neighborhood of an image is the ball around it that reaches to its fifth nearest neighbor in its own set.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError

NEAREST = 5
_BLOCK_VALUES = 4 << 20
"""Distances held at a time: 32 MiB of float64."""

Features = NDArray[np.floating[Any]]


class Neighborhoods(NamedTuple):
    """Image by image, what the four figures are means of; so that those of some images alone can be had too."""

    hits: NDArray[np.int64]
    """Of each generated image: how many real neighborhoods hold it."""
    reached: NDArray[np.bool_]
    """Of each real image: whether a generated image's neighborhood holds it."""
    covered: NDArray[np.bool_]
    """Of each real image: whether its own neighborhood holds a generated image."""
    nearest: int = NEAREST

    @property
    def precision(self) -> float:
        """Share of generated images within real neighborhoods, 0…1: do they look real?"""
        return float((self.hits > 0).mean())

    @property
    def recall(self) -> float:
        """Share of real images within generated neighborhoods, 0…1: could they have been generated?"""
        return float(self.reached.mean())

    @property
    def density(self) -> float:
        """Mean count of real neighborhoods that hold a generated image, over ``nearest``; about 1 for one law."""
        return float(self.hits.mean() / self.nearest)

    @property
    def coverage(self) -> float:
        """Share of real neighborhoods that hold a generated image, 0…1; about ``1 - 2**-nearest`` for one law."""
        return float(self.covered.mean())


def neighborhoods(real: Features, fake: Features, nearest: int = NEAREST) -> Neighborhoods:
    """Return who lies within whose neighborhoods.

    Sources: precision and recall as Kynkäänniemi et al., "Improved precision and recall metric" (NeurIPS 2019);
    density and coverage as Naeem et al., "Reliable fidelity and diversity metrics" (ICML 2020). Balls are open, as in
    that paper's own code. Memory beyond both sets in float64 is bounded by 32 MiB of distances at a time.

    Args:
        real: features [n, F].
        fake: features [m, F].
        nearest: the neighbor, not counting the image itself, to which a neighborhood reaches.

    Raises:
        InputError: if widths differ, a set has no more than ``nearest`` rows, or a value is not finite.
    """
    _check(real, fake, nearest)
    middle = real.mean(axis=0, dtype=np.float64)
    one, other = real - middle, fake - middle
    of_real, of_fake = _radii(one, nearest), _radii(other, nearest)
    hits = np.zeros(len(other), np.int64)
    reached, covered = np.zeros(len(one), np.bool_), np.zeros(len(one), np.bool_)
    for rows, distances in _blocks(one, other):
        inside = distances < of_real[rows, None]
        hits += inside.sum(axis=0)
        covered[rows] = inside.any(axis=1)
        reached[rows] = (distances < of_fake[None]).any(axis=1)
    return Neighborhoods(hits, reached, covered, nearest)


def _radii(features: NDArray[np.float64], nearest: int) -> NDArray[np.float64]:
    """Return the squared distance of each row to its ``nearest``-th neighbor among the others."""
    radii = np.empty(len(features))
    for rows, distances in _blocks(features, features):
        distances[np.arange(len(distances)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(distances, nearest - 1, axis=1)[:, nearest - 1]
    return radii


def _blocks(a: NDArray[np.float64], b: NDArray[np.float64]) -> Iterator[tuple[slice, NDArray[np.float64]]]:
    """Yield some rows of ``a`` and their squared distances to all of ``b``."""
    squares_a, squares_b = (np.einsum("nf,nf->n", each, each) for each in (a, b))
    step = max(1, _BLOCK_VALUES // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        distances = a[rows] @ b.T
        distances *= -2
        distances += squares_a[rows, None]
        distances += squares_b[None]
        yield rows, np.maximum(distances, 0, out=distances)


def _check(real: Features, fake: Features, nearest: int) -> None:
    if real.ndim != 2 or fake.ndim != 2 or real.shape[1] != fake.shape[1] or min(len(real), len(fake)) <= nearest:
        what = f"feature sets of shapes {real.shape} and {fake.shape}"
        raise InputError(what, "", f"give two [n, F] of more than {nearest} rows")
    if not (np.isfinite(real).all() and np.isfinite(fake).all()):
        raise InputError("features that are not finite", "", "look at the extractor")
