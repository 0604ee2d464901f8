"""Opening: what is needed and no more, deflated or not, within caps."""

import io
import zlib
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ImplicitVRLittleEndian

from medgan_ray.dicom import parse, phantom
from medgan_ray.dicom.facts import Options, gather
from medgan_ray.dicom.parse import MAX_NESTING, open_dicom
from medgan_ray.dicom.read import read_scan
from medgan_ray.dicom.refusals import Refused


def header() -> Dataset:
    return phantom.to_dicom(next(phantom.draw("ct", 1, 1, 16, 0)), 0)


def written(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def deflated(dataset: Dataset) -> bytes:
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return written(dataset)


@pytest.mark.filterwarnings("ignore")
def test_facts_need_no_more_than_is_read(dicom_corpus: Path) -> None:
    """Of every file the facts, values and verdict are the same as those of its whole header."""
    compared = 0
    for path in sorted(dicom_corpus.glob("*"))[::3]:
        data = path.read_bytes()
        try:
            part = open_dicom(data)
        except Refused:
            continue
        whole = pydicom.dcmread(io.BytesIO(data), force=True)
        whole.file_meta.TransferSyntaxUID = part.file_meta.TransferSyntaxUID
        try:
            assert gather(part) == gather(whole), path.name
            compared += 1
        except Refused:
            continue
    assert compared > 40


def test_a_deflated_file_reads_like_a_plain_one() -> None:
    plain, packed = read_scan(written(header()), Options()), read_scan(deflated(header()), Options())
    assert packed.facts.transfer_syntax == DeflatedExplicitVRLittleEndian
    assert packed.facts.replace(transfer_syntax=plain.facts.transfer_syntax) == plain.facts
    assert packed.values is not None and plain.values is not None
    assert packed.values.tobytes() == plain.values.tobytes()


def test_inflating_is_capped(monkeypatch: pytest.MonkeyPatch) -> None:
    data = deflated(header())
    monkeypatch.setattr(parse, "MAX_INFLATED_BYTES", 500)
    with pytest.raises(Refused) as refused:
        open_dicom(data)
    assert refused.value.code == "too_large"


def test_a_deflated_file_that_is_cut_has_a_code() -> None:
    data = deflated(header())
    for cut in (len(data) // 2, len(data) - 400):
        with pytest.raises(Refused):
            read_scan(data[:cut], Options())
    meta = 144 + int.from_bytes(data[140:144], "little")
    with pytest.raises(Refused) as refused:
        open_dicom(data[:meta] + zlib.compress(b"no raw deflate") * 9)
    assert refused.value.code == "broken_header"


@pytest.mark.parametrize(("depth", "code"), [(MAX_NESTING, ""), (MAX_NESTING + 1, "broken_header")])
@pytest.mark.parametrize("tag", [b"\x28\x00\x10\x30", b"\x28\x00\x00\x30"])
def test_nesting_is_capped(tag: bytes, depth: int, code: str) -> None:
    data = nested(tag, depth)
    if code:
        with pytest.raises(Refused, match="nested"):
            open_dicom(data)
    else:
        assert open_dicom(data).Rows == 16


@pytest.mark.parametrize("tag", [b"\x28\x00\x10\x30", b"\x08\x00\x40\x11"])
def test_nesting_without_end_is_refused_also_where_nobody_asks_for_it(tag: bytes) -> None:
    with pytest.raises(Refused, match="nested"):
        open_dicom(nested(tag, 50_000))


def nested(tag: bytes, depth: int) -> bytes:
    """Return a file with sequences of a tag in sequences of it."""
    start, end = b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0"
    opening = tag + b"SQ\0\0\xff\xff\xff\xff" + start
    data = written(header())
    at = data.index(b"\x10\x00\x10\x00PN")
    return data[:at] + opening * depth + end * depth + data[at:]


def test_without_a_syntax_it_is_the_one_that_was_read() -> None:
    dataset = header()
    del dataset.SOPInstanceUID
    buffer = io.BytesIO()
    with pydicom.filebase.DicomFileLike(buffer) as file:  # a bare data set, implicit
        file.is_implicit_VR = file.is_little_endian = True
        pydicom.filewriter.write_dataset(file, dataset)
        data = buffer.getvalue()
    opened = open_dicom(data)
    assert opened.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
    assert opened.Columns == 16


def test_the_label_is_read_only_when_asked_for() -> None:
    dataset = header()
    dataset.StudyDescription = "pneumonia"
    dataset.RequestAttributesSequence = Sequence([Dataset()])
    data = written(dataset)
    assert "StudyDescription" not in open_dicom(data)
    scan = read_scan(data, Options(label_attribute="StudyDescription"))
    assert scan.facts.label == "pneumonia"
    assert read_scan(data, Options()).facts.label == ""


def test_elements_and_items_are_parsed_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a sequence is parsed with the file (of undefined length) or when it is asked for."""
    monkeypatch.setattr(parse, "UNCOUNTED_BYTES", 0)
    for undefined in (True, False):
        dataset = header()
        dataset.ModalityLUTSequence = Sequence([Dataset() for _ in range(200)])
        dataset["ModalityLUTSequence"].is_undefined_length = undefined
        for data in (written(dataset), deflated(dataset)):
            monkeypatch.setattr(parse, "MAX_READS", 10_000)
            assert open_dicom(data).Rows == 16
            monkeypatch.setattr(parse, "MAX_READS", 1900)
            with pytest.raises(Refused) as refused:
                open_dicom(data)
            assert refused.value.code == "too_large"
    monkeypatch.setattr(parse, "MAX_READS", 20)
    with pytest.raises(Refused):
        open_dicom(written(header()))
