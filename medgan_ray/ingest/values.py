"""The dataset's intensity map: windows in Hounsfield units or SUV, percentiles where there is no unit, grey levels.

Sources: customary CT windows (center/width: lung -600/1500, brain 40/80, soft tissue 40/400, bone 480/2500).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from skimage.filters import threshold_otsu

from medgan_ray.dataset.manifest import Intensity

WINDOWS: dict[str, tuple[float, float]] = {
    "lung": (-1350.0, 150.0),
    "brain": (0.0, 80.0),
    "soft": (-160.0, 240.0),
    "bone": (-770.0, 1730.0),
    "full": (-1024.0, 3071.0),
}
"""Lower and upper end in HU."""

SUV = (0.0, 20.0)
SUV_SHOWN = (0.0, 7.0)
"""Standardized uptake values by body weight: what a dataset holds, and the customary display. Bladder and some lesions
lie beyond, and are clipped."""

PERCENTILES = (0.5, 99.5)

RANGE_BYTES = 64 << 20
"""Of a series' images by which its range is found; a series may have thousands."""

FLATTEST, SMALLEST = 1e-3, 1e-20
"""A spread less than the first of the values, or than the second, takes care to reckon with."""


def intensity_map(unit: str, window: str) -> Intensity:
    """Return the map of a dataset whose values are in ``unit`` (HU, SUV, grey or relative)."""
    if unit == "HU":
        low, high = WINDOWS[window]
        shown = WINDOWS["soft"] if window == "full" else (low, high)
        return Intensity(unit="HU", low=low, high=high, window=shown)
    if unit == "SUV":
        return Intensity(unit="SUV", low=SUV[0], high=SUV[1], window=SUV_SHOWN)
    low, high = (0.0, 255.0) if unit == "grey" else (0.0, 1.0)
    return Intensity(unit=unit, low=low, high=high, window=(low, high))


def quantize(values: NDArray[np.float32], intensity: Intensity) -> NDArray[np.uint16]:
    """Return stored values 0…65535 for values in the map's unit; what lies outside is clipped."""
    share = (values.astype(np.float64) - intensity.low) / (intensity.high - intensity.low)
    return np.rint(np.clip(share, 0, 1) * 65535).astype(np.uint16)


def body_range(images: NDArray[np.float32]) -> tuple[float, float]:
    """Return the percentiles 0.5 and 99.5 of the values inside the body, over images [n, H, W] of a series.

    The body is what Otsu's threshold on the smoothed images leaves; the range then starts at the background's own
    level, so that air stays black.
    """
    smooth = gaussian_filter(images, (0, 1, 1))
    spread = float(np.ptp(smooth))
    if spread == 0:
        return float(images.min()), float(images.max())
    if spread < max(FLATTEST * float(np.abs(smooth).max()), SMALLEST):
        smooth = (smooth.astype(np.float64) - smooth.min()) / spread  # float32 has no room for a histogram's bins
    body = images[smooth > threshold_otsu(smooth)]  # type: ignore[no-untyped-call]
    inside = body if body.size else images
    low = min(float(np.percentile(inside, PERCENTILES[0])), float(np.percentile(images, PERCENTILES[0])))
    return low, float(np.percentile(inside, PERCENTILES[1]))


def image_range(images: NDArray[np.float32]) -> tuple[float, float]:
    """Return the percentiles 0.5 and 99.5 of all values: of one exposure, or of a series."""
    low, high = np.percentile(images, PERCENTILES)
    return float(low), float(high)


def to_share(images: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    """Return values with ``low`` at 0 and ``high`` at 1, clipped."""
    return np.asarray(np.clip((images - low) / max(high - low, SMALLEST), 0, 1), np.float32)
