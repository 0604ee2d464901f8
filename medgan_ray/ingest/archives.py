"""Members of zip, tar and tar.gz archives, listed without unpacking and fetched one at a time; nothing is extracted.

An archive is told by its name's ending and its first bytes. Archives are untrusted: sizes that a directory claims are
held against limits, links and names that climb out are refused, and an archive inside an archive is not opened.
"""

import contextlib
import errno
import functools
import os
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any

from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import Source
from medgan_ray.errors import MedganError, StoreError
from medgan_ray.store import ATTEMPTS, CONNECT_TIMEOUT_S, READ_TIMEOUT_S, is_remote

MEMBER_BYTES = 1 << 30
"""Of one member, unpacked."""
MAX_MEMBERS = 1_000_000
RATIO, RATIO_FROM_BYTES = 200, 64 << 20
"""What unpacks to more than the second may not be this many times larger than packed."""
UNPACKED_BYTES = 1 << 40
"""Of a tar.gz, on disk."""
BLOCK_BYTES = 1 << 20
_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
_LOCAL_HEADER = 30
_unpacking = threading.Lock()


def is_archive(uri: str) -> bool:
    """Say whether a local path or s3:// object is a zip, tar or tar.gz; its first bytes are read if its name says so.

    Raises:
        StoreError: if S3 fails.
    """
    if not uri.lower().endswith(_ENDINGS):
        return False
    try:
        head = _range(uri, 0, 512)
    except Refused:
        return False
    if uri.lower().endswith(".zip"):
        return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))
    return head[:2] == b"\x1f\x8b" if uri.lower().endswith("gz") else head[257:262] == b"ustar"


def members(uri: str) -> Iterator[tuple[str, Source]]:
    """Yield the name inside the archive of each member, and its source, called ``archive.zip/inner/name``.

    What must not or can't be read is yielded as well; its source refuses when it is fetched: ``unreadable`` (encrypted,
    a link, a name that climbs out, damaged) or ``too_large``. So is an archive whose directory is broken, under its
    own name, after those of its members that can be told.

    Raises:
        StoreError: if S3 fails.
    """
    listing = _zip_members(uri) if uri.lower().endswith(".zip") else _tar_members(uri)
    try:
        for count, (name, fetch) in enumerate(listing):
            if count >= MAX_MEMBERS:
                raise Refused("too_large", f"more than {MAX_MEMBERS} members")
            clean = name.replace("\\", "/")
            path = PurePosixPath(clean)
            if path.is_absolute() or ".." in path.parts or clean[1:2] == ":":
                fetch = _refusal("unreadable", "its name climbs out of the archive")
                path = PurePosixPath(*(part for part in path.parts if part not in ("/", "..")))
            yield str(path), Source(f"{uri}/{path}", fetch=fetch)
    except Refused as refusal:
        yield "", Source(uri, fetch=_refusal(refusal.code, refusal.detail))
    except MedganError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever they trip over
        yield "", Source(uri, fetch=_refusal("unreadable", f"a broken archive: {error}"))


def _refusal(code: str, detail: str) -> "functools.partial[bytes]":
    return functools.partial(_refuse, code, detail)


def _refuse(code: str, detail: str) -> bytes:
    raise Refused(code, detail)


def _zip_members(uri: str) -> Iterator[tuple[str, "functools.partial[bytes]"]]:
    with _open(uri) as file, zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
        if sum(info.compress_size for info in infos) > file.seek(0, os.SEEK_END):
            raise Refused("unreadable", "members of the archive overlap")
    for info in infos:
        if not info.is_dir():
            yield info.filename, _zip_fetch(uri, info)


def _zip_fetch(uri: str, info: zipfile.ZipInfo) -> "functools.partial[bytes]":
    if info.flag_bits & 1:
        return _refusal("unreadable", "encrypted")
    if stat.S_ISLNK(info.external_attr >> 16):
        return _refusal("unreadable", "a link")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return _refusal("unreadable", "packed by a method other than deflate")
    bomb = info.file_size > RATIO_FROM_BYTES and info.file_size > RATIO * info.compress_size
    if bomb or max(info.file_size, info.compress_size) > MEMBER_BYTES:
        return _refusal("too_large", f"{info.file_size} bytes, {info.compress_size} packed")
    packed = info.compress_type == zipfile.ZIP_DEFLATED
    return functools.partial(_read_zip, uri, info.header_offset, info.compress_size, info.file_size, packed, info.CRC)


