"""Generated DICOM: valid, marked synthetic, and the same values when read back."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.provenance import Provenance, SeriesIds
from medgan_ray.dicom.read import read_scan
from medgan_ray.dicom.write import Rescale, secondary_capture
from medgan_ray.errors import InputError
from tests.dicom.validators import check_dcmtk, complaints

IMAGE = np.random.default_rng(0).integers(0, 65536, (24, 32)).astype(np.uint16)
SOFT = Rescale(400 / 65535, -160, "HU")


def write(rescale: Rescale = SOFT, modality: str = "CT", **changes: object) -> bytes:
    low, high = rescale.intercept, rescale.intercept + 65535 * rescale.slope
    settings = {
        "modality": modality,
        "rescale": rescale,
        "window": ((low + high) / 2, high - low),
        "spacing": (3.5, 3.25),
        "provenance": Provenance("heads@3", "ab" * 32, 7, 4, "lesion"),
        "series": SeriesIds.fresh(),
    } | changes
    return secondary_capture(IMAGE, **settings)  # type: ignore[arg-type]


def test_reads_back_in_hounsfield_units() -> None:
    scan = read_scan(write(), Options(secondary=True))
    assert scan.values is not None
    assert scan.facts.unit == "HU"
    assert np.abs(scan.values[0] - (IMAGE * (400 / 65535) - 160)).max() < 0.01
    assert scan.facts.spacings == ((3.5, 3.25),)


def test_is_marked_synthetic_with_provenance() -> None:
    dataset = pydicom.dcmread(io.BytesIO(write()))
    assert (dataset.SyntheticData, list(dataset.ImageType)) == ("YES", ["DERIVED", "SECONDARY"])
    assert (dataset.BurnedInAnnotation, dataset.PatientIdentityRemoved) == ("NO", "YES")
    equipment = dataset.ContributingEquipmentSequence[0]
    assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
    for word in ("heads@3", "ab" * 32, "seed=7", "index=4", "label=lesion"):
        assert word in equipment.ContributionDescription


def test_uids_are_fresh_but_shared_within_a_series() -> None:
    ids = SeriesIds.fresh()
    a, b, c = (pydicom.dcmread(io.BytesIO(write(series=series))) for series in (ids, ids, SeriesIds.fresh()))
    assert a.SeriesInstanceUID == b.SeriesInstanceUID != c.SeriesInstanceUID
    assert len({a.SOPInstanceUID, b.SOPInstanceUID, c.SOPInstanceUID}) == 3
    assert all(item.SOPInstanceUID.startswith("2.25.") for item in (a, b, c))
    assert (a.StudyInstanceUID, a.StudyDate, a.StudyTime) == (b.StudyInstanceUID, b.StudyDate, b.StudyTime)


def test_values_without_a_unit_keep_their_display_window() -> None:
    dataset = pydicom.dcmread(io.BytesIO(write(Rescale(1 / 65535, 0, "relative"), "MR", spacing=None)))
    assert (dataset.RescaleSlope, dataset.RescaleType) == (1, "US")
    assert (dataset.WindowCenter, dataset.WindowWidth) == pytest.approx((32767.5, 65535))
    assert "PixelSpacing" not in dataset


def test_refuses_other_arrays() -> None:
    with pytest.raises(InputError, match="uint16"):
        secondary_capture(
            IMAGE.astype(np.float32),  # type: ignore[arg-type]
            modality="CT", rescale=SOFT, window=(40, 400), spacing=None,
            provenance=Provenance("m", "", 0, 0), series=SeriesIds.fresh(),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "modality", "spacing"),
    [("HU", "CT", (3.5, 3.5)), ("relative", "MR", None), ("grey", "OT", None), ("voi", "CR", (1.0, 0.5))],
)
def test_valid_by_other_peoples_tools(
    tmp_path: Path, unit: str, modality: str, spacing: tuple[float, float] | None
) -> None:
    """The only complaint is that the tool is older than Synthetic Data (0008,001C)."""
    path = tmp_path / "a.dcm"
    path.write_bytes(write(Rescale(400 / 65535, -160, unit), modality, spacing=spacing))
    assert complaints(path, "SCImage") == []
    check_dcmtk(path, tmp_path)
