"""From a model's name to its two networks, drawn from a seed; a user's package adds names by an entry point."""

import importlib.metadata
from collections.abc import Callable
from typing import NamedTuple

import pydantic
import torch
from torch import nn

from medgan_ray.config import Section
from medgan_ray.errors import nearest
from medgan_ray.models import dcgan, r3gan

ENTRY_POINTS = "medgan_ray.models"


class Shape(NamedTuple):
    """The shape of one image."""

    channels: int
    height: int
    width: int


class ModelSettings(Section):
    """Which networks are trained, and how large they are."""

    name: str = "dcgan"
    """Network: dcgan (small budgets, CPUs), r3gan (GPUs), or a name that an installed package brings."""
    latent: int = pydantic.Field(64, ge=1, le=4096)
    """Length of the noise vector."""
    generator_width: int | None = pydantic.Field(None, ge=1, le=4096)
    """Channels: dcgan at full size, r3gan at 4x4 pixels (a multiple of 64); null takes the network's preset."""
    discriminator_width: int | None = pydantic.Field(None, ge=1, le=4096)
    """The same of the discriminator; keep it from outgrowing the generator."""

    @pydantic.field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in names():
            raise ValueError(nearest(name, names()))
        return name


class Networks(NamedTuple):
    """A generator ``(noise [B, latent], condition [B, K]) -> images [B, C, H, W]`` and a discriminator.

    The discriminator is ``(images [B, C, H, W], condition [B, K]) -> logits [B]`` in float32; K = 0 is unconditional.
    """

    generator: nn.Module
    discriminator: nn.Module


Builder = Callable[[ModelSettings, Shape, int, int], Networks]
"""(settings, shape of an image, width of the condition, seed) to networks; weights depend on these alone."""


def build(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    """Return the networks that ``settings`` name, on the CPU, weights a pure function of the arguments.

    Raises:
        UsageError: for a size or width that the network can't take.
    """
    builder = _BUILT_IN.get(settings.name)
    if builder is None:
        builder = _from_entry_point(settings.name)
    return builder(settings, shape, condition_width, seed)


def names() -> tuple[str, ...]:
    """Return the names that ``build`` takes, sorted: our own and those of installed packages."""
    return tuple(sorted({*_BUILT_IN, *importlib.metadata.entry_points(group=ENTRY_POINTS).names}))


def _from_entry_point(name: str) -> Builder:
    builder: Builder = next(iter(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name))).load()
    return builder


def _dcgan(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    width = settings.generator_width or 16
    against = settings.discriminator_width or 16
    with torch.device("meta"):
        generator = dcgan.Generator(settings.latent, condition_width, width, shape)
        discriminator = dcgan.Discriminator(condition_width, against, shape)
    return _drawn(generator, discriminator, seed)


def _r3gan(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    width = settings.generator_width or 128
    against = settings.discriminator_width or 128
    with torch.device("meta"):
        generator = r3gan.Generator(settings.latent, condition_width, width, shape)
        discriminator = r3gan.Discriminator(condition_width, against, shape)
    return _drawn(generator, discriminator, seed)


def _drawn(
    generator: dcgan.Generator | r3gan.Generator, discriminator: dcgan.Discriminator | r3gan.Discriminator, seed: int
) -> Networks:
    """Give memory to networks made on the meta device (which spares torch's own, global draws) and draw weights."""
    for network in (generator, discriminator):
        network.to_empty(device="cpu")
        network.initialize(seed)
    return Networks(generator, discriminator)


_BUILT_IN: dict[str, Builder] = {"dcgan": _dcgan, "r3gan": _r3gan}
