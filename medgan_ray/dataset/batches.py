"""Open a dataset and gather samples by index from memory-mapped shards.

Shards are fetched and checked by threads: those of the span that an order has come to at once, those of the next one
while it is read. No call asks for it: a split hands out orders that say where they are.
"""

import dataclasses
import functools
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.dataset.ahead import threads
from medgan_ray.dataset.cache import DataSettings, ShardCache
from medgan_ray.dataset.manifest import Manifest, ShardEntry, read_manifest
from medgan_ray.dataset.order import Order
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.dataset.shelf import Held, NoRoom
from medgan_ray.dataset.skipped import add_skipped, read_skipped
from medgan_ray.errors import BadShard, InputError, ShardSkipped, UsageError
from medgan_ray.store import Store, open_store

MOST_TIMES = 100
"""How often an epoch sees a sample of a rare class, at most."""
LARGE = ("image", "pair")
"""Tensors that stay on the disk; the others take some bytes a sample, and are kept in memory once seen."""
Replace = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]
"""From sample indices and the positions where they stand to the indices that stand there instead."""


@dataclasses.dataclass(frozen=True)
class Dataset:
    """An opened dataset: its store, its manifest, how it is read, the run that reads it and what that leaves out."""

    store: Store
    manifest: Manifest
    sha256: str
    settings: DataSettings
    run: Store | None = None
    skipped: tuple[str, ...] = ()
    """SHA-256 of the shards that the run goes on without."""
    mixing: "Mixing | None" = None
    """What is mixed into the training split; val and test stay as they are."""

    def split(self, name: str) -> "Split":
        """Return a split by name (train, val, test); it may be empty."""
        entries = [entry for entry in self.manifest.shards if entry.split == name]
        if self.mixing and name == "train":
            return self.mixing.over(self, entries)
        return Split(self, entries)


class Mixing(Protocol):
    """What is mixed into a training split."""

    def over(self, dataset: Dataset, entries: list[ShardEntry]) -> "Split":
        """Return the training split of a dataset, whose shards these are, with it."""


class _Opened(NamedTuple):
    """A shard: how it is held, its samples, how many, and the bytes and the shapes of its large tensors by name."""

    held: Held
    samples: Samples
    length: int
    large: dict[str, memoryview]
    shapes: dict[str, tuple[int, ...]]


