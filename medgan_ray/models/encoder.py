"""From an image back to the noise that a generator would make it of, and the two together: a mirror."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.models import parts
from medgan_ray.models.recognizer import Residual


class Encoder(nn.Module):
    """Images [B, C, H, W] in [-1, 1] to float32 noise [B, latent]."""

    def __init__(self, latent: int, width: int, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.trunk = Residual(width, shape)
        height, across = shape[1:]
        for _ in self.trunk.widths:  # the stem and every block but the first halve, rounded up
            height, across = math.ceil(height / 2), math.ceil(across / 2)
        self.head = nn.Linear(self.trunk.widths[-1] * height * across, latent)

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""
        self.trunk.initialize(seed)
        parts.draw_(self.head, 1 / math.sqrt(self.head.in_features), seed, "encoder.head")

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.trunk.maps(images)[-1]
        with torch.autocast(images.device.type, enabled=False):
            noise: Tensor = self.head(hidden.to(self.head.weight.dtype).flatten(1))
            return noise


class Mirror(nn.Module):
    """A generator and its encoder: images [B, C, H, W] and conditions [B, K] to what the generator makes of them."""

    def __init__(self, generator: nn.Module, encoder: nn.Module) -> None:
        super().__init__()
        self.generator, self.encoder = generator, encoder

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        made: Tensor = self.generator(self.encoder(images), condition)
        return made


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Return how far images [B, C, H, W] are apart, [B]: mean absolute differences, halved in size until 8 pixels.

    Each size weighs alike, so that what lies a pixel off is not as wrong as what is missing.
    """
    found, times = (a - b).abs().mean((1, 2, 3)), 1
    while min(a.shape[2:]) >= 16:
        a, b = functional.avg_pool2d(a, 2), functional.avg_pool2d(b, 2)
        found, times = found + (a - b).abs().mean((1, 2, 3)), times + 1
    return found / times
