"""Reading: the stored values of every reader that agrees, a named reason for all else."""

import hashlib
import io
import struct
from collections.abc import Callable

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset

from medgan_ray.dicom import phantom, read
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.read import Scan, read_scan
from medgan_ray.dicom.refusals import Refused


def scan_with(change: Callable[[Dataset], None], kind: str = "ct", options: Options | None = None) -> Scan:
    """Read a 16 px phantom after ``change`` was made to its header."""
    dataset = phantom.to_dicom(next(phantom.draw(kind, 1, 1, 16, 0)), 0)
    change(dataset)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return read_scan(buffer.getvalue(), options or Options())


def values_of(scan: Scan) -> NDArray[np.float64]:
    assert scan.values is not None
    return scan.values[0].astype(float)


def png(values: NDArray[np.uint8 | np.uint16], form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, form)
    return buffer.getvalue()


def test_ct_is_in_hounsfield_units() -> None:
    drawn = next(phantom.draw("ct", 1, 1, 32, 0))
    scan = read_scan(phantom.encode(drawn, 0), Options())
    assert scan.facts.unit == "HU"
    np.testing.assert_array_equal(values_of(scan), np.rint(drawn.values).clip(-1024, 3071))


def test_stored_hash_is_of_the_values_before_any_rescale() -> None:
    drawn = next(phantom.draw("ct", 1, 1, 32, 0))
    stored = (np.rint(drawn.values) + 1024).clip(0, 4095).astype("<u2")
    facts = read_scan(phantom.encode(drawn, 0), Options(inspect=True)).facts
    assert facts.stored_sha256 == hashlib.sha256(stored.tobytes()).hexdigest()


def test_padding_becomes_air() -> None:
    def pad(dataset: Dataset) -> None:
        stored = np.frombuffer(dataset.PixelData, "<u2").copy()
        stored[:8] = 63
        dataset.PixelData, dataset.PixelPaddingValue = stored.tobytes(), 63

    assert (values_of(scan_with(pad))[0, :8] == -1000).all()


def test_modality_lut_stands_in_for_rescale() -> None:
    plain, looked_up = values_of(scan_with(lambda _: None, "mr")), values_of(scan_with(_with_table, "mr"))
    np.testing.assert_array_equal(looked_up, plain + 100)


def _with_table(dataset: Dataset) -> None:
    item = Dataset()
    item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 16], "US"
    item.LUTData = np.arange(100, 4196, dtype="<u2").tobytes()
    dataset.ModalityLUTSequence = [item]


def test_monochrome1_is_inverted_after_the_window() -> None:
    def invert(dataset: Dataset) -> None:
        dataset.PhotometricInterpretation = "MONOCHROME1"

    plain, inverted = values_of(scan_with(lambda _: None, "xray")), values_of(scan_with(invert, "xray"))
    assert scan_with(invert, "xray").facts.unit == "voi"
    np.testing.assert_allclose(inverted, 1 - plain, atol=1e-6)


def test_a_frame_has_its_own_rescale_and_position() -> None:
    def enhance(dataset: Dataset) -> None:
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.NumberOfFrames, dataset.PixelData = 2, dataset.PixelData * 2
        groups = []
        for index in range(2):
            rescale, place, group = Dataset(), Dataset(), Dataset()
            rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -1024 - 10 * index, "HU"
            place.ImagePositionPatient = [0, 0, 5 * index]
            group.PixelValueTransformationSequence, group.PlanePositionSequence = [rescale], [place]
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = groups

    scan = scan_with(enhance)
    assert scan.values is not None
    np.testing.assert_array_equal(scan.values[0] - 10, scan.values[1])
    assert scan.facts.positions == ((0, 0, 0), (0, 0, 5))


