"""The dataset that an ingest adds to: its samples' digests, labels, subjects and splits, read from its shards."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.config import differences
from medgan_ray.dataset.cache import DataSettings, cache_folder, fetch_shard
from medgan_ray.dataset.content import image_digest
from medgan_ray.dataset.manifest import POINTER, Manifest, read_manifest
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.errors import UsageError
from medgan_ray.ingest.deidentify import SubjectKey, check_key
from medgan_ray.ingest.survey import Survey
from medgan_ray.store import Store

CHUNK = 256


@dataclass
class Existing:
    """What a dataset holds.

    Attributes:
        manifest: its newest manifest.
        sha256: the manifest's digest.
        digests: SHA-256 of each sample's image, in the order of the shards.
        labels: class code of each sample, -1 if unknown.
        subjects: keyed hash of each sample's patient, empty if unknown.
        splits: each sample's split.
        survey: what they are.
    """

    manifest: Manifest
    sha256: str
    survey: Survey
    digests: list[bytes] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    _shards: list[tuple[int, Path, Callable[[], Path]]] = field(default_factory=list)

    def images(self, positions: Sequence[int]) -> NDArray[np.uint16]:
        """Return images [n, H, W] of the samples at ``positions``."""
        images = np.empty((len(positions), *self.manifest.size), np.uint16)
        starts = [start for start, _, _ in self._shards]
        places = np.searchsorted(starts, positions, "right") - 1
        for place in np.unique(places).tolist():
            rows = np.flatnonzero(places == place)
            start, path, fetch = self._shards[place]
            path = path if path.exists() else fetch()  # a fetched one may have been evicted
            images[rows] = open_shard(path).image[np.asarray(positions)[rows] - start, 0]
        return images

    def read(self, store: Store) -> None:
        """Read every shard once and fill in what is known of its samples."""
        folder = cache_folder(DataSettings())
        for entry in self.manifest.shards:
            fetch = functools.partial(fetch_shard, store, entry, folder)
            path = fetch()
            self._shards.append((len(self.digests), path, fetch))
            samples = open_shard(path)
            for start in range(0, len(samples), CHUNK):
                self._add(samples.rows(slice(start, start + CHUNK)), entry.split)

    def _add(self, samples: Samples, split: str) -> None:
        names = self.manifest.subjects
        self.digests += [image_digest(image) for image in samples.image]
        self.labels += samples.label[:, 0].tolist() if samples.label.shape[1] else [-1] * len(samples)
        self.subjects += [names[code] if code >= 0 else "" for code in samples.subject.tolist()]
        self.splits += [split] * len(samples)
        self.survey.add(samples, split)

    def check(self, recipe: dict[str, Any], key: SubjectKey, dataset: str) -> None:
        """Refuse another recipe or key: a dataset's samples are all made alike, and its patients told alike.

        Raises:
            UsageError: naming what differs.
        """
        if self.manifest.recipe != recipe:
            differ = sorted(differences(self.manifest.recipe, recipe))
            fix = "name another dataset, or ingest as it was made"
            raise UsageError(f"this dataset was made with another {', '.join(differ)}", dataset, fix)
        if self.manifest.key_fingerprint:
            check_key(key, self.manifest.key_fingerprint, dataset)


def read_existing(store: Store) -> Existing | None:
    """Return what the dataset at a store holds, or None if there is none yet."""
    if not store.exists(POINTER):
        return None
    manifest, sha256 = read_manifest(store)
    return Existing(manifest, sha256, Survey())
