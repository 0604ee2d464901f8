"""Augmentation inside the discriminator's path: pure functions of images and uniform draws, twice differentiable.

The penalties are taken through it, so each operation needs a second derivative in its input, keeps values in range and
fills from the border (0 would be mid-gray). Operations are what can happen to a scan: small shifts, rotations, scales;
flips only where the anatomy allows. Much or wild augmentation leaks into the samples (Karras et al., "Training
generative adversarial networks with limited data", 2020).
"""

import kornia.geometry.transform as geometry
import pydantic
import torch
from torch import Tensor

from medgan_ray.config import Section
from medgan_ray.errors import UsageError


class AugmentSettings(Section):
    """How real and generated images are augmented before the discriminator sees them."""

    probability: float = pydantic.Field(0.3, ge=0, le=0.8)
    """Chance of each operation for each image at the end of the schedule, which starts at 0."""
    shift: int = pydantic.Field(3, ge=0, le=64)
    """Largest shift in whole pixels, down and across; nothing is resampled."""
    flip: bool = False
    """Whether to mirror left and right; only for anatomy that has no sides."""
    rotate_degrees: float = pydantic.Field(0, ge=0, le=30)
    """Largest rotation about the center."""
    scale: float = pydantic.Field(0, ge=0, le=0.3)
    """Largest zoom: factors are drawn between 1 - scale and 1 + scale."""


class Augment:
    """The operations of some settings for images of one size."""

    draws_width = 8
    """Uniform values an image needs; a value's place never depends on the settings."""

    def __init__(self, settings: AugmentSettings, size: tuple[int, int]) -> None:
        """Check the settings for images of ``size`` (height, width).

        Raises:
            UsageError: if a shift would move an image by half its side or more.
        """
        if 2 * settings.shift >= min(size):
            raise UsageError(f"a shift of {settings.shift} pixels", "augment.shift", f"images are {size[0]}x{size[1]}")
        self.settings, self.size = settings, size

    def apply(self, images: Tensor, draws: Tensor, probability: float) -> Tensor:
        """Return augmented images; image i depends on its pixels, its draws and ``probability`` alone.

        Args:
            images: [B, C, H, W], floating.
            draws: uniform in [0, 1), [B, ``draws_width``].
            probability: chance of each operation; at 0 images are returned as they are.
        """
        settings = self.settings
        if probability <= 0:
            return images
        gates = draws < probability
        if settings.flip:
            images = torch.where(_pick(gates[:, 3] & (draws[:, 4] < 0.5)), geometry.hflip(images), images)
        if settings.rotate_degrees or settings.scale:
            images = torch.where(_pick(gates[:, 5]), self._turn(images, draws[:, 6], draws[:, 7]), images)
        if settings.shift:
            reach = 2 * settings.shift
            steps = (draws[:, 1:3] * (reach + 1)).floor().clamp(max=reach).long() - settings.shift
            images = shift(images, steps * gates[:, :1])
        return images

    def _turn(self, images: Tensor, angle: Tensor, zoom: Tensor) -> Tensor:
        """Rotate and scale about the center, bilinearly, filled from the border."""
        height, width = self.size
        center = images.new_tensor([[(width - 1) / 2, (height - 1) / 2]]).expand(len(images), 2)
        degrees = (2 * angle - 1).to(images.dtype) * self.settings.rotate_degrees
        factor = 1 + (2 * zoom - 1).to(images.dtype) * self.settings.scale
        matrix = geometry.get_rotation_matrix2d(center, degrees, factor[:, None].expand(len(images), 2))
        return geometry.warp_affine(images, matrix, self.size, padding_mode="border", align_corners=True)


def shift(images: Tensor, steps: Tensor) -> Tensor:
    """Return images [B, C, H, W] moved by whole pixels, steps int [B, 2] (up and left positive), borders replicated."""
    _, channels, height, width = images.shape
    rows = (torch.arange(height, device=images.device) + steps[:, :1]).clamp(0, height - 1)
    columns = (torch.arange(width, device=images.device) + steps[:, 1:]).clamp(0, width - 1)
    moved = images.gather(2, rows[:, None, :, None].expand(-1, channels, -1, width))
    return moved.gather(3, columns[:, None, None, :].expand(-1, channels, height, -1))


def _pick(chosen: Tensor) -> Tensor:
    return chosen[:, None, None, None]
