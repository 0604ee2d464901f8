"""The task ``recognize``: a network that names the class of a scan, in one or several label sets.

Findings that may stand side by side are label sets of their own, each present or not. The loss is the mean over the
sets of a cross-entropy, its logits adjusted by how common each class is in training, so that the network learns to
tell classes apart as if all were equally common and rare ones are not passed over (Menon et al., "Long-tail learning
via logit adjustment", ICLR 2021). Probabilities are given at the training scans' prevalence. Where a
scan's class is unknown, it teaches nothing of that set. Augmentation depends on (content digest, seed, position) alone.
"""

import copy
import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor, nn
from torch.nn import functional

from medgan_ray.dataset.manifest import LabelSet, Manifest
from medgan_ray.dataset.shards import Samples
from medgan_ray.errors import UsageError, nearest
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
        counts: Sequence[tuple[int, ...]],
    ) -> None:
        """Build the network.

        ``counts`` are the training scans of each class of each set of ``targets``, as often as an epoch sees them.
        """
        self._keys = (manifest.content_digest, seed, "augment", NETWORK)
        self.sets = targets(manifest, train)
        columns = [manifest.labels.index(each) for each in self.sets]
        self._shares = [prevalence(each) for each in counts]
        ends = np.cumsum([0, *(len(each.classes) for each in self.sets)]).tolist()
        self._parts = [(column, slice(*span)) for column, span in zip(columns, itertools.pairwise(ends), strict=True)]
        """Of each set its column among the labels, and its place among the logits."""
        shape = Shape(manifest.channels, *manifest.size)
        network = catalog.build_recognizer(model, shape, ends[-1], seed)
        self._offset = np.log(np.concatenate(self._shares)).astype(np.float32) * np.float32(train.logit_adjustment)
        network.offset.copy_(torch.from_numpy(self._offset))
        if train.freeze_trunk:
            network.trunk.requires_grad_(False)
            self.frozen = frozenset(f"trunk.{name}" for name, _ in network.trunk.named_parameters())
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
        placement, stored = self._placement, share.samples.image
        images = placement.augmented(
            self._augment, placement.images(stored), share.positions, values.augment, *self._keys
        )
        with torch.autocast(placement.device.type, torch.bfloat16, enabled=placement.autocast):
            logits = self.networks[phase](images)
        adjusted, known = logits + placement.tensor(self._offset), share.samples.label.astype(np.int64)
        loss, right = logits.new_zeros(()), logits.new_zeros(())
        for column, span in self._parts:
            labels = torch.from_numpy(known[:, column]).to(placement.device)
            loss = loss + functional.cross_entropy(adjusted[:, span], labels, ignore_index=UNKNOWN, reduction="sum")
            right = right + (logits[:, span].detach().argmax(1) == labels).sum()
        among = share.global_batch * len(self._parts)
        return {"loss": loss / among, "accuracy": right / among}

    def after_step(self, values: Values) -> None:
        """Move the averaged network."""
        ema.update(self.networks[PUBLISHED], self.networks[NETWORK], values.ema_beta)

    @torch.no_grad()
    def answers(self, samples: Samples) -> NDArray[np.float32]:
        """Return the averaged network's logits [n, K], those of one set after another, in batches of one size."""
        parts = []
        for start in range(0, len(samples), BATCH):
            stored = samples.image[start : start + BATCH]
            padding = ((0, BATCH - len(stored)), (0, 0), (0, 0), (0, 0))
            logits = self.networks[PUBLISHED](self._placement.images(np.pad(stored, padding)))
            parts.append(logits.float().cpu().numpy()[: len(stored)])
        return np.concatenate(parts) if parts else np.empty((0, len(self._offset)), np.float32)

    def not_applicable(self, known: Samples) -> str:
        """Say how many scans and classes there are, if they are too few in every set."""
        why = [_too_few(known.label[:, column]) for column, _ in self._parts]
        return "" if "" in why else why[0]

    def figures(self, answers: NDArray[np.float32], known: Samples) -> dict[str, float]:
        """Return the figures of logits [n, K]: ``score`` is the cross-entropy, each class weighted alike.

        ``majority_accuracy`` is that of whoever always names the commonest class of the training scans, whose balanced
        accuracy is one by the number of classes. Of several sets, each one's figures stand behind its name
        (``SET.auroc``), and ``score`` is their mean.
        """
        each = {}
        for index, (column, span) in enumerate(self._parts):
            if not _too_few(known.label[:, column]):
                each[self.sets[index].name] = self._figures_of(index, answers[:, span], known.label[:, column], known)
        if len(self._parts) == 1:
            return next(iter(each.values()))
        named = {f"{name}.{key}": value for name, found in each.items() for key, value in found.items()}
        return {**named, "score": float(np.mean([found["score"] for found in each.values()]))}

    def _figures_of(
        self, index: int, answers: NDArray[np.float32], known_labels: NDArray[np.int32], known: Samples
    ) -> dict[str, float]:
        """Return the figures of one set."""
        rows, shares = known_labels != UNKNOWN, self._shares[index]
        labels, groups = known_labels[rows].astype(np.int64), _groups(known.subject[rows])
        logits = answers[rows].astype(np.float64)
        probabilities: NDArray[np.float64] = softmax(logits + self._offset[self._parts[index][1]], axis=1)
        equally = classify.at_prevalence(probabilities, 1 / shares)
        decided = logits.argmax(1)
        found = {"score": classify.balanced_cross_entropy(equally, labels)}
        found |= classify.values(probabilities, decided, labels, self.sets[index].classes)
        found["balanced_accuracy_low"], found["balanced_accuracy_high"] = interval(
            lambda drawn: classify.balanced_accuracy(decided[drawn], labels[drawn]), groups, name=classify.PAIRED
        )
        found["cross_entropy"] = classify.cross_entropy(probabilities, labels)
        found["majority_accuracy"] = float((labels == int(np.argmax(shares))).mean())
        return found


def targets(manifest: Manifest, train: TrainSettings) -> tuple[LabelSet, ...]:
    """Return the label sets that are learned: those of ``train.targets``, or all that the dataset has.

    Raises:
        UsageError: for a name that the dataset doesn't know.
    """
    known = {each.name: each for each in manifest.labels}
    for name in train.targets:
        if name not in known:
            raise UsageError(f"no label set {name!r}", "train.targets", nearest(name, known))
    return tuple(known[name] for name in train.targets) or manifest.labels


def prevalence(counts: tuple[int, ...]) -> NDArray[np.float64]:
    """Return each class's share of the scans, [K], none of them 0: a class without scans counts as one."""
    known = np.maximum(np.asarray(counts, np.float64), 1)
    shares: NDArray[np.float64] = known / known.sum()
    return shares


def _too_few(labels: NDArray[np.int32]) -> str:
    """Return why figures on scans with these labels would mean nothing, as what a split does; empty where they may."""
    known = labels[labels != UNKNOWN]
    present = len(np.unique(known))
    if len(known) >= FEWEST and present > 1:
        return ""
    held = f"{present} class{'es' if present != 1 else ''}"
    return f"holds {len(known)} labeled scans of {held}, figures need {FEWEST} of 2"


def _groups(subjects: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return whose scan each is; one of nobody known is its own."""
    unknown = np.arange(len(subjects)) + int(subjects.max(initial=0)) + 1
    return np.where(subjects >= 0, subjects, unknown).astype(np.int64)
