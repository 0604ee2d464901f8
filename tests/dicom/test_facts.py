"""Facts: the allow-listed few, through JSON and back; broken values are missing ones."""

import json

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Facts, gather
from medgan_ray.dicom.refusals import Refused


def header() -> Dataset:
    return phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)


def test_survive_json() -> None:
    facts = gather(header())
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts
    assert facts.spacings == ((7.5, 7.5),)
    assert (facts.sex, facts.age_years, facts.patient) == ("F", 20, "PHANTOM-0000")


@pytest.mark.parametrize(("age", "years"), [("036Y", 36), ("018M", 1), ("003W", 0), ("36", -1), ("", -1), ("abcY", -1)])
@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_ages(age: str, years: int) -> None:
    dataset = header()
    dataset.PatientAge = age
    assert gather(dataset).age_years == years


@pytest.mark.filterwarnings("ignore:Invalid value for VR")
def test_geometry_that_is_no_number_is_missing() -> None:
    dataset = header()
    dataset.ImagePositionPatient = ["1", "2", "nan"]
    dataset.PixelSpacing = [1]
    facts = gather(dataset)
    assert (facts.positions, facts.spacings) == ((), ())


def test_an_empty_header_has_defaults_and_a_broken_one_a_code() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert gather(dataset).rows == 0
    dataset.add_new("Rows", "LO", "many")
    with pytest.raises(Refused) as refused:
        gather(dataset)
    assert refused.value.code == "broken_header"
