"""A local folder of verified shards: what is remote is fetched once, what is local is used where it lies.

A shard is named by its SHA-256 and hashed before it is first opened, so a torn or flipped file never reaches training.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

from medgan_ray.config import Section
from medgan_ray.dataset.manifest import ShardEntry
from medgan_ray.dataset.shards import shard_key
from medgan_ray.errors import InputError
from medgan_ray.store import LocalStore, Store


class DataSettings(Section):
    """How a dataset is read."""

    cache: str = ""
    """Folder for shards fetched from S3; empty: $MEDGAN_CACHE, else ~/.cache/medgan_ray."""
    span_shards: int = 8
    """Shards whose samples are shuffled together; memory touched at a time is this many shards."""
    balance: Literal["none", "classes"] = "none"
    """An epoch sees each scan once, or (classes) scans of rarer classes as many times as makes classes equal."""


def cache_folder(settings: DataSettings) -> Path:
    """Return the folder that holds fetched shards."""
    chosen = settings.cache or os.environ.get("MEDGAN_CACHE", "") or "~/.cache/medgan_ray"
    return Path(chosen).expanduser().absolute()


def fetch_shard(store: Store, entry: ShardEntry, folder: Path) -> Path:
    """Return the local path of a shard whose bytes match its name.

    A cached copy that does not match is fetched once more.

    Raises:
        InputError: if the dataset's own copy is missing, cut short or altered.
    """
    key = shard_key(entry.sha256)
    if isinstance(store, LocalStore):
        path = store.path(key)
        _verify(path, entry)
        return path
    path = folder / "shards" / Path(key).name
    if _matches(path, entry):
        return path
    store.download(key, path)
    _verify(path, entry)
    return path


def _verify(path: Path, entry: ShardEntry) -> None:
    if not path.exists():
        raise InputError("shard is missing", str(path), "restore it, or ingest again")
    size = path.stat().st_size
    if size != entry.bytes:
        raise InputError(f"shard holds {size} bytes of {entry.bytes}", str(path), "restore it, or ingest again")
    if not _matches(path, entry):
        raise InputError("shard does not match its SHA-256", str(path), "restore it, or ingest again")


def _matches(path: Path, entry: ShardEntry) -> bool:
    if not path.exists() or path.stat().st_size != entry.bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == entry.sha256
