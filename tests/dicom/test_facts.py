"""Facts: the allow-listed few, through JSON and back; broken values are missing ones."""

import json

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import MAX_FRAMES, Facts, Options, gather, header_verdict
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


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImagePositionPatient", ["1e308", "1e308", "1e308"]),
        ("ImageOrientationPatient", ["1e308", "0", "0", "0", "1", "0"]),
        ("ImageOrientationPatient", ["0"] * 6),
        ("PixelSpacing", ["1e-300", "1e300"]),
        ("PixelSpacing", ["0", "1"]),
    ],
)
def test_geometry_that_no_scanner_has_is_missing(keyword: str, value: list[str]) -> None:
    """What reckons with it, in the parent, must neither overflow nor divide by zero."""
    dataset, names = header(), {"ImagePositionPatient": "positions", "ImageOrientationPatient": "orientations"}
    name = names.get(keyword, "spacings")
    assert getattr(gather(dataset), name)
    setattr(dataset, keyword, value)
    assert getattr(gather(dataset), name) == ()


def test_an_empty_header_has_defaults_and_a_broken_one_a_code() -> None:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    assert gather(dataset).rows == 0
    dataset.add_new("Rows", "LO", "many")
    with pytest.raises(Refused) as refused:
        gather(dataset)
    assert refused.value.code == "broken_header"


def test_tilt_where_the_header_has_it() -> None:
    dataset = header()
    assert gather(dataset).tilt_degrees is None
    dataset.GantryDetectorTilt = "-18.5"
    facts = gather(dataset)
    assert facts.tilt_degrees == -18.5
    assert Facts.from_json(json.loads(json.dumps(facts.to_json()))) == facts


@pytest.mark.parametrize(
    ("image_type", "code"),
    [
        (["ORIGINAL", "PRIMARY", "AXIAL"], ""),
        (["DERIVED", "PRIMARY", "AXIAL"], ""),
        (["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"], ""),
        (["DERIVED", "SECONDARY", "MPR", "CSA MPR"], ""),
        (["DERIVED", "PRIMARY", "AXIAL", "MIP"], "derived"),
        (["DERIVED", "PRIMARY", "PROJECTION IMAGE"], "derived"),
        (["DERIVED", "SECONDARY", "SCREEN SAVE"], "derived"),
        (["DERIVED", "PRIMARY", "PERFUSION", "RCBF"], "derived"),
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
    ],
)
def test_derived_is_refused_only_where_it_is_another_kind_of_image(image_type: list[str], code: str) -> None:
    dataset = header()
    dataset.ImageType = image_type
    assert header_verdict(dataset, gather(dataset), Options()) == code
    expected = code if code == "localizer" else ""
    assert header_verdict(dataset, gather(dataset), Options(derived=True)) == expected


def test_renderings_name_their_technique() -> None:
    dataset = header()
    dataset.VolumeBasedCalculationTechnique = "VOLUME_RENDER"
    assert header_verdict(dataset, gather(dataset), Options()) == "derived"


def test_descriptions_never_leave() -> None:
    """Of free text that people type, nothing is among the facts."""
    dataset = header()
    for keyword in ("SeriesDescription", "StudyDescription", "PatientComments", "ProtocolName", "InstitutionName"):
        setattr(dataset, keyword, "canary")
    assert "canary" not in json.dumps(gather(dataset).to_json())


def test_frames_that_are_only_claimed_cost_nothing() -> None:
    dataset = header()
    dataset.NumberOfFrames = 10**9
    group, place = Dataset(), Dataset()
    place.ImagePositionPatient = [0, 0, 1]
    group.PlanePositionSequence = [place]
    dataset.PerFrameFunctionalGroupsSequence = [group]
    facts = gather(dataset)
    assert len(facts.positions) == MAX_FRAMES
    assert facts.positions[0] == (0, 0, 1)
    assert facts.positions[1] == facts.positions[-1] != (0, 0, 1)


def test_a_negative_number_of_frames_has_no_places() -> None:
    dataset = header()
    dataset.NumberOfFrames = -(10**30)
    assert gather(dataset).positions == ()
