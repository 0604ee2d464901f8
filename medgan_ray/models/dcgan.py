"""A DCGAN without normalization: transposed convolutions up, strided convolutions down; the default on CPUs.

After Radford et al., "Unsupervised representation learning with DCGANs" (2016). Transposed convolutions bring fine
texture within the first 10,000 images, where smooth up-sampling needs a hundred times as many. No layer looks across
samples, which per-sample gradient penalties require.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.models import parts

SLOPE = 0.2
GREATEST_MULTIPLE = 8
"""Channels double with each halving of the image, up to this multiple of the width."""


class Generator(nn.Module):
    """Noise [B, latent] and condition [B, K] to images [B, C, H, W] in [-1, 1]."""

    def __init__(self, latent: int, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = [width * _multiple(stage) for stage in reversed(range(stages))]
        self.base = (widths[0], shape[1] >> stages, shape[2] >> stages)
        self.embed = nn.Linear(condition, latent, bias=False) if condition else None
        self.start = nn.Linear(latent * (2 if condition else 1), math.prod(self.base))
        self.stages = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)
            for before, after in zip([widths[0], *widths[:-1]], widths, strict=True)
        )
        self.image = nn.Conv2d(widths[-1], shape[0], 3, padding=1)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name (He, with the gain of the leaky ReLU)."""
        gain = parts.gain(SLOPE)
        for index, stage in enumerate(self.stages):
            fan_in = cast(nn.ConvTranspose2d, stage).in_channels * 4  # of its 16 weights, 4 reach a pixel
            parts.draw_(stage, gain / math.sqrt(fan_in), seed, f"generator.stages.{index}")
        parts.draw_(self.start, gain / math.sqrt(self.start.in_features), seed, "generator.start")
        parts.draw_(self.image, 1 / math.sqrt(self.image.in_channels * 9), seed, "generator.image")
        if self.embed is not None:
            parts.draw_(self.embed, 1.0, seed, "generator.embed")

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        if self.embed is not None:
            noise = torch.cat([noise, self.embed(condition)], dim=1)
        hidden = functional.leaky_relu(self.start(noise), SLOPE).reshape(-1, *self.base)
        hidden = hidden.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            hidden = functional.leaky_relu(stage(hidden), SLOPE)
        return torch.tanh(self.image(hidden))


class Discriminator(nn.Module):
    """Images [B, C, H, W] and condition [B, K] to float32 logits [B]."""

    def __init__(self, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = [width * _multiple(stage) for stage in range(stages)]
        self.widths = widths
        """Channels of each map that ``maps`` returns."""
        self.stages = nn.ModuleList(
            nn.Conv2d(before, after, 4, stride=2, padding=1)
            for before, after in zip([shape[0], *widths[:-1]], widths, strict=True)
        )
        self.head = parts.Head(widths[-1] * (shape[1] >> stages) * (shape[2] >> stages), condition)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name (He, with the gain of the leaky ReLU)."""
        gain = parts.gain(SLOPE)
        for index, stage in enumerate(self.stages):
            fan_in = cast(nn.Conv2d, stage).in_channels * 16
            parts.draw_(stage, gain / math.sqrt(fan_in), seed, f"discriminator.stages.{index}")
        self.head.initialize(seed)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each stage, the finest first."""
        hidden, found = images.contiguous(memory_format=torch.channels_last), []
        for stage in self.stages:
            hidden = functional.leaky_relu(stage(hidden), SLOPE)
            found.append(hidden)
        return found

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        logits: Tensor = self.head(self.maps(images)[-1].flatten(1), condition)
        return logits


def _multiple(stage: int) -> int:
    return min(1 << stage, GREATEST_MULTIPLE)
