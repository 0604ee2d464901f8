"""Codestreams: what bytes are, and the size that a compressed frame claims, before anything is decoded."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from medgan_ray.dicom.codestream import (
    RLE_EXPANSION,
    check_frames,
    check_scans,
    frame_shape,
    is_picture,
    looks_like_dicom,
)
from medgan_ray.dicom.refusals import Refused


def encoded(form: str, shape: tuple[int, int] = (24, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "JPEG2000"])
def test_frames_tell_their_size(form: str) -> None:
    assert frame_shape(encoded(form)) == (24, 40, 1)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\x4f\xff\x51", bytes(64)])
def test_bytes_without_a_header_tell_nothing(data: bytes) -> None:
    assert frame_shape(data) is None


def test_signatures() -> None:
    assert all(is_picture(encoded(form)) for form in ("PNG", "JPEG", "TIFF"))
    dual = bytearray(encoded("TIFF")[:128].ljust(128, b"\0") + b"DICM")
    assert not is_picture(bytes(dual))
    assert looks_like_dicom(struct.pack("<HH4x", 8, 5))
    assert looks_like_dicom(struct.pack(">HH4x", 8, 5))
    assert not looks_like_dicom(b"file,label\n")


def code_of(data: bytes, frames: int = 1, rows: int = 24, samples: int = 1, frame_bytes: int = 24 * 40) -> str:
    """Return the code by which encapsulated pixels of 24 x 40 are refused."""
    try:
        check_frames(data, (rows, 40, samples), frames, frame_bytes)
    except Refused as refusal:
        return refusal.code
    return ""


def test_frames_are_held_against_the_header() -> None:
    jpeg = encoded("JPEG")
    assert code_of(encapsulate([jpeg])) == ""
    assert code_of(encapsulate([jpeg]), rows=48) == "header_lies"
    assert code_of(encapsulate([jpeg]), samples=3) == "header_lies"
    assert code_of(encapsulate([jpeg, jpeg]), frames=2) == ""
    assert code_of(encapsulate([jpeg, jpeg]), frames=3) == "truncated_pixels"


def test_a_later_frame_that_lies_is_found_too() -> None:
    frames = [encoded("JPEG2000"), encoded("JPEG2000", (4096, 4096))]
    assert code_of(encapsulate(frames), frames=2) == "header_lies"


def test_bytes_cannot_hold_more_than_their_code_allows() -> None:
    packed = bytes(100)
    assert code_of(encapsulate([packed]), frame_bytes=100 * RLE_EXPANSION) == ""
    assert code_of(encapsulate([packed]), frame_bytes=100 * RLE_EXPANSION + 1) == "truncated_pixels"
    large = encoded("JPEG", (4000, 4000))
    lying = large[:200] + large[-2:]
    shape = frame_shape(lying)
    assert shape == (4000, 4000, 1)
    with pytest.raises(Refused, match="cannot hold"):
        check_frames(encapsulate([lying]), shape, 1, 4000 * 4000)


@pytest.mark.parametrize(("data", "code"), [(b"\xfe\xff\x00\xe0\0\0\0\0", "no_pixels"), (b"garbage!", "undecodable")])
def test_broken_encapsulation_has_a_code(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_scans_over_and_over_are_refused() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((1024, 1024), np.uint8)).save(buffer, "JPEG", progressive=True)
    progressive = buffer.getvalue()
    check_scans(progressive)
    check_scans(b"no JPEG" + b"\xff\xda" * 10_000)
    scan = progressive.rindex(b"\xff\xda")
    with pytest.raises(Refused) as refused:
        check_scans(progressive[:scan] + progressive[scan : scan + 12] * 1024 + progressive[scan:])
    assert refused.value.code == "too_large"
