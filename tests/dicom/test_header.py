"""What may pass from a source's header: numbers and the standard's own codes, and identifiers only to be hashed."""

import io
from collections.abc import Callable
from typing import Any

import pydicom
import pytest
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Options, gather
from medgan_ray.dicom.header import SliceHeader, gather_slices
from medgan_ray.dicom.read import read_scan
from tests.canaries import CANARY, PLANTED, fill


def source(change: Callable[[Dataset], None] = lambda _: None, kind: str = "ct") -> Dataset:
    dataset = phantom.to_dicom(next(phantom.draw(kind, 1, 1, 32, 0)), 0)
    dataset.WindowCenter, dataset.WindowWidth = [40, 300], [80, 1500]
    change(dataset)
    return dataset


def header_of(dataset: Dataset) -> SliceHeader:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return read_scan(buffer.getvalue(), Options(headers=True)).slices[0]


def test_geometry_window_and_codes_pass() -> None:
    header = header_of(source())
    assert header.numbers["PixelSpacing"] == (7.5, 7.5)
    assert header.numbers["ImagePositionPatient"] == (-120, -120, 0)
    assert (header.numbers["WindowCenter"], header.numbers["WindowWidth"]) == ((40, 300), (80, 1500))
    assert (header.codes["BodyPartExamined"], header.codes["PatientPosition"]) == ("HEAD", "HFS")
    assert (header.rows, header.columns, header.frame, header.patient) == (32, 32, 0, "PHANTOM-0000")


def test_headers_come_only_where_asked_for() -> None:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, source(), enforce_file_format=True)
    assert read_scan(buffer.getvalue(), Options()).slices == ()


def test_no_text_passes() -> None:
    """A word in a code's place is no code, also where no name in the header repeats it."""

    def change(dataset: Dataset) -> None:
        dataset.BodyPartExamined, dataset.PatientPosition = "JANE DOE", "JANE"
        dataset.VOILUTFunction, dataset.LossyImageCompression = "JANE", "JANE"
        dataset.add(DataElement(0x00180050, "LO", "Jane", validation_mode=0))
        dataset.add(DataElement(0x00200012, "LO", "1e300", validation_mode=0))

    header = header_of(source(change))
    assert "JANE" not in str(header).upper()
    assert not {"SliceThickness", "AcquisitionNumber"} & set(header.numbers) and "PatientPosition" not in header.codes


def test_of_a_header_full_of_canaries_only_identifiers_are_left() -> None:
    dataset = source(lambda dataset: fill(dataset, 7, 0x4FFF))
    header = gather_slices(dataset, gather(dataset), len(dataset.PixelData))[0]
    identifiers = ("patient", "study", "series", "instance", "frame_of_reference")
    assert all(any(word in getattr(header, name) for word in PLANTED) for name in identifiers)
    rest = {name: value for name, value in header.to_json().items() if name not in identifiers}
    assert not any(word in str(rest) for word in PLANTED)


def test_windows_of_turned_values_are_left_out() -> None:
    header = header_of(source(lambda dataset: setattr(dataset, "PhotometricInterpretation", "MONOCHROME1")))
    assert not {"WindowCenter", "WindowWidth"} & set(header.numbers)


@pytest.mark.parametrize(
    ("syntax", "stated", "expected"),
    [
        ("1.2.840.10008.1.2.1", None, None),
        ("1.2.840.10008.1.2.4.51", "00", ("01", "ISO_10918_1", (4.0,))),
        ("1.2.840.10008.1.2.4.91", None, ("01", "ISO_15444_1", (4.0,))),
        ("1.2.840.10008.1.2.4.91", "00", ("00", None, None)),  # it may be reversible
        ("1.2.840.10008.1.2.1", "01", ("01", None, None)),
    ],
)
def test_loss_is_told_by_header_or_transfer_syntax(
    syntax: str, stated: str | None, expected: tuple[Any, ...] | None
) -> None:
    dataset = source()
    if stated:
        dataset.LossyImageCompression = stated
    facts = gather(dataset).replace(transfer_syntax=syntax)
    header = gather_slices(dataset, facts, 32 * 32 * 2 // 4)[0]
    found = [header.codes.get(f"LossyImageCompression{part}") for part in ("", "Method")]
    ratio = header.numbers.get("LossyImageCompressionRatio")
    assert (*found, ratio) == (expected or (None, None, None))


def test_a_reply_is_held_against_the_lists() -> None:
    """The process may have been taken over: what it sends is written only if it could have been sent rightly."""
    good = header_of(source()).to_json()
    assert SliceHeader.from_json(good).to_json() == good
    bad: list[dict[str, Any]] = [
        {"numbers": {"PatientWeight": [70.0]}},
        {"numbers": {"PixelSpacing": [1.0]}},
        {"numbers": {"SliceThickness": [float("nan")]}},
        {"numbers": {"SeriesNumber": [1e300]}},
        {"numbers": {"SeriesNumber": [1.5]}},
        {"codes": {"BodyPartExamined": CANARY}},
        {"codes": {"PatientName": CANARY}},
        {"codes": ["HEAD"]},
        {"rows": "32"},
        {"study": None},
        {"patient": ["a"]},
        {"more": 1},
    ]
    for change in bad:
        with pytest.raises((ValueError, TypeError, KeyError)):
            SliceHeader.from_json({**good, **change})
