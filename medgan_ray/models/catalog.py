"""From a model's name to its networks, drawn from a seed; a user's package adds names by an entry point."""

import importlib.metadata
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol, TypeVar, cast, runtime_checkable

import pydantic
import torch
from torch import Tensor, nn

from medgan_ray.config import Section
from medgan_ray.errors import UsageError, nearest
from medgan_ray.models import dcgan, encoder, lite0, r3gan, recognizer, stylegan2, translator

ENTRY_POINTS = "medgan_ray.models"


class Shape(NamedTuple):
    """The shape of one image."""

    channels: int
    height: int
    width: int


class ModelSettings(Section):
    """Which networks are trained, and how large they are."""

    name: str = "dcgan"
    """Network: dcgan (small budgets, CPUs), r3gan (GPUs), stylegan2 (truncation), or one that a package brings. With
    task=recognize: residual, efficientnet-lite0 (an extra), or the discriminator of dcgan, r3gan or stylegan2. With
    task=translate: unet."""
    latent: int = pydantic.Field(64, ge=1, le=4096)
    """Length of the noise vector."""
    generator_width: int | None = pydantic.Field(None, ge=1, le=4096)
    """Channels: dcgan at full size, r3gan and stylegan2 at 4x4 pixels; null takes the preset of network and size."""
    discriminator_width: int | None = pydantic.Field(None, ge=1, le=4096)
    """The same of the discriminator; keep it from outgrowing the generator."""
    recognizer_width: int | None = pydantic.Field(None, ge=1, le=4096)
    """Channels of a recognizer's first block, for residual a multiple of 8; null takes the preset."""

    @pydantic.field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        known = dict.fromkeys((*names(), *RECOGNIZERS, *TRANSLATORS))
        if name not in known:
            raise ValueError(nearest(name, known))
        return name


class Networks(NamedTuple):
    """A generator ``(noise [B, latent], condition [B, K]) -> images [B, C, H, W]`` and a discriminator.

    The discriminator is ``(images [B, C, H, W], condition [B, K]) -> logits [B]`` in float32; K = 0 is unconditional.
    """

    generator: nn.Module
    discriminator: nn.Module


@runtime_checkable
class Truncates(Protocol):
    """A generator that can give up variety for fewer failures."""

    def truncated(self, noise: Tensor, condition: Tensor, truncation: float) -> Tensor:
        """Return images of styles moved towards their mean: 0 takes the mean, 1 leaves them as they are."""


Builder = Callable[[ModelSettings, Shape, int, int], Networks]
"""(settings, shape of an image, width of the condition, seed) to networks; weights depend on these alone."""


