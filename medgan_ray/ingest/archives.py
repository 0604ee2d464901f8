"""Members of zip, tar and tar.gz archives, listed without unpacking and fetched one at a time; nothing is extracted.

An archive is told by its name's ending and its first bytes. Archives are untrusted: sizes that a directory claims are
held against limits, links and names that climb out are refused, and an archive inside an archive is not opened. A
tar.gz can only be read from its begin: each process that reads one keeps an unpacked copy on disk meanwhile.
"""

import contextlib
import functools
import gzip
import io
import os
import stat
import struct
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import IO, Any, NamedTuple

from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import Source
from medgan_ray.errors import InputError, MedganError, StoreError
from medgan_ray.store import Store, is_remote, open_store

MEMBER_BYTES = 1 << 30
"""Of one member, unpacked."""
MAX_MEMBERS = 1_000_000
DIRECTORY_BYTES = 256 << 20
"""Of a zip's directory."""
RATIO, RATIO_FROM_BYTES = 200, 64 << 20
"""What unpacks to more than the second may not be this many times larger than packed."""
UNPACKED_BYTES = 1 << 40
"""Of a tar.gz, on disk."""
KEPT_BYTES = 4 << 30
"""Of all copies of tar.gz that are kept; the newest is kept whatever its size."""
BLOCK_BYTES = 1 << 20
HEADER_BYTES = 1 << 16
"""Of one header of a tar."""
_ENDINGS = (".zip", ".tar", ".tar.gz", ".tgz")
_LOCAL_HEADER = 30
_ENTRY = b"PK\x01\x02"
_END_BYTES = 1 << 17
"""In which zipfile looks for the directory's end."""


class Member(NamedTuple):
    """A member: its name inside the archive, its source, and what is another when its bytes are."""

    name: str
    source: Source
    stamp: str = ""


Fetch = functools.partial[bytes]


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


def members(uri: str) -> Iterator[Member]:
    """Yield each member of an archive; its source is called ``archive.zip/inner/name``.

    What must not or can't be read is yielded as well; its source refuses when it is fetched: ``unreadable`` (encrypted,
    a link, a name that climbs out, damaged) or ``too_large``. So is an archive whose directory is broken, under its
    own name, after those of its members that can be told.

    Raises:
        StoreError: if S3 fails.
    """
    listing = _zip_members(uri) if uri.lower().endswith(".zip") else _tar_members(uri)
    try:
        for count, (name, fetch, stamp) in enumerate(listing):
            if count >= MAX_MEMBERS:
                raise Refused("too_large", f"more than {MAX_MEMBERS} members")
            clean = name.replace("\\", "/")
            path = PurePosixPath(clean)
            if path.is_absolute() or ".." in path.parts or clean[1:2] == ":":
                fetch = _refusal("unreadable", "its name climbs out of the archive")
                path = PurePosixPath(*(part for part in path.parts if part not in ("/", "..")))
            yield Member(str(path), Source(f"{uri}/{path}", fetch=fetch), stamp)
    except Refused as refusal:
        yield Member("", Source(uri, fetch=_refusal(refusal.code, refusal.detail)))
    except MedganError:
        raise
    except Exception as error:  # zipfile and tarfile raise whatever they trip over
        yield Member("", Source(uri, fetch=_refusal("unreadable", f"a broken archive: {error}")))


def _refusal(code: str, detail: str) -> Fetch:
    return functools.partial(_refuse, code, detail)


def _refuse(code: str, detail: str) -> bytes:
    raise Refused(code, detail)


def _zip_members(uri: str) -> Iterator[tuple[str, Fetch, str]]:
    with _open(uri) as file, zipfile.ZipFile(_Directory(file)) as archive:
        infos = archive.infolist()
        if sum(info.compress_size for info in infos) > file.seek(0, os.SEEK_END):
            raise Refused("unreadable", "members of the archive overlap")
    for info in infos:
        if not info.is_dir():
            yield info.filename, _zip_fetch(uri, info), f"{info.CRC:08x}"


