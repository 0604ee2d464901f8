"""Elements that are found without pydicom are those that pydicom finds; what is unusual is left to it."""

import struct
import warnings
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan_ray.dicom import elements, phantom

WANTED = {
    int(Tag(keyword)): Tag(keyword)
    for keyword in ("SpecificCharacterSet", "PatientID", "Modality", "Rows", "VOILUTSequence", "PixelData")
}


def written(dataset: FileDataset) -> bytes:
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def check(data: bytes, wanted: dict[int, BaseTag]) -> bool:
    """Say whether the elements were found; they are pydicom's."""
    found = elements.read(data, wanted)
    if found is None:
        return False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = pydicom.dcmread(BytesIO(data), specific_tags=list(wanted.values()))
    assert dict(found._dict) == dict(expected._dict)
    assert found.original_encoding == expected.original_encoding
    assert found.original_character_set == expected.original_character_set
    assert found.file_meta.TransferSyntaxUID == expected.file_meta.TransferSyntaxUID
    return True


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.parametrize("undefined", [False, True])
def test_the_usual_file_is_read_without_pydicom(syntax: str, undefined: bool) -> None:
    dataset = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 16, 0)), 0)
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientID = "Ä"
    inner, outer = pydicom.Dataset(), pydicom.Dataset()
    inner.PatientID = "nested"
    outer.ReferencedStudySequence = [inner]
    dataset.ReferencedStudySequence = [outer, outer]
    for item in (dataset, outer):
        item["ReferencedStudySequence"].is_undefined_length = undefined
        for each in item.ReferencedStudySequence:
            each.is_undefined_length_sequence_item = undefined
    data = written(dataset)
    assert check(data, WANTED)
    found = elements.read(data, WANTED)
    assert found is not None and found.PatientID == "Ä" and found.Rows == 16


def test_a_sequence_that_is_wanted_is_left_to_pydicom_where_its_length_is_unknown() -> None:
    dataset = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 16, 0)), 0)
    dataset.VOILUTSequence = [pydicom.Dataset()]
    assert check(written(dataset), WANTED)
    dataset["VOILUTSequence"].is_undefined_length = True
    assert not check(written(dataset), WANTED)


@pytest.mark.parametrize("name", ["MR_small_bigendian.dcm", "image_dfl.dcm", "DICOMDIR", "MR_truncated.dcm"])
def test_what_is_unusual_is_left_to_pydicom(name: str) -> None:
    assert not check(Path(str(get_testdata_file(name))).read_bytes(), WANTED)


def test_lengths_that_lie_are_left_to_pydicom() -> None:
    data = written(phantom.to_dicom(next(phantom.draw("ct", 1, 1, 16, 0)), 0))
    assert check(data, WANTED)
    assert not check(data[:-10], WANTED)
    place = data.index(b"\x20\x00\x0d\x00UI")
    assert not check(data[: place + 6] + struct.pack("<H", 0xFFFE) + data[place + 8 :], WANTED)


def test_every_file_of_the_corpus_reads_alike(dicom_corpus: Path) -> None:
    marked = [data for path in dicom_corpus.iterdir() if (data := path.read_bytes())[128:132] == b"DICM"]
    assert sum(check(data, WANTED) for data in marked) > 0.7 * len(marked) > 70
