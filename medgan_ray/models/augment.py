"""Augmentation inside the discriminator's path: pure functions of images and uniform draws, twice differentiable.

The penalties are taken through it, so each operation needs a second derivative in its input and fills from the border
(0 would be mid-gray). Operations are what can happen to a scan: small shifts, rotations, scales, another window, noise;
flips only where the anatomy allows. Brightness, contrast and noise may leave [-1, 1]: a clip would cut the gradient.
Much or wild augmentation leaks into the samples (Karras et al., "Training generative adversarial networks with limited
data", 2020).
"""

from typing import Literal

import kornia.enhance
import kornia.geometry.transform as geometry
import numpy as np
import pydantic
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray import seeds
from medgan_ray.config import Section
from medgan_ray.errors import UsageError

WITHOUT_SIDES = frozenset({"SM", "GM", "ES"})
"""Modalities (0008,0060) whose pictures have no left and right: microscopy of slides, of tissue, endoscopy."""


class AugmentSettings(Section):
    """How real and generated images are augmented before the discriminator sees them."""

    probability: float = pydantic.Field(0.3, ge=0, le=0.8)
    """Chance of each operation for each image at the end of the schedule, which starts at 0; adaptive: at most."""
    control: Literal["schedule", "adaptive"] = "schedule"
    """Whether the chance follows the schedule, or what the discriminator makes of held-out scans."""
    target: float | None = pydantic.Field(None, gt=0, lt=1)
    """Adaptive: the signal at which the chance stays; null: 0.5 of r_v, or 0.6 of r_t under absolute losses."""
    speed_images: int = pydantic.Field(20_000, ge=1)
    """Adaptive: images in which the chance moves by 1."""
    shift: int = pydantic.Field(3, ge=0, le=64)
    """Largest shift in whole pixels, down and across; nothing is resampled."""
    flip: bool | Literal["auto"] = "auto"
    """Whether to mirror left and right; auto: only modalities without sides, so neither X-rays nor CT nor MR."""
    rotate_degrees: float = pydantic.Field(0, ge=0, le=30)
    """Largest rotation about the center."""
    scale: float = pydantic.Field(0, ge=0, le=0.3)
    """Largest zoom: factors are drawn between 1 - scale and 1 + scale."""
    brightness: float = pydantic.Field(0, ge=0, le=0.5)
    """Largest value that is added to all pixels, which are in [-1, 1]."""
    contrast: float = pydantic.Field(0, ge=0, le=0.5)
    """Largest change of contrast about mid-gray: factors are drawn between 1 - contrast and 1 + contrast."""
    noise: float = pydantic.Field(0, ge=0, le=0.5)
    """Largest standard deviation of Gaussian noise, of pixels in [-1, 1]."""
    cutout: float = pydantic.Field(0, ge=0, le=0.5)
    """Side of a rectangle that is blackened, as a share of the image's sides."""

    def flips(self, modality: str) -> bool:
        """Say whether images of a modality (DICOM's code) are mirrored."""
        return modality in WITHOUT_SIDES if self.flip == "auto" else self.flip


