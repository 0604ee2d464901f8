"""Open a trained recognizer and ask it what scans show; no Ray needed.

What it says of a scan depends on (weights, calibration, that scan) alone: scans are answered in float32, in batches of
one size, the last one padded. Without a calibration (the training has not ended) nothing is sure: every set holds all
classes, and every scan is abstained from.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray.artifacts import calibration
from medgan_ray.artifacts.calibration import Calibration
from medgan_ray.artifacts.versions import Description, read_model
from medgan_ray.dataset.batches import Split
from medgan_ray.dataset.manifest import LabelSet
from medgan_ray.errors import UsageError
from medgan_ray.inference import networks
from medgan_ray.inference.model import model_store
from medgan_ray.metrics import anomaly, calibrate
from medgan_ray.metrics.anomaly import Cloud
from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Shape

BATCH = 8
"""Scans that are answered at once: few, so that one alone is answered soon."""
READ = 256
"""Scans of a split that are in memory at once."""
NO_DEVICE = "Not a medical device: for research, never for a decision about a patient."


@dataclasses.dataclass(frozen=True)
class OfSet:
    """What is said of n scans in one label set of K classes."""

    labels: LabelSet
    probabilities: NDArray[np.float64]
    """How likely each class is where classes are as common as in training, [n, K]."""
    named: NDArray[np.int64]
    """The class that the scan speaks for most, all equally common, [n]."""
    held: NDArray[np.bool_]
    """The classes that the set holds, [n, K]: the true one as often as the calibration promises."""

    @property
    def sure(self) -> NDArray[np.bool_]:
        """Whether the set is one class, [n]."""
        return np.asarray(self.held.sum(1) == 1)


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a recognizer says of n scans."""

    sets: tuple[OfSet, ...]
    p: NDArray[np.float64]
    """Share of known scans that are at least as unlike the others, [n]: small for foreign ones."""
    foreign: NDArray[np.bool_]
    """Whether a scan is too unlike known ones to be answered, [n]."""

    @property
    def abstained(self) -> NDArray[np.bool_]:
        """Whether "I don't know" is the answer, [n]: a foreign scan, or a first set that isn't one class."""
        return np.asarray(self.foreign | ~self.sets[0].sure)


