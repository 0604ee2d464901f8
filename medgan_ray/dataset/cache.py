"""Where shards are read from: what is remote is fetched into a folder of this machine, what is local is used in place.

A shard is named by its SHA-256. That is checked when it arrives (a local one: when it is first opened on this machine),
and a quicker sum, xxh64, whenever it is opened again, so a torn or flipped file never reaches training.
"""

import contextlib
import os
import time
from pathlib import Path
from typing import Literal

from pydantic import Field

from medgan_ray.config import Section
from medgan_ray.dataset.manifest import ShardEntry
from medgan_ray.dataset.shards import shard_key
from medgan_ray.dataset.shelf import Held, NoRoom, Shelf, both_sums, quick_sum
from medgan_ray.errors import BadShard
from medgan_ray.store import LocalStore, Store

ROOM_S = 10.0
"""How long a shard that is needed waits for others to let go of theirs."""
LOOK_S = 0.1


class DataSettings(Section):
    """How a dataset is read."""

    cache: str = ""
    """Folder for shards fetched from S3; empty: $MEDGAN_CACHE, else ~/.cache/medgan_ray."""
    cache_bytes: int = Field(default=32 * 2**30, gt=0)
    """Bytes of shards kept there, of all datasets; the least recently used go. At least the spans in use must fit."""
    on_bad_shard: Literal["stop", "skip"] = "stop"
    """A shard that is corrupt in the dataset itself ends training, or (skip) is left out and named in the run."""
    span_shards: int = 8
    """Shards whose samples are shuffled together; memory touched at a time is this many shards."""
    balance: Literal["none", "classes"] = "none"
    """An epoch sees each scan once, or (classes) scans of rarer classes as many times as makes classes equal."""


def cache_folder(settings: DataSettings) -> Path:
    """Return the folder that holds fetched shards."""
    chosen = settings.cache or os.environ.get("MEDGAN_CACHE", "") or "~/.cache/medgan_ray"
    return Path(chosen).expanduser().absolute()


class ShardCache:
    """The shards of one dataset, on this machine's disk when they are needed. It may be used by many threads."""

    def __init__(self, store: Store, settings: DataSettings) -> None:
        self._store, self._shelf = store, Shelf(cache_folder(settings), settings.cache_bytes)
        self.is_local = store.is_local

    def hold(self, entry: ShardEntry) -> Held:
        """Return a verified shard that stays until it is released.

        Raises:
            BadShard: if the dataset's own copy is missing, cut short or altered.
            NoRoom: if the shards in use leave no room for it.
            StoreError: if the store fails.
        """
        key = shard_key(entry.sha256)
        if not self.is_local:
            return self._shelf.hold(self._store, entry, key)
        path = self._store.path(key)
        kept = self._shelf.sum_of(entry.sha256)
        if not kept or quick_sum(path, entry.bytes) != kept:
            quick = _verified(path, entry)
            with contextlib.suppress(OSError):  # a folder that can't be written to: it is hashed in full each time
                self._shelf.set_sum(entry.sha256, quick)
        return Held(path)

    def hold_needed(self, entry: ShardEntry) -> Held:
        """Return what ``hold`` does, after waiting a while for room: other processes may be about to make some."""
        until = time.monotonic() + ROOM_S
        while True:
            try:
                return self.hold(entry)
            except NoRoom:
                if time.monotonic() > until:
                    raise
            time.sleep(LOOK_S)

    def fetch_ahead(self, entry: ShardEntry) -> None:
        """Bring a remote shard here that will be needed, if there is room; what fails is left to who needs it."""
        with contextlib.suppress(Exception):
            self._shelf.fetch(self._store, entry, shard_key(entry.sha256))


def fetch_shard(store: Store, entry: ShardEntry, folder: Path) -> Path:
    """Return the local path of a shard whose bytes match its name; a fetched one may be evicted later.

    A cached copy that does not match is fetched once more.

    Raises:
        BadShard: if the dataset's own copy is missing, cut short or altered.
    """
    if isinstance(store, LocalStore):
        path = store.path(shard_key(entry.sha256))
        _verified(path, entry)
        return path
    return ShardCache(store, DataSettings(cache=str(folder))).hold_needed(entry).path


def _verified(path: Path, entry: ShardEntry) -> str:
    """Return the xxh64 of a shard whose size and SHA-256 are right."""
    if not path.exists():
        raise BadShard("shard is missing", str(path), "restore it, or ingest again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise BadShard(f"shard holds {size} bytes of {entry.bytes}", str(path), "restore it, or ingest again")
    quick, sha256 = both_sums(path)
    if sha256 != entry.sha256:
        raise BadShard("shard does not match its SHA-256", str(path), "restore it, or ingest again")
    return quick
