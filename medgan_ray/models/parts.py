"""What the networks share: the discriminator's last layer, depth and widths, resampling, weights drawn from a seed."""

import math
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray import seeds
from medgan_ray.errors import UsageError

SMALLEST_BASE = 4
EMBEDDING = 64


class Head(nn.Module):
    """Features [B, F] and condition [B, K] to float32 logits [B].

    With a condition it projects: ``sum_k f_k(x) * e_k(c)``, without an unconditional term (R3GAN; after Miyato and
    Koyama, "cGANs with projection discriminator", ICLR 2018). Without one (K = 0) it is linear.
    """

    def __init__(self, features: int, condition: int) -> None:
        super().__init__()
        self.linear = nn.Linear(features, EMBEDDING if condition else 1)
        self.embed = nn.Linear(condition, EMBEDDING, bias=False) if condition else None

    def initialize(self, seed: int) -> None:
        """Draw the weights; an embedding starts at unit length."""
        draw_(self.linear, 1 / math.sqrt(self.linear.in_features), seed, "discriminator.head.linear")
        if self.embed is not None:
            draw_(self.embed, 1 / math.sqrt(EMBEDDING), seed, "discriminator.head.embed")

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            values: Tensor = self.linear(features.to(self.linear.weight.dtype))
            if self.embed is None:
                return values.squeeze(1)
            embedded: Tensor = self.embed(condition.to(values.dtype))
            return (values * embedded).sum(dim=1)


def halvings(shape: tuple[int, int, int]) -> int:
    """Return how often images [C, H, W] are halved: until the smaller side would fall below 4 pixels.

    Raises:
        UsageError: if a side can't be halved so often, or is below 8 pixels.
    """
    height, width = shape[1:]
    stages = (max(min(height, width), 1) // SMALLEST_BASE).bit_length() - 1
    if stages < 1 or height % (1 << stages) or width % (1 << stages):
        step = 1 << max(stages, 1)
        raise UsageError(f"images of {height}x{width} pixels", "size", f"take multiples of {step}, at least 8 a side")
    return stages


def halving_widths(width: int, stages: int, constant: int, least: int, network: str) -> list[int]:
    """Return the channels of each stage, smallest images first: ``constant`` stages of full width, then halving.

    Args:
        width: channels of the smallest stage.
        stages: how many.
        constant: how many have full width.
        least: what the channels of the last stage are a multiple of.
        network: named in the refusal.

    Raises:
        UsageError: for a width that doesn't divide so.
    """
    multiple = least << max(0, stages - constant)
    if width % multiple:
        fix = f"{network} takes multiples of {multiple} at this size"
        raise UsageError(f"a width of {width}", "model.*_width", fix)
    return [width >> max(0, stage - constant + 1) for stage in range(stages)]


def smoothed(images: Tensor, padding: int) -> Tensor:
    """Return images [B, C, H, W] under the low-pass kernel [1, 3, 3, 1], zeros beyond the border.

    Sides grow by ``2 * padding - 3``. A convolution a channel, channels last: on a CPU 40 times as fast as channels as
    samples.
    """
    channels = images.shape[1]
    return functional.conv2d(images, _kernel(images), padding=padding, groups=channels)


def halved(images: Tensor) -> Tensor:
    """Return images [B, C, H/2, W/2] under the kernel of ``smoothed``, zeros beyond the border.

    Computed in float32 at least: with a stride, a CPU takes ten times as long in bfloat16.
    """
    with torch.autocast(images.device.type, enabled=False):
        exact = images if images.dtype == torch.float64 else images.float()
        return functional.conv2d(exact, _kernel(exact), stride=2, padding=1, groups=images.shape[1]).to(images.dtype)


def doubled(images: Tensor) -> Tensor:
    """Return images [B, C, 2 H, 2 W] under the kernel of ``smoothed``, zeros beyond the border.

    Inside, that is bilinear interpolation, and half the time of a transposed convolution a channel.
    """
    padded = functional.pad(images, (1, 1, 1, 1))
    return functional.interpolate(padded, scale_factor=2, mode="bilinear", align_corners=False)[..., 2:-2, 2:-2]


def _kernel(images: Tensor) -> Tensor:
    """Return the kernel [C, 1, 4, 4] of sum 1, made on the device: a copy from the host would wait for it."""
    line = (4 - 2 * (torch.arange(4, device=images.device, dtype=images.dtype) - 1.5).abs()) / 8
    return (line[:, None] * line).expand(images.shape[1], 1, 4, 4).contiguous()


def gain(slope: float) -> float:
    """Return the factor that keeps the variance through a leaky ReLU (He et al. 2015)."""
    return math.sqrt(2 / (1 + slope**2))


def draw_(layer: nn.Module, deviation: float, seed: int, name: str) -> None:
    """Fill a layer's weight with normal values that depend on (seed, name) alone, and its bias with zeros."""
    weight, bias = cast(Tensor, layer.weight), layer.bias
    values = seeds.generator("weights", seed, name).standard_normal(tuple(weight.shape), "float32")
    with torch.no_grad():
        weight.copy_(torch.from_numpy(values) * deviation)
        if isinstance(bias, Tensor):
            bias.zero_()