def build(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    """Return the networks that ``settings`` name, on the CPU, weights a pure function of the arguments.

    Raises:
        UsageError: for a size or width that the network can't take.
    """
    family = _BUILT_IN.get(settings.name)
    builder = family.build if family else _from_entry_point(settings.name)
    return builder(settings, shape, condition_width, seed)


def settled(settings: ModelSettings, shape: Shape) -> ModelSettings:
    """Return the settings with the widths that null stands for; a package's network keeps its nulls."""
    family = _BUILT_IN.get(settings.name)
    if family is None:
        return settings
    widths = family.preset(shape)
    return settings.model_copy(
        update={
            "generator_width": settings.generator_width or widths.generator,
            "discriminator_width": settings.discriminator_width or widths.discriminator,
        }
    )


def build_recognizer(settings: ModelSettings, shape: Shape, outputs: int, seed: int) -> recognizer.Recognizer:
    """Return the recognizer that ``settings`` name, images [B, C, H, W] to logits [B, outputs], on the CPU.

    Its weights are a pure function of the arguments.

    Raises:
        UsageError: for a size or width that the network can't take.
    """
    made, preset = RECOGNIZERS[settings.name]
    network = made(settings.recognizer_width or preset, shape, outputs)
    network.initialize(seed)
    return network


def build_translator(
    settings: ModelSettings, given: translator.Given, shape: Shape, seed: int
) -> translator.Translator:
    """Return the translator that ``settings`` name, on the CPU, weights a pure function of the arguments."""
    width = settings.generator_width or TRANSLATORS[settings.name]
    return _drawn(lambda: translator.Translator(given, shape.channels, width), seed)


def build_critic(settings: ModelSettings, shape: Shape, seed: int) -> nn.Module:
    """Return the discriminator of translations, ``(images [B, C, H, W], condition [B, 0])`` to logits [B]."""
    family = _BUILT_IN["dcgan"]
    width = settings.discriminator_width or family.preset(shape).discriminator
    return _drawn(lambda: family.discriminator(0, width, shape), seed)


def build_encoder(settings: ModelSettings, shape: Shape, seed: int) -> encoder.Encoder:
    """Return an encoder to the latent space of the generator that ``settings`` name, on the CPU, drawn from a seed."""
    width = settings.recognizer_width or ENCODER_WIDTH
    return _drawn(lambda: encoder.Encoder(settings.latent, width, shape), seed)


def settled_translator(settings: ModelSettings) -> ModelSettings:
    """Return the settings with the width that null stands for."""
    return settings.model_copy(update={"generator_width": settings.generator_width or TRANSLATORS[settings.name]})


def settled_recognizer(settings: ModelSettings) -> ModelSettings:
    """Return the settings with the width that null stands for; a network whose width is fixed keeps null."""
    _, preset = RECOGNIZERS[settings.name]
    return settings.model_copy(update={"recognizer_width": settings.recognizer_width or preset or None})


def names() -> tuple[str, ...]:
    """Return the names of generators that ``build`` takes, sorted: our own and those of installed packages."""
    return tuple(sorted({*_BUILT_IN, *importlib.metadata.entry_points(group=ENTRY_POINTS).names}))


def _from_entry_point(name: str) -> Builder:
    builder: Builder = next(iter(importlib.metadata.entry_points(group=ENTRY_POINTS, name=name))).load()
    return builder


Made = TypeVar("Made", bound=nn.Module)


class Drawn(Protocol):
    """A network of ours: made without memory, and drawn from a seed."""

    def initialize(self, seed: int) -> None:
        """Draw every weight as a function of the seed and its name."""


def _on_meta(make: Callable[[], Made]) -> Made:
    """Return a network whose weights are yet to be drawn: torch's own, global draws are spared."""
    with torch.device("meta"):
        network = make()
    return network.to_empty(device="cpu")


def _drawn(make: Callable[[], Made], seed: int) -> Made:
    network = _on_meta(make)
    cast(Drawn, network).initialize(seed)
    return network


class Widths(NamedTuple):
    """``model.generator_width`` and ``model.discriminator_width``."""

    generator: int
    discriminator: int


class Family(NamedTuple):
    """Two networks of ours, and their widths from a size on: the smaller side of an image in pixels."""

    generator: Callable[[int, int, int, Shape], nn.Module]
    """(latent, width of the condition, width, shape)"""
    discriminator: Callable[[int, int, Shape], nn.Module]
    """(width of the condition, width, shape)"""
    widths: Mapping[int, Widths]

    def preset(self, shape: Shape) -> Widths:
        """Return the widths of the greatest size that images of this shape reach; of the least for smaller ones."""
        reached = [size for size in self.widths if size <= min(shape.height, shape.width)]
        return self.widths[max(reached, default=min(self.widths))]

    def build(self, settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
        """Return the two networks."""
        widths = self.preset(shape)
        width = settings.generator_width or widths.generator
        against = settings.discriminator_width or widths.discriminator
        return Networks(
            _drawn(lambda: self.generator(settings.latent, condition_width, width, shape), seed),
            _drawn(lambda: self.discriminator(condition_width, against, shape), seed),
        )


_BUILT_IN: dict[str, Family] = {
    "dcgan": Family(dcgan.Generator, dcgan.Discriminator, {32: Widths(16, 16)}),
    "r3gan": Family(
        r3gan.Generator,
        r3gan.Discriminator,
        {32: Widths(128, 128), 128: Widths(256, 256), 256: Widths(512, 512), 512: Widths(768, 768)},
    ),
    "stylegan2": Family(
        stylegan2.Generator,
        stylegan2.Discriminator,
        {32: Widths(32, 32), 128: Widths(64, 64), 256: Widths(256, 256), 512: Widths(512, 512)},
    ),
}


class _NoHead(nn.Identity):
    """What stands where a discriminator's own head was."""

    def initialize(self, seed: int) -> None:
        """Draw nothing."""


def _residual(width: int, shape: Shape, outputs: int) -> recognizer.Recognizer:
    return _on_meta(lambda: recognizer.Recognizer(recognizer.Residual(width, shape), outputs))


def _of_discriminator(family: str) -> "MakeRecognizer":
    """Return what puts a head on a discriminator without its own."""

    def make(width: int, shape: Shape, outputs: int) -> recognizer.Recognizer:
        def built() -> recognizer.Recognizer:
            wide = width or _BUILT_IN[family].preset(shape).discriminator
            trunk = _BUILT_IN[family].discriminator(0, wide, shape)
            trunk.head = _NoHead()
            return recognizer.Recognizer(trunk, outputs, every_map=True)

        return _on_meta(built)

    return make


def _lite0(width: int, shape: Shape, outputs: int) -> recognizer.Recognizer:
    if width:
        raise UsageError(
            f"a width of {width}", "model.recognizer_width", "efficientnet-lite0 has its own: leave it out"
        )
    return recognizer.Recognizer(lite0.Lite0(), outputs)


ENCODER_WIDTH = 16
"""What null stands for in an encoder."""
TRANSLATORS: Mapping[str, int] = {"unet": 32}
"""Of each translator the width that null stands for: channels at full size."""
MakeRecognizer = Callable[[int, Shape, int], recognizer.Recognizer]
"""(width, 0 for the network's own; shape; outputs) to a network whose weights are yet to be drawn."""
RECOGNIZERS: Mapping[str, tuple[MakeRecognizer, int]] = {
    "residual": (_residual, 16),
    **{name: (_of_discriminator(name), 0) for name in _BUILT_IN},
    lite0.NAME: (_lite0, 0),
}
"""Of each recognizer how it is made, and the width that null stands for; 0: what the network finds right."""
