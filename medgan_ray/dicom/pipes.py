"""Frames over a decoding process's pipes: a JSON header, then raw bytes; nothing is unpickled.

The parent's side waits no longer than it is told, and believes no length: what it reads comes from a process that met
untrusted bytes.
"""

import json
import os
import select
import struct
import time
from collections.abc import Iterator
from typing import Any, BinaryIO

HEADER_BYTES = 64 << 20

_FRAME = struct.Struct("<IQ")


class TooSlow(Exception):
    """Nothing came until the deadline."""


def open_end(pipe: Any) -> BinaryIO:
    """Return the end of a process's pipe; EOFError if it has none."""
    if pipe is None:
        raise EOFError("no pipe")
    return pipe  # type: ignore[no-any-return]


def send(pipe: BinaryIO, header: dict[str, Any], payload: bytes | memoryview) -> None:
    """Write one frame to an unbuffered pipe."""
    text = json.dumps(header).encode()
    parts = [memoryview(_FRAME.pack(len(text), len(payload)) + text), memoryview(payload)]
    while parts:
        # In one call: each wakes whoever waits at the other end.
        written = os.writev(pipe.fileno(), parts)
        while parts and written >= len(parts[0]):
            written -= len(parts.pop(0))
        if parts:
            parts[0] = parts[0][written:]


def requests(pipe: BinaryIO) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Yield the frames of a parent, which is trusted, until the pipe ends."""
    while frame := pipe.read(_FRAME.size):
        length, size = _FRAME.unpack(frame)
        yield json.loads(pipe.read(length)), pipe.read(size)


def read_header(pipe: BinaryIO, deadline: float) -> tuple[dict[str, Any], int]:
    """Return a frame's header and how many bytes follow it.

    Raises:
        TooSlow: at the deadline (of ``time.monotonic``).
        EOFError: if the process ended.
        ValueError: for what is no frame.
    """
    length, size = _FRAME.unpack(read_bytes(pipe, _FRAME.size, deadline))
    if length > HEADER_BYTES:
        raise ValueError("a reply that is none")
    header = json.loads(read_bytes(pipe, length, deadline))
    if not isinstance(header, dict):
        raise ValueError("a reply that is none")
    return header, size


def read_bytes(pipe: BinaryIO, count: int, deadline: float) -> bytearray:
    """Return so many bytes; raises what ``read_header`` does."""
    data = bytearray(count)
    read_into(pipe, memoryview(data), deadline)
    return data


def read_into(pipe: BinaryIO, view: memoryview, deadline: float) -> None:
    """Fill a view of bytes; raises what ``read_header`` does."""
    while view:
        if not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise TooSlow
        got = os.readv(pipe.fileno(), [view])
        if not got:
            raise EOFError("the decoding process ended")
        view = view[got:]
