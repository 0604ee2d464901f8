"""Generation in bulk: cut off anywhere, it ends in the same files, none twice or half; a dataset says what it is."""

import hashlib
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from medgan_ray import generate_scans, load_model, publish_run
from medgan_ray.cli.main import main
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import read_manifest
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.inference import bulk
from medgan_ray.store import LocalStore, open_store
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

FORMS = ["png", "npz", "dicom", "dataset"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"), counts={"train": 60})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return str(folder / "run")


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(bulk, "PART", 48)
    monkeypatch.setattr(bulk, "MOST_OF_SHARD", 48)
    monkeypatch.setattr(bulk, "CHUNK", 16)


def _contents(folder):
    return {entry.key: open_store(str(folder)).read(entry.key) for entry in open_store(str(folder)).list()}


class CrashError(BaseException):
    """Ends a process where no one catches it."""


@pytest.mark.parametrize("form", FORMS)
def test_cut_off_after_any_write_it_ends_in_the_same_files(run, tmp_path, monkeypatch, small_parts, form):
    whole = generate_scans(run, str(tmp_path / "whole"), n=120, seed=3, form=form)
    cut, left = str(tmp_path / "cut"), [0]

    def counted(write):
        def writing(self, *given, **named):
            left[0] -= 1
            if left[0] == 0:
                raise CrashError
            return write(self, *given, **named)

        return writing

    crashes = 0
    with monkeypatch.context() as patch:
        for name in ("replace", "replace_all", "create", "swap", "upload", "delete"):
            patch.setattr(LocalStore, name, counted(getattr(LocalStore, name)))
        while True:
            left[0] = 1 + crashes
            try:
                again = generate_scans(run, cut, n=120, seed=3, form=form)
                break
            except CrashError:
                crashes += 1
    assert crashes >= 5
    assert again.files == whole.files == tuple(key for key in whole.files if (tmp_path / "cut" / key).exists())
    assert not (tmp_path / "cut" / bulk.FOLDER).exists()
    if form == "dicom":  # a series of its own, fresh UIDs
        assert list(_contents(cut)) == list(_contents(tmp_path / "whole"))
    else:
        assert again.sha256 == whole.sha256 and _contents(cut) == _contents(tmp_path / "whole")


def test_what_is_whole_is_not_made_again_and_a_dicom_series_stays_one(run, tmp_path, monkeypatch, small_parts):
    import pydicom

    made, seen = bulk.make, []

    def failing(model, store, recipe, part, tell):
        if part.start == 96 and not seen:
            seen.append(part.start)
            raise StoreError("full", "", "")
        return made(model, store, recipe, part, tell)

    monkeypatch.setattr(bulk, "make", failing)
    with pytest.raises(StoreError):
        generate_scans(run, str(tmp_path), n=120, form="dicom")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.glob("*.dcm")}
    assert len(before) == 96
    told = []
    result = generate_scans(run, str(tmp_path), n=120, form="dicom", progress=lambda *each: told.append(each))
    assert told[0] == (112, 120) and told[-1] == (120, 120)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in before} == before
    scans = [pydicom.dcmread(tmp_path / name, stop_before_pixels=True) for name in result.files]
    assert len({(scan.StudyInstanceUID, scan.SeriesInstanceUID, scan.StudyTime) for scan in scans}) == 1
    assert len({scan.SOPInstanceUID for scan in scans}) == 120
    assert [scan.InstanceNumber for scan in scans] == list(range(1, 121))


def test_killed_and_started_again_it_leaves_the_same_files(run, tmp_path, capfd):
    words = ["generate", run, str(tmp_path / "cut"), "-n", "2100", "--seed", "2", "--json"]
    process = subprocess.Popen([sys.executable, "-m", "medgan_ray", *words], stdout=subprocess.DEVNULL)
    parts = tmp_path / "cut" / bulk.FOLDER / "parts"
    while not (parts.exists() and list(parts.glob("*.json"))):
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    done = [int(path.stem) for path in parts.glob("*.json")]
    assert 0 < len(done) < 3
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut").glob("*.png")}
    assert main(words) == 0
    assert generate_scans(run, str(tmp_path / "whole"), n=2100, seed=2).sha256 in capfd.readouterr().out
    assert _contents(tmp_path / "cut") == _contents(tmp_path / "whole")
    assert len(list((tmp_path / "cut").iterdir())) == 2100
    kept = [f"{start + index:06d}.png" for start in done for index in range(bulk.PART)]
    assert all((tmp_path / "cut" / name).stat().st_mtime_ns == before[name] for name in kept), "made once"