class Recognizer:
    """A recognizer with what is known about it.

    Attributes:
        uri: where it was opened.
        card: its description; its labels are the sets that it names.
        calibration: what its answers were calibrated with; None before training has ended.
        network: trunk and head.
    """

    def __init__(
        self,
        uri: str,
        tensors: dict[str, Tensor],
        card: Description,
        fitted: tuple[Calibration, dict[str, NDArray[np.float64]]] | None,
    ) -> None:
        self.uri, self.card, self.sets = uri, card, card.labels
        self._ends = np.cumsum([len(each.classes) for each in card.labels]).tolist()
        settings = ModelSettings.parse(card.model)
        network = catalog.build_recognizer(settings, Shape(card.channels, *card.size), self._ends[-1], seed=0)
        self.network = networks.placed(network, tensors, uri)
        self._offset = network.offset.cpu().numpy().astype(np.float64)
        self.calibration: Calibration | None = fitted[0] if fitted else None
        kept = fitted[1] if fitted else {}
        self._cloud = Cloud(kept["mean"], kept["whitening"]) if fitted else None
        self._distances = kept.get("distances", np.empty(0))

    @property
    def version(self) -> str:
        """What names these weights and their calibration in an answer."""
        return self.card.version

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels of the scans that it takes."""
        return self.card.size

    def answers(self, images: NDArray[np.uint16]) -> Answers:
        """Say what scans show.

        Args:
            images: uint16 [n, C, H, W] over the model's intensity map, of its channels and size.

        Raises:
            UsageError: for scans of another shape.
        """
        return self.said(*self.seen(images))

    def said(self, logits: NDArray[np.float32], described: NDArray[np.float32]) -> Answers:
        """Return what ``answers`` does, for what ``seen`` gave."""
        sets = [self._of_set(index, part) for index, part in enumerate(self.parts(logits))]
        if self.calibration is None or self._cloud is None or not len(logits):
            return Answers(tuple(sets), np.ones(len(logits)), np.ones(len(logits), bool))
        p = anomaly.p_values(anomaly.distances(described, self._cloud), self._distances)
        return Answers(tuple(sets), p, p < self.calibration.least_p)

    def seen(self, images: NDArray[np.uint16]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the logits [n, all classes] of scans and what describes them, [n, D]; errors as of ``answers``."""
        logits, described = [], []
        for start in range(0, len(self._fitting(images)), BATCH):
            with torch.inference_mode():
                pixels = self._pixels(images[start : start + BATCH])
                found = self.network.described(pixels)
                answer = self.network.head(self.network.seen(found))
            count = len(images[start : start + BATCH])
            logits.append(answer.cpu().numpy()[:count])
            described.append(found.cpu().numpy()[:count])
        if not logits:
            return np.empty((0, self._ends[-1]), np.float32), np.empty((0, 0), np.float32)
        return np.concatenate(logits), np.concatenate(described)

    def seen_of(self, split: Split, indices: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return what ``seen`` does of the samples of a split at ``indices``, of which there is one at least."""
        starts = range(0, len(indices), READ)
        parts = [self.seen(split.take(indices[start : start + READ]).image) for start in starts]
        logits, described = (np.concatenate(each) for each in zip(*parts, strict=True))
        return logits, described

    def lead(self, pixels: Tensor, index: int) -> Tensor:
        """Return how far each class of a label set leads all others together, in nats of log-odds, [B, K].

        Args:
            pixels: [B, C, H, W] in [-1, 1], on ``networks.device``.
            index: of the label set.
        """
        ends = [0, *self._ends]
        logits: Tensor = self.network(pixels)[:, ends[index] : ends[index + 1]]
        alone = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
        others: Tensor = logits[:, None, :].masked_fill(alone, -torch.inf).logsumexp(2)
        return logits - others

    def parts(self, logits: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        """Return the logits of each label set, [n, K]."""
        return np.split(logits, self._ends[:-1], axis=1)

    def offsets(self) -> Sequence[NDArray[np.float64]]:
        """Return of each label set what is added to logits for probabilities at the prevalence of training, [K]."""
        return np.split(self._offset, self._ends[:-1])

    def _of_set(self, index: int, logits: NDArray[np.float32]) -> OfSet:
        fitted = self.calibration.sets[index] if self.calibration else None
        heat, least = (fitted.temperature, fitted.least) if fitted else (1.0, 0.0)
        balanced = calibrate.equally(logits, heat)
        return OfSet(
            labels=self.sets[index],
            probabilities=calibrate.probabilities(logits, self.offsets()[index], heat),
            named=balanced.argmax(1),
            held=calibrate.members(balanced, least),
        )

    def _fitting(self, images: NDArray[np.uint16]) -> NDArray[np.uint16]:
        shape = (self.card.channels, *self.card.size)
        if images.shape[1:] != shape:
            raise UsageError(f"scans of shape {images.shape[1:]}", self.uri, f"this model takes {shape}")
        return images

    def _pixels(self, stored: NDArray[np.uint16]) -> Tensor:
        """Return up to ``BATCH`` scans in [-1, 1] on the device, padded to as many."""
        padded = np.pad(stored, ((0, BATCH - len(stored)), (0, 0), (0, 0), (0, 0)))
        return networks.pixels(padded)


def load_recognizer(uri: str) -> Recognizer:
    """Open the recognizer that a run (its best checkpoint), a search (its winner) or a version holds.

    Raises:
        InputError: if there is none, or it is corrupt.
        UsageError: if it names nothing, but makes scans.
        StoreError: if the store fails.
    """
    store = model_store(uri)
    tensors, card = read_model(store)
    if card.task != "recognize":
        raise UsageError(f"a model of task={card.task} recognizes nothing", uri, "give one of task=recognize")
    return Recognizer(uri, tensors, card, calibration.read(store, card.weights))