class Split:
    """The samples of one split, by index 0 … len - 1 in the order of the manifest's shards.

    Indices of shards that are left out stand for others, each for one drawn by (content digest, index).
    """

    def __init__(self, dataset: Dataset, entries: list[ShardEntry]) -> None:
        self.dataset, self._entries = dataset, entries
        self._starts = np.cumsum([0, *(entry.samples for entry in entries)], dtype=np.int64)
        self._cache = ShardCache(dataset.store, dataset.settings)
        self._open: OrderedDict[int, _Opened] = OrderedDict()
        self._opening: dict[int, Future[_Opened]] = {}
        self._spans: dict[str, frozenset[int]] = {}
        self._small: dict[str, NDArray[Any]] = {}
        self._seen = np.zeros(len(entries), bool)
        self.skipped = tuple(entry.sha256 for entry in entries if entry.sha256 in dataset.skipped)
        """SHA-256 of this split's shards that are left out."""
        self._left_out = frozenset(n for n, entry in enumerate(entries) if entry.sha256 in self.skipped)
        self._kept_shards = [n for n in range(len(entries)) if n not in self._left_out]
        if entries and not self._kept_shards:
            raise InputError("every shard is corrupt", dataset.store.uri, "restore it, or ingest again")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def order(self, seed: int, stream: str) -> Order:
        """Return the endless order over this split for a seed and a named stream; asking it fetches ahead."""
        settings = self.dataset.settings
        keys = (self.dataset.manifest.content_digest, seed, stream)
        times = self._times() if settings.balance == "classes" else None
        entered = functools.partial(self._enter, f"{seed} {stream}")
        sizes = [entry.samples for entry in self._entries]
        instead = self._instead(seed, stream)
        return Order(sizes, keys, settings.span_shards, times, self._left_out, entered, instead)

    def take(self, indices: NDArray[np.int64]) -> Samples:
        """Return the samples at ``indices``, in that order, as fresh arrays.

        Raises:
            BadShard: if a shard is missing or altered; ShardSkipped if the run is to go on without it.
            InputError: if an index is out of range.
            StoreError: if the store fails, or there is no room for the shards of a span.
        """
        indices, shards = self._kept(indices)
        gathered = self._gathered(shards, indices - self._starts[shards])
        gathered |= {name: values[indices] for name, values in self._small.items()}
        self._close_idle(self.dataset.settings.span_shards)
        return Samples(**gathered)

    def known(self, indices: NDArray[np.int64]) -> Samples:
        """Return what is known of the samples at ``indices`` beside their pixels: images are [n, C, 0, W].

        Raises:
            As ``take`` does.
        """
        indices, shards = self._kept(indices)
        for number in set(shards.tolist()) or {min(self._kept_shards, default=0)}:
            if not len(self) or not self._seen[number]:
                self._shard(number)
        manifest = self.dataset.manifest
        nothing = np.empty((len(indices), manifest.channels, 0, manifest.size[1]), np.uint16)
        return Samples(image=nothing, **{name: values[indices] for name, values in self._small.items()})

    def _gathered(self, shards: NDArray[np.intp], rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        """Return the large tensors' rows of shards, by name.

        The bytes of the rows are joined, which copies each once; a fancy index into places of an array copies twice.
        """
        numbers = shards.tolist()
        # One after another: where they don't all fit into the cache, one is let go of before the next is fetched.
        sources = {number: self._shard(number) for number in set(numbers)}
        like = sources[numbers[0]] if numbers else self._shard(min(self._kept_shards, default=0))
        gathered = {}
        for name, whole in like.large.items():
            size = whole.nbytes // like.length
            views = {number: source.large[name] for number, source in sources.items()}
            starts = (rows * size).tolist()
            parts = [views[number][start : start + size] for number, start in zip(numbers, starts, strict=True)]
            shape = (len(numbers), *like.shapes[name])
            gathered[name] = np.frombuffer(bytearray().join(parts), np.uint16).reshape(shape)
        return gathered

    def stay_open(self) -> None:
        """Open every shard and keep it open, for samples that are taken from anywhere; where the cache has the room."""
        if 2 * sum(entry.bytes for entry in self._entries) <= self.dataset.settings.cache_bytes:
            self._enter("all", frozenset(self._kept_shards), frozenset())

    def codes(self, column: int = 0) -> NDArray[np.int32]:
        """Return every sample's class in a label set, -1 if unknown or left out."""
        for number in self._kept_shards:
            if not self._seen[number]:
                self._shard(number)
        codes: NDArray[np.int32] = self._small["label"][:, column].copy()
        for number in self._left_out:
            codes[self._starts[number] : self._starts[number + 1]] = -1
        return codes

    def class_counts(self, classes: int, column: int = 0) -> tuple[int, ...]:
        """Return how many samples the classes 0 … ``classes - 1`` of a label set have, the first by default."""
        if not classes:
            return ()
        codes = self.codes(column)
        return tuple(np.bincount(codes[codes >= 0], minlength=classes)[:classes].tolist())

    def _kept(self, indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.intp]]:
        """Return the indices that are read for those asked for, and their shards; InputError if one is out of range."""
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise InputError("sample index out of range", self.dataset.store.uri, f"the split holds {len(self)}")
        shards = np.searchsorted(self._starts, indices, side="right") - 1
        if not self._left_out:
            return indices, shards
        whole = np.concatenate([np.arange(self._starts[n], self._starts[n + 1]) for n in self._kept_shards])
        places = seeds.number(indices, len(whole), self.dataset.manifest.content_digest, "refill")
        indices = np.where(np.isin(shards, list(self._left_out)), whole[places], indices)
        return indices, np.searchsorted(self._starts, indices, side="right") - 1

    def _instead(self, seed: int, stream: str) -> Replace | None:
        """Return what puts others in the place of an order's samples; None: nothing does."""
        return None

    def _times(self) -> NDArray[np.int64]:
        """Return how often an epoch sees each sample, so that classes come equally often; unknown classes: once."""
        classes = len(self.dataset.manifest.classes)
        if not classes:
            raise UsageError("a dataset without classes", "data.balance", "leave it at none")
        codes = self.codes()
        counts = np.bincount(codes[codes >= 0], minlength=classes)
        times = np.rint(counts.max(initial=1) / np.maximum(counts, 1)).astype(np.int64)
        return np.append(times.clip(1, MOST_TIMES), 1)[codes]

    def _enter(self, stream: str, now: frozenset[int], ahead: frozenset[int]) -> None:
        """Let go of what the last span needed, open what this one needs and fetch what the next one will."""
        self._spans[stream] = now
        self._close_idle(0)
        for number in sorted(now - self._open.keys() - self._opening.keys()):
            self._opening[number] = threads().submit(functools.partial(_open, self._cache, self._entries[number]))
        if not self._cache.is_local:
            for number in sorted(ahead - now):
                threads().submit(functools.partial(self._cache.fetch_ahead, self._entries[number]), later=True)

    def _shard(self, number: int) -> _Opened:
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if not self._entries:
            raise InputError("the split is empty", self.dataset.store.uri, "ingest more scans")
        self._close_idle(self.dataset.settings.span_shards)
        try:
            opened = self._opened(number)
        except BadShard as error:
            raise self._skipped(number, error) from None
        self._open[number] = opened
        self._keep_small(number, opened.samples)
        return opened

    def _opened(self, number: int) -> _Opened:
        opening = self._opening.pop(number, None)
        if opening is not None:
            try:
                return opening.result()
            except NoRoom:
                pass
        self._close_idle(0)
        return _open(self._cache, self._entries[number], needed=True)

    def _skipped(self, number: int, error: BadShard) -> BadShard:
        """Return what to raise for a shard that is bad; where it is to be skipped, it is recorded in the run."""
        run = self.dataset.run
        if run is None or self.dataset.settings.on_bad_shard != "skip":
            return error
        add_skipped(run, self._entries[number].sha256)
        fix = "the run goes on without it from its newest checkpoint when it is started again"
        return ShardSkipped(f"{error.what}, skipped from now on", error.where, fix)

    def _keep_small(self, number: int, samples: Samples) -> None:
        if self._seen[number]:
            return
        for name, values in samples.tensors().items():
            if name not in LARGE:
                if name not in self._small:
                    self._small[name] = np.empty((len(self), *values.shape[1:]), values.dtype)
                self._small[name][self._starts[number] : self._starts[number + 1]] = values
        self._seen[number] = True

    def _close_idle(self, keep: int) -> None:
        """Let go of remote shards that no span needs, the last ``keep`` used apart. Local ones stay mapped."""
        if self._cache.is_local:
            return
        needed = frozenset().union(*self._spans.values())
        idle = [number for number in self._open if number not in needed]
        for number in idle[: len(idle) - keep] if keep else idle:
            opened = self._open.pop(number)
            opened.held.release()
        for number in self._opening.keys() - needed:
            self._opening.pop(number).cancel()


