"""Folders of artifacts on a local path or on S3, behind one small face.

    store = open_store("s3://bucket/heads")      # or a local path
    store.create("shards/abc.safetensors", data)  # conditional put: False if it is already there
    store.swap("dataset.json", data, version)     # compare and swap: a pointer, moved last

Every write is atomic: a reader sees the old bytes, the new bytes or nothing. S3 credentials and the endpoint come from
the standard AWS_* environment, profiles or instance roles, never from a URI.
"""

import abc
import contextlib
import errno
import fcntl
import hashlib
import io
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple

from medgan_ray.errors import InputError, StoreError, UsageError

TEMPORARY = ".writing-"
"""How the names of files begin that are being written."""
PIECE_BYTES = 1 << 20
"""What is large is read in pieces of this size."""


class Entry(NamedTuple):
    """A key below a store's root and its size in bytes; ``version`` is another one when an object's bytes are."""

    key: str
    size: int
    version: str = ""
    """The ETag on S3; on a local path empty in lists."""


def is_remote(uri: str) -> bool:
    """Say whether ``uri`` names an object store rather than a local path."""
    return "://" in uri and not uri.startswith("file://")


def open_store(uri: str) -> "Store":
    """Return the store at a local path or ``s3://bucket/prefix``; nothing is touched yet.

    Raises:
        UsageError: for any other scheme, or an S3 address without a bucket.
    """
    if not is_remote(uri):
        return LocalStore(str(Path(uri.removeprefix("file://")).expanduser().absolute()))
    scheme, _, rest = uri.partition("://")
    if scheme != "s3":
        raise UsageError(f"unknown kind of store {scheme!r}", uri, "give a path or s3://bucket/prefix")
    if not rest.strip("/"):
        raise UsageError("no bucket", uri, "give s3://bucket/prefix")
    from medgan_ray.s3 import S3Store

    return S3Store(f"s3://{rest.strip('/')}")


def safe_key(key: str) -> str:
    """Return ``key`` if it stays below a root; UsageError if it is absolute or climbs out."""
    if not key or key.startswith("/") or ".." in PurePosixPath(key).parts:
        raise UsageError("not a key below the store", key)
    return key


class Store(abc.ABC):
    """Bytes by key below one root. Keys use ``/``; a key is written as a whole or not at all."""

    is_local: bool

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    def child(self, *names: str) -> "Store":
        """Return the store below this one."""
        return type(self)("/".join([self.uri.rstrip("/"), *map(safe_key, names)]))

    @abc.abstractmethod
    def read(self, key: str) -> bytes:
        """Return the bytes of ``key``; InputError if there is none, StoreError if the store fails."""

    @abc.abstractmethod
    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of ``key`` from ``start`` to ``end``, fewer where it is shorter; errors as ``read`` has."""

    @abc.abstractmethod
    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of ``key`` piece by piece, for what is large; errors as ``read`` has."""

    @abc.abstractmethod
    def entry(self, key: str) -> Entry:
        """Return the size and version of ``key``; errors as ``read`` has."""

    @abc.abstractmethod
    def exists(self, key: str) -> bool:
        """Say whether ``key`` is there."""

    @abc.abstractmethod
    def list(self, prefix: str = "") -> list[Entry]:
        """Return all keys below ``prefix`` (a folder), recursively and sorted."""

    @abc.abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Write ``key`` unless it is there (exactly one of many racing writers wins); say whether it was written."""

    @abc.abstractmethod
    def replace(self, key: str, data: bytes) -> None:
        """Write ``key``, whatever was there."""

    @abc.abstractmethod
    def replace_all(self, files: Sequence[tuple[str, bytes]], through: str) -> None:
        """Write many small files, whatever was there: each as a whole or not at all.

        Args:
            files: key and bytes of each.
            through: a folder of the store that the caller removes at the end; half-written files stand there alone.
        """

    @abc.abstractmethod
    def read_version(self, key: str) -> tuple[bytes | None, str | None]:
        """Return the bytes of ``key`` and their version for ``swap``; (None, None) if there is none."""

    @abc.abstractmethod
    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write ``key`` if its version is still ``version`` (None: not there); say whether it was written."""

    @abc.abstractmethod
    def upload(self, key: str, path: Path) -> None:
        """Write ``key`` from a local file, whatever was there."""

    @abc.abstractmethod
    def download(self, key: str, path: Path) -> None:
        """Write a local file from ``key``, atomically."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove ``key`` if it is there."""

    def path(self, key: str = "") -> Path:
        """Return the local path of ``key``; UsageError if this store isn't local."""
        raise UsageError("not a local folder", self.uri, "give a local path here")


