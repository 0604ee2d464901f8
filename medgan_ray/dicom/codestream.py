"""What bytes are, before they are decoded: file signatures, and the size that a compressed frame itself claims."""

import math
import struct

from pydicom.encaps import generate_frames

from medgan_ray.dicom.refusals import Refused

HEADER_BYTES = 1 << 16
RLE_EXPANSION = 64
"""PackBits turns two bytes into at most 128."""

DEFLATE_EXPANSION = 1032
"""Deflate's longest match, 258 bytes, takes two bits."""

JPEG_EXPANSION = 1024
"""A block of 64 samples of two bytes takes at least one bit of a JPEG scan."""

MAX_SCANNED_SAMPLES = 1 << 30
"""A JPEG may go over all its samples again and again, each time for a few bytes (progressive scans)."""

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


def check_frames(
    encapsulated: bytes, shape: tuple[int, int, int], frames: int, frame_bytes: int, expansion: int = RLE_EXPANSION
) -> None:
    """Refuse encapsulated pixels of which a frame says another size than the header, or cannot fill it.

    Args:
        encapsulated: the value of Pixel Data (7FE0,0010).
        shape: rows, columns and samples by the header.
        frames: how many, by the header.
        frame_bytes: what one frame takes when it is decoded.
        expansion: how many bytes a byte that is no codestream can become.

    Raises:
        Refused: ``header_lies``, ``no_pixels``, ``too_large``, ``truncated_pixels`` or ``undecodable``.
    """
    found = 0
    try:
        for frame in generate_frames(encapsulated, number_of_frames=frames):
            _check_frame(frame, shape, frame_bytes, expansion)
            found += 1
    except (MemoryError, Refused):
        raise
    except Exception as error:  # broken encapsulation
        raise Refused("undecodable", str(error)) from None
    if not found:
        raise Refused("no_pixels")
    if found < frames:
        raise Refused("truncated_pixels", f"{found} of {frames} frames")


def _check_frame(frame: bytes, expected: tuple[int, int, int], frame_bytes: int, expansion: int) -> None:
    if not frame:
        raise Refused("no_pixels")
    claimed = frame_shape(frame)
    if claimed is not None and claimed != expected:
        raise Refused("header_lies", f"{_by(claimed)} instead of {_by(expected)}")
    if claimed is not None:
        check_scans(frame)
    if frame_bytes > len(frame) * (_most_expansion(frame) if claimed else expansion):
        raise Refused("truncated_pixels", f"{len(frame)} bytes cannot hold {frame_bytes}")


def check_scans(data: bytes) -> None:
    """Refuse a JPEG that goes over its samples too often (``too_large``); other bytes pass."""
    shape = _jpeg_shape(data) if data.startswith(b"\xff\xd8") else None
    scans = data.count(b"\xff\xda") if shape else 0
    if shape and scans > 1 and math.prod(shape) * scans > MAX_SCANNED_SAMPLES:
        raise Refused("too_large", f"{scans} scans of {_by(shape)}")


def _by(shape: tuple[int, int, int]) -> str:
    return " x ".join(map(str, shape))


def _most_expansion(frame: bytes) -> int:
    """Return how many bytes a byte of a codestream can become; JPEG 2000 and JPEG-LS know no bound."""
    return JPEG_EXPANSION if frame.startswith(b"\xff\xd8") and b"\xff\xf7" not in frame[:HEADER_BYTES] else 1 << 40


def frame_shape(data: bytes) -> tuple[int, int, int] | None:
    """Return rows, columns and components that a JPEG, JPEG-LS or JPEG 2000 codestream claims; None for other bytes."""
    start = data.find(b"\xff\x4f\xff\x51", 0, 512)
    if start >= 0 and len(data) >= start + 42:
        width, height, x, y = struct.unpack_from(">IIII", data, start + 8)
        return height - y, width - x, struct.unpack_from(">H", data, start + 40)[0]
    return _jpeg_shape(data) if data.startswith(b"\xff\xd8") else None


def _jpeg_shape(data: bytes) -> tuple[int, int, int] | None:
    position = 2
    while position + 10 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
            continue
        if marker in _FRAME_MARKERS:
            rows, columns, components = struct.unpack_from(">HHB", data, position + 5)
            return (rows, columns, components) if rows and columns else None
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None
