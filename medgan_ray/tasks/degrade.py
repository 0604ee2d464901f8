"""What a translator is given of an image: coarser, noisier or with a hole; drawn by position alone.

Noise of a lower dose is simulated, and a report has to say so: it is Gaussian, of the same strength everywhere, with
the power spectrum of filtered back-projection (a ramp at low frequencies, a smooth kernel at high ones). Real noise
also follows the path of the rays.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from medgan_ray import seeds
from medgan_ray.models.translator import Given, factor

HOLE = 0.35
"""Longest side of a hole, as a share of the image's."""
KERNEL = 0.18
"""Of the noise's kernel, the frequency in cycles a pixel at which a Gaussian falls to exp(-1/2)."""


class Degraded(NamedTuple):
    """What is given, [B, C, H / f, W / f] in [-1, 1], and which pixels are trusted, [B, 1, H, W]."""

    images: Tensor
    trusted: Tensor


def degraded(images: Tensor, given: Given, noise_sd: float, positions: NDArray[np.int64], *keys: str | int) -> Degraded:
    """Return what a translator is given of images; image i depends on its pixels, (keys, positions[i]) and settings.

    Args:
        images: [B, C, H, W] in [-1, 1].
        given: which kind; ``pair`` is none of ours.
        noise_sd: standard deviation of noise, on images in [-1, 1].
        positions: of the images in the endless order.
        keys: name the draws.
    """
    trusted = torch.ones_like(images[:, :1])
    if given in ("down2", "down4"):
        return Degraded(functional.avg_pool2d(images, factor(given)), trusted)
    if given in ("noise", "dose"):
        noise = seeds.normal_images(positions, tuple(images.shape[1:]), *keys, "degrade")
        if given == "dose":
            noise = _correlated(noise)
        return Degraded(images + noise_sd * torch.from_numpy(noise).to(images), trusted)
    mask = torch.from_numpy(_holes(positions, images.shape[2:], *keys)).to(images)
    return Degraded(images * mask, mask)


def dose_sd(dose: float, full_sd: float) -> float:
    """Return the deviation of the noise that a share of the dose adds to scans of ``full_sd``: variance is 1 / dose."""
    return full_sd * float(np.sqrt(1 / dose - 1))


def _correlated(white: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return noise of unit deviation with the spectrum of filtered back-projection, from white noise [..., H, W]."""
    height, width = white.shape[-2:]
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    shape = np.sqrt(frequency) * np.exp(-0.5 * (frequency / KERNEL) ** 2)
    weights = np.full(shape.shape, 2.0)
    weights[:, 0] = 1.0
    if width % 2 == 0:
        weights[:, -1] = 1.0
    power = float((weights * shape**2).sum()) / (height * width)
    filtered = np.fft.irfft2(np.fft.rfft2(white) * (shape / np.sqrt(power)), (height, width))
    return filtered.astype(np.float32)


def _holes(positions: NDArray[np.int64], size: torch.Size, *keys: str | int) -> NDArray[np.float32]:
    """Return 0 in one rectangle of each image and 1 elsewhere, [B, 1, H, W]."""
    draws = seeds.uniform(positions, 4, *keys, "hole").astype(np.float64)
    mask = np.ones((len(positions), 1, *size), np.float32)
    for image, (tall, wide, down, across) in zip(mask, draws.tolist(), strict=True):
        height = max(1, round(size[0] * HOLE * (0.4 + 0.6 * tall)))
        width = max(1, round(size[1] * HOLE * (0.4 + 0.6 * wide)))
        top, left = int(down * (size[0] - height + 1)), int(across * (size[1] - width + 1))
        image[:, top : top + height, left : left + width] = 0
    return mask
