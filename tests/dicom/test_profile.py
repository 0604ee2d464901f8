"""The Basic Profile of PS3.15 Annex E, held to MIDI-B's measure: required actions done right over those required."""

import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from medgan_ray.dicom import phantom
from medgan_ray.dicom.profile import EDITION, actions, deidentify, resolve
from medgan_ray.ingest.deidentify import SubjectKey

KEY = SubjectKey(b"k" * 16)
CANARY = "QXZCANARY"
PLANTED_UID = "1.2.826.0.1.3680043.2.1143.777123"
TEXT = ("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT")
# Written down apart from the library, so that a slip in its copy shows.
FROM_THE_STANDARD = {
    "AccessionNumber": "Z",
    "AcquisitionDate": "X/Z",
    "AcquisitionDateTime": "X/Z/D",
    "BurnedInAnnotation": None,
    "ContentDate": "Z/D",
    "ContentSequence": "D",
    "DeviceSerialNumber": "X/Z/D",
    "FrameOfReferenceUID": "U",
    "IconImageSequence": "X",
    "InstitutionName": "X/Z/D",
    "Manufacturer": None,
    "Modality": None,
    "OperatorsName": "X/Z/D",
    "PatientAddress": "X",
    "PatientAge": "X",
    "PatientBirthDate": "Z",
    "PatientID": "Z/D",
    "PatientName": "Z",
    "PatientSex": "Z",
    "PatientWeight": "X",
    "PixelData": None,
    "ProtocolName": "X/D",
    "ReferencedImageSequence": "X/Z/U*",
    "ReferringPhysicianName": "Z",
    "SOPClassUID": None,
    "SOPInstanceUID": "U",
    "SeriesDate": "X/D",
    "SeriesDescription": "X",
    "StationName": "X/Z/D",
    "StudyDate": "Z",
    "StudyDescription": "X",
    "StudyID": "Z",
    "StudyInstanceUID": "U",
}


def _planted(vr: str) -> Any:
    """Return a value that a person could be told by."""
    odd: dict[str, Any] = {
        "AS": "077Y", "DA": "19510607", "DS": "77.125", "DT": "19510607112233", "FD": 77.125, "FL": 77.125, "IS": "77",
        "SL": 77, "SS": 77, "TM": "112233", "UI": PLANTED_UID, "UL": 77, "US": 77, "UV": 77,
    }  # fmt: skip
    if vr in TEXT:
        return CANARY
    if vr == "SQ":
        item = Dataset()
        item.add_new(0x00100010, "PN", CANARY)
        item.add_new(0x0040A160, "UT", f"seen: {CANARY}")
        return [item]
    return odd.get(vr, CANARY.encode() + b"\0")


def _every_row() -> Dataset:
    """Return an object with a value in every attribute of the table that pydicom knows, at the top and nested."""
    holder = Dataset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in actions():
            if tag >> 16 > 2 and tag in DicomDictionary:
                vr = dictionary_VR(tag).split()[0]
                holder.add(DataElement(tag, vr, _planted(vr), validation_mode=0))
    return holder


def _done(element: DataElement | None, action: str, planted: Any, mapped: str) -> bool:
    """Say whether what is left of a planted attribute is what its action asks for; combinations allow several."""
    ways = {way.rstrip("*") for way in action.split("/")}
    if element is None:
        return "X" in ways
    if element.is_empty:
        return "Z" in ways
    if element.VR == "SQ":
        return ("D" in ways and CANARY not in str(element)) or ("U" in ways and CANARY not in str(element))
    if "U" in ways or element.VR == "UI":
        return element.value == mapped
    return bool({"D", "Z"} & ways) and element.value != planted and CANARY not in str(element.value)


@pytest.fixture(scope="module")
def mapped() -> str:
    source = Dataset()
    source.SOPInstanceUID = PLANTED_UID
    return str(deidentify(source, KEY).SOPInstanceUID)


