"""The folder of fetched shards: whole, hashed, bounded in bytes, shared by all processes of a machine.

    FOLDER/shards/SHA256.safetensors     a shard, moved here once its SHA-256 was seen to be its name
    FOLDER/shards/.writing-SHA256        one being fetched; its writer holds a lock (flock) on it
    FOLDER/room.lock                     held for the moment in which room is counted and taken
    FOLDER/sums/SHA256                   xxh64 of its bytes, written before it: checked whenever it is opened

- One process fetches, the others wait while it writes. The system drops the locks of a process that dies, and
  what it left half written is written anew.
- Who uses a shard holds a shared lock on it; only what nobody holds is evicted, least recently opened first. (A mapped
  file may be unlinked, but its bytes stay on the disk until it is unmapped: evicting it would win nothing.)
- Nothing is synced to the disk: what a power cut tears doesn't match its sum, and is fetched again.
"""

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import shutil
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import xxhash

from medgan_ray.dataset.manifest import ShardEntry
from medgan_ray.errors import BadShard, InputError, StoreError
from medgan_ray.store import PIECE_BYTES, TEMPORARY, Store

FREE_SHARE = 0.05
"""Of the disk, left free by evicting what is not in use."""
STALLED_S = 30.0
"""A file that nothing was written to for so long is fetched without its writer, which may be stopped."""
LOOK_S = 0.02
ALONE_S = 1.0
FULL = (errno.ENOSPC, errno.EDQUOT)
ADVICE = "free some space, set data.cache, raise data.cache_bytes or lower data.span_shards"

_log = logging.getLogger("medgan_ray")


class NoRoom(StoreError):
    """The folder can't take another shard beside those in use."""


class Held:
    """A verified shard that stays where it is for as long as this lives, or until it is released."""

    def __init__(self, path: Path, handle: int = -1) -> None:
        self.path = path
        self.release = weakref.finalize(self, os.close, handle) if handle >= 0 else _nothing


class _Stored(NamedTuple):
    used: float
    size: int
    path: Path


