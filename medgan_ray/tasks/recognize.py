"""The task ``recognize``: a network that names the class of a scan, of the first label set.

The loss is a cross-entropy, its logits adjusted by how common each class is in training, so that the network learns to
tell classes apart as if all were equally common and rare ones are not passed over (Menon et al., "Long-tail learning
via logit adjustment", ICLR 2021). Probabilities are given at the training scans' prevalence. Scans whose class is
unknown are seen and teach nothing. Augmentation depends on (content digest, seed, position) alone.
"""

import copy
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dataset.shards import Samples
from medgan_ray.metrics import classify
from medgan_ray.metrics.figure import interval
from medgan_ray.models import catalog, ema
from medgan_ray.models.augment import Augment, AugmentSettings
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.tasks.placement import Placement
from medgan_ray.tasks.protocol import PUBLISHED, Share, TrainSettings, Values

NETWORK = "recognizer"
BATCH = 50
"""Scans that are answered at once; the last ones are padded to as many."""
FEWEST = 20
UNKNOWN = -1


class RecognizeTask:
    """A recognizer, its loss and its answers. See ``protocol.Task`` and ``protocol.Answers``."""

    phases: tuple[str, ...] = (NETWORK,)
    frozen: frozenset[str] = frozenset()
    first_decay = 0.9
    steadier = "lower train.lr"

    def __init__(
        self,
        manifest: Manifest,
        model: ModelSettings,
        train: TrainSettings,
        augment: AugmentSettings,
        seed: int,
        counts: tuple[int, ...],
    ) -> None:
        """Build the network; ``counts`` are the training scans of each class, as often as an epoch sees them."""
        self._keys = (manifest.content_digest, seed, "augment", NETWORK)
        self._classes = manifest.classes
        shape = Shape(manifest.channels, *manifest.size)
        network = catalog.build_recognizer(model, shape, len(self._classes), seed)
        self._shares = prevalence(counts)
        self._offset = np.log(self._shares).astype(np.float32) * np.float32(train.logit_adjustment)
        network.offset.copy_(torch.from_numpy(self._offset))
        self.networks: dict[str, nn.Module] = {
            NETWORK: network,
            PUBLISHED: copy.deepcopy(network).requires_grad_(False),
        }
        self._placement = Placement(train.precision)
        for each in self.networks.values():
            self._placement.place(each)
        self._augment = Augment(augment, manifest.size, manifest.modality)

    def trained(self, phase: str) -> nn.Module:
        """Return the network of this phase."""
        return self.networks[phase]

    def losses(self, phase: str, share: Share, values: Values) -> Mapping[str, Tensor]:
        """Return the cross-entropy and the share of scans named rightly, over the share, by the global batch."""
        placement, draws = self._placement, self._augment.draw(share.positions, *self._keys)
        noise = self._augment.draw_noise(share.positions, share.samples.image.shape[1], *self._keys)
        images = self._augment.apply(
            placement.images(share.samples.image),
            placement.tensor(draws),
            values.augment,
            None if noise is None else placement.tensor(noise),
        )
        labels = torch.from_numpy(share.samples.label[:, 0].astype(np.int64)).to(placement.device)
        with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.autocast):
            logits = self.networks[phase](images)
        adjusted = logits + placement.tensor(self._offset)
        loss = functional.cross_entropy(adjusted, labels, ignore_index=UNKNOWN, reduction="sum")
        right = (logits.detach().argmax(1) == labels).sum()
        return {"loss": loss / share.global_batch, "accuracy": right / share.global_batch}

    def after_step(self, values: Values) -> None:
        """Move the averaged network."""
        ema.update(self.networks[PUBLISHED], self.networks[NETWORK], values.ema_beta)

    @torch.no_grad()
    def answers(self, samples: Samples) -> NDArray[np.float32]:
        """Return the averaged network's logits [n, K], in batches of one size."""
        parts = []
        for start in range(0, len(samples), BATCH):
            stored = samples.image[start : start + BATCH]
            padding = ((0, BATCH - len(stored)), (0, 0), (0, 0), (0, 0))
            logits = self.networks[PUBLISHED](self._placement.images(np.pad(stored, padding)))
            parts.append(logits.float().cpu().numpy()[: len(stored)])
        return np.concatenate(parts) if parts else np.empty((0, len(self._classes)), np.float32)

    def not_applicable(self, known: Samples) -> str:
        """Say how many scans and classes there are, if they are too few."""
        labels = known.label[known.label[:, 0] != UNKNOWN, 0]
        present = len(np.unique(labels))
        if len(labels) >= FEWEST and present > 1:
            return ""
        held = f"{present} class{'es' if present != 1 else ''}"
        return f"holds {len(labels)} labeled scans of {held}, figures need {FEWEST} of 2"

    def figures(self, answers: NDArray[np.float32], known: Samples) -> dict[str, float]:
        """Return the figures of logits [n, K]: ``score`` is the cross-entropy, each class weighted alike.

        ``majority_accuracy`` is that of whoever always names the commonest class of the training scans, whose balanced
        accuracy is one by the number of classes.
        """
        rows = known.label[:, 0] != UNKNOWN
        labels, groups = known.label[rows, 0].astype(np.int64), _groups(known.subject[rows])
        logits = answers[rows].astype(np.float64)
        probabilities = _softmax(logits + self._offset)
        equally = classify.at_prevalence(probabilities, 1 / self._shares)
        decided = logits.argmax(1)
        found = {"score": classify.balanced_cross_entropy(equally, labels)}
        found |= classify.values(probabilities, decided, labels, self._classes)
        found["balanced_accuracy_low"], found["balanced_accuracy_high"] = interval(
            lambda drawn: classify.balanced_accuracy(decided[drawn], labels[drawn]), groups, name=classify.PAIRED
        )
        found["cross_entropy"] = classify.cross_entropy(probabilities, labels)
        found["majority_accuracy"] = float((labels == int(np.argmax(self._shares))).mean())
        return found


def prevalence(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return each class's share of the scans, [K], none of them 0: a class without scans counts as one."""
    known = np.maximum(np.asarray(counts, np.float64), 1)
    shares: NDArray[np.float64] = known / known.sum()
    return shares


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    probabilities: NDArray[np.float64] = powers / powers.sum(1, keepdims=True)
    return probabilities


def _groups(subjects: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return whose scan each is; one of nobody known is its own."""
    unknown = np.arange(len(subjects)) + int(subjects.max(initial=0)) + 1
    return np.where(subjects >= 0, subjects, unknown).astype(np.int64)
