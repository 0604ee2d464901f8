"""Generated scans are files with fixed names and fixed pixels."""

from pathlib import Path

import pydicom
import pytest

from medgan_ray import generate_scans
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset
from tests.dicom.validators import check_dcmtk, complaints


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), counts={"train": 40})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return str(folder / "run")


def test_the_same_call_writes_the_same_files(run, tmp_path):
    one, two = (generate_scans(run, str(tmp_path / name), n=5, seed=2) for name in ("a", "b"))
    assert one.files == ("000000.png", "000001.png", "000002.png", "000003.png", "000004.png")
    assert one.sha256 == two.sha256
    assert [entry.key for entry in open_store(one.folder).list()] == list(one.files)


def test_dicom_is_one_series_of_one_study_over_all_chunks(run, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan_ray.inference.bulk.CHUNK", 3)
    result = generate_scans(run, str(tmp_path), n=4, seed=2, form="dicom")
    scans = [pydicom.dcmread(Path(result.folder, name)) for name in result.files]
    assert len(scans) == 4 and len({scan.SOPInstanceUID for scan in scans}) == 4
    for shared in ("StudyInstanceUID", "SeriesInstanceUID", "StudyDate", "StudyTime", "StudyID", "SeriesNumber"):
        assert len({scan[shared].value for scan in scans}) == 1
    assert [scan.InstanceNumber for scan in scans] == [1, 2, 3, 4]
    told = [scan.ContributingEquipmentSequence[0].ContributionDescription for scan in scans]
    assert all(f"seed=2 index={index}" in text for index, text in enumerate(told))
    for name in result.files:
        assert complaints(tmp_path / name, "SCImage") == []
    check_dcmtk(tmp_path / result.files[0], tmp_path)


def test_scans_go_to_s3(run, s3):
    result = generate_scans(run, s3, n=300, form="npz")
    assert [entry.key for entry in open_store(s3).list()] == list(result.files) == ["000000.npz", "000256.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n": 0}, "n=0"), ({"form": "gif"}, "format 'gif'"), ({"label": "lesion"}, "this model knows no labels")],
)
def test_bad_requests_write_nothing(run, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        generate_scans(run, str(tmp_path / "out"), **arguments)
    assert not (tmp_path / "out").exists()
