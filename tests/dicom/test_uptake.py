"""Standardized uptake values: the standard's arithmetic, and a reason where the header lacks a part of it."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.read import read_scan
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.uptake import suv_factor


def pet() -> Dataset:
    """Return the header of a scan one half-life after 200 MBq were given to 70 kg."""
    dataset, isotope = Dataset(), Dataset()
    dataset.Modality, dataset.Units, dataset.DecayCorrection, dataset.PatientWeight = "PT", "BQML", "START", "70"
    dataset.CorrectedImage = ["ATTN", "DECY", "SCAT"]
    dataset.SeriesDate, dataset.SeriesTime = "20240101", "114948"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240101", "115500.5"
    isotope.RadiopharmaceuticalStartTime, isotope.RadionuclideHalfLife = "100000.00", "6588"
    isotope.RadionuclideTotalDose = "200000000"
    dataset.RadiopharmaceuticalInformationSequence = [isotope]
    return dataset


def test_half_the_dose_is_left_after_a_half_life() -> None:
    assert suv_factor(pet()) == pytest.approx(70_000 / 100_000_000)


def test_a_dose_given_before_midnight() -> None:
    dataset = pet()
    dataset.SeriesTime, dataset.AcquisitionTime = "004948", "005000"
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "230000"
    assert suv_factor(dataset) == pytest.approx(70_000 / 100_000_000)


def test_values_corrected_to_the_injection_and_ready_ones() -> None:
    dataset = pet()
    dataset.DecayCorrection = "ADMIN"
    assert suv_factor(dataset) == pytest.approx(70_000 / 200_000_000)
    dataset.Units = "GML"
    assert suv_factor(dataset) == 1


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("Units", "CNTS"),
        ("PatientWeight", "0"),
        ("PatientWeight", None),
        ("CorrectedImage", ["ATTN"]),
        ("DecayCorrection", "NONE"),
        ("SeriesTime", ""),
        ("SeriesDate", "20240105"),
        ("RadiopharmaceuticalInformationSequence", None),
        ("RadiopharmaceuticalStartTime", "noon"),
        ("RadionuclideHalfLife", "0"),
        ("RadionuclideTotalDose", None),
        ("RadionuclideTotalDose", "1e-300"),
        ("PatientWeight", "1e300"),
    ],
)
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_what_is_missing_is_named(keyword: str, value: object) -> None:
    dataset = pet()
    holder = dataset if keyword in dataset else dataset.RadiopharmaceuticalInformationSequence[0]
    setattr(holder, keyword, value)
    with pytest.raises(Refused) as refused:
        suv_factor(dataset)
    assert refused.value.code == "no_suv"


def test_each_slice_has_its_own_slope() -> None:
    values = []
    for slope in ("1", "2.5"):
        dataset = phantom.to_dicom(next(phantom.draw("mr", 1, 1, 16, 0)), 0)
        dataset.update(pet())
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, "0"
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        scan = read_scan(buffer.getvalue(), Options())
        assert scan.facts.unit == "SUV" and scan.values is not None
        values.append(scan.values)
    np.testing.assert_allclose(values[1], 2.5 * values[0], rtol=1e-6)


def test_a_real_scan_has_plausible_uptake(dicom_corpus: Path) -> None:
    scan = read_scan((dicom_corpus / "orthanc__pt_anonymized.dcm").read_bytes(), Options())
    assert scan.facts.unit == "SUV" and scan.values is not None
    assert scan.values.min() >= 0 and 0.5 < scan.values.max() < 60
