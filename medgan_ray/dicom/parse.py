"""Opens DICOM bytes: reads the elements that are needed and no others; caps what inflating and nesting may cost."""

import zlib
from collections.abc import Sequence
from io import BytesIO

import pydicom
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medgan_ray.dicom import codestream, elements
from medgan_ray.dicom.facts import tag_of
from medgan_ray.dicom.refusals import Refused

MAX_INFLATED_BYTES = 1 << 28
"""What a deflated data set may unpack to."""

MAX_NESTING = 64
"""Sequences within sequences; real ones stay below ten."""

MAX_READS = 1 << 20
"""What parsing a file may take: an element takes one or two."""

ITEM_READS = 10
"""As many as an item of a sequence or a fragment of pixels costs, even if it is empty."""

ELEMENT_READS = 2
"""What an element costs, or half of it."""

UNCOUNTED_BYTES = 640 << 10
"""Of files up to this size reads are not counted: too few elements fit into them, and most slices are that small."""

META_BYTES = 1 << 16
"""Where a deflated file has to say so: the file meta information comes first and is short."""

_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
"""The tag (FFFE,E000) in either byte order; by chance it stands once in four gigabytes."""

PIXEL_KEYWORDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")

_NEEDED = (
    *("SpecificCharacterSet", "ImageType", "SOPClassUID", "SeriesDate", "AcquisitionDate", "SeriesTime"),
    *("AcquisitionTime", "Modality", "Manufacturer", "VolumeBasedCalculationTechnique", "PatientID", "PatientSex"),
    *("PatientAge", "PatientWeight", "RadiopharmaceuticalInformationSequence", "GantryDetectorTilt"),
    *(f"{kind}{edge}Edge" for kind in ("Shutter", "Collimator") for edge in ("UpperHorizontal", "LowerHorizontal")),
    *(f"{kind}{edge}Edge" for kind in ("Shutter", "Collimator") for edge in ("LeftVertical", "RightVertical")),
    *("ShutterShape", "CollimatorShape"),
    *("ImagerPixelSpacing", "ViewPosition", "StudyInstanceUID", "SeriesInstanceUID", "ImagePositionPatient"),
    *("ImageOrientationPatient", "SamplesPerPixel", "PhotometricInterpretation", "PlanarConfiguration"),
    *("NumberOfFrames", "Rows", "Columns", "PixelSpacing", "CorrectedImage", "BitsAllocated", "BitsStored", "HighBit"),
    *("PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit", "BurnedInAnnotation", "WindowCenter"),
    *("WindowWidth", "VOILUTFunction", "RescaleIntercept", "RescaleSlope", "ModalityLUTSequence", "VOILUTSequence"),
    *("RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor"),
    *("BluePaletteColorLookupTableDescriptor", "AlphaPaletteColorLookupTableDescriptor"),
    *("PaletteColorLookupTableUID", "RedPaletteColorLookupTableData", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableData", "AlphaPaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    *("SegmentedBluePaletteColorLookupTableData", "Units", "DecayCorrection", "SUVType", "PresentationLUTShape"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "FileSetID", *PIXEL_KEYWORDS),
)
_OFFSETS = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
"""Left out: they say nothing that frames of one fragment don't, and may lie."""

_PIXEL_TAGS = [tag_of(keyword) for keyword in PIXEL_KEYWORDS]
_NEEDED_TAGS = {int(tag_of(keyword)): tag_of(keyword) for keyword in _NEEDED}


def open_dicom(data: bytes, keywords: Sequence[str] = (), *, whole: bool = False) -> FileDataset:
    """Return what reading needs of a DICOM file, with or without preamble and file meta information.

    Args:
        data: the whole file.
        keywords: more attributes to read; empty ones are none.
        whole: read all attributes.

    Raises:
        Refused: ``empty_file``, ``not_an_image``, ``broken_header`` or ``too_large``.
    """
    if not data:
        raise Refused("empty_file")
    marked = data[128:132] == b"DICM"
    if not marked and not codestream.looks_like_dicom(data):
        raise Refused("not_an_image")
    try:
        dataset = _read(data, marked, None if whole else _wanted(keywords))
        for keyword in _OFFSETS:
            dataset.pop(tag_of(keyword), None)
        empty = not len(dataset) and not len(dataset.file_meta)
        _set_syntax(dataset)
        _check_nesting(dataset, 0)
    except (MemoryError, Refused):
        raise
    except RecursionError:
        raise Refused("broken_header", "sequences nested too deeply") from None
    except Exception as error:  # pydicom raises whatever its parsing trips over
        if isinstance(error.__context__, Refused):
            raise error.__context__ from None  # pydicom has its own word for whatever befalls a sequence
        raise Refused("broken_header", str(error)) from None
    if empty:
        raise Refused("broken_header", "no elements")
    return dataset


def _wanted(keywords: Sequence[str]) -> dict[int, BaseTag]:
    more = [tag_of(keyword) for keyword in keywords if keyword]
    return {**_NEEDED_TAGS, **{int(tag): tag for tag in more}} if more else _NEEDED_TAGS


def _read(data: bytes, marked: bool, wanted: dict[int, BaseTag] | None) -> FileDataset:
    tags: list[BaseTag | int] | None = None if wanted is None else list(wanted.values())
    if DeflatedExplicitVRLittleEndian.encode() in data[:META_BYTES]:
        file = _opened(data)
        file.seek(132 if marked else 0)
        meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            body = _opened(_inflate(memoryview(data)[file.tell() :]))
            read = read_dataset(body, False, True, specific_tags=tags)
            return FileDataset("", read, None, meta, False, True)
    usual = elements.read(data, wanted, MAX_READS // ELEMENT_READS) if marked and wanted else None
    return pydicom.dcmread(_opened(data), force=not marked, specific_tags=tags) if usual is None else usual


def _inflate(deflated: memoryview) -> bytes:
    """Return a deflated data set (PS3.5 A.5) as plain bytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    if not inflater.eof and inflater.unconsumed_tail:
        raise Refused("too_large", f"it inflates to more than {MAX_INFLATED_BYTES} bytes")
    return body


def _opened(data: bytes) -> BytesIO:
    return BytesIO(data) if len(data) <= UNCOUNTED_BYTES else _Budgeted(data)


class _Budgeted(BytesIO):
    """Bytes that are read from so often and no more: pydicom parses element after element, needed or not."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._left = MAX_READS

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._left -= ITEM_READS if data[:4] in _ITEMS else 1
        if self._left < 0:
            raise Refused("too_large", "too many elements and items")
        return data


def _set_syntax(dataset: FileDataset) -> None:
    """Give a file without a transfer syntax the one that it was read with."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = explicit if implicit is False else ImplicitVRLittleEndian


def _check_nesting(dataset: Dataset, depth: int) -> None:
    """Refuse sequences nested too deeply, or of too many items in bytes that are parsed only when asked for."""
    if depth > MAX_NESTING:
        raise Refused("broken_header", f"sequences nested more than {MAX_NESTING} deep")
    for element in dataset.values():
        if isinstance(element, RawDataElement) and element.VR in (None, "SQ", "UN") and element.tag not in _PIXEL_TAGS:
            value = element.value or b""
            if ITEM_READS * sum(value.count(item) for item in _ITEMS) > MAX_READS:
                raise Refused("too_large", "too many items")
        if isinstance(element, DataElement) and element.VR == "SQ":
            for item in element.value:
                _check_nesting(item, depth + 1)
