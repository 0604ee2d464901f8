"""Fit a recognizer to scans in this process, a fixed number of steps: what evaluations train for themselves.

No checkpoints and no figures: it is over in a minute, and a function of the scans, the settings and the seed alone.
"""

import dataclasses

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dataset.order import Order
from medgan_ray.dataset.shards import Samples
from medgan_ray.engine import schedules
from medgan_ray.engine.state import State
from medgan_ray.evaluate import sets
from medgan_ray.models.augment import AugmentSettings
from medgan_ray.models.catalog import ModelSettings
from medgan_ray.models.recognizer import SMALLEST
from medgan_ray.tasks.protocol import Share, TrainSettings
from medgan_ray.tasks.recognize import NETWORK, RecognizeTask

MODEL = ModelSettings(name="residual", recognizer_width=16)
TRAIN = TrainSettings(precision="float32", gamma=0.0, gamma_final=0.0)
CLASSICAL = AugmentSettings(probability=0.5, shift=3, rotate_degrees=10, scale=0.1, brightness=0.05, contrast=0.2)
"""What happens to scans anyway; mirrored only where the anatomy allows."""
PLAIN = AugmentSettings(probability=0.0)
BATCH = 32
SIDE = 64
"""Pixels of a scan's longer side in a fit, at most: what makes it quick, and of one cost for all datasets."""
MOST = 8_000
"""Scans that are held in memory for it, at most."""


def gathered(dataset: Dataset, split: str, most: int = MOST) -> Samples:
    """Return the scans of a split at ``sets.drawn``, small enough for a quick fit: see ``shrunk``.

    Raises:
        InputError: if it holds none, or a shard is corrupt.
    """
    chosen, source = sets.drawn(dataset, split, most), dataset.split(split)
    parts = [small(source.take(chosen[start : start + sets.CHUNK])) for start in range(0, len(chosen), sets.CHUNK)]
    return Samples.concatenate(parts or [source.take(chosen)])


def small(samples: Samples) -> Samples:
    """Return samples with images ``shrunk``, and nothing paired."""
    return dataclasses.replace(samples, image=shrunk(samples.image), pair=None)


def shrunk(stored: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Return images [n, C, H, W] with a longer side of ``SIDE`` pixels at most, proportions kept, bilinear."""
    size = small_size((stored.shape[2], stored.shape[3]))
    if size == stored.shape[2:] or not stored.size:
        return stored
    pixels = torch.from_numpy(stored.astype(np.float32))
    smaller = functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)
    return smaller.round().clamp(0, 65535).numpy().astype(np.uint16)


def small_size(size: tuple[int, int]) -> tuple[int, int]:
    """Return the height and width that ``shrunk`` gives images of a size."""
    factor = max(1.0, max(size) / SIDE)
    height, width = (max(SMALLEST, round(side / factor)) for side in size)
    return (height, width) if factor > 1 else size


def counts(labels: NDArray[np.int32], classes: int) -> tuple[int, ...]:
    """Return how many scans each class has, for labels [n], -1 unknown."""
    return tuple(np.bincount(labels[labels >= 0], minlength=classes)[:classes].tolist())


def recognizer(
    manifest: Manifest, of_class: tuple[int, ...], seed: int, augment: AugmentSettings = PLAIN
) -> RecognizeTask:
    """Return a recognizer of small scans that nothing has been fitted to.

    Args:
        manifest: names classes, channels, modality, and the size before scans are made small.
        of_class: scans of each class that it will be fitted to.
        seed: names its first weights, order and augmentation.
        augment: what scans go through on the way.
    """
    first = {"size": small_size(manifest.size), "labels": manifest.labels[:1]}
    of_small = manifest.model_copy(update=first)
    return RecognizeTask(of_small, MODEL, TRAIN, augment, seed, (of_class,))


def fit(task: RecognizeTask, samples: Samples, images: int, seed: int, augment: float = 0.0) -> None:
    """Fit a recognizer to scans, in whole batches of ``BATCH``.

    Args:
        task: changed in place.
        samples: the scans; those of unknown class teach nothing.
        images: scans to see in all, with repeats.
        seed: names their order.
        augment: the augmentation's final probability.
    """
    state, order = State(task), Order([len(samples)], (seed, "fit", len(samples)), 1)
    parameters = list(state.parameters(NETWORK).values())
    total = -(-images // BATCH) * BATCH
    for start in range(0, total, BATCH):
        positions = np.arange(start, start + BATCH, dtype=np.int64)
        share = Share(positions, samples.rows(order.indices(start, BATCH)), BATCH, start // BATCH)
        values = schedules.values(TRAIN, augment, start, total, BATCH)
        loss = task.losses(NETWORK, share, values)["loss"]
        grown = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        state.step(NETWORK, list(grown), values)
        task.after_step(values)