def test_required_actions_are_done(mapped: str, capsys: pytest.CaptureFixture[str]):
    top, nested = Dataset(), _every_row()
    for element in _every_row():
        top.add(element)
    nested.PatientID = CANARY  # would be keyed at the top
    top.PerFrameFunctionalGroupsSequence = [nested]
    clean = deidentify(top, KEY)
    inner = clean.PerFrameFunctionalGroupsSequence[0]
    required = done = 0
    wrong = []
    for level, result in ((top, clean), (nested, inner)):
        for element in level:
            action = actions().get(int(element.tag))
            if action is None or element.keyword in ("PatientIdentityRemoved", "DeidentificationMethod"):
                continue
            if element.keyword == "LongitudinalTemporalInformationModified":
                continue
            required += 1
            good = _done(result.get(element.tag), action, element.value, mapped)
            done += good
            wrong += [] if good else [(element.keyword, action, result.get(element.tag))]
    required, done = required + 5, done + sum(_extras())
    with capsys.disabled():
        print(f"\n{done} of {required} required actions done right ({done / required:.2%})")
    assert required > 1200
    assert done / required >= 0.999, wrong[:10]


def _extras() -> list[bool]:
    """Return whether five requirements that are no rows are met."""
    source = Dataset()
    source.PatientName = f"{CANARY}^Jane"
    source.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", CANARY)
    source.add_new(0x60003000, "OW", CANARY.encode())
    source.add_new(0x60004000, "LT", CANARY)
    source.add_new(0x50003000, "OW", CANARY.encode())
    source.add_new(0x00081090, "LO", f"Scanner of {CANARY}")
    clean = deidentify(source, KEY)
    tags = [tag for tag in clean.keys() if tag.is_private]  # noqa: SIM118
    gone = [tag not in clean for tag in (0x60003000, 0x60004000, 0x50003000)]
    return [not tags, *gone, CANARY not in str(clean)]


def test_the_table_is_the_standards():
    assert len(actions()) > 640
    found = {word: actions().get(pydicom.datadict.tag_for_keyword(word) or 0) for word in FROM_THE_STANDARD}
    assert found == FROM_THE_STANDARD
    assert {resolve(action) for action in actions().values()} == {"D", "Z", "X", "U"}


def test_nothing_planted_is_in_the_written_bytes():
    source = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)
    for element in _every_row():
        source.add(element)
    source.SOPInstanceUID = source.StudyInstanceUID = PLANTED_UID
    source.file_meta.MediaStorageSOPInstanceUID = PLANTED_UID
    source.file_meta.SourceApplicationEntityTitle = CANARY
    source.preamble = CANARY.encode().ljust(128, b"\0")
    source.private_block(0x0029, "MAKER", create=True).add_new(1, "LO", CANARY)
    source.add_new(0x00104001, "LT", CANARY)  # unknown to the dictionary
    clean = deidentify(source, KEY)
    data = _written(clean)
    for planted in (CANARY, PLANTED_UID, "19510607", "112233", "77.125"):
        assert planted.encode() not in data, planted
    again = pydicom.dcmread(BytesIO(data))
    assert again.file_meta.MediaStorageSOPInstanceUID == again.SOPInstanceUID
    assert again.PixelData == source.PixelData and again.Rows == source.Rows


def _scan() -> Dataset:
    source = Dataset()
    source.file_meta = FileMetaDataset()
    source.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    source.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    source.SOPInstanceUID, source.StudyInstanceUID = f"{PLANTED_UID}.1", PLANTED_UID
    source.PatientID, source.Modality, source.StudyDate = "MRN77001", "CT", "20240229"
    source.PatientName, source.PatientBirthDate = "Doe^Jane", "19510607"
    source.Rows = source.Columns = 4
    source.BitsAllocated = source.BitsStored = 16
    source.HighBit, source.PixelRepresentation, source.SamplesPerPixel = 15, 0, 1
    source.PhotometricInterpretation = "MONOCHROME2"
    source.PixelData = np.arange(16, dtype="<u2").tobytes()
    return source


