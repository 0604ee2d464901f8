"""Frames between a parent and its decoding process: what is sent arrives; what is no frame is refused."""

import os
import struct
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from medgan_ray.dicom.pipes import TooSlow, read_bytes, read_header, requests, send


@pytest.fixture
def pipe() -> Iterator[tuple[BinaryIO, BinaryIO]]:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


def soon() -> float:
    return time.monotonic() + 5


def test_more_than_a_pipe_holds_arrives(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    payload = bytes(range(256)) * 8192
    sender = threading.Thread(target=send, args=(pipe[1], {"é": [1, 2]}, payload))
    sender.start()
    header, size = read_header(pipe[0], soon())
    assert (header, size) == ({"é": [1, 2]}, len(payload))
    assert read_bytes(pipe[0], size, soon()) == payload
    sender.join()


def test_requests_come_until_the_pipe_ends(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    send(pipe[1], {"path": None}, b"bytes")
    send(pipe[1], {"path": "a"}, b"")
    pipe[1].close()
    with os.fdopen(os.dup(pipe[0].fileno()), "rb") as reader:
        assert list(requests(reader)) == [({"path": None}, b"bytes"), ({"path": "a"}, b"")]


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (struct.pack("<IQ", 1 << 30, 0), ValueError),
        (struct.pack("<IQ", 2, 0) + b"[]", ValueError),
        (struct.pack("<IQ", 2, 0) + b"{", EOFError),
        (b"", EOFError),
    ],
)
def test_what_is_no_frame_is_refused(pipe: tuple[BinaryIO, BinaryIO], data: bytes, error: type[Exception]) -> None:
    pipe[1].write(data)
    pipe[1].close()
    with pytest.raises(error):
        read_header(pipe[0], soon())


def test_nothing_is_awaited_longer_than_told(pipe: tuple[BinaryIO, BinaryIO]) -> None:
    pipe[1].write(b"\0")
    with pytest.raises(TooSlow):
        read_header(pipe[0], time.monotonic() + 0.05)
