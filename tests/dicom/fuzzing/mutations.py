"""Breaks files: each mutation is a function of a number alone, so that what it found can be had again."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.dicom.fuzzing.layout import PIXEL_DATA, UNDEFINED, Layout, Place
from tests.dicom.fuzzing.seeds import SYNTAXES, Seed

SMALL_BYTES = 200_000
"""Nineteen of twenty mutations are of files no larger than this."""

PIXELS_AT_LEAST = 4
"""Of five mutations, so many are of files with pixels: others end early."""

NUMBERS = (
    *(0, 1, 2, 3, 7, 8, 9, 12, 13, 15, 16, 17, 31, 32, 33, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x10000),
    *(0x7FFFFFFF, 0x80000000, 0xFFFFFFF0, 0xFFFFFFFE, 0xFFFFFFFF),
)
TEXTS = (
    *(b"", b"0", b"-1", b"1", b"2", b"65535", b"99999999", b"2147483648", b"1e400", b"-1e308", b"nan", b"inf", b"1.5"),
    *(b"0x10", b"\\", b"1\\\\2", b"1\\2\\3\\4\\5\\6\\7", b"\xff\xfe", b"\0\0", b"A" * 64, b"9" * 400, b" ", b"HSV"),
    *(b"MONOCHROME1", b"PALETTE COLOR", b"RGB", b"YBR_FULL", b"YBR_FULL_422", b"YBR_RCT", b"YBR_PARTIAL_420"),
    *(b"CT", b"MR", b"PT", b"MG", b"US", b"SIGMOID", b"INVERSE", b"ISO_IR 192", b"\\ISO 2022 IR 149", b"YES"),
)
VRS = (
    b"AE AS AT CS DA DS DT FD FL IS LO LT OB OD OF OL OV OW PN SH SL SQ SS ST SV TM UC UI UL UN UR US UT UV ZZ".split()
)

_PIXEL_MODULE = (
    *(0x00280002, 0x00280004, 0x00280006, 0x00280008, 0x00280010, 0x00280011, 0x00280100, 0x00280101, 0x00280102),
    *(0x00280103, 0x00280120, 0x00280121, 0x00281050, 0x00281051, 0x00281052, 0x00281053, 0x00281101, 0x00283002),
    *(0x00020010, 0x00080016, 0x00080060, 0x00080008, 0x00280030, 0x00200032, 0x00200037, 0x00080005, 0x20500020),
)
_INSERTED: tuple[tuple[int, bytes, bytes], ...] = (
    (0x00280002, b"US", b"\3\0"), (0x00280006, b"US", b"\1\0"), (0x00280008, b"IS", b"65535 "),
    (0x00280008, b"IS", b"2 "), (0x00280010, b"US", b"\xff\xff"), (0x00280102, b"US", b"\xff\0"),
    (0x00280120, b"US", b"\0\x80"), (0x00280120, b"SS", b"\xff\xff"), (0x00280121, b"US", b"\xff\xff"),
    (0x00281050, b"DS", b"1e308 "), (0x00281051, b"DS", b"0 "), (0x00281052, b"DS", b"1e12"),
    (0x00281053, b"DS", b"1e30"), (0x00281053, b"DS", b"nan "), (0x00281101, b"US", b"\0\0\0\0\x10\0"),
    (0x00281201, b"OW", bytes(64)), (0x00281221, b"OW", b"\1\0\xff\xff\2\0\xff\x7f"), (0x00282110, b"CS", b"01"),
    (0x60000010, b"US", b"\xff\xff"), (0x60003000, b"OW", bytes(16)), (0x7FE00001, b"OV", b"\xff" * 16),
    (0x7FE00002, b"OV", b"\xff" * 16), (0x7FE00008, b"OF", bytes(64)), (0x7FE00009, b"OD", bytes(64)),
    (0x00283000, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff\xfe\xff\x0d\xe0\0\0\0\0"),
    (0x00283010, b"SQ", b"\xfe\xff\0\xe0\x0e\0\0\0\x28\0\x02\x30US\6\0\xff\xff\0\0\x10\0"),
    (0x52009229, b"SQ", b"\xfe\xff\0\xe0\0\0\0\0"), (0x52009230, b"SQ", b"\xfe\xff\0\xe0\0\0\0\0" * 9),
    (0x00080005, b"CS", b"ISO 2022 IR 58"), (0x00040220, b"SQ", b"\xfe\xff\0\xe0\xff\xff\xff\xff"),
)  # fmt: skip


class Draw:
    """Random choices of one mutation."""

    def __init__(self, number: int) -> None:
        self._random = np.random.default_rng(number)

    def below(self, end: int) -> int:
        """Return a whole number from 0 to ``end`` - 1; 0 where that is none."""
        return int(self._random.integers(end)) if end > 1 else 0

    def choose(self, options: Any) -> Any:
        """Return one of a sequence."""
        return options[self.below(len(options))]

    def early(self, end: int) -> int:
        """Return a place below ``end``, near the beginning in half of all cases."""
        return self.below(min(end, 2048) if self.below(2) else end)

    def bytes(self, count: int) -> bytes:
        """Return random bytes, or one byte again and again."""
        return self._random.bytes(count) if self.below(2) else bytes([self.choose((0, 255, self.below(256)))]) * count


Change = Callable[[Draw, bytearray, Layout, bytes], None]
"""Takes the bytes to break, where things lie in them, and another file."""


@dataclass(frozen=True)
class Mutant:
    """A broken file, which file it was and what was done to it."""

    data: bytes
    seed: str
    changes: tuple[str, ...]


def mutate(number: int, seeds: list[Seed]) -> Mutant:
    """Return the mutation of this number: one to three changes to one of the seeds."""
    draw = Draw(number)
    small = [seed for seed in seeds if len(seed.plain) <= SMALL_BYTES]
    wanted = seeds if draw.below(20) == 0 else small
    if draw.below(5) < PIXELS_AT_LEAST:
        wanted = [seed for seed in wanted if not seed.layout.places or PIXEL_DATA in seed.layout.by_tag]
    seed = draw.choose(wanted)
    layout = seed.layout
    whole = bool(seed.packed) and draw.below(4) == 0  # as it lies on disk: nothing within can be aimed at
    possible = [*_ANY]
    if not whole:
        possible += [*(_DICOM if layout.places else ()), *(_ENCAPSULATED if layout.fragments else ())]
    chosen = {draw.below(len(possible)) for _ in range(draw.choose((1, 1, 1, 2, 2, 3)))}
    # What moves bytes comes last: until then things lie where the layout says.
    changes = sorted((possible[index] for index in chosen), key=lambda change: change in _MOVING)
    data = bytearray(seed.packed if whole else seed.plain)
    other = draw.choose(small).plain
    for change in changes:
        if data:
            change(draw, data, layout, other)
    names = tuple(change.__name__ for change in changes)
    return Mutant(bytes(data) if whole else seed.pack(bytes(data)), seed.name, names)


def flip_bits(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    for _ in range(1 + draw.below(8)):
        data[draw.early(len(data))] ^= 1 << draw.below(8)


def overwrite(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    at = draw.early(len(data))
    run = draw.bytes(min(1 + draw.below(64), len(data) - at))
    data[at : at + len(run)] = run


def write_number(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    size, order = draw.choose((1, 2, 2, 4, 4, 8)), draw.choose(("little", "big"))
    at, number = draw.early(max(len(data) - size, 1)), draw.choose(NUMBERS) % (1 << (8 * size))
    data[at : at + size] = number.to_bytes(size, order)


def cut(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    del data[draw.early(len(data)) :]


def remove(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    at = draw.early(len(data))
    del data[at : at + 1 + draw.below(draw.choose((4, 256, len(data))))]


def insert(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    at = draw.early(len(data))
    data[at:at] = draw.bytes(1 + draw.below(64))


def repeat(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    at = draw.early(len(data))
    run = data[at : at + 1 + draw.below(512)]
    data[at:at] = run * (1 + draw.below(draw.choose((2, 64))))


def splice(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    data[draw.early(len(data)) :] = other[draw.early(len(other)) :]


def swap_vr(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    places = [place for place in layout.places if place.vr]
    if places:
        at = draw.choose(places).start + 4
        data[at : at + 2] = draw.choose(VRS)


def set_attribute(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Give an attribute that pixels depend on another value, as a number where it has two or four bytes."""
    places = [layout.by_tag[tag] for tag in _PIXEL_MODULE if tag in layout.by_tag]
    place = draw.choose(places or layout.places)
    if place.vr in (b"US", b"SS") or (not place.vr and place.length in (2, 4, 6)):
        at = place.value + 2 * draw.below(place.length // 2)
        now = int.from_bytes(data[at : at + 2], "big" if place.big else "little")
        number = draw.choose((*NUMBERS, now + 1, now - 1, now * 2, now // 2)) % (1 << 16)
        data[at : at + 2] = number.to_bytes(2, "big" if place.big else "little")
    else:
        _set_value(data, place, draw.choose(TEXTS))


def set_text(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    _set_value(data, draw.choose(layout.places), draw.choose(TEXTS))


def set_syntax(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Declare another transfer syntax."""
    place = layout.by_tag.get(0x00020010)
    if place:
        _set_value(data, place, draw.choose(SYNTAXES))


def lie_about_length(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Give an element, item or fragment another length, perhaps an undefined one."""
    place = draw.choose(layout.places)
    near = (place.length + 1, place.length - 1, place.length + 2, place.length * 2, len(data) - place.value)
    _set_length(data, place, draw.choose((*NUMBERS, *near, UNDEFINED, UNDEFINED)))


def insert_element(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Insert an element that matters where it belongs, twice perhaps."""
    tag, vr, value = draw.choose(_INSERTED)
    place = next((place for place in layout.places if place.tag >= tag and place.tag >> 16 != 2), layout.places[-1])
    order = ">" if layout.big else "<"
    head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
    if not layout.explicit:
        head += struct.pack(order + "I", len(value))
    elif vr in (b"OB", b"OD", b"OF", b"OV", b"OW", b"SQ"):
        head += vr + struct.pack(order + "HI", 0, len(value))
    else:
        head += vr + struct.pack(order + "H", len(value))
    data[place.start : place.start] = head + value


def delete_element(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    place = draw.choose(layout.places)
    del data[place.start : max(place.end, place.value)]


def duplicate_element(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    place, to = draw.choose(layout.places), draw.choose(layout.places)
    data[to.start : to.start] = data[place.start : place.end] * (1 + draw.below(3))


def lie_about_offsets(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Write a basic offset table that is none."""
    place = layout.fragments[0]
    if place.length >= 4:
        at = place.value + 4 * draw.below(place.length // 4)
        data[at : at + 4] = draw.choose(NUMBERS).to_bytes(4, "little")
    else:
        table = b"".join(draw.choose(NUMBERS).to_bytes(4, "little") for _ in range(1 + draw.below(9)))
        _set_value(data, place, table)


def break_codestream_head(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Overwrite something in the first bytes of a compressed frame: sizes, tables, numbers of parts."""
    place = draw.choose(layout.fragments[1:] or layout.fragments)
    for _ in range(1 + draw.below(3)):
        at = place.value + draw.below(min(place.length, draw.choose((32, 128, 700))))
        size = draw.choose((1, 1, 2, 4))
        if at + size <= len(data):
            value = draw.choose(NUMBERS) if draw.below(2) else draw.below(256)
            data[at : at + size] = (value % (1 << (8 * size))).to_bytes(size, "big")


def break_codestream_body(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Flip bits of compressed pixels."""
    place = draw.choose(layout.fragments[1:] or layout.fragments)
    for _ in range(1 + draw.below(16)):
        at = place.value + draw.below(place.length)
        if at < len(data):
            data[at] ^= 1 << draw.below(8)


def break_marker(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Change a marker of a codestream, or the length of its segment."""
    place = draw.choose(layout.fragments[1:] or layout.fragments)
    stream = bytes(data[place.value : place.end][:4096])
    markers = [at for at in range(len(stream) - 4) if stream[at] == 0xFF and 0x4F <= stream[at + 1] < 0xFF]
    if markers:
        at = place.value + draw.choose(markers)
        if draw.below(2):
            data[at + 1] = draw.choose((0x4F, 0x51, 0x52, 0x5C, 0x90, 0x93, 0xC0, 0xC3, 0xC4, 0xD9, 0xDA, 0xDD, 0xF7))
        else:
            data[at + 2 : at + 4] = (draw.choose(NUMBERS) % 65536).to_bytes(2, "big")


def swap_codestream(draw: Draw, data: bytearray, layout: Layout, other: bytes) -> None:
    """Put the bytes of another file where a compressed frame was."""
    place = draw.choose(layout.fragments[1:] or layout.fragments)
    at = other.find(draw.choose((b"\xff\xd8\xff", b"\xff\x4f\xff\x51", b"\x89PNG")))
    _set_value(data, place, other[max(at, 0) : max(at, 0) + 50_000])


def _set_length(data: bytearray, place: Place, length: int) -> None:
    field = (length % (1 << (8 * place.field_bytes))).to_bytes(place.field_bytes, "big" if place.big else "little")
    data[place.field : place.field + place.field_bytes] = field


def _set_value(data: bytearray, place: Place, value: bytes) -> None:
    """Write a value and its length; a sequence without a length gets one."""
    value += b"\0" * (len(value) % 2)
    data[place.value : place.end] = value
    _set_length(data, place, len(value))


_ANY: tuple[Change, ...] = (flip_bits, overwrite, write_number, cut, remove, insert, repeat, splice)
_DICOM: tuple[Change, ...] = (
    *(swap_vr, set_attribute, set_attribute, set_attribute, set_text, set_syntax, lie_about_length, lie_about_length),
    *(insert_element, insert_element, delete_element, duplicate_element),
)
_ENCAPSULATED: tuple[Change, ...] = (
    *(lie_about_offsets, break_codestream_head, break_codestream_head, break_codestream_body, break_codestream_body),
    *(break_marker, swap_codestream),
)
_MOVING = (
    *(cut, remove, insert, repeat, splice, set_attribute, set_text, set_syntax, insert_element, delete_element),
    *(duplicate_element, lie_about_offsets, swap_codestream),
)