def test_the_digest_is_over_the_bytes_and_over_the_parts_where_there_are_several(run, tmp_path, small_parts):
    few, many = (generate_scans(run, str(tmp_path / str(n)), n=n) for n in (48, 100))
    data = [(tmp_path / "100" / name).read_bytes() for name in many.files]
    parts = [hashlib.sha256(b"".join(data[start : start + 48])).hexdigest() for start in (0, 48, 96)]
    assert few.sha256 == parts[0] and many.sha256 == hashlib.sha256("".join(parts).encode()).hexdigest()
    assert (tmp_path / "48/000047.png").read_bytes() == data[47], "few are a prefix of many"


def test_a_dataset_says_that_it_is_synthetic_and_trains(run, tmp_path, small_parts):
    publish_run(run, str(tmp_path / "heads"), force=True, why="a test")
    out = str(tmp_path / "synthetic")
    result = generate_scans(f"{tmp_path}/heads@current", out, n=100, seed=4, form="dataset")
    manifest, sha256 = read_manifest(open_store(out))
    assert result.manifest == sha256 and len(manifest.shards) == 3
    origin = manifest.synthetic
    assert (origin.model, origin.version, origin.verdict, origin.forced) == ("heads", 1, "none", "a test")
    assert list(manifest.splits) == ["train"] and manifest.splits["train"].subjects == 100
    model = load_model(run)
    samples = open_dataset(out).split("train").take(np.arange(100))
    assert np.array_equal(samples.image, model.sample(100, seed=4))
    named = [model.classes[code] for code in samples.label[:, 0]]
    assert named == model.labels_of(100, seed=4) and sorted(samples.subject) == list(range(100))
    assert inspect(out, verify=True)["synthetic"]["weights"] == model.card.weights
    assert train(out, str(tmp_path / "next"), {**SMALL, "images": 8}).images == 8
    assert generate_scans(f"{tmp_path}/heads@1", out, n=100, seed=4, form="dataset").manifest == sha256


def test_generated_scans_join_no_other_dataset_and_no_other_generation(run, tmp_path, small_parts, monkeypatch):
    write_dataset(str(tmp_path / "real"), counts={"train": 40})
    with pytest.raises(UsageError, match="another dataset is there"):
        generate_scans(run, str(tmp_path / "real"), n=8, form="dataset")
    with monkeypatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(bulk, "digest_of", lambda done: (_ for _ in ()).throw(CrashError))
        generate_scans(run, str(tmp_path / "out"), n=8)
    for other in ({"n": 9}, {"n": 8, "seed": 1}, {"n": 8, "label": "lesion"}, {"n": 8, "form": "npz"}):
        with pytest.raises(UsageError, match="another generation was begun there"):
            generate_scans(run, str(tmp_path / "out"), **other)
    assert len(generate_scans(run, str(tmp_path / "out"), n=8).files) == 8


def test_a_model_that_changes_meanwhile_is_named(run, tmp_path):
    model = load_model(run)
    recipe = bulk.plan(model, 8, None, 0, "png", None).model_copy(update={"weights": "00" * 32})
    with pytest.raises(InputError, match="the model has changed meanwhile"):
        bulk.make(model, open_store(str(tmp_path)), recipe, bulk.Part(0, 8))


@pytest.mark.parametrize("form", ["png", "dataset"])
def test_bulk_goes_to_s3(run, s3, tmp_path, small_parts, form):
    there = generate_scans(run, f"{s3}/out", n=100, form=form)
    here = generate_scans(run, str(tmp_path / "out"), n=100, form=form)
    assert (there.sha256, there.files) == (here.sha256, here.files)
    contents = _contents(f"{s3}/out")
    assert contents == {key: (Path(here.folder) / key).read_bytes() for key in contents}
