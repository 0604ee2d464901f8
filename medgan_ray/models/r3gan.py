"""R3GAN's networks: grouped residual blocks without normalization, smooth resampling; for GPUs and long runs.

Huang et al., "The GAN is dead; long live the GAN! A modern GAN baseline" (NeurIPS 2024, arXiv 2501.05441). Theirs are
768 channels wide up to 32 pixels and halve from there; the preset here is 128. Each block is
``x + C3(act(C2(act(C1 x))))``: C1 1x1 to twice the width, C2 grouped 3x3, C3 1x1 back, C3 starting at zero (fix-up).
"""

import itertools
import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray import seeds
from medgan_ray.models import parts

SLOPE = 0.2
BLOCKS = 2
EXPANSION = 2
GROUP = 8
"""Width a group of the 3x3 convolution stands for (it sees EXPANSION times as many channels)."""
CONSTANT_STAGES = 4
"""Stages of full width, from the smallest; each further one has half the channels of the one before."""
CONDITION_EMBEDDING = 64


class Block(nn.Module):
    """A residual block that keeps the shape."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = width * EXPANSION
        self.widen = nn.Conv2d(width, inner, 1)
        self.mix = nn.Conv2d(inner, inner, 3, padding=1, groups=width // GROUP)
        self.narrow = nn.Conv2d(inner, width, 1, bias=False)

    def initialize(self, gain: float, seed: int, name: str) -> None:
        """Draw the weights; the last convolution starts at zero, so that a block starts as the identity."""
        parts.draw_(self.widen, gain / math.sqrt(self.widen.in_channels), seed, f"{name}.widen")
        parts.draw_(self.mix, gain / math.sqrt(9 * EXPANSION * GROUP), seed, f"{name}.mix")
        parts.draw_(self.narrow, 0.0, seed, f"{name}.narrow")

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.leaky_relu(self.widen(images), SLOPE)
        inner = functional.leaky_relu(self.mix(inner), SLOPE)
        return images + cast(Tensor, self.narrow(inner))


class Resample(nn.Module):
    """Doubles or halves both sides with the low-pass kernel [1, 3, 3, 1]; changes the width by a 1x1 convolution."""

    def __init__(self, before: int, after: int, up: bool) -> None:
        super().__init__()
        self.up = up
        self.width = nn.Conv2d(before, after, 1, bias=False) if before != after else None

    def initialize(self, seed: int, name: str) -> None:
        """Draw the 1x1 convolution, where there is one, with gain 1."""
        if self.width is not None:
            parts.draw_(self.width, 1 / math.sqrt(self.width.in_channels), seed, f"{name}.width")

    def forward(self, images: Tensor) -> Tensor:
        if self.up:
            images = self.width(images) if self.width is not None else images
            return parts.doubled(images)
        images = parts.halved(images)
        return self.width(images) if self.width is not None else images


class Generator(nn.Module):
    """Noise [B, latent] and condition [B, K] to images [B, C, H, W], unbounded."""

    def __init__(self, latent: int, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = parts.halving_widths(width, stages + 1, CONSTANT_STAGES, GROUP, "r3gan")
        self.embed = nn.Linear(condition, CONDITION_EMBEDDING, bias=False) if condition else None
        self.start = nn.Linear(latent + (CONDITION_EMBEDDING if condition else 0), widths[0], bias=False)
        self.basis = nn.Parameter(torch.empty(widths[0], shape[1] >> stages, shape[2] >> stages))
        self.blocks = nn.ModuleList(nn.ModuleList(Block(each) for _ in range(BLOCKS)) for each in widths)
        self.transitions = nn.ModuleList(
            Resample(before, after, up=True) for before, after in itertools.pairwise(widths)
        )
        self.image = nn.Conv2d(widths[-1], shape[0], 1)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        parts.draw_(self.start, 1 / math.sqrt(self.start.in_features), seed, "generator.start")
        if self.embed is not None:
            parts.draw_(self.embed, 1 / math.sqrt(self.embed.in_features), seed, "generator.embed")
        basis = seeds.generator("weights", seed, "generator.basis").standard_normal(tuple(self.basis.shape), "float32")
        with torch.no_grad():
            self.basis.copy_(torch.from_numpy(basis))
        _initialize(self.blocks, self.transitions, seed, "generator")
        parts.draw_(self.image, 1 / math.sqrt(self.image.in_channels), seed, "generator.image")

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(noise.device.type, enabled=False):  # the smallest stage stays in float32
            if self.embed is not None:
                noise = torch.cat([noise, self.embed(condition)], dim=1)
            hidden = self.start(noise)[:, :, None, None] * self.basis
            hidden = _through(self.blocks[0], hidden)
        for transition, blocks in zip(self.transitions, self.blocks[1:], strict=True):
            hidden = _through(blocks, transition(hidden))
        return cast(Tensor, self.image(hidden))


class Discriminator(nn.Module):
    """Images [B, C, H, W] and condition [B, K] to float32 logits [B]."""

    def __init__(self, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = parts.halving_widths(width, stages + 1, CONSTANT_STAGES, GROUP, "r3gan")[::-1]
        self.widths = list(widths)
        """Channels of each map that ``maps`` returns."""
        self.image = nn.Conv2d(shape[0], widths[0], 1)
        self.blocks = nn.ModuleList(nn.ModuleList(Block(each) for _ in range(BLOCKS)) for each in widths)
        self.transitions = nn.ModuleList(
            Resample(before, after, up=False) for before, after in itertools.pairwise(widths)
        )
        base = (shape[1] >> stages, shape[2] >> stages)
        self.basis = nn.Conv2d(widths[-1], widths[-1], base, groups=widths[-1], bias=False)
        self.head = parts.Head(widths[-1], condition)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        parts.draw_(self.image, 1 / math.sqrt(self.image.in_channels), seed, "discriminator.image")
        _initialize(self.blocks, self.transitions, seed, "discriminator")
        parts.draw_(self.basis, 1 / math.sqrt(math.prod(self.basis.kernel_size)), seed, "discriminator.basis")
        self.head.initialize(seed)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of the blocks of each stage, the finest first."""
        hidden, found = self.image(images), []
        for blocks, transition in zip(self.blocks[:-1], self.transitions, strict=True):
            found.append(_through(blocks, hidden))
            hidden = transition(found[-1])
        with torch.autocast(images.device.type, enabled=False):  # the smallest stage stays in float32
            return [*found, _through(self.blocks[-1], hidden.to(self.basis.weight.dtype))]

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        hidden = self.maps(images)[-1]
        with torch.autocast(images.device.type, enabled=False):
            features = self.basis(hidden).flatten(1)
        return cast(Tensor, self.head(features, condition))


def _initialize(blocks: nn.ModuleList, transitions: nn.ModuleList, seed: int, name: str) -> None:
    """Draw blocks with the gain of the leaky ReLU, lessened for their number (fix-up with three layers a block)."""
    gain = parts.gain(SLOPE) * (len(blocks) * BLOCKS) ** -0.25
    for stage, of_stage in enumerate(blocks):
        for index, block in enumerate(cast(nn.ModuleList, of_stage)):
            cast(Block, block).initialize(gain, seed, f"{name}.blocks.{stage}.{index}")
    for stage, transition in enumerate(transitions):
        cast(Resample, transition).initialize(seed, f"{name}.transitions.{stage}")


def _through(blocks: nn.Module, images: Tensor) -> Tensor:
    for block in cast(nn.ModuleList, blocks):
        images = block(images)
    return images
