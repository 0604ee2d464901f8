"""NIfTI and NPZ: told by content, turned as radiology shows them, and never taken at their word."""

import gzip
import io
import struct
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medgan_ray.dicom import volumes
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.volumes import MAX_FRAMES, is_volume, read_volume

AFFINE = np.asarray([[2.0, 0, 0, -10], [0, 3, 0, -20], [0, 0, 4, -30], [0, 0, 0, 1]])


def nifti(values: np.ndarray, affine: np.ndarray = AFFINE, second: bool = False) -> bytes:
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    return kind(values, affine).to_bytes()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def refusal(data: bytes) -> str:
    with pytest.raises(Refused) as error:
        read_volume(data, Options())
    return error.value.code


@pytest.fixture
def values() -> np.ndarray:
    return np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)


def test_what_is_a_volume_shows_in_its_content(values: np.ndarray, tmp_path: Path) -> None:
    for data in (nifti(values), nifti(values, second=True), gzip.compress(nifti(values)), npz(image=values)):
        assert is_volume(data)
    zipped = io.BytesIO()
    for data in (b"", b"PK\x03\x04", gzip.compress(b"text"), b"\x1f\x8b broken", zipped.getvalue(), b"\x89PNG\r\n"):
        assert not is_volume(data)


@pytest.mark.parametrize("second", [False, True])
def test_slices_are_shown_as_radiology_does(values: np.ndarray, second: bool) -> None:
    scan = read_volume(gzip.compress(nifti(values, second=second)), Options())
    assert scan.values is not None and scan.values.dtype == np.int16 and scan.values.shape == (6, 5, 4)
    assert scan.values[2, 0, 0] == values[3, 4, 2]  # top left: the patient's front and right
    assert scan.values[2, 4, 3] == values[0, 0, 2]
    facts = scan.facts
    assert (facts.kind, facts.modality, facts.unit, facts.frames) == ("volume", "OT", "relative", 6)
    assert facts.orientations == ((1, 0, 0, 0, 1, 0),) * 6 and facts.spacings == ((3, 2),) * 6
    # Voxel (3, 4, k) lies at x = -10 + 6, y = -20 + 12; DICOM counts left and back as positive.
    assert facts.positions == tuple((4, 8, -30 + 4 * k) for k in range(6))
    assert facts.patient == facts.series != ""


def test_the_same_volume_stored_otherwise_is_read_the_same(values: np.ndarray) -> None:
    image = nibabel.Nifti1Image(values, AFFINE)
    first = read_volume(image.to_bytes(), Options())
    for codes in ("LPS", "PIR", "SAL"):
        turn = nibabel.orientations.ornt_transform(
            nibabel.orientations.io_orientation(AFFINE), nibabel.orientations.axcodes2ornt(tuple(codes))
        )
        other = read_volume(image.as_reoriented(turn).to_bytes(), Options())
        assert np.array_equal(first.values, other.values)
        assert np.allclose(first.facts.positions, other.facts.positions)
        assert np.allclose(first.facts.orientations, other.facts.orientations)


def test_time_scale_and_missing_values(values: np.ndarray) -> None:
    image = nibabel.Nifti1Image(np.stack([values, values + 7], axis=3), AFFINE)
    image.header.set_slope_inter(2, -1024)
    data = bytearray(image.to_bytes())
    struct.pack_into("<ff", data, 112, 2, -1024)
    stored = np.asanyarray(nibabel.Nifti1Image.from_bytes(bytes(data)).dataobj.get_unscaled())
    scan = read_volume(bytes(data), Options())
    assert scan.values is not None and scan.values.shape == (12, 5, 4)
    assert scan.values[6, 0, 0] == stored[3, 4, 0, 1] * 2.0 - 1024
    assert scan.facts.positions[6] == scan.facts.positions[0]
    holes = values.astype(np.float32)
    holes[0, 0, 0] = np.nan
    read = read_volume(nifti(holes), Options()).values
    assert read is not None and np.isfinite(read).all() and read.min() == 1 == read[0, 4, 3]
    assert refusal(nifti(np.full((3, 3, 3), np.nan, np.float32))) == "unsupported_pixels"


