"""Structural similarity of images, one by one and on several scales, and how alike the images of one set are.

Images are float32 [n, C, H, W] in [-1, 1].
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from medgan_ray import seeds
from medgan_ray.errors import InputError

WINDOW = 11
_SIGMA = 1.5
_RANGE = 2.0
_C1, _C2 = (0.01 * _RANGE) ** 2, (0.03 * _RANGE) ** 2
_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_CHUNK_PIXELS = 1 << 20
"""Of each of two sets at a time: some 100 MB with all that is made of them."""

Images = NDArray[np.float32]
_Exact = NDArray[np.float64]


def ssim(a: Images, b: Images) -> _Exact:
    """Return the structural similarity of each pair of images [n], -1…1, the mean over channels.

    Gaussian windows of 11x11 (sigma 1.5 pixels), whole ones alone. Source: Wang et al., "Image quality assessment: from
    error visibility to structural similarity" (IEEE TIP 2004), equation 13.

    Raises:
        InputError: if the shapes differ, or images are smaller than a window.
    """
    _check(a, b)
    return np.concatenate([_terms(*pair)[0].mean(axis=1) for pair in _chunks(a, b)])


def ms_ssim(a: Images, b: Images) -> _Exact:
    """Return the multi-scale structural similarity of each pair of images [n], 0…1, the mean over channels.

    Five scales where images have at least 176 pixels a side; smaller ones have as many as hold a window of 11x11 (three
    at 64 pixels), with the same weights over their sum. A negative term counts as 0. Source: Wang et al., "Multiscale
    structural similarity for image quality assessment" (Asilomar 2003), equation 7.

    Raises:
        InputError: if the shapes differ, or images are smaller than a window.
    """
    _check(a, b)
    return np.concatenate([_multi_scale(*pair) for pair in _chunks(a, b)])


def pair_similarity(images: Images, seed: int = 0) -> _Exact:
    """Return the multi-scale structural similarity within random pairs of a set, [n // 2], every image in one pair.

    Their mean says how alike the set's images are: the higher, the less diverse. No two pairs share an image, so pairs
    of independent images are independent. Source: Odena et al., "Conditional image synthesis with auxiliary classifier
    GANs" (ICML 2017), section 4.2.

    Raises:
        InputError: if there are fewer than two images, or they are smaller than a window.
    """
    order = seeds.permutation(len(images), "pairs", seed)
    half = len(images) // 2
    return ms_ssim(images[order[:half]], images[order[half : 2 * half]])


def _multi_scale(a: _Exact, b: _Exact) -> _Exact:
    """Return [n]: contrast and structure of all scales, luminance of the last."""
    levels = sum(min(a.shape[2:]) >> level >= WINDOW for level in range(len(_WEIGHTS)))
    weights = np.array(_WEIGHTS[:levels]) / sum(_WEIGHTS[:levels])
    similarity = np.ones(a.shape[:2])
    for level, weight in enumerate(weights):
        if level:
            a, b = _halved(a), _halved(b)
        whole, structure = _terms(a, b)
        similarity *= np.maximum(whole if level == levels - 1 else structure, 0) ** weight
    of_pairs: _Exact = similarity.mean(axis=1)
    return of_pairs


def _terms(a: _Exact, b: _Exact) -> tuple[_Exact, _Exact]:
    """Return the similarity, and its part without luminance, of each image and channel [n, C]."""
    mean_a, mean_b = _blurred(a), _blurred(b)
    variance_a, variance_b = _blurred(a * a) - mean_a**2, _blurred(b * b) - mean_b**2
    covariance = _blurred(a * b) - mean_a * mean_b
    structure = (2 * covariance + _C2) / (variance_a + variance_b + _C2)
    luminance = (2 * mean_a * mean_b + _C1) / (mean_a**2 + mean_b**2 + _C1)
    return (luminance * structure).mean(axis=(2, 3)), structure.mean(axis=(2, 3))


def _blurred(images: _Exact) -> _Exact:
    """Return Gaussian means where a whole window fits: [n, C, H - 10, W - 10]."""
    reach = WINDOW // 2
    taps = np.exp(-0.5 * (np.arange(-reach, reach + 1) / _SIGMA) ** 2)
    taps /= taps.sum()
    down = correlate1d(images, taps, axis=2)[:, :, reach:-reach]
    across: _Exact = correlate1d(down, taps, axis=3)[:, :, :, reach:-reach]
    return across


def _halved(images: _Exact) -> _Exact:
    """Return means of 2x2 pixels; a last odd row or column is left out."""
    n, channels, height, width = images.shape
    even = images[:, :, : height // 2 * 2, : width // 2 * 2]
    halved: _Exact = even.reshape(n, channels, height // 2, 2, width // 2, 2).mean(axis=(3, 5))
    return halved


def _chunks(a: Images, b: Images) -> Iterator[tuple[_Exact, _Exact]]:
    """Yield the pairs in float64, some at a time; nothing fits less than one."""
    step = max(1, _CHUNK_PIXELS // max(1, a[0].size if len(a) else 1))
    for start in range(0, len(a), step):
        yield a[start : start + step].astype(np.float64), b[start : start + step].astype(np.float64)


def _check(a: Images, b: Images) -> None:
    if a.ndim != 4 or a.shape != b.shape or not len(a):
        raise InputError(f"image sets of shapes {a.shape} and {b.shape}", "", "give two equal [n, C, H, W] with n > 0")
    if min(a.shape[2:]) < WINDOW:
        raise InputError(f"images of {a.shape[2]}x{a.shape[3]} pixels", "", f"similarity needs {WINDOW} a side")
