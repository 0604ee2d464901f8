"""Distances between two sets of features: the kernel distance (KID) and the Fréchet distance.

Features are [n, F], one row an image; all sums are taken in float64.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from medgan_ray.errors import InputError

_BLOCK_ROWS = 1024

Features = NDArray[np.floating[Any]]
_Exact = NDArray[np.float64]


def kid(a: Features, b: Features) -> float:
    """Return the unbiased squared maximum mean discrepancy under the kernel ``(x·y / F + 1)³``; it may be negative.

    Source: Binkowski et al., "Demystifying MMD GANs" (ICLR 2018), equation 3 and section 4. Memory beyond the features
    themselves is bounded by 1,024 rows of kernel values.

    Args:
        a: features [n, F].
        b: features [m, F].

    Raises:
        InputError: if a set has fewer than two rows, widths differ, or a value is not finite.
    """
    one, other = _checked(a, b)
    within = _kernel_sum(one, one, own=True) / (len(one) * (len(one) - 1))
    within += _kernel_sum(other, other, own=True) / (len(other) * (len(other) - 1))
    return within - 2 * _kernel_sum(one, other) / (len(one) * len(other))


def frechet(a: Features, b: Features) -> float:
    """Return the squared Fréchet distance between Gaussians with the sets' means and covariances, at least 0.

    The trace of the root of the covariances' product is the sum of the singular values of ``A Bᵀ``, for any A and B
    with ``AᵀA`` and ``BᵀB`` the covariances: here the centered rows, or their triangular factor where rows are more
    than features. So no root of a matrix that isn't symmetric is taken, and nothing is added to a diagonal.

    The figure is biased upward, the more so the fewer rows; with no more rows than features (``rank_deficient``) the
    covariances are singular and it says little: compare it with nothing but its floor at the same n.

    Source: Heusel et al., "GANs trained by a two time-scale update rule" (NeurIPS 2017), equation 6; for its bias
    Chong and Forsyth, "Effectively unbiased FID" (CVPR 2020).

    Raises:
        InputError: if a set has fewer than two rows, widths differ, or a value is not finite.
    """
    one, other = _checked(a, b)
    apart = one.mean(axis=0) - other.mean(axis=0)
    factor_one, factor_other = _factor(one), _factor(other)
    product = factor_one @ factor_other.T
    tall = product.shape[0] > product.shape[1]
    squares = linalg.eigvalsh(product.T @ product if tall else product @ product.T, overwrite_a=True)
    root_trace = np.sqrt(np.maximum(squares, 0)).sum()
    return max(0.0, float(apart @ apart + (factor_one**2).sum() + (factor_other**2).sum() - 2 * root_trace))


def rank_deficient(n: int, width: int) -> bool:
    """Say whether the covariance of ``n`` rows of ``width`` features is singular, whatever they are."""
    return n <= width


def _factor(features: _Exact) -> _Exact:
    """Return a matrix whose product with itself, transposed first, is the covariance (of n - 1)."""
    centered: _Exact = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return centered if len(centered) <= centered.shape[1] else np.linalg.qr(centered).R


def _kernel_sum(a: _Exact, b: _Exact, own: bool = False) -> float:
    """Return the sum of all kernel values, without the diagonal where both are ``own`` rows of one set."""
    total = 0.0
    for start in range(0, len(a), _BLOCK_ROWS):
        values = (a[start : start + _BLOCK_ROWS] @ b.T / a.shape[1] + 1) ** 3
        if own:
            values[np.arange(len(values)), np.arange(start, start + len(values))] = 0
        total += float(values.sum())
    return total


def _checked(a: Features, b: Features) -> tuple[_Exact, _Exact]:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.shape[1] or min(len(a), len(b)) < 2:
        raise InputError(f"feature sets of shapes {a.shape} and {b.shape}", "", "give two [n, F] of n > 1")
    one, other = a.astype(np.float64), b.astype(np.float64)
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        raise InputError("features that are not finite", "", "look at the extractor")
    return one, other
