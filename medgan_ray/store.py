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
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple, NoReturn

from medgan_ray.errors import InputError, MedganError, StoreError, UsageError

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
ATTEMPTS = 4
_TEMPORARY = ".writing-"


class Entry(NamedTuple):
    """A key below a store's root and its size in bytes."""

    key: str
    size: int


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

    def exists(self, key: str) -> bool:
        """Say whether ``key`` is there."""
        return self.path(key).is_file()

    def list(self, prefix: str = "") -> list[Entry]:
        """Return all keys below ``prefix``, sorted; files being written are left out."""
        found = []
        for folder, _, names in os.walk(self.path(prefix)):
            for name in names:
                path = Path(folder, name)
                if not name.startswith(_TEMPORARY):
                    with contextlib.suppress(FileNotFoundError):
                        found.append(Entry(path.relative_to(self.uri).as_posix(), path.stat().st_size))
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

    def read_version(self, key: str) -> tuple[bytes | None, str | None]:
        """Return bytes and version (their SHA-256)."""
        try:
            data = self.read(key)
        except InputError:
            return None, None
        return data, hashlib.sha256(data).hexdigest()

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write ``key`` under a lock if its version is still the given one."""
        lock = self.path(key).with_name(f"{_TEMPORARY}{self.path(key).name}.lock")
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
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
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


class S3Store(Store):
    """A prefix of an S3 bucket; conditional puts need a store that honors If-Match and If-None-Match."""

    is_local = False

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._bucket, _, self._prefix = uri.removeprefix("s3://").partition("/")

    def read(self, key: str) -> bytes:
        """Return the bytes of ``key``."""
        with _s3_errors(self, key):
            data: bytes = _filesystem().cat_file(self._full(key))
        return data

    def exists(self, key: str) -> bool:
        """Say whether ``key`` is there."""
        with _s3_errors(self, key):
            try:
                return bool(_filesystem().info(self._full(key))["type"] == "file")
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return False

    def list(self, prefix: str = "") -> list[Entry]:
        """Return all keys below ``prefix``, sorted."""
        base = "/".join(part for part in (self._bucket, self._prefix, prefix) if part)
        skip = len(f"{self._bucket}/{self._prefix}".rstrip("/")) + 1
        with _s3_errors(self, prefix):
            found = _filesystem().find(base + "/", detail=True, withdirs=False)
        return sorted(Entry(name[skip:], int(facts["size"])) for name, facts in found.items() if len(name) > skip)

    def create(self, key: str, data: bytes) -> bool:
        """Write ``key`` unless it is there, by a put with ``If-None-Match: *``."""
        return self._put(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes) -> None:
        """Write ``key``, whatever was there."""
        with _s3_errors(self, key):
            _filesystem().pipe_file(self._full(key), data)

    def read_version(self, key: str) -> tuple[bytes | None, str | None]:
        """Return bytes and version (the ETag)."""
        with _s3_errors(self, key):
            try:
                data, etag = _get_with_etag(self._bucket, self._name(key))
            except FileNotFoundError as error:
                if _code(error) == "NoSuchBucket":
                    raise
                return None, None
        return data, etag

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write ``key`` by a put with ``If-Match`` (``If-None-Match: *`` where there is none yet)."""
        return self._put(key, data, **({"IfNoneMatch": "*"} if version is None else {"IfMatch": version}))

    def upload(self, key: str, path: Path) -> None:
        """Write ``key`` from a local file, in parts where it is large."""
        with _s3_errors(self, key):
            _filesystem().put_file(str(path), self._full(key))

    def download(self, key: str, path: Path) -> None:
        """Write a local file from ``key``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{_TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}")
        try:
            with _s3_errors(self, key):
                _filesystem().get_file(self._full(key), str(temporary))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        with _s3_errors(self, key), contextlib.suppress(FileNotFoundError):
            _filesystem().rm_file(self._full(key))

    def _put(self, key: str, data: bytes, **condition: str) -> bool:
        with _s3_errors(self, key):
            for _ in range(ATTEMPTS):
                try:
                    _filesystem().call_s3(
                        "put_object", Bucket=self._bucket, Key=self._name(key), Body=data, **condition
                    )
                    return True
                except OSError as error:
                    code = _code(error)
                    if code in ("PreconditionFailed", "412", "NoSuchKey"):
                        return False
                    if code not in ("ConditionalRequestConflict", "409"):
                        raise
        return False

    def _name(self, key: str) -> str:
        return "/".join(part for part in (self._prefix, safe_key(key)) if part)

    def _full(self, key: str) -> str:
        return f"{self._bucket}/{self._name(key)}"


def _filesystem() -> Any:
    """Return the process's s3fs file system (one a process: s3fs caches instances and forbids sharing over a fork)."""
    import s3fs

    return s3fs.S3FileSystem(
        use_listings_cache=False,
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": READ_TIMEOUT_S,
            "retries": {"max_attempts": ATTEMPTS, "mode": "standard"},
        },
    )


def _get_with_etag(bucket: str, name: str) -> tuple[bytes, str]:
    import fsspec.asyn

    filesystem = _filesystem()

    async def get() -> tuple[bytes, str]:
        answer = await filesystem._call_s3("get_object", Bucket=bucket, Key=name)
        async with answer["Body"] as body:
            return await body.read(), answer["ETag"]

    result: tuple[bytes, str] = fsspec.asyn.sync(filesystem.loop, get, timeout=READ_TIMEOUT_S * ATTEMPTS)
    return result


def _code(error: BaseException | None) -> str:
    """Return S3's error code behind an exception that s3fs has translated."""
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        if error.args and isinstance(error.args[-1], str) and "pre-conditions" in error.args[-1]:
            return "PreconditionFailed"
        error = error.__cause__ or error.__context__
    return ""


@contextlib.contextmanager
def _s3_errors(store: Store, key: str) -> Iterator[None]:
    where = f"{store.uri}/{key}" if key else store.uri
    try:
        yield
    except MedganError:
        raise
    except Exception as error:
        _raise_s3(error, where)


def _raise_s3(error: Exception, where: str) -> NoReturn:
    code, name = _code(error), type(error).__name__
    if code == "NoSuchBucket" or (isinstance(error, FileNotFoundError) and "bucket" in str(error).lower()):
        raise StoreError("no such bucket", where, "check its name, or make it first") from None
    if isinstance(error, FileNotFoundError):
        raise InputError("not there", where, "check the address") from None
    if name in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        raise StoreError("no S3 credentials", where, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from None
    if isinstance(error, PermissionError) or code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"):
        raise StoreError(f"S3 refuses access: {code or error}", where, "check key, secret and policy") from None
    advice = "check AWS_ENDPOINT_URL and the network" if "Endpoint" in name else "try again"
    raise StoreError(f"S3 failed: {error}", where, advice) from error
