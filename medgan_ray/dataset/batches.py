"""Open a dataset and gather samples by index from memory-mapped shards."""

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.cache import DataSettings, cache_folder, fetch_shard
from medgan_ray.dataset.manifest import Manifest, ShardEntry, read_manifest
from medgan_ray.dataset.order import Order
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store, open_store

MOST_TIMES = 100
"""How often an epoch sees a sample of a rare class, at most."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset: its store, its manifest and where fetched shards go."""

    store: Store
    manifest: Manifest
    sha256: str
    settings: DataSettings

    def split(self, name: str) -> "Split":
        """Return a split by name (train, val, test); it may be empty."""
        return Split(self, [entry for entry in self.manifest.shards if entry.split == name])


class Split:
    """The samples of one split, by index 0 … len - 1 in the order of the manifest's shards."""

    def __init__(self, dataset: Dataset, entries: list[ShardEntry]) -> None:
        self.dataset, self._entries = dataset, entries
        self._ends = np.cumsum([entry.samples for entry in entries], dtype=np.int64)
        self._open: dict[int, Samples] = {}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def order(self, seed: int, stream: str) -> Order:
        """Return the endless order over this split for a seed and a named stream."""
        settings = self.dataset.settings
        keys = (self.dataset.manifest.content_digest, seed, stream)
        times = self._times() if settings.balance == "classes" else None
        return Order([entry.samples for entry in self._entries], keys, settings.span_shards, times)

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """Return the samples at ``indices``, in that order, as fresh arrays.

        Raises:
            InputError: if a shard is missing or altered, or an index is out of range.
        """
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise InputError("sample index out of range", self.dataset.store.uri, f"the split holds {len(self)}")
        shards = np.searchsorted(self._ends, indices, side="right")
        gathered = self._shard(int(shards[0]) if len(shards) else 0).empty(len(indices))
        for number in np.unique(shards):
            where = np.flatnonzero(shards == number)
            start = int(self._ends[number - 1]) if number else 0
            self._shard(int(number)).copy_rows(indices[where] - start, gathered, where)
        return gathered

    def class_counts(self, classes: int) -> tuple[int, ...]:
        """Return how many samples the classes 0 … ``classes - 1`` of the first label set have."""
        if not classes:
            return ()
        codes = self._codes()
        return tuple(np.bincount(codes[codes >= 0], minlength=classes)[:classes].tolist())

    def _codes(self) -> NDArray[np.int32]:
        """Return every sample's class in the first label set, -1 if unknown."""
        return np.concatenate([self._shard(number).label[:, 0] for number in range(len(self._entries))])

    def _times(self) -> NDArray[np.int64]:
        """Return how often an epoch sees each sample, so that classes come equally often; unknown classes: once."""
        classes = len(self.dataset.manifest.classes)
        if not classes:
            raise UsageError("a dataset without classes", "data.balance", "leave it at none")
        codes = self._codes()
        counts = np.bincount(codes[codes >= 0], minlength=classes)
        times = np.rint(counts.max(initial=1) / np.maximum(counts, 1)).astype(np.int64)
        return np.append(times.clip(1, MOST_TIMES), 1)[codes]

    def _shard(self, number: int) -> Samples:
        if number not in self._open:
            if not self._entries:
                raise InputError("the split is empty", self.dataset.store.uri, "ingest more scans")
            folder: Path = cache_folder(self.dataset.settings)
            self._open[number] = open_shard(fetch_shard(self.dataset.store, self._entries[number], folder))
        return self._open[number]


def open_dataset(uri: str, settings: DataSettings | None = None, manifest: str | None = None) -> Dataset:
    """Open the dataset at ``uri``, by its pointer or by a manifest's digest.

    Raises:
        InputError: if there is none, or it is corrupt.
        StoreError: if the store fails.
    """
    store = open_store(uri)
    found, digest = read_manifest(store, manifest)
    return Dataset(store, found, digest, settings or DataSettings())
