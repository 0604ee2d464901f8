"""Finds the elements that are needed in a DICOM file of the usual kind, without looking into the others.

Most files of an archive are little-endian, marked by a preamble and as their transfer syntax says. Whatever is not, or
might be read in two ways, is left to pydicom, which has an answer for it: ``read`` returns None.
"""

import struct
from collections.abc import Mapping
from io import BytesIO

from pydicom.charset import convert_encodings
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element, empty_value_for_VR
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.fileutil import read_undefined_length_value
from pydicom.tag import BaseTag, SequenceDelimiterTag
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian
from pydicom.valuerep import EXPLICIT_VR_LENGTH_32, VR

META_START = 132
STANDARD = "1.2.840.10008.1.2"
"""Transfer syntaxes of the standard start with it; but for those named below they are explicit and little-endian."""

_OTHERS = (ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian, STANDARD + ".8.1")
_CHARACTER_SET, _SYNTAX, _PIXELS = 0x00080005, 0x00020010, 0x7FE00010
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_FIRST_GROUP = 8
"""Groups before it (commands, directories) make no image."""
HEADER_BYTES = 8 << 20
"""What comes before pixels is not longer in usual files; going through more would take seconds."""
MOST_FRAGMENTS = 1 << 16
_FRAGMENT = b"\xfe\xff\x00\xe0"
_UNDEFINED = 0xFFFFFFFF
_DEPTH = 32
_KINDS = {kind.value.encode(): (kind.value, kind in EXPLICIT_VR_LENGTH_32) for kind in VR if len(kind.value) == 2}
"""By its two bytes: a VR, and whether its length takes four."""
_UNKNOWN = ("", False)
_implicit = struct.Struct("<HHL").unpack_from
_explicit = struct.Struct("<HH2sH").unpack_from
_length = struct.Struct("<L").unpack_from

_Elements = dict[BaseTag, RawDataElement | DataElement]


class _Unusual(Exception):
    """Not for us."""


def read(data: bytes, wanted: Mapping[int, BaseTag], most: int = 1 << 19) -> FileDataset | None:
    """Return what is wanted of a file that starts with a preamble, as pydicom would; None: ask pydicom.

    Of the file meta information the transfer syntax alone is there.

    Args:
        data: the whole file.
        wanted: tags by their numbers; the same objects as are asked for later, since comparing equal ones is slow.
        most: how many elements are looked at.
    """
    try:
        meta, start = _meta(data)
        syntax = str(meta.TransferSyntaxUID)
        if not syntax.startswith(STANDARD) or syntax in _OTHERS:
            return None
        implicit = syntax == ImplicitVRLittleEndian
        elements = _walk(data, start, implicit, wanted, most)
    except (_Unusual, struct.error, AttributeError, EOFError):
        return None
    dataset = Dataset(elements)
    encoding: str | list[str] = "iso8859"
    if _CHARACTER_SET in elements:
        encoding = convert_encodings(convert_raw_data_element(elements[BaseTag(_CHARACTER_SET)]).value)  # type: ignore[arg-type]
    dataset.set_original_encoding(implicit, True, encoding)
    found = FileDataset("", dataset, None, meta, implicit, True)
    found.set_original_encoding(implicit, True, dataset._character_set)
    return found


def _meta(data: bytes) -> tuple[FileMetaDataset, int]:
    """Return the transfer syntax, and where the file meta information ends."""
    found: _Elements = {}
    position = META_START
    while data[position : position + 2] == b"\2\0":
        tag, kind, start, length = _element(data, position, implicit=False)
        position = start + length
        if tag == _SYNTAX:
            found[BaseTag(tag)] = RawDataElement(BaseTag(tag), kind, length, data[start:position], start, False, True)
    return FileMetaDataset(found), position


def _walk(data: bytes, position: int, implicit: bool, wanted: Mapping[int, BaseTag], most: int) -> _Elements:
    elements: _Elements = {}
    _check_kind(data, position, implicit)
    while position + 8 <= len(data):
        tag, kind, start, length = _element(data, position, implicit)
        most -= 1
        if tag >> 16 < _FIRST_GROUP or position > HEADER_BYTES or most < 0:
            raise _Unusual
        if length == _UNDEFINED:
            if tag == _PIXELS:
                value, position = _encapsulated(data, start)
            elif tag in wanted:
                raise _Unusual
            else:
                position = _after_sequence(data, start, kind, 0)
                continue
        else:
            position = start + length
            if position > len(data):
                raise _Unusual
            if tag not in wanted:
                continue
            value = data[start:position] if length else empty_value_for_VR(kind, raw=True)  # type: ignore[assignment]
        elements[wanted[tag]] = RawDataElement(wanted[tag], kind, length, value, start, implicit, True)
        if tag == _PIXELS:
            break  # nothing that is wanted comes after them
    return elements


def _element(data: bytes, position: int, implicit: bool) -> tuple[int, str | None, int, int]:
    """Return tag, VR, and where the value of an element starts and how long it is."""
    if implicit:
        group, element, length = _implicit(data, position)
        if group == 0xFFFE:
            raise _Unusual
        return group << 16 | element, None, position + 8, length
    group, element, code, length = _explicit(data, position)
    kind, long = _KINDS.get(code, _UNKNOWN)
    if long:
        (length,) = _length(data, position + 8)
        position += 4
    elif not kind:
        raise _Unusual
    return group << 16 | element, kind, position + 8, length


def _check_kind(data: bytes, position: int, implicit: bool) -> None:
    """Leave files to pydicom that are explicit where they say implicit, or the reverse."""
    code = data[position + 4 : position + 6]
    looks_explicit = len(code) == 2 and all(0x40 < letter < 0x5B for letter in code)
    if looks_explicit == implicit:
        raise _Unusual


def _encapsulated(data: bytes, start: int) -> tuple[bytes, int]:
    if data.count(_FRAGMENT, start) > MOST_FRAGMENTS:
        raise _Unusual
    file = BytesIO(data)
    file.seek(start)
    value = read_undefined_length_value(file, True, SequenceDelimiterTag)
    if value is None:
        raise _Unusual
    return value, file.tell()


def _after_sequence(data: bytes, position: int, kind: str | None, depth: int) -> int:
    """Return where a sequence of undefined length ends."""
    if kind not in (None, "SQ") or depth > _DEPTH:
        raise _Unusual
    while True:
        group, element, length = _implicit(data, position)
        tag, position = group << 16 | element, position + 8
        if tag == _SEQUENCE_END:
            return position
        if tag != _ITEM or position > HEADER_BYTES:
            raise _Unusual
        if length == _UNDEFINED:
            position = _after_item(data, position, kind is None, depth)
            continue
        position += length
        if position > len(data):
            raise _Unusual


def _after_item(data: bytes, position: int, implicit: bool, depth: int) -> int:
    first = position
    while True:
        group, element, _ = _implicit(data, position)
        if position > HEADER_BYTES:
            raise _Unusual
        if group << 16 | element == _ITEM_END:
            return position + 8
        if position == first:
            _check_kind(data, position, implicit)
        _, kind, start, length = _element(data, position, implicit)
        position = _after_sequence(data, start, kind, depth + 1) if length == _UNDEFINED else start + length
