"""Scans like a given one: the noise that a generator would make it of, and noise near that.

An encoder says where to begin; some steps of Adam on the noise bring what is made nearer to the scan. What comes out
depends on (weights, scan, settings) alone.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray import seeds
from medgan_ray.artifacts.versions import Description, read_model
from medgan_ray.errors import UsageError
from medgan_ray.inference import networks
from medgan_ray.inference.model import ENCODED, model_store
from medgan_ray.metrics.images import ssim
from medgan_ray.models import catalog, condition
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.encoder import Mirror, apart

STEPS, RATE = 100, 0.05
"""Steps that refine the noise, and Adam's rate in them."""
PULL = 0.002
"""Weight of the noise's squared length beside the difference: far from where noise is drawn, nothing was learned."""


class Found(NamedTuple):
    """The noise of scans [n, latent], what is made of it, and how near that is."""

    noise: NDArray[np.float32]
    codes: NDArray[np.int64]
    """The class that the generator is told, -1 unknown, [n]."""
    images: NDArray[np.float32]
    """[n, C, H, W] in [-1, 1]."""
    difference: NDArray[np.float32]
    """Mean absolute difference over sizes, of images in [-1, 1], [n]: see ``encoder.apart``."""
    similarity: NDArray[np.float64]
    """Structural similarity, -1…1, [n]."""


class Likeness:
    """A generator with its encoder.

    Attributes:
        uri: where it was opened.
        card: its description.
    """

    def __init__(self, uri: str, tensors: dict[str, Tensor], card: Description) -> None:
        self.uri, self.card = uri, card
        self._widths = [len(labels.classes) for labels in card.labels]
        settings, shape = ModelSettings.parse(card.model), Shape(card.channels, *card.size)
        generator = catalog.build(settings, shape, condition.width(self._widths), seed=0).generator
        mirror = Mirror(generator, catalog.build_encoder(settings, shape, seed=0))
        self._mirror, self._device = networks.placed(mirror, tensors, uri), networks.device()

    def find(self, images: NDArray[np.uint16], codes: NDArray[np.int64] | None = None, steps: int = STEPS) -> Found:
        """Return the noise of scans, each by itself.

        Args:
            images: uint16 [n, C, H, W] over the model's intensity map.
            codes: of the class of each, -1 unknown; None: unknown.
            steps: that refine what the encoder says; 0: none.

        Raises:
            UsageError: for scans of another shape.
        """
        shape = (self.card.channels, *self.card.size)
        if images.shape[1:] != shape:
            raise UsageError(f"scans of shape {images.shape[1:]}", self.uri, f"this model takes {shape}")
        known = np.full(len(images), -1, np.int64) if codes is None else codes
        wanted = networks.pixels(images)
        given = self._condition(known)
        noise = self._mirror.encoder(wanted).requires_grad_(True)
        optimizer = torch.optim.Adam([noise], RATE)
        for _ in range(steps):
            missed = apart(self._mirror.generator(noise, given), wanted)
            loss = (missed + PULL * noise.square().mean(1)).sum()
            (noise.grad,) = torch.autograd.grad(loss, [noise])
            optimizer.step()
        made = self.make(noise.detach().cpu().numpy(), known)
        difference = apart(torch.from_numpy(made).to(self._device), wanted).cpu().numpy()
        return Found(noise.detach().cpu().numpy(), known, made, difference, ssim(made, wanted.cpu().numpy()))

    def vary(self, found: Found, row: int, variation: float, n: int, seed: int) -> NDArray[np.float32]:
        """Return noise [n, latent] near that of one scan; number i is a function of (weights, seed, i).

        Args:
            found: from ``find``.
            row: which scan.
            variation: 0 (the scan's own) to 1 (as far as any other).
            n: how many.
            seed: names them.
        """
        if not 0 <= variation <= 1:
            raise UsageError(f"variation={variation:g}", self.uri, "0 (the scan itself) to 1 (any other)")
        fresh = seeds.normal(np.arange(n), found.noise.shape[1], self.card.weights, seed, "like")
        near: NDArray[np.float32] = (
            np.float32(np.sqrt(1 - variation**2)) * found.noise[row] + np.float32(variation) * fresh
        )
        return near

    @torch.no_grad()
    def make(self, noise: NDArray[np.float32], codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the images of noise [n, latent] for classes [n], float32 [n, C, H, W] in [-1, 1]."""
        made = self._mirror.generator(
            torch.from_numpy(noise.astype(np.float32)).to(self._device), self._condition(codes)
        )
        images: NDArray[np.float32] = made.clamp(-1, 1).float().cpu().numpy()
        return images

    def _condition(self, codes: NDArray[np.int64]) -> Tensor:
        labels = np.full((len(codes), len(self._widths)), -1, np.int64)
        labels[:, :1] = codes[:, None]
        return condition.encode(torch.from_numpy(labels), self._widths).to(self._device)


def load_likeness(uri: str) -> Likeness:
    """Open a generator with its encoder: a run (its best checkpoint), a search's winner or a version of task=encode.

    Raises:
        InputError: if there is none, or it is corrupt.
        UsageError: if it has no encoder.
        StoreError: if the store fails.
    """
    tensors, card = read_model(model_store(uri))
    if card.task != ENCODED:
        raise UsageError(f"a model of task={card.task} has no encoder", uri, "train one: task=encode train.init_from=…")
    return Likeness(uri, tensors, card)