class _Directory:
    """A file that hands zipfile a directory of so many entries only."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        """Return ``size`` bytes."""
        data = self._file.read(_END_BYTES if size < 0 else min(size, DIRECTORY_BYTES + 1))
        if len(data) > DIRECTORY_BYTES or data.count(_ENTRY) > MAX_MEMBERS:
            raise Refused("too_large", f"more than {MAX_MEMBERS} members")
        return data


def _zip_fetch(uri: str, info: zipfile.ZipInfo) -> Fetch:
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


def _tar_members(uri: str) -> Iterator[tuple[str, Fetch, str]]:
    store, key = _place(uri)
    stamp = store.entry(key).version
    packed = uri.lower().endswith("gz")
    copy = _unpacked(uri, stamp) if packed else None  # stays open as long as it is named here
    with copy.open() if copy else _open(uri) as file:
        archive: Any = tarfile.open(fileobj=_Headers(file), mode="r:")  # type: ignore[call-overload]  # noqa: SIM115
        last = -1
        while (info := archive.next()) is not None:
            if archive.offset <= last or info.size < 0:
                raise Refused("unreadable", "headers that lead back")
            last = archive.offset
            archive.members.clear()
            if not info.isdir():
                yield info.name, _tar_fetch(uri, info, stamp if packed else ""), f"{stamp} {info.offset_data}"
        file.seek(archive.offset)
        damage = copy.damage if copy else ""
        if damage or len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
            raise Refused("unreadable", f"cut short, members may be missing {damage}")


def _tar_fetch(uri: str, info: tarfile.TarInfo, stamp: str) -> Fetch:
    if not info.isreg() or info.sparse is not None:
        return _refusal("unreadable", "a link, a device or a file with holes")
    if info.size > MEMBER_BYTES:
        return _refusal("too_large", f"{info.size} bytes")
    return functools.partial(_read_tar, uri, info.offset_data, info.size, stamp)


def _read_tar(uri: str, offset: int, size: int, stamp: str) -> bytes:
    """Return a member of a tar; one of a tar.gz, which has a stamp, from the unpacked copy that this process keeps."""
    if stamp:
        copy = _unpacked(uri, stamp)  # stays open as long as it is named here
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
        if not 0 <= size <= HEADER_BYTES:
            raise Refused("unreadable", "a header that is too large")
        return self._file.read(size)


class _Copy:
    """An unpacked tar.gz in a file without a name: real pixels must not outlive an interrupted run."""

    def __init__(self, file: IO[bytes], damage: str) -> None:
        self.descriptor, self.size, self.damage = os.dup(file.fileno()), file.tell(), damage

    def open(self) -> IO[bytes]:
        """Return a file that reads it from its begin."""
        file = os.fdopen(os.dup(self.descriptor), "rb")
        file.seek(0)
        return file

    def __del__(self) -> None:
        os.close(self.descriptor)


_copies: dict[tuple[str, str], _Copy] = {}
"""The process's unpacked archives, the one used last at the end."""
_unpacking = threading.Lock()


def _unpacked(uri: str, stamp: str) -> _Copy:
    """Return the copy of a tar.gz that this process keeps for the next members; archives may take turns.

    Raises:
        Refused: if the archive is broken from its begin, or grows beyond the limits.
        StoreError: if there is no room for it.
    """
    with _unpacking:
        copy = _copies.pop((uri, stamp), None) or _unpack(uri)
        _copies[uri, stamp] = copy
        while len(_copies) > 1 and sum(each.size for each in _copies.values()) > KEPT_BYTES:
            del _copies[next(iter(_copies))]
        return copy


def forget() -> None:
    """Remove the unpacked copies that this process keeps."""
    with _unpacking:
        _copies.clear()


def _unpack(uri: str) -> _Copy:
    damage = ""
    with _open(uri) as file, tempfile.TemporaryFile(prefix="medgan-tar-") as unpacked:
        stream = gzip.GzipFile(fileobj=file)
        while True:
            try:
                block = stream.read1(BLOCK_BYTES)  # what was unpacked before an error is worth keeping
            except (EOFError, gzip.BadGzipFile, zlib.error) as error:
                if not unpacked.tell():
                    raise Refused("unreadable", f"a broken archive: {error}") from None
                block, damage = b"", f"({error})"
            if not block:
                break
            _write(unpacked, block, uri)
            size = unpacked.tell()
            if size > UNPACKED_BYTES or size > max(RATIO * file.tell(), RATIO_FROM_BYTES):
                raise Refused("too_large", f"more than {size} bytes unpacked")
        _write(unpacked, b"", uri)
        return _Copy(unpacked, damage)


def _write(file: IO[bytes], block: bytes, uri: str) -> None:
    try:
        file.write(block)
        if not block:
            file.flush()
    except OSError as error:
        fix = "set TMPDIR to a folder with room for the unpacked archive"
        raise StoreError(f"cannot unpack: {error.strerror or error}", uri, fix) from None


def _place(uri: str) -> tuple[Store, str]:
    folder, _, name = uri.rpartition("/")
    return open_store(folder or ("/" if uri.startswith("/") else ".")), name


class _Reader(io.RawIOBase):
    """A key of a store as a file that can be read anywhere; what fails is a MedganError, which zipfile lets pass."""

    def __init__(self, uri: str) -> None:
        self._store, self._key = _place(uri)
        self._size, self._position = self._store.entry(self._key).size, 0

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def seekable(self) -> bool:
        """Say that it can be read anywhere."""
        return True

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place."""
        self._position = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence] + offset
        if self._position < 0:
            self._position = 0
            raise OSError("before the begin")
        return self._position

    def readinto(self, buffer: Any) -> int:
        """Read what fits."""
        data = self._store.read_range(self._key, self._position, min(self._position + len(buffer), self._size))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@contextlib.contextmanager
def _open(uri: str) -> Iterator[IO[bytes]]:
    """Open an archive for reading anywhere in it."""
    with _errors(uri), io.BufferedReader(_Reader(uri), BLOCK_BYTES) as file:
        yield file


def _range(uri: str, start: int, end: int) -> bytes:
    """Return the bytes from ``start`` to ``end`` of an archive, fewer where it is shorter."""
    store, key = _place(uri)
    with _errors(uri):
        return store.read_range(key, start, end)


@contextlib.contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Refuse an archive that is gone, or a local one that can't be read; a store that fails ends the run."""
    try:
        yield
    except InputError:
        raise Refused("unreadable", "no longer there") from None
    except StoreError as error:
        if is_remote(uri):
            raise
        raise Refused("unreadable", str(error)) from None