def _read_zip(uri: str, offset: int, length: int, size: int, packed: bool, checksum: int) -> bytes:
    """Return a member of a zip, checked (the directory is not read again)."""
    header = _range(uri, offset, offset + _LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise Refused("unreadable", "damaged in the archive")
    start = offset + _LOCAL_HEADER + sum(struct.unpack_from("<HH", header, 26))
    data = _range(uri, start, start + length)
    if packed:
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
        except zlib.error:
            raise Refused("unreadable", "damaged in the archive") from None
    if len(data) != size or zlib.crc32(data) != checksum:
        raise Refused("unreadable", "damaged in the archive")
    return data


def _tar_members(uri: str) -> Iterator[tuple[str, "functools.partial[bytes]"]]:
    packed = uri.lower().endswith("gz")
    with _open_unpacked(uri) if packed else _open(uri) as file:
        archive: Any = tarfile.open(fileobj=_Headers(file), mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
        while (info := archive.next()) is not None:
            archive.members.clear()
            if info.isdir():
                continue
            if not info.isreg() or info.sparse is not None:
                yield info.name, _refusal("unreadable", "a link, a device or a file with holes")
            elif info.size > MEMBER_BYTES:
                yield info.name, _refusal("too_large", f"{info.size} bytes")
            else:
                yield info.name, functools.partial(_read_tar, uri, info.offset_data, info.size, packed)


def _read_tar(uri: str, offset: int, size: int, packed: bool) -> bytes:
    """Return a member of a tar; one of a tar.gz is read from the unpacked copy that this process keeps."""
    if packed:
        copy = _unpacked(uri)  # stays open as long as it is named here
        data = os.pread(copy.descriptor, size, offset)
    else:
        data = _range(uri, offset, offset + size)
    if len(data) < size:
        raise Refused("unreadable", "cut short in the archive")
    return data


class _Headers:
    """A file that hands tarfile its headers only: a header that claims more than a block is refused."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes."""
        if not 0 <= size <= BLOCK_BYTES:
            raise Refused("unreadable", "a header that is too large")
        return self._file.read(size)


class _Copy:
    """An unpacked tar.gz in a file without a name: real pixels must not outlive an interrupted run."""

    def __init__(self, file: IO[bytes]) -> None:
        self.descriptor = os.dup(file.fileno())

    def __del__(self) -> None:
        os.close(self.descriptor)


@functools.lru_cache(maxsize=2)
def _unpack(uri: str, stamp: tuple[int, ...]) -> _Copy:
    """Return the unpacked copy of a tar.gz; ``stamp`` is another one when the file is."""
    unpacker, taken = zlib.decompressobj(31), 0
    with _open(uri) as file, tempfile.TemporaryFile(prefix="medgan-tar-") as unpacked:
        while block := file.read(BLOCK_BYTES):
            taken += len(block)
            while block:
                unpacked.write(unpacker.decompress(block, BLOCK_BYTES))
                size = unpacked.tell()
                if size > UNPACKED_BYTES or size > max(RATIO * taken, RATIO_FROM_BYTES):
                    raise Refused("too_large", f"more than {size} bytes unpacked")
                block = unpacker.unconsumed_tail
                if unpacker.eof:
                    block, unpacker = unpacker.unused_data, zlib.decompressobj(31)
        unpacked.flush()
        return _Copy(unpacked)


def _unpacked(uri: str) -> _Copy:
    """Return the copy that this process keeps for the next member.

    Raises:
        Refused: if the archive is broken, or grows beyond the limits.
        StoreError: if there is no room for it.
    """
    with _unpacking:
        try:
            status = None if is_remote(uri) else Path(uri).stat()
            return _unpack(uri, (status.st_size, status.st_mtime_ns) if status else ())
        except zlib.error as error:
            raise Refused("unreadable", f"a broken archive: {error}") from None
        except OSError as error:
            fix = "set TMPDIR to a folder with room for the unpacked archive"
            raise StoreError(f"cannot unpack: {error.strerror or error}", uri, fix) from None


@contextlib.contextmanager
def _open_unpacked(uri: str) -> Iterator[IO[bytes]]:
    copy = _unpacked(uri)
    with os.fdopen(os.dup(copy.descriptor), "rb") as file:
        file.seek(0)
        yield file


def _s3() -> Any:
    """Return the process's s3fs file system, with the limits of the store's own."""
    import s3fs

    limits = {"connect_timeout": CONNECT_TIMEOUT_S, "read_timeout": READ_TIMEOUT_S}
    retries = {"max_attempts": ATTEMPTS, "mode": "standard"}
    return s3fs.S3FileSystem(use_listings_cache=False, config_kwargs={**limits, "retries": retries})


@contextlib.contextmanager
def _open(uri: str) -> Iterator[IO[bytes]]:
    """Open an archive for reading anywhere in it."""
    with contextlib.ExitStack() as stack:
        with _errors(uri):
            opened: Any = _s3().open(uri, "rb", block_size=BLOCK_BYTES) if is_remote(uri) else Path(uri).open("rb")  # noqa: SIM115
            stack.enter_context(opened)
        yield opened


def _range(uri: str, start: int, end: int) -> bytes:
    """Return the bytes from ``start`` to ``end`` of an archive, fewer where it is shorter."""
    if start >= end:
        return b""
    with _errors(uri):
        if is_remote(uri):
            return _s3_range(uri, start, end)
        with Path(uri).open("rb") as file:
            return os.pread(file.fileno(), end - start, start)


def _s3_range(uri: str, start: int, end: int) -> bytes:
    try:
        data: bytes = _s3().cat_file(uri, start=start, end=end)
    except OSError as error:
        if error.errno == errno.EINVAL:  # it ends before that
            return b""
        raise
    return data


@contextlib.contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except (MedganError, Refused, zlib.error, zipfile.BadZipFile, tarfile.TarError):
        raise
    except Exception as error:  # whatever s3fs and botocore raise
        if not is_remote(uri):
            if not isinstance(error, OSError):
                raise
            raise Refused("unreadable", error.strerror or str(error)) from None
        raise StoreError(f"S3 failed: {error}", uri, "check the address and the network, and try again") from error
