"""Folders of artifacts on S3: see ``store``, which opens them.

Credentials and the endpoint come from the standard AWS_* environment, profiles or instance roles, never from a URI.
"""

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from medgan_ray.errors import InputError, MedganError, StoreError
from medgan_ray.store import TEMPORARY, Entry, Store, safe_key

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
ATTEMPTS = 4
PAGE = 1000
"""Keys of one answer to a list."""


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

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of ``key`` from ``start`` to ``end``."""
        if start >= end:
            return b""
        with _s3_errors(self, key):
            try:
                data: bytes = _filesystem().cat_file(self._full(key), start=start, end=end)
            except OSError as error:
                if error.errno == errno.EINVAL:  # it ends before that
                    return b""
                raise
        return data

    def entry(self, key: str) -> Entry:
        """Return the size of ``key`` and its ETag."""
        with _s3_errors(self, key):
            facts = _filesystem().info(self._full(key))
            if facts["type"] != "file":
                raise FileNotFoundError(key)
        return Entry(key, int(facts["size"]), str(facts.get("ETag", "")).strip('"'))

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
        below = "".join(f"{part}/" for part in (self._prefix, prefix) if part)
        skip = len(self._prefix) + 1 if self._prefix else 0
        found: list[Entry] = []
        asked = {"Bucket": self._bucket, "Prefix": below, "MaxKeys": PAGE}
        more: dict[str, str] = {}
        while True:
            # Page by page, not by s3fs: it keeps kilobytes of facts an object, and there may be millions.
            with _s3_errors(self, prefix):
                page = _filesystem().call_s3("list_objects_v2", **asked, **more)
            for facts in page.get("Contents", ()):
                if not facts["Key"].endswith("/"):
                    found.append(Entry(facts["Key"][skip:], int(facts["Size"]), facts.get("ETag", "").strip('"')))
            if not page.get("IsTruncated"):
                return sorted(found)
            more = {"ContinuationToken": page["NextContinuationToken"]}

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
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}")
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