class Shelf:
    """Fetched shards below ``folder``, at most ``most_bytes`` of them."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._shards, self._sums, self._most_bytes = folder / "shards", folder / "sums", most_bytes
        self._warned = False

    def hold(self, store: Store, entry: ShardEntry, key: str) -> Held:
        """Return a shard, fetched if need be; what doesn't match its sum is fetched once more.

        Raises:
            BadShard: if the store's own copy is missing, cut short or altered.
            NoRoom: if the shards in use leave no room for it.
            StoreError: if the store fails.
        """
        path = self._shards / Path(key).name
        while True:
            self.fetch(store, entry, key)
            try:
                handle = os.open(path, os.O_RDONLY)
            except FileNotFoundError:  # evicted just now
                continue
            held = Held(path, handle)
            fcntl.flock(handle, fcntl.LOCK_SH)
            if not os.fstat(handle).st_nlink:
                continue
            if self._sound(path, entry):
                os.utime(path)
                return held
            _log.warning("a cached shard is damaged and fetched again: %s", path)
            path.unlink(missing_ok=True)

    def fetch(self, store: Store, entry: ShardEntry, key: str) -> None:
        """Bring a shard here unless it is here; errors as ``hold`` has."""
        path = self._shards / Path(key).name
        try:
            if not path.exists():
                self._fetch(store, entry, key, path)
        except OSError as error:
            reason = error.strerror or str(error)
            raise StoreError(reason, str(self._shards), "check the folder that data.cache names") from error

    def _fetch(self, store: Store, entry: ShardEntry, key: str, path: Path) -> None:
        self._shards.mkdir(parents=True, exist_ok=True)
        temporary = self._shards / f"{TEMPORARY}{entry.sha256}"
        handle = _locked(temporary, path)
        if handle is None:
            if path.exists():
                return
            temporary = temporary.with_name(f"{temporary.name}-{os.getpid()}-{time.monotonic_ns()}")
            handle = _opened(temporary)
        try:
            if not path.exists():
                self._write(store, entry, key, handle)
                temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)

    def _write(self, store: Store, entry: ShardEntry, key: str, handle: int) -> None:
        """Write a shard to an open file, hashed on its way, making room for it."""
        while True:
            os.lseek(handle, 0, os.SEEK_SET)
            try:
                with self._one_at_a_time():
                    self._make_room(entry.bytes)
                    # Reserved at once: a full disk is found before anything is fetched, and others count these bytes.
                    os.posix_fallocate(handle, 0, entry.bytes)
                self.set_sum(entry.sha256, _copy(store, entry, key, handle))
                return
            except OSError as error:
                if error.errno not in FULL:
                    raise
            os.ftruncate(handle, 0)
            self._squeeze(entry.bytes)

    @contextlib.contextmanager
    def _one_at_a_time(self) -> Iterator[None]:
        """Keep two fetches from taking the same room; a process stopped while it holds the lock delays others only."""
        handle = os.open(self._shards.parent / "room.lock", os.O_RDWR | os.O_CREAT, 0o644)
        until = time.monotonic() + ALONE_S
        try:
            while time.monotonic() < until:
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(0.001)
            yield
        finally:
            os.close(handle)

    def sum_of(self, sha256: str) -> str:
        """Return the xxh64 that was kept of a shard; empty if there is none."""
        try:
            return (self._sums / sha256).read_text("ascii")
        except (OSError, UnicodeDecodeError):
            return ""

    def set_sum(self, sha256: str, quick: str) -> None:
        """Keep the xxh64 of a shard whose SHA-256 was seen to be right."""
        self._sums.mkdir(parents=True, exist_ok=True)
        temporary = self._sums / f"{TEMPORARY}{sha256}-{os.getpid()}-{time.monotonic_ns()}"
        temporary.write_text(quick, "ascii")
        temporary.replace(self._sums / sha256)

    def _sound(self, path: Path, entry: ShardEntry) -> bool:
        kept = self.sum_of(entry.sha256)
        if kept:
            return quick_sum(path, entry.bytes) == kept
        # From a version that kept no sums.
        quick, sha256 = both_sums(path)
        if sha256 == entry.sha256:
            self.set_sum(entry.sha256, quick)
        return sha256 == entry.sha256

    def _stored(self) -> list[_Stored]:
        """Return all shards, least recently opened first; what dead processes left half written is removed."""
        found = []
        for item in os.scandir(self._shards):
            try:
                facts = item.stat()
            except FileNotFoundError:
                continue
            if item.name.startswith(TEMPORARY):
                if not _remove_if_free(Path(item.path)):
                    found.append(_Stored(float("inf"), facts.st_size, Path(item.path)))
            else:
                found.append(_Stored(facts.st_mtime, facts.st_size, Path(item.path)))
        return sorted(found)

    def _make_room(self, size: int) -> None:
        """Evict what is not in use until ``size`` more bytes stay below the limit and the disk keeps some free."""
        stored = self._stored()
        disk = shutil.disk_usage(self._shards)
        over = sum(each.size for each in stored) + size - self._most_bytes
        lacking = size + disk.total * FREE_SHARE - disk.free
        if self._evict(stored, max(over, lacking)) and lacking > over:
            self._warn()
        if sum(each.size for each in self._stored()) + size > self._most_bytes:
            raise NoRoom("no room for the shards of a span", str(self._shards), ADVICE)

    def _squeeze(self, size: int) -> None:
        """Make room on a full disk.

        Raises:
            NoRoom: if there is nothing left to evict.
        """
        if self._evict(self._stored(), size) <= 0:
            raise NoRoom("the disk is full, and all cached shards are in use", str(self._shards), ADVICE)
        self._warn()

    def _warn(self) -> None:
        if not self._warned:
            self._warned = True
            kept = sum(each.size for each in self._stored()) / 2**30
            _log.warning("the disk is full: the cache of shards shrinks to %.2f GiB (%s)", kept, self._shards)

    def _evict(self, stored: list[_Stored], size: float) -> int:
        """Remove shards that nobody holds until ``size`` bytes are free; return how many bytes are."""
        freed = 0
        for each in stored:
            if freed >= size:
                break
            if _remove_if_free(each.path):
                (self._sums / each.path.stem).unlink(missing_ok=True)
                freed += each.size
        return freed


def _copy(store: Store, entry: ShardEntry, key: str, handle: int) -> str:
    """Copy a shard to an open file and return its xxh64; BadShard unless it is what its name says."""
    sha256, quick, size = hashlib.sha256(), xxhash.xxh64(), 0
    try:
        for piece in store.stream(key):
            size += len(piece)
            if size > entry.bytes:
                break
            sha256.update(piece)
            quick.update(piece)
            rest = memoryview(piece)
            while rest:
                rest = rest[os.write(handle, rest) :]
    except InputError:
        raise BadShard("shard is missing", f"{store.uri}/{key}", "restore it, or ingest again") from None
    if size != entry.bytes:
        more = f"{size} bytes" if size < entry.bytes else "more bytes than the"
        raise BadShard(f"shard holds {more} of {entry.bytes}", f"{store.uri}/{key}", "restore it, or ingest again")
    if sha256.hexdigest() != entry.sha256:
        raise BadShard("shard does not match its SHA-256", f"{store.uri}/{key}", "restore it, or ingest again")
    return quick.hexdigest()


def quick_sum(path: Path, size: int) -> str:
    """Return the xxh64 of a file of ``size`` bytes; empty if it is of another size or can't be read."""
    digest = xxhash.xxh64()
    try:
        if path.stat().st_size != size:
            return ""
        for piece in _pieces(path):
            digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def both_sums(path: Path) -> tuple[str, str]:
    """Return the xxh64 and the SHA-256 of a file, read once."""
    quick, sha256 = xxhash.xxh64(), hashlib.sha256()
    for piece in _pieces(path):
        quick.update(piece)
        sha256.update(piece)
    return quick.hexdigest(), sha256.hexdigest()


def _pieces(path: Path) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(PIECE_BYTES))
    with path.open("rb", buffering=0) as file:
        while size := file.readinto(buffer):
            yield buffer[:size]


def _opened(temporary: Path) -> int:
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return handle


def _locked(temporary: Path, final: Path) -> int | None:
    """Return a handle on the locked file to write to; None once another process has written it, or has stalled."""
    written, since = -1, time.monotonic()
    while not final.exists():
        handle = os.open(temporary, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_at(handle, temporary):
                return handle
            os.close(handle)
            continue
        except BlockingIOError:
            last = os.fstat(handle).st_mtime_ns
            os.close(handle)
        if last != written:
            written, since = last, time.monotonic()
        if time.monotonic() - since > STALLED_S:
            return None
        time.sleep(LOOK_S)
    return None


def _is_at(handle: int, path: Path) -> bool:
    """Say whether an open file is still the one at ``path``."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def _remove_if_free(path: Path) -> bool:
    """Remove a file unless somebody holds a lock on it; say whether it was removed."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not _is_at(handle, path):
            return False
        path.unlink()
        return True
    except BlockingIOError:
        return False
    finally:
        os.close(handle)


def _nothing() -> None:
    """Release what needs no release."""
