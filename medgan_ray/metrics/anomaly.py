"""How unlike known scans a scan is: its distance from where they lie among features, and what share lie farther out.

The distance is Mahalanobis's with a shrunk covariance (Lee et al., "A simple unified framework for detecting
out-of-distribution samples", NeurIPS 2018, there by class); a p-value is its rank among scans that nothing was fitted
to (Bates et al., "Testing for outliers with conformal p-values", Annals of Statistics 2023).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError

FEWEST = 10

Features = NDArray[np.floating]


class Cloud(NamedTuple):
    """Where known scans lie: mean [D], and what whitens the difference from it, [D, D]."""

    mean: NDArray[np.float64]
    whitening: NDArray[np.float64]


def cloud(features: Features) -> Cloud:
    """Return where scans with features [n, D] lie.

    The covariance is shrunk towards a multiple of the identity after each feature was scaled to unit deviation, by the
    amount of Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices" (2004).

    Raises:
        InputError: for fewer than ``FEWEST`` scans.
    """
    if len(features) < FEWEST:
        raise InputError(f"{len(features)} scans", "", f"at least {FEWEST} tell where scans lie")
    values = np.asarray(features, np.float64)
    mean, scale = values.mean(0), np.maximum(values.std(0), 1e-6)
    centered = (values - mean) / scale
    n, width = centered.shape
    covariance = centered.T @ centered / n
    level = float(np.trace(covariance)) / width
    spread = float(((covariance - level * np.eye(width)) ** 2).sum())
    noise = float((np.einsum("nd,nd->n", centered, centered) ** 2).sum()) / n - float((covariance**2).sum())
    share = min(1.0, max(0.0, noise / n / spread)) if spread > 0 else 1.0
    shrunk = share * level * np.eye(width) + (1 - share) * covariance
    powers, axes = np.linalg.eigh(shrunk)
    return Cloud(mean, (axes / np.sqrt(np.maximum(powers, 1e-9))).T / scale)


def distances(features: Features, known: Cloud) -> NDArray[np.float64]:
    """Return the Mahalanobis distance of each scan from known ones, [n]."""
    found: NDArray[np.float64] = np.linalg.norm(
        (np.asarray(features, np.float64) - known.mean) @ known.whitening.T, axis=1
    )
    return found


def p_values(found: NDArray[np.float64], calibration: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the share of calibration scans that are at least as far out, the scan itself counted: (1 + k) / (1 + n).

    Args:
        found: distances [m].
        calibration: distances of scans that the cloud was not made of, ascending [n].
    """
    farther = len(calibration) - np.searchsorted(calibration, found, side="left")
    values: NDArray[np.float64] = (1 + farther) / (1 + len(calibration))
    return values
