"""StyleGAN2's networks: a mapping to styles, modulated convolutions, a residual discriminator; truncation.

Karras et al., "Analyzing and improving the image quality of StyleGAN" (CVPR 2020, arXiv 1912.04958): a generator that
adds up images of all sizes (skip connections), weight demodulation, learning rates equalized by scaling at run time.
Mapping of two layers as in the small configurations of StyleGAN2-ADA (Karras et al., NeurIPS 2020). Left out:

- minibatch standard deviation, which looks across samples: penalties would be wrong (theirs are per sample), and a
  step would depend on how a batch is divided among workers;
- noise inputs, which would make an image depend on more than its latent;
- path length regularization, as StyleGAN2-ADA does on small sets.
"""

import itertools
import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray import seeds
from medgan_ray.models import parts

SLOPE = 0.2
GAIN = math.sqrt(2)
"""Of an activation, which roughly keeps the variance; applied before the leaky ReLU, which it passes unchanged."""
CONSTANT_STAGES = 4
"""Stages of full width, from the smallest; each further one has half the channels of the one before."""
MAPPING_LAYERS = 2
MAPPING_RATE = 0.01
"""How fast the mapping learns, beside the rest."""
MEAN_LATENTS = 1024
"""Fixed latents whose mean style is the center of truncation."""
SMALLEST = 1e-8


class Dense(nn.Module):
    """A linear layer [B, before] to [B, after] with an equalized learning rate (and a rate of its own)."""

    def __init__(self, before: int, after: int, rate: float = 1.0, level: float = 0.0) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(after, before)), nn.Parameter(torch.empty(after))
        self.gain, self.rate, self.level = rate / math.sqrt(before), rate, level

    def initialize(self, seed: int, name: str) -> None:
        """Draw the weight; the bias, which counts from ``level``, starts at zero."""
        parts.draw_(self, 1 / self.rate, seed, name)

    def forward(self, values: Tensor) -> Tensor:
        return functional.linear(values, self.weight * self.gain, self.bias * self.rate + self.level)


