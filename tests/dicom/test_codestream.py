"""Codestreams: what bytes are, and the size that a compressed frame claims, before anything is decoded."""

import io
import struct

import numpy as np
import pytest
from PIL import Image
from pydicom.encaps import encapsulate

from medgan_ray.dicom.codestream import check_frame, frame_size, is_picture, looks_like_dicom
from medgan_ray.dicom.refusals import Refused


def encoded(form: str, shape: tuple[int, int] = (24, 40)) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.zeros(shape, np.uint8)).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "JPEG2000"])
def test_frames_tell_their_size(form: str) -> None:
    assert frame_size(encoded(form)) == (24, 40)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"\xff\xd8\xff\xe0\xff\xff", b"\xff\x4f\xff\x51", bytes(64)])
def test_bytes_without_a_header_tell_nothing(data: bytes) -> None:
    assert frame_size(data) is None


def test_signatures() -> None:
    assert all(is_picture(encoded(form)) for form in ("PNG", "JPEG", "TIFF"))
    dual = bytearray(encoded("TIFF")[:128].ljust(128, b"\0") + b"DICM")
    assert not is_picture(bytes(dual))
    assert looks_like_dicom(struct.pack("<HH4x", 8, 5))
    assert looks_like_dicom(struct.pack(">HH4x", 8, 5))
    assert not looks_like_dicom(b"file,label\n")


@pytest.mark.parametrize(
    ("frame", "rows", "claimed", "code"),
    [
        (encoded("JPEG"), 48, 48 * 40, "header_lies"),
        (bytes(100), 24, 10**6, "truncated_pixels"),
        (encoded("JPEG"), 24, 24 * 40, ""),
    ],
)
def test_frames_are_held_against_the_header(frame: bytes, rows: int, claimed: int, code: str) -> None:
    data = encapsulate([frame])
    if not code:
        check_frame(data, rows, 40, claimed)
        return
    with pytest.raises(Refused) as refused:
        check_frame(data, rows, 40, claimed)
    assert refused.value.code == code


@pytest.mark.parametrize(("data", "code"), [(b"\xfe\xff\x00\xe0\0\0\0\0", "no_pixels"), (b"garbage!", "undecodable")])
def test_broken_encapsulation_has_a_code(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        check_frame(data, 1, 1, 1)
    assert refused.value.code == code
