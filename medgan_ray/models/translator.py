"""Translators: image to image, as what a plain method gives plus what a network has learned to add.

The last layer starts at zero, so that a fresh translator is the plain method exactly and training can only be judged by
what it adds. Where physics says what the answer must agree with, it is made to agree at the end: a sharper image gives
back, averaged over blocks, the image that it was made of, and pixels that are trusted stay as they are.

    given     plain method                     agrees with
    pair      a gray scale of its own          nothing
    down2/4   bicubic interpolation            the coarse image, averaged over 2x2 or 4x4 blocks
    noise     the noisy image                  nothing
    dose      the noisy image                  nothing
    hole      the image, gray in the hole      the image outside the hole

A U-Net (Ronneberger et al., MICCAI 2015) without layers that look beyond a pixel's surroundings, so that an image of
any size may be translated whole or in tiles; channels are normalized at each place (Ba et al., "Layer normalization",
2016, over channels alone, as in Chen et al., "Simple baselines for image restoration", ECCV 2022).
"""

import itertools
import math
from typing import Literal, cast, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.models import parts

Given = Literal["pair", "down2", "down4", "noise", "dose", "hole"]
"""What a translator is given of the image that it is to give back."""
GIVEN: tuple[Given, ...] = get_args(Given)
FOLD = 2
"""Blocks of so many pixels a side become channels first: at full size, convolutions cost most and say least."""
LEVELS = 2
"""Times that the U-Net halves what was folded."""
MULTIPLE = FOLD << LEVELS
BLOCKS = 1
"""Residual blocks at each level, down and up."""
_EPSILON = 1e-6


def factor(given: Given) -> int:
    """Return how many times coarser than the answer the given image is, 1 for the same size."""
    return {"down2": 2, "down4": 4}.get(given, 1)


class Translator(nn.Module):
    """Images [B, C, H / f, W / f] and trusted pixels [B, 1, H, W] to images [B, C, H, W], all in [-1, 1], any size."""

    def __init__(self, given: Given, channels: int, width: int) -> None:
        super().__init__()
        self.given: Given = given
        widths = [width << level for level in range(LEVELS + 1)]
        self.scale = nn.Conv2d(channels, channels, 1) if given == "pair" else None
        self.first = nn.Conv2d(FOLD**2 * (channels + 1), width, 3, padding=1)
        self.down = nn.ModuleList(_Level(width) for width in widths)
        self.halvings = nn.ModuleList(nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(widths))
        self.doublings = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(widths))
        self.up = nn.ModuleList(_Level(width) for width in widths[:-1])
        self.last = nn.Conv2d(width, FOLD**2 * channels, 3, padding=1)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name; the last layer starts at zero."""
        for name, layer in self.named_modules():
            if isinstance(layer, nn.Conv2d):
                fan_in = layer.in_channels * math.prod(layer.kernel_size)
                parts.draw_(layer, 1 / math.sqrt(fan_in), seed, f"translator.{name}")
            elif isinstance(layer, _ChannelNorm):
                nn.init.ones_(layer.weight)
                nn.init.zeros_(layer.bias)
        parts.draw_(self.last, 0.0, seed, "translator.last")
        if self.scale is not None:
            with torch.no_grad():
                self.scale.weight.copy_(torch.eye(self.scale.in_channels)[:, :, None, None])
                nn.init.zeros_(cast(Tensor, self.scale.bias))

    def forward(self, images: Tensor, trusted: Tensor) -> Tensor:
        """Translate; ``trusted`` is 1 where a pixel of the answer is known to be the given one, used by hole alone."""
        plain = self.plain(images)
        shown = torch.cat([plain, trusted.to(plain.dtype)], 1)
        height, width = shown.shape[2:]
        padding = (0, -width % MULTIPLE, 0, -height % MULTIPLE)
        folded = functional.pixel_unshuffle(functional.pad(shown, padding, mode="replicate"), FOLD)
        hidden = self.first(folded.contiguous(memory_format=torch.channels_last))
        kept = []
        for level, halve in zip(self.down, [*self.halvings, None], strict=True):
            hidden = level(hidden)
            if halve is not None:
                kept.append(hidden)
                hidden = halve(hidden)
        for double, level, beside in reversed(list(zip(self.doublings, self.up, kept, strict=True))):
            hidden = level(functional.pixel_shuffle(double(hidden), 2) + beside)
        with torch.autocast(images.device.type, enabled=False):
            unfolded = functional.pixel_shuffle(self.last(hidden.to(self.last.weight.dtype)), FOLD)
            added = unfolded[:, :, :height, :width]
            return self.agreeing(plain.to(added.dtype) + added, images.to(added.dtype), trusted.to(added.dtype))

    def plain(self, images: Tensor) -> Tensor:
        """Return what the plain method makes of the given image, [B, C, H, W]."""
        if self.scale is not None:
            return cast(Tensor, self.scale(images))
        times = factor(self.given)
        if times == 1:
            return images
        return functional.interpolate(images, scale_factor=times, mode="bicubic", align_corners=False)

    def agreeing(self, answer: Tensor, images: Tensor, trusted: Tensor) -> Tensor:
        """Return the answer, made to agree with what is known of it."""
        times = factor(self.given)
        if times > 1:
            missed = images - functional.avg_pool2d(answer, times)
            return answer + functional.interpolate(missed, scale_factor=times, mode="nearest")
        if self.given == "hole":
            return trusted * images + (1 - trusted) * answer
        return answer


class _Level(nn.Module):
    """Residual blocks of one size."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(_Block(width) for _ in range(BLOCKS))

    def forward(self, images: Tensor) -> Tensor:
        for block in self.blocks:
            images = block(images)
        return images


class _Block(nn.Module):
    """Two convolutions and what goes past them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = _ChannelNorm(width)
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return images + cast(Tensor, self.second(functional.gelu(self.first(self.norm(images)))))


class _ChannelNorm(nn.Module):
    """Normalizes the channels at each place by themselves."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(1, keepdim=True)
        centered = images - mean
        spread = centered.square().mean(1, keepdim=True)
        return centered * (spread + _EPSILON).rsqrt() * self.weight[:, None, None] + self.bias[:, None, None]