def _written(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def test_objects_that_belong_together_still_do():
    first, second, other = _scan(), _scan(), _scan()
    other.PatientID, other.StudyInstanceUID = "MRN77002", f"{PLANTED_UID}.9"
    reference = Dataset()
    reference.ReferencedSOPInstanceUID, reference.ReferencedSOPClassUID = first.SOPInstanceUID, first.SOPClassUID
    second.ReferencedImageSequence = [reference]
    a, b, c = (deidentify(source, KEY) for source in (first, second, other))
    assert a.PatientID == b.PatientID == KEY.hash("patient:MRN77001") != c.PatientID
    assert a.StudyInstanceUID == b.StudyInstanceUID != c.StudyInstanceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPInstanceUID == a.SOPInstanceUID != first.SOPInstanceUID
    assert b.ReferencedImageSequence[0].ReferencedSOPClassUID == a.SOPClassUID == first.SOPClassUID
    assert deidentify(first, SubjectKey(b"l" * 16)).SOPInstanceUID != a.SOPInstanceUID
    assert first.PatientName == "Doe^Jane"  # the source is as it was


def test_the_stamps_say_what_was_done():
    source = _scan()
    source.LongitudinalTemporalInformationModified = "UNMODIFIED"
    source.DeidentificationMethod = CANARY
    clean = deidentify(source, KEY)
    assert clean.PatientIdentityRemoved == "YES"
    assert EDITION in clean.DeidentificationMethod[0] and CANARY not in str(clean)
    assert [code.CodeValue for code in clean.DeidentificationMethodCodeSequence] == ["113100"]
    assert "LongitudinalTemporalInformationModified" not in clean and not clean.StudyDate


def test_kept_dates_move_by_one_patients_own_days():
    source, later = _scan(), _scan()
    later.StudyDate, later.AcquisitionDateTime, later.StudyTime = "20240310", "20240310101112.5+0100", "101112"
    later.add(DataElement(0x00080021, "DA", "Doe, Jane", validation_mode=0))
    a, b = deidentify(source, KEY, keep_dates=True), deidentify(later, KEY, keep_dates=True)
    days = [pydicom.valuerep.DA(str(each.StudyDate)) for each in (a, b)]
    assert (days[1] - days[0]).days == 10 and days[0] < pydicom.valuerep.DA("20240229")
    assert b.AcquisitionDateTime == f"{b.StudyDate}101112.5+0100" and b.StudyTime == "101112" and not b.SeriesDate
    assert not a.PatientBirthDate and a.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [code.CodeValue for code in a.DeidentificationMethodCodeSequence] == ["113100", "113107"]


def test_a_well_known_frame_of_reference_stays():
    source = _scan()
    source.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"
    assert deidentify(source, KEY).FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"


def test_encapsulated_pixels_are_written_as_they_were():
    source = _scan()
    source.file_meta.TransferSyntaxUID = JPEG2000Lossless
    source.PixelData = encapsulate([b"\xff\x4f\xff\x51" + bytes(12)])
    source["PixelData"].is_undefined_length = True
    again = pydicom.dcmread(BytesIO(_written(deidentify(source, KEY))))
    assert again.PixelData == source.PixelData and again.file_meta.TransferSyntaxUID == JPEG2000Lossless


def test_deep_nesting_and_broken_values_are_no_way_through():
    innermost = Dataset()
    innermost.PatientName = CANARY
    item = innermost
    for _ in range(100):
        outer = Dataset()
        outer.ReferencedImageSequence = [item]
        item = outer
    assert CANARY not in str(deidentify(item, KEY))
    broken = _scan()
    data = _written(broken).replace(b"CS\x02\x00CT", b"IS\x02\x00CT")  # a number that is none
    clean = deidentify(pydicom.dcmread(BytesIO(data)), KEY)
    assert "Modality" not in clean and clean.Rows == 4


@pytest.mark.parametrize("folder", ["ct_multi_patient"])
def test_real_headers_lose_every_uid_and_name(folder: str):
    from tests.conftest import shared_data

    for path in sorted(shared_data(folder).rglob("*.dcm"))[:6]:
        source = pydicom.dcmread(path)
        data = _written(deidentify(source, KEY))
        for keyword in ("PatientID", "PatientName", "StudyInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"):
            value = str(source.get(keyword, ""))
            assert len(value) < 4 or value.encode() not in data, keyword_for_tag(keyword)