def _open(cache: ShardCache, entry: ShardEntry, needed: bool = False) -> _Opened:
    held = cache.hold_needed(entry) if needed else cache.hold(entry)
    samples = open_shard(held.path)
    tensors = {name: values for name, values in samples.tensors().items() if name in LARGE}
    large = {name: values.reshape(-1).view(np.uint8).data for name, values in tensors.items()}
    return _Opened(held, samples, len(samples), large, {name: values.shape[1:] for name, values in tensors.items()})


def open_dataset(
    uri: str, settings: DataSettings | None = None, manifest: str | None = None, run: Store | None = None
) -> Dataset:
    """Open the dataset at ``uri``, by its pointer or by a manifest's digest.

    Args:
        uri: where it lies.
        settings: how it is read.
        manifest: a manifest's SHA-256; None: the newest.
        run: the run that trains with it; with ``on_bad_shard=skip`` what it leaves out is recorded there.

    Raises:
        InputError: if there is none, or it is corrupt.
        StoreError: if the store fails.
    """
    store, settings = open_store(uri), settings or DataSettings()
    found, digest = read_manifest(store, manifest)
    skipped = read_skipped(run) if run is not None and settings.on_bad_shard == "skip" else ()
    return Dataset(store, found, digest, settings, run, skipped)
