"""Folders of artifacts on S3: see ``store``, which opens them.

Credentials and the endpoint come from the standard AWS_* environment, profiles or instance roles, never from a URI.
Every call is tried again in one place, ``s3_retry``; botocore's own retries are off, so that the two don't multiply.
"""

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from medgan_ray.errors import InputError, MedganError, StoreError
from medgan_ray.s3_retry import CutAnswer, Retry, code_of, status_of, succeeded
from medgan_ray.store import PIECE_BYTES, TEMPORARY, Entry, Store, safe_key

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 60
CONNECTIONS = 32
PAGE = 1000
"""Keys of one answer to a list."""
PART_BYTES = 64 * 2**20
"""What is larger is uploaded in parts of this size (S3 takes 5 GB at once, and 10,000 parts)."""
MOST_PARTS = 10_000
UPLOADS = 4
"""Parts under way at a time."""

Value = TypeVar("Value")


class S3Store(Store):
    """A prefix of an S3 bucket; conditional puts need a store that honors If-Match and If-None-Match."""

    is_local = False

    def __init__(self, uri: str) -> None:
        super().__init__(uri)
        self._bucket, _, self._prefix = uri.removeprefix("s3://").partition("/")

    def read(self, key: str) -> bytes:
        """Return the bytes of ``key``."""
        return b"".join(self.stream(key))

    def read_range(self, key: str, start: int, end: int) -> bytes:
        """Return the bytes of ``key`` from ``start`` to ``end``."""
        if start >= end:
            return b""

        def get() -> bytes:
            try:
                answer = _client().get_object(**self._object(key), Range=f"bytes={start}-{end - 1}")
            except _client_error() as error:
                if code_of(error) in ("InvalidRange", "416"):  # it ends before that
                    return b""
                raise
            return _body(answer)

        return self._tried(key, get)

    def stream(self, key: str) -> Iterator[bytes]:
        """Yield the bytes of ``key``; where a connection is cut, reading goes on from there."""
        retry, done, etag = Retry(), 0, ""
        while True:
            asked = {"Range": f"bytes={done}-", "IfMatch": etag} if done else {}
            try:
                with self._errors(key):
                    answer = _client().get_object(**self._object(key), **asked)
                    etag = _whole(answer, "ContentLength", "ETag")["ETag"]
                    with contextlib.closing(answer["Body"]) as body:
                        while piece := body.read(PIECE_BYTES):
                            done += len(piece)
                            yield piece
                return
            except StoreError as error:
                # A read that got further is no failed attempt at the same bytes; only time is short.
                retry.wait(error, progress=done)

    def entry(self, key: str) -> Entry:
        """Return the size of ``key`` and its ETag."""
        facts = self._tried(key, lambda: _whole(_client().head_object(**self._object(key)), "ContentLength"))
        return Entry(key, int(facts["ContentLength"]), facts.get("ETag", "").strip('"'))

    def exists(self, key: str) -> bool:
        """Say whether ``key`` is there."""
        try:
            self.entry(key)
        except InputError:
            return False
        return True

    def list(self, prefix: str = "") -> list[Entry]:
        """Return all keys below ``prefix``, sorted."""
        below = "".join(f"{part}/" for part in (self._prefix, prefix) if part)
        skip = len(self._prefix) + 1 if self._prefix else 0
        found: list[Entry] = []
        asked = {"Bucket": self._bucket, "Prefix": below, "MaxKeys": PAGE}
        while True:
            # Bound now: a page that is asked for again must be the same one.
            page = self._tried(prefix, functools.partial(_list_page, dict(asked)))
            for facts in page.get("Contents", ()):
                if not facts["Key"].endswith("/"):
                    found.append(Entry(facts["Key"][skip:], int(facts["Size"]), facts.get("ETag", "").strip('"')))
            if not page.get("IsTruncated"):
                return sorted(found)
            asked["ContinuationToken"] = page["NextContinuationToken"]

    def create(self, key: str, data: bytes) -> bool:
        """Write ``key`` unless it is there, by a put with ``If-None-Match: *``."""
        return self._put_if(key, data, IfNoneMatch="*")

    def replace(self, key: str, data: bytes) -> None:
        """Write ``key``, whatever was there."""
        self._tried(key, lambda: _client().put_object(**self._object(key), Body=data))

    def replace_all(self, files: Sequence[tuple[str, bytes]], through: str) -> None:
        """Write many objects, several at a time; none is ever half there."""
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            for _ in pool.map(lambda file: self.replace(*file), files):
                pass

    def read_version(self, key: str) -> tuple[bytes | None, str | None]:
        """Return bytes and version (the ETag)."""

        def get() -> tuple[bytes, str]:
            answer = _client().get_object(**self._object(key))
            return _body(answer), str(_whole(answer, "ETag")["ETag"])

        try:
            return self._tried(key, get)
        except InputError:
            return None, None

    def swap(self, key: str, data: bytes, version: str | None) -> bool:
        """Write ``key`` by a put with ``If-Match`` (``If-None-Match: *`` where there is none yet)."""
        return self._put_if(key, data, **({"IfNoneMatch": "*"} if version is None else {"IfMatch": version}))

    def upload(self, key: str, path: Path) -> None:
        """Write ``key`` from a local file, in parts where it is large."""
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= PART_BYTES:
                self.replace(key, os.pread(file.fileno(), size, 0) if size else b"")
            else:
                self._upload_parts(key, file.fileno(), size)

    def download(self, key: str, path: Path) -> None:
        """Write a local file from ``key``."""
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{threading.get_ident()}-{path.name}")
        try:
            with temporary.open("wb", buffering=0) as file:
                for piece in self.stream(key):
                    file.write(piece)
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    def delete(self, key: str) -> None:
        """Remove ``key`` if it is there."""
        with contextlib.suppress(InputError):
            self._tried(key, lambda: _client().delete_object(**self._object(key)))

    def _put_if(self, key: str, data: bytes, **condition: str) -> bool:
        retry = Retry()
        while True:
            try:
                with self._errors(key):
                    _client().put_object(**self._object(key), Body=data, **condition)
                return True
            except (InputError, StoreError) as error:
                code = code_of(error)
                if code in ("PreconditionFailed", "412", "NoSuchKey"):
                    # An attempt that was cut off may have been the one that wrote it.
                    return retry.unanswered and self.read_version(key)[0] == data
                if isinstance(error, InputError):
                    raise
                retry.wait(error)

    def _upload_parts(self, key: str, handle: int, size: int) -> None:
        begun = self._tried(key, lambda: _whole(_client().create_multipart_upload(**self._object(key)), "UploadId"))
        upload = {**self._object(key), "UploadId": begun["UploadId"]}
        step = max(PART_BYTES, -(-size // MOST_PARTS))

        def put(number: int) -> dict[str, Any]:
            data = os.pread(handle, step, (number - 1) * step)
            done = self._tried(
                key, lambda: _whole(_client().upload_part(**upload, PartNumber=number, Body=data), "ETag")
            )
            return {"ETag": done["ETag"], "PartNumber": number}

        try:
            with ThreadPoolExecutor(UPLOADS) as pool:
                parts = list(pool.map(put, range(1, -(-size // step) + 1)))
            self._tried(key, lambda: _client().complete_multipart_upload(**upload, MultipartUpload={"Parts": parts}))
        except BaseException:
            with contextlib.suppress(MedganError):
                self._tried(key, lambda: _client().abort_multipart_upload(**upload))
            raise

    def _tried(self, key: str, call: Callable[[], Value]) -> Value:
        """Return what ``call`` returns, trying again where that may help; its failure as a refusal with a name."""
        retry = Retry()
        while True:
            try:
                with self._errors(key):
                    return call()
            except StoreError as error:
                retry.wait(error)

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": "/".join(part for part in (self._prefix, safe_key(key)) if part)}

    @contextlib.contextmanager
    def _errors(self, key: str) -> Iterator[None]:
        try:
            yield
            succeeded()
        except (MedganError, GeneratorExit):
            raise
        except Exception as error:
            if code_of(error) == "404":  # a head's answer has no body that says whether it is the bucket or the key
                self._check_bucket()
            _raise_s3(error, f"{self.uri}/{key}" if key else self.uri)

    def _check_bucket(self) -> None:
        try:
            _client().head_bucket(Bucket=self._bucket)
        except _client_error() as error:
            if status_of(error) == 404:
                raise StoreError("no such bucket", self.uri, "check its name, or make it first") from None


def _list_page(asked: dict[str, Any]) -> Any:
    return _whole(_client().list_objects_v2(**asked), "IsTruncated")


def _whole(answer: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return an answer that has what every whole one has; without a length, a body cut to nothing looks whole."""
    if any(name not in answer for name in names):
        raise CutAnswer("the connection was cut")
    return answer


def _body(answer: dict[str, Any]) -> bytes:
    with contextlib.closing(_whole(answer, "ContentLength")["Body"]) as body:
        return bytes(body.read())


def _client() -> Any:
    """Return the process's client: one for each process and AWS_* environment; it may be used by many threads."""
    names = sorted(name for name in os.environ if name.startswith("AWS_"))
    with _making:
        return _client_of(os.getpid(), tuple((name, os.environ[name]) for name in names))


_making = threading.Lock()


@functools.lru_cache(maxsize=4)
def _client_of(process: int, environment: tuple[tuple[str, str], ...]) -> Any:
    import botocore.config
    import botocore.session

    config = botocore.config.Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"total_max_attempts": 1, "mode": "standard"},
        max_pool_connections=CONNECTIONS,
        tcp_keepalive=True,
        # What is named by a digest is hashed by who reads it.
        response_checksum_validation="when_required",
    )
    return botocore.session.get_session().create_client("s3", config=config)


def _client_error() -> type[Exception]:
    import botocore.exceptions

    found: type[Exception] = botocore.exceptions.ClientError
    return found


def _raise_s3(error: Exception, where: str) -> NoReturn:
    code, name = code_of(error), type(error).__name__
    if code == "NoSuchBucket":
        raise StoreError("no such bucket", where, "check its name, or make it first") from error
    if code in ("NoSuchKey", "404"):
        raise InputError("not there", where, "check the address") from error
    if name in ("NoCredentialsError", "PartialCredentialsError", "TokenRetrievalError"):
        raise StoreError("no S3 credentials", where, "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY") from error
    if status_of(error) in (401, 403):
        raise StoreError(f"S3 refuses access: {code}", where, "check key, secret and policy") from error
    if isinstance(error, OSError) and error.errno is not None and not code:
        raise error  # the local side: a full disk, say
    advice = "check AWS_ENDPOINT_URL and the network" if "Endpoint" in name else "try again"
    raise StoreError(f"S3 failed: {error}", where, advice) from error
