"""Shards: safetensors files of about 64 MB, named by their SHA-256, one split and one shape each, memory-mapped.

The tensors are listed in ``Samples``. The only metadata key is ``medgan``, holding sorted JSON: safetensors writes
several keys in random order, which would break content addressing.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import FORMAT, ShardEntry, canonical
from medgan_ray.errors import InputError
from medgan_ray.store import Store

SHARD_BYTES = 64 * 2**20
HEADER_LIMIT = 2**20
COPY_BYTES = 1 << 20
_ORDER = ("F32", "I32", "U16", "I16")
"""How safetensors orders tensors of different types; those of one type are in the order of their names."""

_DTYPES = {"U16": np.uint16, "I32": np.int32, "I16": np.int16, "F32": np.float32}


@dataclasses.dataclass(frozen=True)
class Samples:
    """Samples as arrays that share their first axis.

    Attributes:
        image: uint16 [n, C, H, W], 0…65535 over the dataset's intensity map.
        label: int32 [n, L], one column a label set, -1 unknown.
        subject: int32 [n], index into the manifest's keyed subject hashes.
        attribute: int16 [n, A], coded attributes, -1 unknown.
        spacing: float32 [n, 2 or 3], millimeters, NaN where unknown.
        pair: uint16 like ``image``, the second image of a pair; None if there is none.
    """

    image: NDArray[np.uint16]
    label: NDArray[np.int32]
    subject: NDArray[np.int32]
    attribute: NDArray[np.int16]
    spacing: NDArray[np.float32]
    pair: NDArray[np.uint16] | None = None

    def __len__(self) -> int:
        return len(self.image)

    def rows(self, index: slice | NDArray[np.int64]) -> "Samples":
        """Return the samples at ``index``: views for a slice, copies for an array."""
        return Samples(**{name: values[index] for name, values in self.tensors().items()})

    def empty(self, count: int) -> "Samples":
        """Return room for ``count`` samples of the same tensors."""
        return Samples(
            **{name: np.empty((count, *values.shape[1:]), values.dtype) for name, values in self.tensors().items()}
        )

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the arrays that are there, by name."""
        return {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if getattr(self, field.name) is not None
        }

    @staticmethod
    def concatenate(parts: "list[Samples]") -> "Samples":
        """Return the samples of all parts, one after another."""
        names = parts[0].tensors()
        return Samples(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def own_subjects(subjects: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return subjects [n] in which every unknown one, -1 in a dataset, is somebody of its own, below -1."""
    return np.where(subjects >= 0, subjects, -2 - np.arange(len(subjects))).astype(np.int64)


class ShardWriter:
    """Write one split's samples to a store; they wait for a shard to be full in temporary files, not in memory."""

    def __init__(self, store: Store, split: str, recipe_digest: str, shard_bytes: int = SHARD_BYTES) -> None:
        self._store, self._shard_bytes, self._split = store, shard_bytes, split
        self._metadata = {"format": FORMAT, "split": split, "recipe": recipe_digest}
        self._pending: dict[str, _Pending] = {}
        self._pending_samples = 0
        self._entries: list[ShardEntry] = []

    def add(self, samples: Samples) -> None:
        """Take samples; full shards are written at once."""
        if not len(samples):
            return
        each = sum(values.nbytes for values in samples.tensors().values()) // len(samples)
        capacity = max(1, self._shard_bytes // max(1, each))
        start = 0
        while start < len(samples):
            part = samples.rows(slice(start, start + capacity - self._pending_samples))
            for name, values in part.tensors().items():
                if name not in self._pending:
                    self._pending[name] = _Pending(values)
                self._pending[name].add(values)
            self._pending_samples += len(part)
            start += len(part)
            if self._pending_samples >= capacity:
                self._flush()

    def close(self) -> list[ShardEntry]:
        """Write what is left and return all shards in the order of their samples."""
        self._flush()
        return self._entries

    def _flush(self) -> None:
        if not self._pending:
            return
        count, pending = self._pending_samples, self._pending
        self._pending, self._pending_samples = {}, 0
        with contextlib.ExitStack() as stack:
            for tensor in pending.values():
                stack.enter_context(tensor.file)
            # Has no name: real pixels must not outlive an interrupted run.
            file = stack.enter_context(tempfile.TemporaryFile(prefix="medgan-shard-"))
            digest = _assemble(file, pending, count, {"medgan": canonical(self._metadata).decode()})
            size, key = file.tell(), shard_key(digest)
            if not self._store.exists(key):
                self._store.upload(key, Path(f"/dev/fd/{file.fileno()}"))
        self._entries.append(ShardEntry(sha256=digest, split=self._split, samples=count, bytes=size))


class _Pending:
    """The rows of one tensor, in a temporary file without a name."""

    def __init__(self, like: NDArray[Any]) -> None:
        self.dtype = next(name for name, kind in _DTYPES.items() if kind == like.dtype)
        self.shape = like.shape[1:]
        self.file = tempfile.TemporaryFile(prefix="medgan-tensor-")  # noqa: SIM115 - closed when the shard is written

    def add(self, values: NDArray[Any]) -> None:
        """Append rows."""
        if values.size:
            self.file.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data.cast("B"))


def _assemble(file: BinaryIO, pending: dict[str, _Pending], count: int, metadata: dict[str, str]) -> str:
    """Write a safetensors file, byte for byte as its library would from memory; return its SHA-256."""
    header: dict[str, Any] = {"__metadata__": metadata}
    ordered = sorted(pending.items(), key=lambda item: (_ORDER.index(item[1].dtype), item[0]))
    end = 0
    for name, tensor in ordered:
        start, end = end, end + tensor.file.tell()
        header[name] = {"dtype": tensor.dtype, "shape": [count, *tensor.shape], "data_offsets": [start, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    for part in _parts(struct.pack("<Q", len(text)) + text, [tensor.file for _, tensor in ordered]):
        digest.update(part)
        file.write(part)
    file.flush()
    return digest.hexdigest()


def _parts(head: bytes, files: list[BinaryIO]) -> Iterator[bytes]:
    yield head
    for file in files:
        file.seek(0)
        while part := file.read(COPY_BYTES):
            yield part


def shard_key(digest: str) -> str:
    """Return the key of a shard below its dataset."""
    return f"shards/{digest}.safetensors"


def open_shard(path: Path) -> Samples:
    """Return a shard's samples as read-only memory maps; nothing is read until it is used.

    Raises:
        InputError: if the file is no shard of a format that this version reads, or is cut short.
    """
    header, start = _header(path)
    medgan = json.loads(header.pop("__metadata__", {}).get("medgan", "{}"))
    if str(medgan.get("format", "")).split(".")[0] != FORMAT.split(".")[0]:
        raise InputError(f"shard format {medgan.get('format')}", str(path), f"this version reads {FORMAT}")
    mapped = np.memmap(path, np.uint8, "r")
    try:
        tensors = {name: _view(mapped, start, facts) for name, facts in header.items()}
        return Samples(**tensors)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("shard is corrupt", str(path), f"ingest again ({error})") from None


def _header(path: Path) -> tuple[dict[str, Any], int]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            length = struct.unpack("<Q", file.read(8))[0] if size >= 8 else 0
            if not 0 < length <= min(HEADER_LIMIT, size - 8):
                raise ValueError("header length")
            header = json.loads(file.read(length))
    except FileNotFoundError:
        raise InputError("shard is missing", str(path), "restore it, or ingest again") from None
    except ValueError as error:
        raise InputError("shard is corrupt", str(path), f"ingest again ({error})") from None
    return header, 8 + length


def _view(mapped: "np.memmap[Any, np.dtype[np.uint8]]", start: int, facts: dict[str, Any]) -> NDArray[Any]:
    first, last = facts["data_offsets"]
    if not 0 <= first <= last <= len(mapped) - start:
        raise ValueError("data are cut short")
    return np.asarray(mapped[start + first : start + last]).view(_DTYPES[facts["dtype"]]).reshape(facts["shape"])
