"""Opens DICOM bytes: reads the elements that are needed and no others; caps what inflating and nesting may cost."""

import zlib
from io import BytesIO

import pydicom
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from medgan_ray.dicom import codestream
from medgan_ray.dicom.refusals import Refused

MAX_INFLATED_BYTES = 1 << 28
"""What a deflated data set may unpack to."""

MAX_NESTING = 64
"""Sequences within sequences; real ones stay below ten."""

META_BYTES = 1 << 16
"""Where a deflated file has to say so: the file meta information comes first and is short."""

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
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable"),
    *("ExtendedOffsetTableLengths", "FileSetID", *PIXEL_KEYWORDS),
)
_NEEDED_TAGS = [tag for keyword in _NEEDED if (tag := tag_for_keyword(keyword)) is not None]


def open_dicom(data: bytes, label_keyword: str = "", *, whole: bool = False) -> FileDataset:
    """Return what reading needs of a DICOM file, with or without preamble and file meta information.

    Args:
        data: the whole file.
        label_keyword: one more attribute to read.
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
        dataset = _read(data, marked, None if whole else _tags(label_keyword))
        empty = not len(dataset) and not len(dataset.file_meta)
        _set_syntax(dataset)
        _check_nesting(dataset, 0)
    except (MemoryError, Refused):
        raise
    except RecursionError:
        raise Refused("broken_header", "sequences nested too deeply") from None
    except Exception as error:  # pydicom raises whatever its parsing trips over
        raise Refused("broken_header", str(error)) from None
    if empty:
        raise Refused("broken_header", "no elements")
    return dataset


def _tags(label_keyword: str) -> list[BaseTag | int]:
    label = tag_for_keyword(label_keyword) if label_keyword else None
    return [*_NEEDED_TAGS] if label is None else [*_NEEDED_TAGS, label]


def _read(data: bytes, marked: bool, tags: list[BaseTag | int] | None) -> FileDataset:
    if DeflatedExplicitVRLittleEndian.encode() in data[:META_BYTES]:
        file = BytesIO(data)
        file.seek(132 if marked else 0)
        meta = FileMetaDataset(read_dataset(file, False, True, stop_when=lambda tag, vr, length: tag >> 16 != 2))
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            body = BytesIO(_inflate(memoryview(data)[file.tell() :]))
            return FileDataset("", read_dataset(body, False, True, specific_tags=tags), None, meta, False, True)
    return pydicom.dcmread(BytesIO(data), force=not marked, specific_tags=tags)


def _inflate(deflated: memoryview) -> bytes:
    """Return a deflated data set (PS3.5 A.5) as plain bytes."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(deflated, MAX_INFLATED_BYTES)
    if not inflater.eof and inflater.unconsumed_tail:
        raise Refused("too_large", f"it inflates to more than {MAX_INFLATED_BYTES} bytes")
    return body


def _set_syntax(dataset: FileDataset) -> None:
    """Give a file without a transfer syntax the one that it was read with."""
    if "TransferSyntaxUID" in dataset.file_meta:
        return
    implicit, little = dataset.original_encoding
    explicit = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
    dataset.file_meta.TransferSyntaxUID = explicit if implicit is False else ImplicitVRLittleEndian


def _check_nesting(dataset: Dataset, depth: int) -> None:
    """Refuse sequences nested too deeply; those of a known length are only bytes until somebody asks for them."""
    if depth > MAX_NESTING:
        raise Refused("broken_header", f"sequences nested more than {MAX_NESTING} deep")
    for element in dataset.values():
        if isinstance(element, DataElement) and element.VR == "SQ":
            for item in element.value:
                _check_nesting(item, depth + 1)
