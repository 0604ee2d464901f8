"""What the networks share: the discriminator's last layer, the pyramid's depth, and weights drawn from a seed."""

import math
from typing import cast

import torch
from torch import Tensor, nn

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
