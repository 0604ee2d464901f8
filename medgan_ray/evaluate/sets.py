"""The sets of scans that an evaluation compares: real ones of each split, and generated ones."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.shards import Samples, own_subjects
from medgan_ray.engine.watch import to_signed
from medgan_ray.evaluate.features import Extractor
from medgan_ray.evaluate.fidelity import Featured
from medgan_ray.inference.model import Model

CHUNK = 1024
GENERATED_SEED, FITTED_SEED = 2**31 - 1, 2**31 - 2
"""Name the generated scans that are judged, and those that recognizers are fitted to; a user's seeds give others."""


def drawn(dataset: Dataset, name: str, most: int) -> NDArray[np.int64]:
    """Return the indices of at most so many scans of a split, ascending, drawn by the content digest alone."""
    order = seeds.permutation(len(dataset.split(name)), dataset.manifest.content_digest, "evaluate", name)
    return np.sort(order[:most])


def chunks(dataset: Dataset, name: str, most: int) -> Iterator[NDArray[np.float32]]:
    """Yield the images of a split at ``drawn``, some at a time, float32 [some, C, H, W] in [-1, 1]."""
    split, chosen = dataset.split(name), drawn(dataset, name, most)
    for start in range(0, len(chosen), CHUNK):
        yield to_signed(split.take(chosen[start : start + CHUNK]).image)


def real(dataset: Dataset, name: str, most: int, extractor: Extractor) -> Featured:
    """Return the scans of a split at ``drawn``."""
    samples = dataset.split(name).take(drawn(dataset, name, most))
    images = to_signed(samples.image)
    subjects = own_subjects(samples.subject)
    return Featured(images, extractor.features(images), first_labels(samples), subjects, samples.attribute)


def generated(model: Model, n: int, extractor: Extractor) -> Featured:
    """Return ``n`` generated scans with the labels that were asked for, as often as in training."""
    images = to_signed(model.sample(n, seed=GENERATED_SEED))
    labels = model.codes(n, seed=GENERATED_SEED).astype(np.int32)
    return Featured(images, extractor.features(images), labels, np.arange(n), np.zeros((n, 0), np.int16))


def generated_samples(model: Model, n: int, label: str | None = None) -> Samples:
    """Return ``n`` generated scans as samples, with the labels that were asked for: what recognizers are fitted to."""
    return model.as_samples(model.sample(n, label, FITTED_SEED), label, FITTED_SEED)


def first_labels(samples: Samples) -> NDArray[np.int32]:
    """Return the class of each sample in the first label set, -1 where it is unknown or there is none."""
    return samples.label[:, 0] if samples.label.shape[1] else np.full(len(samples), -1, np.int32)
