"""Texture and gray levels of image sets: co-occurrence features and their distance, the distance of histograms.

Images are float32 [n, C, H, W] in [-1, 1].
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance
from skimage.feature import graycomatrix, graycoprops

from medgan_ray.errors import InputError

LEVELS = 32
OFFSETS = (1, 2, 4)
"""Pixels between the two of a pair."""
ANGLES = (0.0, np.pi / 4, np.pi / 2, 3 * np.pi / 4)
PROPERTIES = ("contrast", "homogeneity", "energy", "correlation")
_STORED = 65535
_CHUNK_PIXELS = 16 << 20

Images = NDArray[np.float32]
_Exact = NDArray[np.float64]


def glcm_features(images: Images) -> _Exact:
    """Return co-occurrence features of each image, [n, 12]: four properties at each of three distances.

    Gray levels are cut into 32 equal steps from -1 to 1. Properties are means over four directions and the channels.
    Source: Haralick et al., "Textural features for image classification" (IEEE TSMC 1973), as scikit-image reckons.

    Raises:
        InputError: if they are not [n, C, H, W], or have fewer than five pixels a side.
    """
    if images.ndim != 4 or min(images.shape[2:]) <= max(OFFSETS):
        what = f"an image set of shape {images.shape}"
        raise InputError(what, "", f"give [n, C, H, W] of more than {max(OFFSETS)} pixels a side")
    features: _Exact = np.empty((*images.shape[:2], len(PROPERTIES) * len(OFFSETS)))
    for index in np.ndindex(images.shape[:2]):
        levels = np.clip((images[index] + 1) * (LEVELS / 2), 0, LEVELS - 1).astype(np.uint8)
        counts = graycomatrix(levels, OFFSETS, ANGLES, LEVELS, symmetric=True, normed=True)  # type: ignore[no-untyped-call]
        values = [graycoprops(counts, name).mean(axis=1) for name in PROPERTIES]  # type: ignore[no-untyped-call]
        features[index] = np.concatenate(values)
    of_images: _Exact = features.mean(axis=1)
    return of_images


def glcm_distance(a: _Exact, b: _Exact) -> float:
    """Return the mean over features of the 1-Wasserstein distance between two sets, in ``b``'s standard deviations.

    Args:
        a: ``glcm_features`` of the images that are judged [n, P].
        b: those of the reference [m, P].

    Raises:
        InputError: if a set is empty, or widths differ.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not len(a) or not len(b):
        raise InputError(f"feature sets of shapes {a.shape} and {b.shape}", "", "give two [n, P] with n > 0")
    deviations = np.maximum(b.std(axis=0), 1e-8)
    distances = [wasserstein_distance(of_a, of_b) for of_a, of_b in zip(a.T, b.T, strict=True)]
    return float(np.mean(distances / deviations))


def histogram_distance(a: Images, b: Images) -> float:
    """Return the 1-Wasserstein distance between all pixels of two sets, in the images' unit: 2 from black to white.

    Values are rounded to the 65,536 levels that scans are stored with; what lies beyond -1 and 1 counts as these.

    Raises:
        InputError: if a set is empty.
    """
    if not a.size or not b.size:
        raise InputError(f"image sets of shapes {a.shape} and {b.shape}", "", "give some images")
    shares = _cumulative(a) - _cumulative(b)
    return float(np.abs(shares[:-1]).sum() * 2 / _STORED)


def _cumulative(images: Images) -> _Exact:
    """Return the share of pixels at or below each stored level, [65536]."""
    counts = np.zeros(_STORED + 1, np.int64)
    pixels = images.reshape(-1)
    for start in range(0, pixels.size, _CHUNK_PIXELS):
        levels = np.rint((pixels[start : start + _CHUNK_PIXELS].clip(-1, 1) + 1) * (_STORED / 2))
        counts += np.bincount(levels.astype(np.int64), minlength=_STORED + 1)
    shares: _Exact = counts.cumsum() / pixels.size
    return shares