class Convolution(nn.Module):
    """A convolution with an equalized learning rate, bias and leaky ReLU; ``down`` smooths and halves both sides.

    Without ``active`` there is neither bias nor ReLU. ``scale`` multiplies the result.
    """

    def __init__(
        self, before: int, after: int, side: int, down: bool = False, active: bool = True, scale: float = 1.0
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(after, before, side, side))
        self.bias = nn.Parameter(torch.empty(after)) if active else None
        self.scale = scale * (GAIN if active else 1)
        self.gain, self.down = self.scale / math.sqrt(before * side**2), down

    def initialize(self, seed: int, name: str) -> None:
        """Draw the weight with unit variance; the gain is applied at run time."""
        parts.draw_(self, 1.0, seed, name)

    def forward(self, images: Tensor) -> Tensor:
        weight, side = self.weight * self.gain, self.weight.shape[2]
        bias = None if self.bias is None else self.bias * self.scale
        if not self.down:
            hidden = functional.conv2d(images, weight, bias, padding=side // 2)
        elif side == 1:
            hidden = functional.conv2d(parts.halved(images), weight, bias)
        else:
            hidden = functional.conv2d(parts.smoothed(images, padding=2), weight, bias, stride=2)
        return hidden if bias is None else functional.leaky_relu(hidden, SLOPE)


class Modulated(nn.Module):
    """A convolution whose input channels a style scales; ``demodulate`` brings its outputs back to unit variance.

    The scales are applied to images and outputs instead of to a weight a sample, which is the same sum. On a CPU that
    takes a tenth to four fifths of the time of the grouped form.
    """

    def __init__(
        self, before: int, after: int, side: int, style: int, demodulate: bool = True, up: bool = False
    ) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.empty(after, before, side, side)), nn.Parameter(torch.empty(after))
        self.style = Dense(style, before, level=1.0)
        self.gain, self.demodulate, self.up = 1 / math.sqrt(before * side**2), demodulate, up

    def initialize(self, seed: int, name: str) -> None:
        """Draw the weights; scales start around one."""
        parts.draw_(self, 1.0, seed, name)
        self.style.initialize(seed, f"{name}.style")

    def forward(self, images: Tensor, style: Tensor) -> Tensor:
        weight = self.weight * self.gain
        with torch.autocast(images.device.type, enabled=False):
            scales = self.style(style)
            norms = (scales.square() @ weight.square().sum(dim=(2, 3)).T + SMALLEST).rsqrt()
        hidden = images * scales[:, :, None, None].to(images.dtype)
        if self.up:
            hidden = functional.conv_transpose2d(hidden, weight.transpose(0, 1) * 4, stride=2)
            hidden = parts.smoothed(hidden, padding=1)
        else:
            hidden = functional.conv2d(hidden, weight, padding=weight.shape[2] // 2)
        if not self.demodulate:
            return hidden + self.bias[:, None, None].to(hidden.dtype)
        bias, norms = self.bias * GAIN, norms * GAIN
        scaled = torch.addcmul(bias[:, None, None].to(hidden.dtype), hidden, norms[:, :, None, None].to(hidden.dtype))
        return functional.leaky_relu(scaled, SLOPE)


class Generator(nn.Module):
    """Noise [B, latent] and condition [B, K] to images [B, C, H, W], unbounded."""

    def __init__(self, latent: int, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = parts.halving_widths(width, stages + 1, CONSTANT_STAGES, 1, "stylegan2")
        self.latent = latent
        self.embed = Dense(condition, latent) if condition else None
        sizes = [latent * (2 if condition else 1)] + [latent] * MAPPING_LAYERS
        self.mapping = nn.ModuleList(Dense(*pair, rate=MAPPING_RATE) for pair in itertools.pairwise(sizes))
        self.base = nn.Parameter(torch.empty(widths[0], shape[1] >> stages, shape[2] >> stages))
        self.up = nn.ModuleList(Modulated(*pair, 3, latent, up=True) for pair in itertools.pairwise(widths))
        self.same = nn.ModuleList(Modulated(each, each, 3, latent) for each in widths)
        self.image = nn.ModuleList(Modulated(each, shape[0], 1, latent, demodulate=False) for each in widths)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        base = seeds.generator("weights", seed, "generator.base").standard_normal(tuple(self.base.shape), "float32")
        with torch.no_grad():
            self.base.copy_(torch.from_numpy(base))
        if self.embed is not None:
            self.embed.initialize(seed, "generator.embed")
        for name in ("mapping", "up", "same", "image"):
            for index, layer in enumerate(self.get_submodule(name).children()):
                cast(Dense | Modulated, layer).initialize(seed, f"generator.{name}.{index}")

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        return self._drawn(self.styles(noise, condition))

    def truncated(self, noise: Tensor, condition: Tensor, truncation: float) -> Tensor:
        """Return images whose styles were moved towards the mean style of their condition.

        Args:
            noise: [B, latent].
            condition: [B, K].
            truncation: 1 leaves styles as they are, 0 takes the mean; between, less variety and fewer failures.
        """
        centers = torch.cat([self.mean_style(row[None]) for row in condition])
        return self._drawn(torch.lerp(centers, self.styles(noise, condition), truncation))

    def styles(self, noise: Tensor, condition: Tensor) -> Tensor:
        """Return the styles [B, latent] of noise [B, latent] under conditions [B, K]."""
        with torch.autocast(noise.device.type, enabled=False):
            hidden = _normalized(noise)
            if self.embed is not None:
                hidden = torch.cat([hidden, _normalized(self.embed(condition))], dim=1)
            for layer in self.mapping:
                hidden = functional.leaky_relu(layer(hidden), SLOPE) * GAIN
            return hidden

    def mean_style(self, condition: Tensor) -> Tensor:
        """Return the mean style [1, latent] under one condition [1, K], over latents that are always the same."""
        noise = torch.from_numpy(seeds.normal(np.arange(MEAN_LATENTS), self.latent, "mean style"))
        styles = self.styles(noise.to(condition.device, condition.dtype), condition.expand(MEAN_LATENTS, -1))
        return styles.mean(dim=0, keepdim=True)

    def _drawn(self, style: Tensor) -> Tensor:
        hidden = self.base.expand(len(style), *self.base.shape).contiguous(memory_format=torch.channels_last)
        hidden = self.same[0](hidden, style)
        images: Tensor = self.image[0](hidden, style)
        for up, same, image in zip(self.up, self.same[1:], self.image[1:], strict=True):
            hidden = same(up(hidden, style), style)
            images = parts.doubled(images) + image(hidden, style)
        return images


class Block(nn.Module):
    """A residual block of the discriminator, which halves both sides."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.first = Convolution(before, before, 3)
        self.second = Convolution(before, after, 3, down=True, scale=math.sqrt(0.5))
        self.skip = Convolution(before, after, 1, down=True, active=False, scale=math.sqrt(0.5))

    def initialize(self, seed: int, name: str) -> None:
        """Draw the three convolutions."""
        for each, layer in self.named_children():
            cast(Convolution, layer).initialize(seed, f"{name}.{each}")

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.second(self.first(images)) + self.skip(images))


class Discriminator(nn.Module):
    """Images [B, C, H, W] and condition [B, K] to float32 logits [B]."""

    def __init__(self, condition: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        stages = parts.halvings(shape)
        widths = parts.halving_widths(width, stages + 1, CONSTANT_STAGES, 1, "stylegan2")[::-1]
        self.widths = [*widths[1:], widths[-1]]
        """Channels of each map that ``maps`` returns."""
        self.image = Convolution(shape[0], widths[0], 1)
        self.blocks = nn.ModuleList(Block(*pair) for pair in itertools.pairwise(widths))
        self.last = Convolution(widths[-1], widths[-1], 3)
        self.features = Dense(widths[-1] * (shape[1] >> stages) * (shape[2] >> stages), widths[-1])
        self.head = parts.Head(widths[-1], condition)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        self.image.initialize(seed, "discriminator.image")
        for index, block in enumerate(self.blocks):
            cast(Block, block).initialize(seed, f"discriminator.blocks.{index}")
        self.last.initialize(seed, "discriminator.last")
        self.features.initialize(seed, "discriminator.features")
        self.head.initialize(seed)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each block, and of the convolution that follows, the finest first."""
        hidden, found = self.image(images.contiguous(memory_format=torch.channels_last)), []
        for block in self.blocks:
            hidden = block(hidden)
            found.append(hidden)
        with torch.autocast(images.device.type, enabled=False):  # the smallest stage stays in float32
            return [*found, self.last(hidden.to(self.features.weight.dtype))]

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        hidden = self.maps(images)[-1]
        with torch.autocast(images.device.type, enabled=False):
            features = functional.leaky_relu(self.features(hidden.flatten(1)), SLOPE) * GAIN
        return cast(Tensor, self.head(features, condition))


def _normalized(values: Tensor) -> Tensor:
    """Return rows of unit mean square."""
    return values * (values.square().mean(dim=1, keepdim=True) + SMALLEST).rsqrt()
