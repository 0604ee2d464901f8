"""Translated series: CT and MR objects in the place of their source, of nobody, valid by other people's tools."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.header import SliceHeader
from medgan_ray.dicom.objects import CLASSES, translated_series
from medgan_ray.dicom.profile import keyed_uid
from medgan_ray.dicom.provenance import Provenance
from medgan_ray.dicom.read import Scan, read_scan
from medgan_ray.dicom.sandbox import Outcome, Source, decode
from medgan_ray.errors import InputError
from medgan_ray.ingest.deidentify import SubjectKey
from tests.canaries import CANARY, PLANTED, UID, fill
from tests.conftest import shared_data
from tests.dicom.validators import check_dcmtk, complaints

KEY = SubjectKey(b"k" * 16)
MADE = Provenance("heads@3", "ab" * 32, 7, 0)
Values = NDArray[np.float32]
SERIES = ["ct_series/abdomen", "ct_series/head_gantry_tilt", "mr_pairs/set4_*_in.dcm", "phantom/ct", "phantom/mr"]


def read(paths: Sequence[Path]) -> list[Outcome]:
    """Read as it is done with files of others: in the sandbox."""
    sources = [Source(path.name, path=str(path)) for path in paths]
    outcomes = list(decode(sources, 1, options=Options(headers=True)))
    assert not [outcome.refusal for outcome in outcomes if outcome.refusal]
    return outcomes


def own(paths: Sequence[Path]) -> list[Scan]:
    """Read files of these tests, without the wait for a process."""
    return [read_scan(path.read_bytes(), Options(headers=True)) for path in paths]


def source_of(scans: Sequence[Outcome] | Sequence[Scan]) -> tuple[list[SliceHeader], Values]:
    values = [scan.values for scan in scans if scan.values is not None]
    return [header for scan in scans for header in scan.slices], np.concatenate(values).astype(np.float32)


def phantoms(kind: str, folder: Path, change: Callable[[Dataset], None] = lambda _: None) -> list[Path]:
    paths = []
    for each in phantom.draw(kind, 1, 4, 32, 0):
        dataset = phantom.to_dicom(each, 0)
        change(dataset)
        paths.append(folder / each.name)
        pydicom.dcmwrite(paths[-1], dataset, enforce_file_format=True)
    return paths


def paths_of(name: str, folder: Path) -> list[Path]:
    kind, _, rest = name.partition("/")
    if kind == "phantom":
        return phantoms(rest, folder)
    found = shared_data(kind)
    return sorted(found.glob(rest if "*" in rest else f"{rest}/*.dcm"))[:5]


def write(source: Sequence[SliceHeader], values: Values, folder: Path) -> list[Path]:
    paths = [folder / f"written-{index:03d}.dcm" for index in range(len(source))]
    for path, data in zip(paths, translated_series(source, values, MADE, KEY), strict=True):
        path.write_bytes(data)
    return paths


def opened(source: Sequence[SliceHeader], values: Values) -> list[Dataset]:
    return [pydicom.dcmread(io.BytesIO(data)) for data in translated_series(source, values, MADE, KEY)]


@pytest.fixture
def ct(tmp_path: Path) -> tuple[list[SliceHeader], Values]:
    return source_of(own(phantoms("ct", tmp_path)))


@pytest.mark.parametrize("name", SERIES)
def test_a_series_comes_back_with_its_values_where_it_was(name: str, tmp_path: Path) -> None:
    before = read(paths_of(name, tmp_path))
    source, values = source_of(before)
    values = np.asarray(values * 0.93 + 1.3, np.float32)
    paths = write(source, values, tmp_path)
    after = own(paths)
    found = np.stack([outcome.values[0] for outcome in after if outcome.values is not None])
    assert np.abs(found - values).max() <= 0.5001
    for old, new in zip(before, after, strict=True):
        assert old.facts is not None and new.facts is not None
        assert (new.facts.unit, new.facts.sop_class) == (old.facts.unit, old.facts.sop_class)
        for geometry in ("positions", "orientations", "spacings"):
            np.testing.assert_allclose(getattr(new.facts, geometry), getattr(old.facts, geometry), atol=1e-9)
        for attribute in ("SliceThickness", "WindowCenter", "WindowWidth"):
            assert new.slices[0].numbers.get(attribute) == old.slices[0].numbers.get(attribute)
    kind = "CTImage" if "ct" in name else "MRImage"
    assert [complaints(path, kind) for path in paths] == [[]] * len(paths)
    check_dcmtk(paths[0], tmp_path)


def test_one_new_series_in_the_study_as_it_is_deidentified(ct: tuple[list[SliceHeader], Values]) -> None:
    source, values = ct
    first, second = opened(source, values), opened(source, values)
    assert len({each.SOPInstanceUID for each in (*first, *second)}) == 8
    assert len({each.SeriesInstanceUID for each in first}) == 1
    assert first[0].SeriesInstanceUID != second[0].SeriesInstanceUID
    for attribute in ("StudyInstanceUID", "FrameOfReferenceUID", "PatientID", "StudyDate", "StudyID"):
        assert len({each[attribute].value for each in (*first, *second)}) == 1
    assert first[0].StudyInstanceUID == keyed_uid(KEY, source[0].study) != source[0].study
    assert first[0].PatientID == KEY.hash(f"patient:{source[0].patient}")
    other = next(iter(translated_series(source, values, MADE, SubjectKey(b"l" * 16))))
    assert pydicom.dcmread(io.BytesIO(other)).StudyInstanceUID != first[0].StudyInstanceUID
    given = next(iter(translated_series(source, values, MADE, KEY, "2.25.5")))
    assert pydicom.dcmread(io.BytesIO(given)).SeriesInstanceUID == "2.25.5"


def test_instance_numbers_follow_positions_and_not_the_order_of_files(ct: tuple[list[SliceHeader], Values]) -> None:
    source, values = ct
    order = [2, 0, 3, 1]
    found = opened([source[index] for index in order], values[order])
    assert [each.InstanceNumber for each in found] == [3, 1, 4, 2]
    assert [each.ImagePositionPatient[2] for each in found] == [12, 0, 18, 6]


def test_it_says_what_made_it_and_from_what(ct: tuple[list[SliceHeader], Values]) -> None:
    source, values = ct
    for index, dataset in enumerate(opened(source, values)):
        assert dataset.SyntheticData == "YES" and list(dataset.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        reference = dataset.SourceImageSequence[0]
        assert reference.ReferencedSOPInstanceUID == keyed_uid(KEY, source[index].instance)
        assert reference.ReferencedSOPClassUID == source[index].sop_class
        assert reference.PurposeOfReferenceCodeSequence[0].CodeValue == "121322"
        equipment = dataset.ContributingEquipmentSequence[0]
        assert equipment.PurposeOfReferenceCodeSequence[0].CodeValue == "109100"
        for text in (dataset.DerivationDescription, equipment.ContributionDescription):
            assert all(word in text for word in ("heads@3", "ab" * 32, "seed=7", f"index={index}"))
        assert (dataset.PatientIdentityRemoved, dataset.LossyImageCompression) == ("YES", "00")
        assert "2026c" in dataset.DeidentificationMethod[0]
        assert [code.CodeValue for code in dataset.DeidentificationMethodCodeSequence] == ["113100"]
        assert "LongitudinalTemporalInformationModified" not in dataset


@pytest.mark.parametrize("kind", ["ct", "mr"])
def test_no_canary_of_the_source_is_in_any_byte(kind: str, tmp_path: Path) -> None:
    def plant(dataset: Dataset) -> None:
        number = dataset.InstanceNumber
        fill(dataset, 0, 0x4FFF)
        item = Dataset()
        fill(item, 0, 0x0020)
        dataset.RequestAttributesSequence = dataset.ReferencedImageSequence = dataset.SourceImageSequence = [item]
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{UID}.{number}"
        dataset.file_meta.SourceApplicationEntityTitle = CANARY
        dataset.preamble = CANARY.encode().ljust(128, b"\0")
        dataset.ImageType = ["ORIGINAL", "PRIMARY", CANARY]

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        paths = phantoms(kind, tmp_path, plant)
    assert all(word.encode() in paths[0].read_bytes() for word in PLANTED[:3])
    written = list(translated_series(*source_of(read(paths)), MADE, KEY))
    assert len(written) == 4
    assert not [word for word in PLANTED for data in written if word.encode() in data]
    kept = [pydicom.dcmread(io.BytesIO(data)) for data in written]
    assert [each.ImagePositionPatient[2] for each in kept] == [0, 6, 12, 18]


def _item(**attributes: object) -> Items:
    item = Dataset()
    for name, value in attributes.items():
        setattr(item, name, value)
    return Items([item])


def enhanced(folder: Path) -> Path:
    """Write an enhanced CT of four frames from phantoms, its frames in the reverse order."""
    slices = [phantom.to_dicom(each, 0) for each in phantom.draw("ct", 1, 4, 32, 0)][::-1]
    dataset, frames = slices[0], []
    for each in slices:
        frame = Dataset()
        frame.PlanePositionSequence = _item(ImagePositionPatient=each.ImagePositionPatient)
        frame.FrameVOILUTSequence = _item(WindowCenter=40, WindowWidth=80)
        frames.append(frame)
    shared = Dataset()
    shared.PlaneOrientationSequence = _item(ImageOrientationPatient=dataset.ImageOrientationPatient)
    shared.PixelMeasuresSequence = _item(PixelSpacing=dataset.PixelSpacing, SliceThickness=6)
    shared.PixelValueTransformationSequence = _item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU")
    shared.CTXRayDetailsSequence = _item(KVP=100)
    dataset.PixelData = b"".join(each.PixelData for each in slices)
    dataset.NumberOfFrames = 4
    for keyword in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness", "KVP"):
        del dataset[keyword]
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    dataset.SharedFunctionalGroupsSequence, dataset.PerFrameFunctionalGroupsSequence = Items([shared]), Items(frames)
    path = folder / "enhanced.dcm"
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def test_an_enhanced_source_gives_an_object_a_frame(tmp_path: Path) -> None:
    source, values = source_of(own([enhanced(tmp_path)]))
    paths = write(source, values, tmp_path)
    found = [pydicom.dcmread(path) for path in paths]
    assert {each.SOPClassUID for each in found} == {"1.2.840.10008.5.1.4.1.1.2"}
    assert [each.InstanceNumber for each in found] == [4, 3, 2, 1]
    assert [each.ImagePositionPatient[2] for each in found] == [18, 12, 6, 0]
    references = [each.SourceImageSequence[0] for each in found]
    assert [each.ReferencedFrameNumber for each in references] == [1, 2, 3, 4]
    assert {each.ReferencedSOPClassUID for each in references} == {"1.2.840.10008.5.1.4.1.1.2.1"}
    assert (found[0].SliceThickness, found[0].KVP, found[0].WindowCenter) == (6, 100, 40)
    assert [complaints(path, "CTImage") for path in paths] == [[]] * 4


def test_values_of_mr_that_whole_units_would_spoil_get_a_rescale(tmp_path: Path) -> None:
    source, values = source_of(own(phantoms("mr", tmp_path)))
    for scaled in (values / 5000 - 0.3, values * 1000):
        after = own(write(source, np.asarray(scaled, np.float32), tmp_path))
        found = np.stack([outcome.values[0] for outcome in after if outcome.values is not None])
        assert np.abs(found - scaled).max() <= np.ptp(scaled) / 65535 * 0.51
    assert "RescaleSlope" not in opened(source, values)[0]


def test_what_was_lost_stays_lost_and_a_side_stays_a_side(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.LossyImageCompression, dataset.LossyImageCompressionRatio = "01", 8
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
        dataset.BodyPartExamined, dataset.Laterality = "KNEE", "L"
        dataset.BurnedInAnnotation, dataset.PatientID = "NO", ""
        del dataset.FrameOfReferenceUID

    source, values = source_of(own(phantoms("ct", tmp_path, change)))
    path = write(source, values, tmp_path)[0]
    found = pydicom.dcmread(path)
    assert (found.LossyImageCompression, found.LossyImageCompressionRatio) == ("01", 8)
    assert (found.LossyImageCompressionMethod, found.Laterality, found.BurnedInAnnotation) == ("ISO_10918_1", "L", "NO")
    assert found.PatientID == KEY.hash(f"study:{source[0].study}")
    assert complaints(path, "CTImage") == []


def test_windows_that_are_none_are_left_out(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.WindowCenter, dataset.WindowWidth = [40, 50], [400, 0]
        dataset.BodyPartExamined = "LUNG"

    path = write(*source_of(own(phantoms("ct", tmp_path, change))), tmp_path)[0]
    assert "WindowWidth" not in pydicom.dcmread(path) and complaints(path, "CTImage") == []


def test_every_ct_and_mr_of_the_corpus_is_written_or_refused(dicom_corpus: Path, tmp_path: Path) -> None:
    """Whatever a header holds, no identifier of it is in the bytes, and what is written has no error."""
    sources = [Source(path.name, path=str(path)) for path in sorted(dicom_corpus.iterdir())]
    written = 0
    for outcome in decode(sources, 2, options=Options(headers=True)):
        if outcome.values is None or not outcome.slices or outcome.slices[0].sop_class not in CLASSES:
            continue
        values = outcome.values.astype(np.float32)
        try:
            data = next(iter(translated_series(outcome.slices, values, MADE, KEY)))
        except InputError as refusal:
            assert any(word in str(refusal) for word in ("UIDs", "has no", "16 bits"))
            continue
        header = outcome.slices[0]
        for identifier in (header.patient, header.study, header.series, header.instance, header.frame_of_reference):
            assert len(identifier) < 6 or identifier.encode() not in data
        (tmp_path / "a.dcm").write_bytes(data)
        kind = "CTImage" if header.sop_class.startswith("1.2.840.10008.5.1.4.1.1.2") else "MRImage"
        assert [line for line in complaints(tmp_path / "a.dcm", kind) if line.startswith("Error")] == []
        written += 1
    assert written > 30


def test_what_does_not_fit_is_refused(ct: tuple[list[SliceHeader], Values], tmp_path: Path) -> None:
    source, values = ct
    other, _ = source_of(own(phantoms("mr", tmp_path)))
    chest, projection = source_of(own(phantoms("xray", tmp_path)[:1]))
    unplaced, _ = source_of(own(phantoms("ct", tmp_path, lambda dataset: delattr(dataset, "ImagePositionPatient"))))
    flat, _ = source_of(
        own(phantoms("ct", tmp_path, lambda dataset: setattr(dataset, "ImageOrientationPatient", [0] * 6)))
    )
    cases: list[tuple[Sequence[SliceHeader], NDArray[np.generic], str]] = [
        ([], values[:0], "no slices"),
        ([source[0], other[0]], values[:2], "several series"),
        (chest, projection, "neither CT nor MR"),
        (unplaced, values, "ImagePositionPatient"),
        (flat, values, "geometry"),
        (source, values[:3], "3 slices"),
        (source, values[:, :, :-1], "32 x 31"),
        (source, np.full_like(values, np.nan), "finite"),
        (source, values.astype(np.float64), "float32"),
        (source, values + np.float32(1e6), "16 bits"),
    ]
    for headers, given, words in cases:
        with pytest.raises(InputError, match=words):
            translated_series(headers, given, MADE, KEY)  # type: ignore[arg-type]
