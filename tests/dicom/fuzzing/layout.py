"""Where things lie in the bytes of a DICOM file, for those who want to break one of them."""

import re
import struct
from dataclasses import dataclass, field

from medgan_ray.dicom.codestream import looks_like_dicom

LONG_VRS = (b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV")
"""Their length field has four bytes, after two reserved ones."""

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA = 0x7FE00010
DEFLATED = b"1.2.840.10008.1.2.1.99"
MOST_PLACES = 4000


@dataclass(frozen=True, slots=True)
class Place:
    """An element or item: where it begins, where its length field and value lie, and what the length field says."""

    start: int
    tag: int
    vr: bytes
    field: int
    field_bytes: int
    value: int
    length: int
    big: bool

    @property
    def end(self) -> int:
        """Where the value ends; of an undefined length, where it begins."""
        return self.value if self.length == UNDEFINED else self.value + self.length


@dataclass(frozen=True)
class Layout:
    """All places, outer before inner; what is no DICOM has none."""

    places: tuple[Place, ...] = ()
    fragments: tuple[Place, ...] = ()
    """The items of encapsulated pixels, the offset table first."""
    by_tag: dict[int, Place] = field(default_factory=dict)
    explicit: bool = True
    big: bool = False


def lay_out(data: bytes) -> Layout:
    """Return the places of a file's elements, also those within sequences, as far as they make sense."""
    start = 132 if data[128:132] == b"DICM" else 0
    if not start and not looks_like_dicom(data):
        return Layout()
    meta = _scan(data, start, True, False, only_meta=True)
    body = meta[-1].end if meta else start
    big = data[body : body + 1] == b"\0" and data[body + 1 : body + 2] != b"\0"
    explicit = re.fullmatch(rb"[A-Z]{2}", data[body + 4 : body + 6]) is not None
    places = [*meta, *_scan(data, body, explicit, big)]
    fragments, inside = [], False
    for place in places:
        inside = (inside and place.tag != SEQUENCE_END) or (place.tag == PIXEL_DATA and place.length == UNDEFINED)
        if inside and place.tag == ITEM:
            fragments.append(place)
    by_tag = {place.tag: place for place in reversed(places)}
    return Layout(tuple(places), tuple(fragments), by_tag, explicit, big)


def _scan(data: bytes, position: int, explicit: bool, big: bool, only_meta: bool = False) -> list[Place]:
    """Return places one after another: what is inside sequences and items follows them."""
    found: list[Place] = []
    order, pixels = ">" if big else "<", False
    while position + 8 <= len(data) and len(found) < MOST_PLACES:
        group, element = struct.unpack_from(order + "HH", data, position)
        if only_meta and group != 2:
            break
        tag, vr, size, at = group << 16 | element, b"", 4, position + 4
        if explicit and group != 0xFFFE:
            vr = data[at : at + 2]
            if not vr.isalpha():
                break
            size, at = (4, at + 4) if vr in LONG_VRS else (2, at + 2)
        if at + size > len(data):
            break
        (length,) = struct.unpack_from(order + ("I" if size == 4 else "H"), data, at)
        place = Place(position, tag, vr, at, size, at + size, length, big)
        found.append(place)
        pixels = (pixels and tag != SEQUENCE_END) or (tag == PIXEL_DATA and length == UNDEFINED)
        opens = vr == b"SQ" or (not vr and tag == ITEM and not pixels)
        position = place.value if opens else place.end
    return found