class LocalStore(Store):
    """A folder of this machine."""

    is_local = True

    def path(self, key: str = "") -> Path:
        """Return the local path of ``key`` (of the root without one)."""
        return Path(self.uri) / safe_key(key) if key else Path(self.uri)

    def read(self, key: str) -> bytes:
        """Return the bytes of ``key``."""
        with _local_errors(self, key):
            return self.path(key).read_bytes()

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of ``key`` from ``start`` to ``end``."""
        with _local_errors(self, key), self.path(key).open("rb", buffering=0) as file:
            file.seek(start)
            return file.read(max(0, end - start)) or b""

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of ``key`` piece by piece."""
        with _local_errors(self, key), self.path(key).open("rb", buffering=0) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece

    def entry(self, key: str) -> Entry:
        """Return the size of ``key``, and when it was changed as its version."""
        with _local_errors(self, key):
            status = self.path(key).stat()
            return Entry(key, status.st_size, str(status.st_mtime_ns))

    def exists(self, key: str) -> bool:
        """Say whether ``key`` is there."""
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> list[Entry]:
        """Return all keys below ``prefix``, sorted; files being written are left out."""
        found = []
        # As texts: making millions of paths would take longer than walking over the files.
        for folder, _, names in os.walk(self.path(prefix)):
            below = os.path.relpath(folder, self.uri).replace(os.sep, "/")
            for name in names:
                if not name.startswith(TEMPORARY):
                    with contextlib.suppress(FileNotFoundError):
                        size = os.stat(f"{folder}/{name}").st_size  # noqa: PTH116
                        found.append(Entry(name if below == "." else f"{below}/{name}", size))
        return sorted(found)

    def create(self, key: str, data: bytes) -> bool:
        """Write ``key`` unless it is there."""
        with _local_errors(self, key), self._written(key, data) as temporary:
            try:
                os.link(temporary, self.path(key))
            except FileExistsError:
                return False
            return True

    def replace(self, key: str, data: bytes) -> None:
        """Write ``key``, whatever was there."""
        with _local_errors(self, key), self._written(key, data) as temporary:
            temporary.replace(self.path(key))

    def replace_all(self, files: Sequence[tuple[str, bytes]], through: str) -> None:
        """Write many files; they are all on the disk before the first has its name."""
        folder, own = self.path(through), f"{os.getpid()}-{threading.get_ident()}"
        temporaries = [f"{folder}/{TEMPORARY}{own}-{number}" for number in range(len(files))]
        with _local_errors(self, through), contextlib.ExitStack() as stack:
            folder.mkdir(parents=True, exist_ok=True)
            handles = []
            for name, (_, data) in zip(temporaries, files, strict=True):
                file = stack.enter_context(open(name, "wb", buffering=0))  # noqa: PTH123 - thousands of them
                file.write(data)
                handles.append(file.fileno())
            for handle in handles:
                os.fsync(handle)
            for parent in {f"{self.uri}/{safe_key(key)}".rpartition("/")[0] for key, _ in files}:
                Path(parent).mkdir(parents=True, exist_ok=True)
            for name, (key, _) in zip(temporaries, files, strict=True):
                os.replace(name, f"{self.uri}/{key}")  # noqa: PTH105 - likewise

    def read_version(self, key: str) -> tuple[bytes | None, str | None]:
        """Return bytes and version (their SHA-256)."""
        try:
            data = self.read(key)
        except InputError:
            return None, None
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write ``key`` under a lock if its version is still the given one."""
        lock = self.path(key).with_name(f"{TEMPORARY}{self.path(key).name}.lock")
        with _local_errors(self, key):
            lock.parent.mkdir(parents=True, exist_ok=True)
            with lock.open("w") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX)
                if self.read_version(key)[1] != version:
                    return False
                self.replace(key, data)
                return True

    def upload(self, key: str, path: Path) -> None:
        """Copy a local file to ``key``."""
        with _local_errors(self, key), path.open("rb") as source, self._written(key, source) as written:
            written.replace(self.path(key))

    def download(self, key: str, path: Path) -> None:
        """Copy ``key`` to a local file."""
        LocalStore(str(path.parent)).replace(path.name, self.read(key))

    def delete(self, key: str) -> None:
        """Remove ``key``, and the folders that this leaves empty, the store's own with them."""
        path = self.path(key)
        path.unlink(missing_ok=True)
        for folder in path.parents:
            if not folder.is_relative_to(self.uri) or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()

    @contextlib.contextmanager
    def _written(self, key: str, data: bytes | BinaryIO) -> Iterator[Path]:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=TEMPORARY, dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                shutil.copyfileobj(io.BytesIO(data) if isinstance(data, bytes) else data, file)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            yield Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


@contextlib.contextmanager
def _local_errors(store: Store, key: str) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        raise InputError("not there", f"{store.uri}/{key}", "check the path") from None
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        fix = "free some space" if full else "check the path and its permissions"
        raise StoreError(error.strerror or str(error), f"{store.uri}/{key}", fix) from error