def test_one_slice_and_one_array(values: np.ndarray) -> None:
    flat = read_volume(nifti(values[:, :, 0]), Options()).values
    assert flat is not None and flat.shape == (1, 5, 4)
    for array, shape in ((values, (4, 5, 6)), (values[0], (1, 5, 6)), (values[None], (4, 5, 6))):
        scan = read_volume(npz(other=np.zeros(3), image=array), Options())
        assert scan.values is not None and np.array_equal(scan.values, array.reshape(shape))
        assert scan.facts.spacings == ()
    assert np.array_equal(read_volume(npz(words=np.zeros(3), scan=values), Options()).values, values)  # type: ignore[arg-type]
    assert read_volume(npz(scan=values), Options(inspect=True)).facts.stored_sha256
    assert read_volume(npz(scan=np.asfortranarray(values) > 9), Options()).values.dtype == np.uint8  # type: ignore[union-attr]


def test_lies_are_found_before_anything_is_allocated(values: np.ndarray) -> None:
    data = bytearray(nifti(values))
    for dims, code in (((3, 4, 5, 600), "truncated_pixels"), ((3, 30000, 30000, 30000), "too_large")):
        struct.pack_into("<8h", data, 40, *dims, *([1] * (8 - len(dims))))
        assert refusal(bytes(data)) == code
        assert refusal(gzip.compress(bytes(data))) == code
    assert refusal(gzip.compress(nifti(values))[:-40]) == "truncated_pixels"
    assert refusal(nifti(np.zeros((2, 2, 2), np.complex64))) == "unsupported_pixels"
    data = bytearray(nifti(values))
    struct.pack_into("<12f", data, 280, *np.diag([1.0, 0, 1, 1])[:3].ravel())
    assert refusal(bytes(data)) == "broken_header"
    for vast in (np.diag([1e30, 1e-9, 1, 1]), np.diag([1e-9, 1, 1e9, 1]), np.diag([1e4, 1, 1, 1])):
        assert refusal(nifti(values, vast)) == "broken_header"
    assert refusal(nifti(np.full((3, 3, 3), 3e38, np.float32))) == "unsupported_pixels"
    data = bytearray(nifti(values))
    struct.pack_into("<f", data, 108, -5)
    assert refusal(bytes(data)) == "broken_header"


def test_an_npz_that_lies_or_holds_objects_is_refused(values: np.ndarray) -> None:
    assert refusal(npz(image=np.asarray([[{}]], object))) == "unsupported_pixels"
    assert refusal(npz(image=np.zeros(3))) == "unsupported_pixels"
    assert refusal(npz(text=np.zeros(3))) == "no_pixels"
    assert refusal(npz(image=values)[:-30]) == "broken_header"
    assert refusal(npz(image=np.zeros((MAX_FRAMES + 1, 1, 1), np.uint8))) == "too_large"
    plain = io.BytesIO()
    np.savez(plain, image=values)
    assert refusal(plain.getvalue().replace(b"(4, 5, 6)", b"(4, 5, 9)")) in ("truncated_pixels", "broken_header")
    assert refusal(plain.getvalue().replace(b"(4, 5, 6)", b"(99999,9)")) in ("truncated_pixels", "broken_header")


def test_parts_and_members_are_counted_before_they_are_read(
    values: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = nifti(values)
    parts = b"".join(gzip.compress(image[start : start + 50]) for start in range(0, len(image), 50))
    plain = read_volume(image, Options()).values
    assert plain is not None and np.array_equal(read_volume(parts, Options()).values, plain)  # type: ignore[arg-type]
    monkeypatch.setattr(volumes, "MAX_GZIP_MEMBERS", 5)
    assert refusal(parts) == "too_large"
    monkeypatch.setattr(volumes, "MAX_MEMBERS", 1)
    assert refusal(npz(image=values, other=values)) == "too_large"
