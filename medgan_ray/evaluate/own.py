"""The extractor ``own``: a classifier of the real training scans, whose last features tell how alike images are.

It needs no network connection and no photographs, and it has seen neither a generated scan nor one of another split.
Where the dataset has too few labels, it learns by how many quarters a scan is turned, which takes knowing what is in it
(Gidaris et al., "Unsupervised representation learning by predicting image rotations", ICLR 2018).

    STORE/own/KEY.safetensors   its weights; KEY names the dataset's content and how it was fitted
    STORE/own/KEY.json          SHA-256 of the weights, written last
"""

import dataclasses
import hashlib
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from medgan_ray.artifacts.runs import read_json, write_json
from medgan_ray.artifacts.tensors import from_bytes, to_bytes, weights_sha256
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import LabelSet, Manifest, canonical
from medgan_ray.dataset.shards import Samples
from medgan_ray.engine.watch import to_signed, to_stored
from medgan_ray.errors import InputError
from medgan_ray.evaluate import fit
from medgan_ray.evaluate.features import Features, Images
from medgan_ray.models.recognizer import Recognizer
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import PUBLISHED

NAME = "own"
FOLDER = "own"
MOST_TIMES = 100
"""It sees each scan so many times, at most."""
IMAGES = 20_000
"""Scans that it sees while it is fitted, with repeats: about half a minute of one core at 64 pixels."""
FEWEST_OF_CLASS = 30
"""Training scans that a class needs to be learned."""
TURNS = LabelSet(name="turns", classes=("0", "90", "180", "270"))
BATCH = 32
_PREPARED = f"values -1..1 of 16 bits, longer side at most {fit.SIDE} pixels, bilinear antialiased"
_RECIPE = "1"
"""Changes where a fit of the same scans would give other weights."""


class Own:
    """The fitted classifier as an extractor. See ``features.Extractor``.

    Attributes:
        classes: the classes that it names; empty where it learned turns.
    """

    name = NAME

    def __init__(self, network: Recognizer, classes: tuple[str, ...]) -> None:
        """Take a network of small scans."""
        self._network, self.classes, self.width = network.eval().requires_grad_(False), classes, network.width
        weights = weights_sha256(network.state_dict())
        self.digest = hashlib.sha256(f"{weights} {_PREPARED}".encode()).hexdigest()

    def features(self, images: Images) -> Features:
        """Return the features [n, width] of images [n, C, H, W] in [-1, 1]."""
        return self._through(images, self.width, logits=False)

    def probabilities(self, images: Images) -> NDArray[np.float32]:
        """Return how likely each class is, [n, K], where all are equally common.

        Raises:
            InputError: if it learned turns and knows no classes.
        """
        if not self.classes:
            raise InputError("the classifier of the real scans knows no classes", NAME, "ingest scans with labels")
        return self._through(images, len(self.classes), logits=True)

    @torch.inference_mode()
    def _through(self, images: Images, width: int, logits: bool) -> NDArray[np.float32]:
        """Answer in batches of one size, so that an image's row does not depend on its company."""
        found = np.empty((len(images), width), np.float32)
        for start in range(0, len(images), BATCH):
            part = images[start : start + BATCH]
            small = fit.shrunk(np.pad(to_stored(part), ((0, BATCH - len(part)), (0, 0), (0, 0), (0, 0))))
            pixels = torch.from_numpy(to_signed(small))
            answer = self._network(pixels).softmax(1) if logits else self._network.features(pixels)
            found[start : start + BATCH] = answer.numpy()[: len(part)]
        return found


def own(dataset: Dataset, store: Store) -> Own:
    """Return the classifier of a dataset's training scans; it is fitted once and kept in a store.

    Args:
        dataset: its training split is what is learned.
        store: where the weights are kept.

    Raises:
        InputError: if there are no training scans, or a shard is corrupt.
        StoreError: if the store fails.
    """
    counts = dataset.split("train").class_counts(len(dataset.manifest.classes))
    by_label = sum(count >= FEWEST_OF_CLASS for count in counts) > 1
    manifest = dataset.manifest if by_label else _turned_manifest(dataset.manifest)
    images = min(IMAGES, MOST_TIMES * len(dataset.split("train")))
    facts = {
        "content_digest": dataset.manifest.content_digest,
        "classes": manifest.classes,
        "network": fit.MODEL.model_dump(mode="json"),
        "images": images,
        "recipe": _RECIPE,
    }
    key = f"{FOLDER}/{hashlib.sha256(canonical(facts)).hexdigest()[:16]}"
    task = fit.recognizer(manifest, (1,) * len(manifest.classes), 0, fit.CLASSICAL if by_label else fit.PLAIN)
    network = cast(Recognizer, task.networks[PUBLISHED]).cpu()
    if not _kept(network, store, key):
        samples = fit.gathered(dataset, "train")
        learned = samples if by_label else turned(samples)
        task = fit.recognizer(
            manifest,
            fit.counts(learned.label[:, 0], len(manifest.classes)),
            0,
            fit.CLASSICAL if by_label else fit.PLAIN,
        )
        fit.fit(task, learned, images, 0, fit.CLASSICAL.probability if by_label else 0.0)
        network = cast(Recognizer, task.networks[PUBLISHED]).cpu()
        _keep(network, store, key)
    return Own(network, dataset.manifest.classes if by_label else ())


def turned(samples: Samples) -> Samples:
    """Return every sample four times, turned by 0, 90, 180 and 270 degrees, labeled by the turn.

    What is turned is the largest square in the middle: a turn must not show in the shape.
    """
    side = min(samples.image.shape[2:])
    top, left = ((length - side) // 2 for length in samples.image.shape[2:])
    squares = samples.image[:, :, top : top + side, left : left + side]
    parts = []
    for turns in range(len(TURNS.classes)):
        label = np.full((len(samples), 1), turns, np.int32)
        parts.append(dataclasses.replace(samples, image=np.rot90(squares, turns, (2, 3)), label=label))
    return Samples.concatenate(parts)


def _turned_manifest(manifest: Manifest) -> Manifest:
    side = min(fit.small_size(manifest.size))
    return manifest.model_copy(update={"labels": (TURNS,), "size": (side, side)})


def _kept(network: Recognizer, store: Store, key: str) -> bool:
    """Load the weights that are kept there; say whether there are any that are whole."""
    facts = read_json(store, f"{key}.json")
    if not facts:
        return False
    try:
        tensors = from_bytes(store.read(f"{key}.safetensors"), f"{store.uri}/{key}.safetensors")
    except InputError:
        return False
    shapes = {name: value.shape for name, value in network.state_dict().items()}
    if weights_sha256(tensors) != facts.get("weights") or {name: t.shape for name, t in tensors.items()} != shapes:
        return False
    network.load_state_dict(tensors)
    return True


def _keep(network: Recognizer, store: Store, key: str) -> None:
    weights = network.state_dict()
    store.replace(f"{key}.safetensors", to_bytes(weights))
    write_json(store, f"{key}.json", {"weights": weights_sha256(weights)})
