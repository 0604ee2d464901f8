"""Power spectra of image sets: missing fine texture, the lattice that up-sampling leaves, all rings together.

Images are float32 [n, C, H, W]. Callers divide a generated set's power and index by the real set's; 1 is ideal.
"""

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError

_CHUNK_IMAGES = 64
_TINY = 1e-12
"""Power that a constant image is given, so that its decibels stay finite; 16 bits hold steps of 1e-9."""


def high_frequency_power(images: NDArray[np.float32]) -> float:
    """Return the mean spectral power per coefficient beyond half the Nyquist frequency (radius > 1/4 cycle a pixel).

    Raises:
        InputError: if there are no images, or not [n, C, H, W].
    """
    power, down, across = _spectrum(images)
    return float(power[np.hypot(down, across) > 0.25].mean())


def lattice_index(images: NDArray[np.float32]) -> float:
    """Return the power on the lines of 1/4 and 1/2 cycle a pixel, over the power beyond half Nyquist.

    Strided up-sampling repeats every 2 or 4 pixels, which stands on these lines; a checkerboard raises the index, a
    blurring up-sampler lowers it. On a side that 4 doesn't divide, the nearest coefficients stand for a line.

    Raises:
        InputError: if there are no images, or not [n, C, H, W].
    """
    power, down, across = _spectrum(images)
    beyond = np.hypot(down, across) > 0.25
    return float(power[_on_line(down) | _on_line(across)].mean() / max(power[beyond].mean(), 1e-30))


def spectrum_distance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the root mean square difference of two sets' radial power spectra, in decibels; 0 is ideal.

    A spectrum is the mean power over rings of one coefficient's width, from the first beyond the mean to Nyquist's.
    Source: the log-spectral distance of Gray and Markel (IEEE TASSP 1976) on the azimuthal average of Durall et al.,
    "Watch your up-convolution" (CVPR 2020).

    Raises:
        InputError: if there are no images, not [n, C, H, W], or their sizes differ.
    """
    if a.shape[1:] != b.shape[1:]:
        raise InputError(f"image sets of shapes {a.shape} and {b.shape}", "", "give images of one size")
    apart = 10 * np.log10(_radial(a) / _radial(b))
    return float(np.sqrt((apart**2).mean()))


def _radial(images: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return mean power by ring, without the mean's and without the corners beyond Nyquist's frequency."""
    power, down, across = _spectrum(images)
    rings = np.rint(np.hypot(down, across) * min(power.shape)).astype(np.int64).reshape(-1)
    sums, counts = np.bincount(rings, power.reshape(-1)), np.bincount(rings)
    last = min(power.shape) // 2
    radial: NDArray[np.float64] = sums[1 : last + 1] / counts[1 : last + 1] + _TINY
    return radial


def _on_line(frequency: NDArray[np.float64]) -> NDArray[np.bool_]:
    step = 1 / frequency.size
    distance = np.minimum(np.abs(np.abs(frequency) - 0.25), np.abs(np.abs(frequency) - 0.5))
    line: NDArray[np.bool_] = distance <= step / 2 + 1e-9
    return line


def _spectrum(images: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Return mean power [H, W] and the frequencies of rows [H, 1] and columns [1, W] in cycles a pixel."""
    if images.ndim != 4 or not len(images):
        raise InputError(f"an image set of shape {images.shape}", "", "give [n, C, H, W] with n > 0")
    height, width = images.shape[2:]
    total = np.zeros((height, width), np.float64)
    for start in range(0, len(images), _CHUNK_IMAGES):
        some = images[start : start + _CHUNK_IMAGES].astype(np.float64)
        total += (np.abs(np.fft.fft2(some, norm="ortho")) ** 2).mean(axis=1).sum(axis=0)
    down = np.asarray(np.fft.fftfreq(height)[:, None], np.float64)
    across = np.asarray(np.fft.fftfreq(width)[None, :], np.float64)
    return total / len(images), down, across
