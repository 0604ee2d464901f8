"""What bytes are, before they are decoded: file signatures, and the size that a compressed frame itself claims."""

import struct
import tempfile
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.encaps import generate_fragments

from medgan_ray.dicom.refusals import Refused

HEADER_BYTES = 1 << 16
GDCM_SYNTAXES = ("1.2.840.10008.1.2.4.5", "1.2.840.10008.1.2.4.7", "1.2.840.113619.5.2")
"""Where GDCM reads what pydicom's plug-ins don't: JPEG of all processes, and GE's private byte order."""

RLE_EXPANSION = 64
"""PackBits turns two bytes into at most 128."""

_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_FRAME_MARKERS = {0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF, 0xF7}
_FIRST_GROUPS = (0x0002, 0x0004, 0x0008)


def is_picture(data: bytes) -> bool:
    """Say whether bytes begin as PNG, JPEG or TIFF (a DICOM preamble may hold a TIFF header: that is DICOM)."""
    return data.startswith(_PICTURES) and data[128:132] != b"DICM"


def looks_like_dicom(data: bytes) -> bool:
    """Say whether bytes without preamble begin with a DICOM element of group 2, 4 or 8, in either byte order."""
    if len(data) < 8:
        return False
    little, big = struct.unpack_from("<HH", data), struct.unpack_from(">HH", data)
    return any(group in _FIRST_GROUPS and element < 0x2200 for group, element in (little, big))


def check_frame(encapsulated: bytes, rows: int, columns: int, claimed_bytes: int) -> None:
    """Refuse encapsulated pixels whose first frame says another size than the header, or cannot fill it.

    Raises:
        Refused: ``header_lies``, ``no_pixels``, ``truncated_pixels`` or ``undecodable``.
    """
    try:
        fragments = _first_fragments(encapsulated)
    except Exception as error:  # broken encapsulation
        raise Refused("undecodable", str(error)) from None
    if not fragments:
        raise Refused("no_pixels")
    size = frame_size(b"".join(fragments)[:HEADER_BYTES])
    if size is not None and size != (rows, columns):
        raise Refused("header_lies", f"{size[0]} x {size[1]} instead of {rows} x {columns}")
    if size is None and claimed_bytes > RLE_EXPANSION * len(encapsulated):
        raise Refused("truncated_pixels", f"{len(encapsulated)} bytes cannot hold {claimed_bytes}")


def _first_fragments(encapsulated: bytes) -> list[bytes]:
    """Return fragments after the offset table until they hold a codestream header."""
    found, total = [], 0
    for index, fragment in enumerate(generate_fragments(encapsulated)):
        if index == 0:
            continue
        found.append(fragment)
        total += len(fragment)
        if total >= HEADER_BYTES:
            break
    return found


def frame_size(data: bytes) -> tuple[int, int] | None:
    """Return the rows and columns that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None for other bytes."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start >= 0 and len(data) >= start + 24:
        width, height, x, y = struct.unpack_from(">IIII", data, start + 8)
        return height - y, width - x
    return _jpeg_size(data) if data.startswith(b"\xff\xd8") else None


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", data, position + 5)
            return (rows, columns) if rows and columns else None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def read_with_gdcm(data: bytes, rows: int, columns: int, frames: int, samples: int) -> NDArray[Any] | None:
    """Return the stored values as GDCM reads the whole file (12-bit JPEG, GE's private syntax); None if it doesn't."""
    import gdcm

    with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
        file.write(data)
        file.flush()
        reader = gdcm.ImageReader()
        reader.SetFileName(file.name)
        if not reader.Read():
            return None
        image = reader.GetImage()
        kind = {
            gdcm.PixelFormat.UINT8: "u1", gdcm.PixelFormat.INT8: "i1", gdcm.PixelFormat.UINT16: "u2",
            gdcm.PixelFormat.INT16: "i2", gdcm.PixelFormat.UINT12: "u2", gdcm.PixelFormat.INT12: "i2",
        }.get(image.GetPixelFormat().GetScalarType())  # fmt: skip
        count = rows * columns * frames * samples
        if kind is None or image.GetBufferLength() != count * int(kind[1]):
            return None
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    array = np.frombuffer(buffer, kind)
    return array if array.size == count else None
