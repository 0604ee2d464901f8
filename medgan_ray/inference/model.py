"""Open a trained generator and sample from it; no Ray needed.

Image i depends on (weights, seed, label, truncation, i) alone: samples are drawn in float32 in fixed batches of
``BATCH``, so n = 4 is a prefix of n = 16, and the bytes are the same on the same kind of device and versions.
"""

import copy
import functools
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.artifacts import registry
from medgan_ray.artifacts.runs import BEST, read_json
from medgan_ray.artifacts.versions import DESCRIPTION, Description, read_model
from medgan_ray.dataset.manifest import Intensity
from medgan_ray.dataset.shards import Samples
from medgan_ray.errors import UsageError, nearest
from medgan_ray.inference import networks
from medgan_ray.models import catalog, condition
from medgan_ray.models.catalog import ModelSettings, Shape, Truncates
from medgan_ray.store import Store, open_store

BATCH = 16
ENCODED, _OWN = "encode", "generator."
"""A model of this task also holds an encoder; the generator's weights begin so."""


class Model:
    """A generator with what is known about it.

    Attributes:
        uri: where it was opened.
        card: its description.
    """

    def __init__(self, uri: str, tensors: dict[str, torch.Tensor], card: Description) -> None:
        self.uri, self.card = uri, card
        self._widths = [len(labels.classes) for labels in card.labels]
        self.settings = ModelSettings.parse(card.model)
        shape = Shape(card.channels, *card.size)
        generator = catalog.build(self.settings, shape, condition.width(self._widths), seed=0).generator
        self._generator, self._device = networks.placed(generator, tensors, uri), networks.device()
        self._turn = np.empty(0, np.int64)
        """Codes that label None stands for, one image after another; empty: as often as in the training scans."""
        self._cached = functools.lru_cache(maxsize=8)(self._block)

    def in_turn(self, classes: Sequence[str]) -> "Model":
        """Return this model with another meaning of label None: these classes in turn, image i of class i mod K.

        Raises:
            UsageError: for a class that this model does not know.
        """
        turned = copy.copy(self)
        turned._turn = np.array([self.code(name) for name in classes], np.int64)
        turned._cached = functools.lru_cache(maxsize=8)(turned._block)
        return turned

    @property
    def version(self) -> str:
        """The weights' SHA-256, shortened."""
        return self.card.weights[:12]

    @property
    def name(self) -> str:
        """The name in the registry, or the last part of the address."""
        return self.card.release.name if self.card.release else self.uri.rstrip("/").rsplit("/", 1)[-1]

    @property
    def classes(self) -> tuple[str, ...]:
        """The labels that can be asked for; empty for an unconditional model."""
        return self.card.labels[0].classes if self.card.labels else ()

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.card.size

    @property
    def intensity(self) -> Intensity:
        """The map from samples 0…65535 to the unit of the modality."""
        return self.card.intensity

    def code(self, label: str | None) -> int:
        """Return a label's code, -1 for None ("as in the training scans").

        Raises:
            UsageError: for a label that this model does not know.
        """
        if label is None:
            return -1
        if label not in self.classes:
            advice = nearest(label, self.classes) if self.classes else "this model knows no labels"
            raise UsageError(f"unknown label {label!r}", self.uri, advice)
        return self.classes.index(label)

    @property
    def truncates(self) -> bool:
        """Whether ``sample`` takes a truncation."""
        return isinstance(self._generator, Truncates)

    def sample(
        self, n: int, label: str | None = None, seed: int = 0, start: int = 0, truncation: float | None = None
    ) -> NDArray[np.uint16]:
        """Return images ``start`` … ``start + n - 1``, uint16 [n, C, H, W] over ``intensity``.

        Args:
            n: how many, at least 1.
            label: one of ``classes``; None draws labels as often as in the training scans.
            seed: names the images.
            start: the first image's number.
            truncation: 0 (the mean image of the label) to 1 (as trained, the same as None): less is surer, and less
                varied.

        Raises:
            UsageError: for n < 1, a negative start or seed, an unknown label, or a truncation that the model has not.
        """
        code = self.check(n, label, seed, truncation, start)
        first, last = start // BATCH, (start + n - 1) // BATCH
        blocks = [self._cached(block, code, seed, truncation) for block in range(first, last + 1)]
        return np.concatenate(blocks)[start - first * BATCH :][:n]

    def check(self, n: int, label: str | None, seed: int, truncation: float | None, start: int = 0) -> int:
        """Return the label's code; UsageError for arguments that ``sample`` would refuse."""
        if n < 1 or start < 0 or seed < 0:
            raise UsageError(f"n={n}, start={start}, seed={seed}", self.uri, "n starts at 1, the others at 0")
        self._check_truncation(truncation)
        return self.code(label)

    def labels_of(self, n: int, label: str | None = None, seed: int = 0, start: int = 0) -> list[str | None]:
        """Return the label of each image that ``sample`` gives for the same arguments."""
        codes = self.codes(n, label, seed, start)
        return [self.classes[code] if code >= 0 else None for code in codes]

    def codes(self, n: int, label: str | None = None, seed: int = 0, start: int = 0) -> NDArray[np.int64]:
        """Return the code of each image's label, -1 where there is none, for the same arguments as ``sample``."""
        return self._codes(np.arange(start, start + n), self.code(label), seed)

    def as_samples(
        self, images: NDArray[np.uint16], label: str | None = None, seed: int = 0, start: int = 0
    ) -> Samples:
        """Return what ``sample`` gave for these arguments as samples of a dataset, each of a subject of its own."""
        count = len(images)
        labels = np.full((count, len(self.card.labels)), -1, np.int32)
        labels[:, :1] = self.codes(count, label, seed, start)[:, None]
        spacing = self.card.spacing or (np.nan, np.nan)
        return Samples(
            image=images,
            label=labels,
            subject=np.arange(start, start + count, dtype=np.int32),
            attribute=np.zeros((count, 0), np.int16),
            spacing=np.tile(np.asarray(spacing, np.float32), (count, 1)),
        )

    def _check_truncation(self, truncation: float | None) -> None:
        if truncation is not None and not self.truncates:
            raise UsageError("this model has no truncation", self.uri, "leave it out; stylegan2 has one")
        if truncation is not None and not 0 <= truncation <= 1:
            raise UsageError(f"truncation={truncation:g}", self.uri, "0 to 1")

    def conditions(self, codes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what the generator is told for codes of the first label set (-1 unknown), float32 [len(codes), K]."""
        labels = np.full((len(codes), len(self._widths)), -1, np.int64)
        if self._widths:
            labels[:, 0] = codes
        encoded: NDArray[np.float32] = condition.encode(torch.from_numpy(labels), self._widths).numpy()
        return encoded

    @torch.no_grad()
    def render(
        self, noise: NDArray[np.float32], given: NDArray[np.float32], truncation: float | None = None
    ) -> NDArray[np.uint16]:
        """Return the images of noise [n, latent] under conditions [n, K], uint16 [n, C, H, W] over ``intensity``.

        They are made ``BATCH`` at a time, since the bytes may depend on how many are.
        """
        parts, generator = [], self._generator
        for start in range(0, len(noise), BATCH):
            rows = slice(start, start + BATCH)
            padding = ((0, BATCH - len(noise[rows])), (0, 0))
            draws, told = (torch.from_numpy(np.pad(each[rows], padding)).to(self._device) for each in (noise, given))
            if truncation is not None and isinstance(generator, Truncates):
                images = generator.truncated(draws, told, truncation)
            else:
                images = generator(draws, told)
            levels = ((images.clamp(-1, 1) + 1) * 32767.5).round().to(torch.int32)
            parts.append(levels.cpu().numpy().astype(np.uint16)[: len(noise[rows])])
        return np.concatenate(parts)

    def _block(self, block: int, code: int, seed: int, truncation: float | None) -> NDArray[np.uint16]:
        positions = np.arange(block * BATCH, (block + 1) * BATCH)
        noise = seeds.normal(positions, self.settings.latent, self.card.weights, seed, "sample")
        return self.render(noise, self.conditions(self._codes(positions, code, seed)), truncation)

    def _codes(self, positions: NDArray[np.int64], code: int, seed: int) -> NDArray[np.int64]:
        counts = np.asarray(self.card.class_counts, np.float64)
        if code < 0 and len(self._turn):
            return self._turn[positions % len(self._turn)]
        if code >= 0 or not counts.sum():
            return np.full(len(positions), code)
        draws = seeds.uniform(positions, 1, self.card.weights, seed, "label")[:, 0]
        return np.minimum(np.searchsorted(np.cumsum(counts) / counts.sum(), draws, side="right"), len(counts) - 1)


def load_model(uri: str) -> Model:
    """Open the model that a run (its best checkpoint), a search (its winner) or a version holds.

    Raises:
        InputError: if there is none, or it is corrupt.
        UsageError: if it makes no scans, but names what they show.
        StoreError: if the store fails.
    """
    store = model_store(uri)
    tensors, card = read_model(store)
    if card.task == ENCODED:
        tensors = {name.removeprefix(_OWN): value for name, value in tensors.items() if name.startswith(_OWN)}
    elif card.task != "generate":
        raise UsageError(f"a model of task={card.task} makes no scans", uri, "give one of task=generate")
    return Model(uri, tensors, card)


def model_store(uri: str) -> Store:
    """Return the folder that holds ``model.safetensors`` for a run, a search or a version (``REGISTRY/NAME[@N]``).

    Raises:
        InputError: if ``uri`` is none of them.
    """
    found = registry.folder(uri)
    if found is not None:
        return found
    store = open_store(uri)
    if store.exists(f"best/{DESCRIPTION}"):
        return store.child("best")
    best = read_json(store, BEST)
    if best and isinstance(best.get("run"), str):
        return store.child(best["run"], "best")
    return registry.find(uri).folder  # a registry without a current version: says so
