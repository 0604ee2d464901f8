"""Recognizers: a trunk that turns an image into maps of features, and a head that names what it shows.

Trunks are the compact residual network below, the discriminator of any of our GANs, and EfficientNet-Lite0. No layer
looks across samples, so a batch may be split anyhow.

The residual trunk is after He et al., "Deep residual learning for image recognition" (CVPR 2016), with group
normalization (Wu and He, ECCV 2018), which also makes light of an image's brightness and contrast, and with averaged
instead of dropped pixels where a shortcut halves the image (He et al., "Bag of tricks", CVPR 2019). Any number of
channels, any size from 8 pixels.
"""

import math
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.errors import UsageError
from medgan_ray.models import parts

GROUP = 8
"""Channels of a group that is normalized together; widths are multiples of it."""
GREATEST_MULTIPLE = 8
"""Channels double with each halving of the image, up to this multiple of the width."""
SMALLEST = 8


class Trunk(Protocol):
    """What a head stands on."""

    widths: list[int]
    """Channels of each map that ``maps`` returns."""

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name, or take those it comes with."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps of features [B, width, H, W] of images [B, C, H, W] in [-1, 1], the finest first."""


class Recognizer(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to float32 logits [B, outputs].

    Attributes:
        width: features that the head sees.
        offset: what is added to logits for probabilities at the prevalence of training, [outputs]; saved with the
            weights, which mean nothing without it. 0 until a task sets it.
    """

    offset: Tensor

    def __init__(self, trunk: nn.Module, outputs: int, every_map: bool = False) -> None:
        """Put a head on a trunk: it sees the means over places of the last map, or of every map."""
        super().__init__()
        self.trunk, self._every_map = trunk, every_map
        widths = cast(Trunk, trunk).widths
        self.width = sum(widths) if every_map else widths[-1]
        self.head = nn.Linear(self.width, outputs)
        self.register_buffer("offset", torch.zeros(outputs))

    def initialize(self, seed: int) -> None:
        """Draw the trunk; the head starts at zero: nothing is preferred."""
        cast(Trunk, self.trunk).initialize(seed)
        parts.draw_(self.head, 0.0, seed, "recognizer.head")
        self.offset.zero_()

    def described(self, images: Tensor) -> Tensor:
        """Return the means over places of every map, float [B, the sum of the trunk's widths]."""
        maps = cast(Trunk, self.trunk).maps(images)
        with torch.autocast(images.device.type, enabled=False):
            return torch.cat([each.to(self.head.weight.dtype).mean((2, 3)) for each in maps], 1)

    def features(self, images: Tensor) -> Tensor:
        """Return what the head sees, float [B, ``width``]."""
        return self.seen(self.described(images))

    def seen(self, described: Tensor) -> Tensor:
        """Return what the head sees of what ``described`` returned."""
        return described[:, -self.width :]

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        with torch.autocast(images.device.type, enabled=False):
            return cast(Tensor, self.head(features))


class Residual(nn.Module):
    """The compact residual trunk. See ``Trunk``."""

    def __init__(self, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        side = min(shape[1:])
        if side < SMALLEST:
            raise UsageError(f"images of {shape[1]}x{shape[2]} pixels", "size", f"take at least {SMALLEST} a side")
        if width % GROUP:
            raise UsageError(f"a width of {width}", "model.recognizer_width", f"take a multiple of {GROUP}")
        self.widths = [width * min(1 << stage, GREATEST_MULTIPLE) for stage in range((side // 4).bit_length() - 1)]
        self.stem = nn.Conv2d(shape[0], width, 3, stride=2, padding=1, bias=False)
        self.norm = nn.GroupNorm(width // GROUP, width)
        before = [width, *self.widths[:-1]]
        self.blocks = nn.ModuleList(
            Block(narrow, wide, 2 if stage else 1)
            for stage, (narrow, wide) in enumerate(zip(before, self.widths, strict=True))
        )

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        parts.draw_(self.stem, _he(self.stem), seed, "recognizer.stem")
        _unit(self.norm)
        for index, block in enumerate(self.blocks):
            cast(Block, block).initialize(seed, f"recognizer.blocks.{index}")

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of each block."""
        hidden = images.contiguous(memory_format=torch.channels_last)
        hidden = functional.relu(self.norm(self.stem(hidden)))
        found = []
        for block in self.blocks:
            hidden = block(hidden)
            found.append(hidden)
        return found


class Block(nn.Module):
    """Two convolutions and a shortcut; ``stride`` 2 halves the sides, rounded up."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.first_norm = nn.GroupNorm(after // GROUP, after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.GroupNorm(after // GROUP, after)
        self.shortcut = nn.Conv2d(before, after, 1, bias=False) if before != after else None

    def initialize(self, seed: int, name: str) -> None:
        """Draw the convolutions (He); no normalization starts at zero, with which so few blocks learn slower."""
        for part in ("first", "second"):
            layer = cast(nn.Conv2d, getattr(self, part))
            parts.draw_(layer, _he(layer), seed, f"{name}.{part}")
        _unit(self.first_norm)
        _unit(self.second_norm)
        if self.shortcut is not None:
            parts.draw_(self.shortcut, 1 / math.sqrt(self.shortcut.in_channels), seed, f"{name}.shortcut")

    def forward(self, images: Tensor) -> Tensor:
        inner = functional.relu(self.first_norm(self.first(images)))
        inner = self.second_norm(self.second(inner))
        if self.stride > 1:
            images = functional.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)
        if self.shortcut is not None:
            images = self.shortcut(images)
        return functional.relu(images + inner)


def _he(layer: nn.Conv2d) -> float:
    return math.sqrt(2 / (layer.in_channels * math.prod(layer.kernel_size)))


def _unit(norm: nn.GroupNorm) -> None:
    with torch.no_grad():
        norm.weight.fill_(1.0)
        norm.bias.zero_()