@pytest.mark.parametrize(
    ("keyword", "value", "code"),
    [
        ("Rows", 4000, "truncated_pixels"),
        ("Rows", 0, "broken_header"),
        ("NumberOfFrames", 10**7, "too_large"),
        ("BitsAllocated", 13, "undecodable"),
        ("PhotometricInterpretation", "PALETTE COLOR", "color"),
        ("PhotometricInterpretation", "HSV", "unsupported_pixels"),
        ("PixelRepresentation", None, "broken_header"),
        ("ImageType", ["DERIVED", "PRIMARY", "AXIAL", "MIP"], "derived"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.66.4", "not_a_scan"),
        ("SOPClassUID", "1.2.840.10008.5.1.4.1.1.7", "secondary_capture"),
        ("BurnedInAnnotation", "YES", "burned_in"),
        ("RescaleSlope", None, "no_rescale"),
        ("PixelData", None, "no_pixels"),
    ],
)
def test_refuses_with_a_code(keyword: str, value: object, code: str) -> None:
    with pytest.raises(Refused) as refused:
        scan_with(lambda dataset: delattr(dataset, keyword) if value is None else setattr(dataset, keyword, value))
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty_file"),
        (b"file,label\n", "not_an_image"),
        (bytes(128) + b"DICM", "broken_header"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "not_an_image"),
        (png(np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8))[:2000], "undecodable"),
        (png(np.random.default_rng(0).integers(0, 255, (9, 9, 3)).astype(np.uint8)), "color"),
        # A picture of four gigapixels in 60 bytes.
        (png(np.zeros((9, 9), np.uint8))[:16] + struct.pack(">II", 65535, 65535) + bytes(40), "not_an_image"),
    ],
)
def test_refuses_other_bytes_with_a_code(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as refused:
        read_scan(data, Options())
    assert refused.value.code == code


def test_color_gives_its_luma_when_asked() -> None:
    color = np.zeros((8, 8, 3), np.uint8)
    color[..., 0], color[..., 1] = 200, 100
    scan = read_scan(png(color), Options(luma=True))
    assert (values_of(scan) == round(0.299 * 200 + 0.587 * 100)).all()


def test_grey_saved_as_color_is_grey() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 3
    scan = read_scan(png(np.repeat(grey[..., None], 3, axis=2)), Options())
    np.testing.assert_array_equal(values_of(scan), grey)


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_pictures_keep_16_bits(form: str) -> None:
    values = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    scan = read_scan(png(values, form), Options())
    assert scan.values is not None and scan.values.dtype == np.uint16
    np.testing.assert_array_equal(scan.values[0], values)


def test_big_endian_values_are_those_of_little_endian() -> None:
    dataset = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 16, 0)), 0)
    expected = values_of(scan_with(lambda _: None))
    dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRBigEndian
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=False, enforce_file_format=True)
    np.testing.assert_array_equal(values_of(read_scan(buffer.getvalue(), Options())), expected)


def test_pictures_in_other_byte_orders_and_color_spaces() -> None:
    grey = (np.arange(64 * 64, dtype=np.uint16) * 16).reshape(64, 64)
    buffer = io.BytesIO()
    Image.frombytes("I;16B", (64, 64), grey.astype(">u2").tobytes()).save(buffer, "TIFF")
    np.testing.assert_array_equal(values_of(read_scan(buffer.getvalue(), Options())), grey)
    ink = Image.fromarray((grey >> 8).astype(np.uint8)).convert("RGB").convert("CMYK")
    buffer = io.BytesIO()
    ink.save(buffer, "TIFF")
    np.testing.assert_array_equal(values_of(read_scan(buffer.getvalue(), Options())), grey >> 8)


def test_frames_of_one_file_that_names_nobody_belong_together() -> None:
    pages = [Image.fromarray(np.full((9, 9), shade, np.uint8)) for shade in (1, 2)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    assert len(read_scan(buffer.getvalue(), Options()).facts.series) == 64
    assert read_scan(png(np.zeros((9, 9), np.uint8)), Options()).facts.series == ""


def test_looking_only_names_the_verdict() -> None:
    scan = scan_with(lambda dataset: setattr(dataset, "BurnedInAnnotation", "YES"), options=Options(inspect=True))
    assert (scan.facts.verdict, len(scan.facts.stored_sha256)) == ("burned_in", 64)


def test_pages_of_a_tiff_are_frames_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [Image.fromarray(np.full((8, 8), index, np.uint8)) for index in range(5)]
    buffer = io.BytesIO()
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:])
    scan = read_scan(buffer.getvalue(), Options())
    assert scan.values is not None and scan.facts.frames == 5
    assert scan.values[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    monkeypatch.setattr(read, "MAX_PICTURE_FRAMES", 4)
    with pytest.raises(Refused) as refused:
        read_scan(buffer.getvalue(), Options())
    assert refused.value.code == "too_large"


def test_what_is_refused_anyway_lists_no_places_of_frames_that_are_only_claimed() -> None:
    def claim(dataset: Dataset) -> None:
        dataset.NumberOfFrames, dataset.BurnedInAnnotation = 65535, "YES"

    facts = scan_with(claim, options=Options(inspect=True)).facts
    assert (facts.verdict, facts.positions, facts.stored_sha256) == ("burned_in", (), "")