class Augment:
    """The operations of some settings for images of one size."""

    draws_width = 17
    """Uniform values an image needs; a value's place never depends on the settings."""
    _first_width = 8
    """The values that are drawn together; the others come from a stream of their own."""

    def __init__(self, settings: AugmentSettings, size: tuple[int, int], modality: str = "OT") -> None:
        """Check the settings for images of ``size`` (height, width) of a modality (DICOM's code; OT: unknown).

        Raises:
            UsageError: if a shift would move an image by half its side or more.
        """
        if 2 * settings.shift >= min(size):
            raise UsageError(f"a shift of {settings.shift} pixels", "augment.shift", f"images are {size[0]}x{size[1]}")
        self.settings, self.size, self._flip = settings, size, settings.flips(modality)

    def draw(self, positions: NDArray[np.int64], *keys: str | int) -> NDArray[np.float32]:
        """Return uniform draws in [0, 1), [n, ``draws_width``], row i a function of (keys, positions[i])."""
        first = seeds.uniform(positions, self._first_width, *keys)
        return np.concatenate(
            [first, seeds.uniform(positions, self.draws_width - self._first_width, *keys, "more")], axis=1
        )

    def draw_noise(self, positions: NDArray[np.int64], channels: int, *keys: str | int) -> NDArray[np.float32] | None:
        """Return standard normal values [n, C, H, W], each a function of (keys, position); None without noise."""
        if not self.settings.noise:
            return None
        return seeds.normal_images(positions, (channels, *self.size), *keys, "noise")

    def apply(self, images: Tensor, draws: Tensor, probability: float, noise: Tensor | None = None) -> Tensor:
        """Return augmented images; image i depends on its pixels, its draws and ``probability`` alone.

        Args:
            images: [B, C, H, W], floating, in [-1, 1].
            draws: uniform in [0, 1), [B, ``draws_width``].
            probability: chance of each operation; at 0 images are returned as they are.
            noise: standard normal values like ``images``; needed where the settings ask for noise.
        """
        if probability <= 0:
            return images
        gates = draws < probability
        return self._corrupt(self._move(images, draws, gates), draws, gates, noise)

    def _move(self, images: Tensor, draws: Tensor, gates: Tensor) -> Tensor:
        """Flip, turn and shift: what changes where a pixel is."""
        settings = self.settings
        if self._flip:
            images = torch.where(_pick(gates[:, 3] & (draws[:, 4] < 0.5)), geometry.hflip(images), images)
        if settings.rotate_degrees or settings.scale:
            images = torch.where(_pick(gates[:, 5]), self._turn(images, draws[:, 6], draws[:, 7]), images)
        if settings.shift:
            reach = 2 * settings.shift
            steps = (draws[:, 1:3] * (reach + 1)).floor().clamp(max=reach).long() - settings.shift
            images = shift(images, steps * gates[:, :1])
        return images

    def _corrupt(self, images: Tensor, draws: Tensor, gates: Tensor, noise: Tensor | None) -> Tensor:
        """Brighten, stretch, add noise, cut out: what changes a pixel's value where it is."""
        settings, signed = self.settings, 2 * draws - 1
        if settings.brightness:
            brighter = kornia.enhance.adjust_brightness(images, signed[:, 9] * settings.brightness, clip_output=False)
            images = torch.where(_pick(gates[:, 8]), brighter, images)
        if settings.contrast:
            factor = 1 + signed[:, 11] * settings.contrast
            stretched = kornia.enhance.adjust_contrast(images, factor, clip_output=False)
            images = torch.where(_pick(gates[:, 10]), stretched, images)
        if settings.noise and noise is not None:
            deviation = (draws[:, 13] * settings.noise).to(images.dtype)
            images = torch.where(_pick(gates[:, 12]), images + _pick(deviation) * noise, images)
        if settings.cutout:
            images = torch.where(_pick(gates[:, 14]) & self._rectangle(draws[:, 15:17]), -1.0, images)
        return images

    def _turn(self, images: Tensor, angle: Tensor, zoom: Tensor) -> Tensor:
        """Rotate and scale about the center, bilinearly, filled from the border."""
        height, width = self.size
        center = images.new_tensor([[(width - 1) / 2, (height - 1) / 2]]).expand(len(images), 2)
        degrees = (2 * angle - 1).to(images.dtype) * self.settings.rotate_degrees
        factor = 1 + (2 * zoom - 1).to(images.dtype) * self.settings.scale
        matrix = geometry.get_rotation_matrix2d(center, degrees, factor[:, None].expand(len(images), 2))
        return geometry.warp_affine(images, matrix, self.size, padding_mode="border", align_corners=True)

    def _rectangle(self, place: Tensor) -> Tensor:
        """Return where each image is cut out, bool [B, 1, H, W]; the rectangle is whole, anywhere in the image."""
        inside = []
        for axis, side in enumerate(self.size):
            length = max(1, round(self.settings.cutout * side))
            start = (place[:, axis] * (side - length + 1)).floor().clamp(max=side - length)[:, None]
            pixels = torch.arange(side, device=place.device)
            inside.append((pixels >= start) & (pixels < start + length))
        return inside[0][:, None, :, None] & inside[1][:, None, None, :]


def shift(images: Tensor, steps: Tensor) -> Tensor:
    """Return images [B, C, H, W] moved by whole pixels, steps int [B, 2] (up and left positive), borders replicated."""
    _, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) + steps[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + steps[:, 1:]).clamp(0, width - 1)
    moved = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def _pick(chosen: Tensor) -> Tensor:
    return chosen[:, None, None, None]
