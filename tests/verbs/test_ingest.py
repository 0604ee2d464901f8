"""The verb ingest: what comes out depends on the scans and the recipe alone."""

import dataclasses
import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan_ray.dataset.manifest import Manifest, read_manifest
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.dicom import phantom
from medgan_ray.dicom.provenance import Provenance, SeriesIds
from medgan_ray.dicom.write import Rescale, secondary_capture
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms

SMALL = {"size": 32, "ingest": {"workers": 1}}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    make_phantoms(str(folder), patients=8, slices=3, size=48)
    return folder


def opened(dataset: str | Path) -> tuple[Manifest, dict[str, Samples]]:
    store = open_store(str(dataset))
    manifest, _ = read_manifest(store)
    shards = {entry.split: open_shard(store.path(f"shards/{entry.sha256}.safetensors")) for entry in manifest.shards}
    return manifest, shards


def test_phantoms_become_a_dataset(scans: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = ingest_scans(str(scans), str(tmp_path), SMALL, progress=lambda done, total: calls.append((done, total)))
    manifest, shards = opened(tmp_path)
    assert (result.samples, result.subjects, result.rejected) == (24, 8, {})
    assert calls[-1] == (24, 24)
    assert (manifest.modality, manifest.size, manifest.classes) == ("CT", (32, 32), ("lesion", "normal"))
    assert (manifest.intensity.unit, manifest.intensity.low, manifest.intensity.high) == ("HU", -160, 240)
    assert manifest.spacing == (7.5, 7.5)
    seen = [set(samples.subject.tolist()) for samples in shards.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 8
    assert {name: len(samples) for name, samples in shards.items()} == result.splits
    for samples in shards.values():
        assert samples.image.dtype == np.uint16 and samples.image.shape[1:] == (1, 32, 32)
        assert samples.image.max() == 65535 and samples.image.min() == 0


def test_names_order_workers_and_keys_leave_no_trace(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "renamed"
    other.mkdir()
    table = (scans / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in table[1:]]
    for number, (name, _, _) in enumerate(reversed(rows)):
        shutil.copy(scans / name, other / f"{number}.bin")
    lines = [f"{number}.bin,{label},{patient}" for number, (_, label, patient) in enumerate(reversed(rows))]
    (other / "labels.csv").write_text("\n".join([table[0], *lines]))
    ingest_scans(str(scans), str(tmp_path / "a"), SMALL)
    monkeypatch.setenv("MEDGAN_SUBJECT_KEY", "another key that is long enough")
    ingest_scans(str(other), str(tmp_path / "b"), {"size": 32, "ingest.workers": 2})
    (a, _), (b, _) = opened(tmp_path / "a"), opened(tmp_path / "b")
    assert a.content_digest == b.content_digest
    assert a.shards == b.shards
    assert a.key_fingerprint != b.key_fingerprint
    assert not set(a.subjects) & set(b.subjects)


def test_the_same_call_again_changes_nothing(scans: Path, tmp_path: Path) -> None:
    first, again = (ingest_scans(str(scans), str(tmp_path), SMALL) for _ in range(2))
    assert first.manifest == again.manifest
    assert (first.added, again.added, again.samples) == (24, 0, 24)
    with pytest.raises(UsageError, match=r"made with another split\.val"):
        ingest_scans(str(scans), str(tmp_path), SMALL | {"split": {"val": 0.3}})


def test_more_scans_are_added(scans: Path, tmp_path: Path) -> None:
    """A patient's later scans join the split of the earlier ones; what was there stays as it was."""
    table = [line.split(",") for line in (scans / "labels.csv").read_text().splitlines()]
    for folder, chosen in (("old", table[1:13]), ("new", table[10:])):
        (tmp_path / folder).mkdir()
        for name, _, _ in chosen:
            shutil.copy(scans / name, tmp_path / folder / name)
        lines = [",".join(row) for row in (table[0], *chosen)]
        (tmp_path / folder / "labels.csv").write_text("\n".join(lines))
    before = ingest_scans(str(tmp_path / "old"), str(tmp_path / "out"), SMALL)
    after = ingest_scans(str(tmp_path / "new"), str(tmp_path / "out"), SMALL)
    assert (before.samples, after.samples, after.added, after.subjects) == (12, 24, 12, 8)
    assert after.rejected == {"duplicate": 3}
    store = open_store(str(tmp_path / "out"))
    old, _ = read_manifest(store, before.manifest)
    new, _ = read_manifest(store)
    assert new.shards[: len(old.shards)] == old.shards and new.subjects[: len(old.subjects)] == old.subjects
    where: dict[int, set[str]] = {}
    for entry in new.shards:
        for subject in open_shard(store.path(f"shards/{entry.sha256}.safetensors")).subject.tolist():
            where.setdefault(subject, set()).add(entry.split)
    assert len(where) == 8 and all(len(splits) == 1 for splits in where.values())


def test_another_key_can_not_add(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ingest_scans(str(scans), str(tmp_path), SMALL)
    monkeypatch.setenv("MEDGAN_SUBJECT_KEY", "another key that is long enough")
    with pytest.raises(UsageError, match="made with another subject key"):
        ingest_scans(str(scans), str(tmp_path), SMALL)


def test_a_missing_key_is_said_so_and_none_is_made(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest_scans(str(scans), str(tmp_path / "out"), SMALL)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(UsageError, match="there is no subject key"):
        ingest_scans(str(scans), str(tmp_path / "out"), SMALL)
    assert not (tmp_path / "elsewhere").exists()


def test_the_key_is_spoken_of_when_patients_are_hashed(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "pictures").mkdir()
    for number in range(3):
        image = np.random.default_rng(number).integers(0, 256, (40, 40)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / f"pictures/{number}.png")
    pictures = ingest_scans(str(tmp_path / "pictures"), str(tmp_path / "a"), SMALL)
    assert pictures.warnings == [] and not (tmp_path / "medgan-ray/subject.key").exists()
    first, again = (ingest_scans(str(scans), str(tmp_path / name), SMALL) for name in "bc")
    assert "made a subject key" in first.warnings[0] and again.warnings == []
    assert opened(tmp_path / "b")[0].key_fingerprint == opened(tmp_path / "c")[0].key_fingerprint


def _pictures(folder: Path, seeds: range, patients: list[str]) -> str:
    folder.mkdir()
    for seed in seeds:
        image = np.random.default_rng(seed).integers(0, 256, (40, 40)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"{seed}.png")
    rows = [f"{seed}.png,{patient}" for seed, patient in zip(seeds, patients, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["file,patient", *rows]))
    return str(folder)


def test_an_image_under_two_patients_makes_them_one(tmp_path: Path) -> None:
    """Two names in one archive for one person: all their scans stay in one split."""
    source = _pictures(tmp_path / "in", range(12), [f"p{seed // 2}" for seed in range(12)])
    for number in range(2, 12, 2):
        shutil.copy(tmp_path / "in/0.png", tmp_path / f"in/copy{number}.png")
        with (tmp_path / "in/labels.csv").open("a") as table:
            table.write(f"\ncopy{number}.png,p{number // 2}")
    result = ingest_scans(source, str(tmp_path / "out"), SMALL)
    assert (result.samples, result.rejected) == (12, {"duplicate": 5})
    assert result.splits == {"train": 12, "val": 0, "test": 0}


def test_leakage_ends_the_run_unless_it_is_allowed(tmp_path: Path) -> None:
    """What is added says that a patient of the training split and one of the test split are the same."""
    ingest_scans(
        _pictures(tmp_path / "old", range(12), [f"p{seed}" for seed in range(12)]), str(tmp_path / "out"), SMALL
    )
    before, _ = read_manifest(open_store(str(tmp_path / "out")))
    source = _pictures(tmp_path / "new", range(13), ["q"] * 13)
    with pytest.raises(InputError, match="stands in two splits already") as refused:
        ingest_scans(source, str(tmp_path / "out"), SMALL)
    assert "ingest.allow_leakage=true" in str(refused.value)
    assert read_manifest(open_store(str(tmp_path / "out")))[0] == before
    allowed = SMALL | {"ingest": {"workers": 1, "allow_leakage": True}}
    result = ingest_scans(source, str(tmp_path / "out"), allowed)
    assert (result.added, result.rejected) == (0, {"duplicate": 12, "near_duplicate": 1})


def test_a_series_may_lie_in_several_parts_folders_and_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps of 2, 2 and 4 mm: uneven as a whole, and only as a whole. Two patients may have one UID."""
    monkeypatch.setattr("medgan_ray.ingest.parts.PART_FILES", 2)
    (tmp_path / "in/a").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "in/more.zip", "w") as archive:
        for number, drawn in enumerate(phantom.draw("ct", 2, 4, 48, 0)):
            scan = phantom.to_dicom(drawn, 0)
            scan.StudyInstanceUID = scan.SeriesInstanceUID = "1.2.3"
            scan.ImagePositionPatient = [0, 0, [0, 2, 4, 8][number] if number < 4 else 2 * number]
            buffer = io.BytesIO()
            pydicom.dcmwrite(buffer, scan, enforce_file_format=True)
            if number % 2:
                archive.writestr(f"{number}", buffer.getvalue())
            else:
                (tmp_path / f"in/a/{number}").write_bytes(buffer.getvalue())
    result = ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), SMALL)
    assert (result.samples, result.rejected) == (4, {"uneven_slices": 4})


def test_an_interrupted_ingest_goes_on(scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that are whole are not decoded again; nothing of them is left in the end."""
    monkeypatch.setattr("medgan_ray.ingest.parts.PART_FILES", 8)

    def interrupt(done: int, _: int) -> None:
        if done == 20:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ingest_scans(str(scans), str(tmp_path / "out"), SMALL, progress=interrupt)
    parts = tmp_path / "out/private/parts"
    assert len(list(parts.glob("*.json"))) == 2
    seen: list[int] = []
    result = ingest_scans(str(scans), str(tmp_path / "out"), SMALL, progress=lambda done, _: seen.append(done))
    assert seen == list(range(16, 25))
    assert not list(parts.glob("*"))
    assert result.manifest == ingest_scans(str(scans), str(tmp_path / "straight"), SMALL).manifest


def test_a_leaning_uneven_series_is_refused_and_described(ct_series: Path, tmp_path: Path) -> None:
    source = str(ct_series / "head_gantry_tilt")
    with pytest.raises(InputError, match="12 uneven_slices"):
        ingest_scans(source, str(tmp_path / "out"), SMALL)
    keep = {"ingest.keep": ["tilted", "uneven_slices"], "ingest.window": "brain"}
    result = ingest_scans(source, str(tmp_path / "out"), {"size": 32, "ingest.workers": 1, **keep})
    (note,) = result.series
    assert result.samples == 12
    assert (note["steps_mm"], note["tilt_degrees"]) == ([1.14, 4.22, 7.38], pytest.approx(18.5, abs=0.1))
    with pytest.raises(UsageError, match="can't be switched off"):
        ingest_scans(source, str(tmp_path / "other"), {"ingest.keep": ["constant"]})


def test_slices_are_chosen_by_position_whatever_their_names(ct_abdomen: Path, tmp_path: Path) -> None:
    by_position = sorted(
        ct_abdomen.glob("*.dcm"), key=lambda path: float(pydicom.dcmread(path).ImagePositionPatient[2])
    )
    (tmp_path / "in").mkdir()
    for place, path in zip(np.random.default_rng(0).permutation(15), by_position, strict=True):
        shutil.copy(path, tmp_path / "in" / f"{place}.dcm")
    ingest_scans(
        str(tmp_path / "in"),
        str(tmp_path / "a"),
        SMALL | {"split": {"val": 0, "test": 0}, "ingest": {"slices": "central:3"}},
    )
    (tmp_path / "three").mkdir()
    for path in by_position[6:9]:
        shutil.copy(path, tmp_path / "three")
    ingest_scans(str(tmp_path / "three"), str(tmp_path / "b"), SMALL | {"split": {"val": 0, "test": 0}})
    a, b = (opened(tmp_path / name)[1]["train"].image for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_no_identifier_stands_in_any_byte(scans: Path, tmp_path: Path) -> None:
    ingest_scans(str(scans), str(tmp_path / "out"), SMALL)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    assert len(files) >= 5
    for canary in (b"PHANTOM-0001", b"Phantom^", b"ct-0001", str(scans).encode()):
        assert canary not in kept


def test_counting_writes_nothing(scans: Path, tmp_path: Path) -> None:
    result = ingest_scans(str(scans), str(tmp_path / "out"), SMALL, dry_run=True)
    assert (result.samples, result.manifest) == (24, "")
    assert not (tmp_path / "out").exists()


def test_each_file_that_is_not_taken_has_a_reason(scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(scans, folder)
    names = sorted(path.name for path in folder.glob("*.dcm"))
    shutil.copy(folder / names[0], folder / "again.dcm")
    (folder / names[1]).write_bytes((folder / names[1]).read_bytes()[:-2000])
    (folder / "notes.txt").write_text("notes")
    Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(folder / "a.png")
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(folder / "blank.png")
    result = ingest_scans(str(folder), str(tmp_path / "out"), SMALL)
    expected = {"duplicate": 1, "truncated_pixels": 1, "not_an_image": 1, "mixed_modality": 1, "constant": 1}
    assert result.rejected == expected
    assert result.examples["truncated_pixels"] == [str(folder / names[1])]
    assert opened(tmp_path / "out")[0].rejected == expected


def test_pictures_in_class_folders(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("hand", "head"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(6):
            image = draw.integers(0, 256, (40, 60)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "in" / name / f"{number}.jpeg")
    result = ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), SMALL)
    manifest, shards = opened(tmp_path / "out")
    assert (result.classes, result.subjects) == ({"hand": 6, "head": 6}, 0)
    assert (manifest.intensity.unit, manifest.intensity.high, manifest.attributes) == ("grey", 255, ())
    assert {-1} == set(np.concatenate([samples.subject for samples in shards.values()]).tolist())


@pytest.mark.parametrize("kind", ["mr", "xray"])
def test_modalities_without_a_unit_fill_the_range(tmp_path: Path, kind: str) -> None:
    make_phantoms(str(tmp_path / "in"), kind=kind, patients=4, slices=2, size=48)
    ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), SMALL)
    manifest, shards = opened(tmp_path / "out")
    image = np.concatenate([samples.image for samples in shards.values()]) / 65535
    assert (manifest.intensity.unit, manifest.intensity.high) == ("relative", 1)
    assert image.max() > 0.95 and image.min() < 0.12
    assert image.std() > 0.15


def test_real_abdomen_keeps_its_hounsfield_units(ct_abdomen: Path, tmp_path: Path) -> None:
    """A sample is the area mean of the file's own HU, and comes back from the DICOM writer within one HU."""
    ingest_scans(str(ct_abdomen), str(tmp_path), {"size": 64, "ingest.workers": 2})
    manifest, shards = opened(tmp_path)
    images = shards["train"].image[:, 0]
    low, high = manifest.intensity.low, manifest.intensity.high
    found = np.stack([_written_and_read(image, low, high) for image in images])
    for path in ct_abdomen.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        mean = values.reshape(64, 8, 64, 8).mean((1, 3)).clip(low, high)
        assert np.abs(found - mean).max((1, 2)).min() < 1
    assert manifest.spacing == pytest.approx((5.3125, 5.3125), rel=1e-3)


def _written_and_read(image: NDArray[np.uint16], low: float, high: float) -> NDArray[np.float64]:
    data = secondary_capture(
        image,
        modality="CT",
        rescale=Rescale((high - low) / 65535, low, "HU"),
        window=((low + high) / 2, high - low),
        spacing=None,
        provenance=Provenance("abdomen", "", 0, 0),
        series=SeriesIds.fresh(),
    )
    dataset = pydicom.dcmread(io.BytesIO(data))
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def test_the_way_over_s3(scans: Path, s3: str, tmp_path: Path) -> None:
    source = open_store(f"{s3}/in")
    for path in scans.iterdir():
        source.create(path.name, path.read_bytes())
    remote = ingest_scans(f"{s3}/in", f"{s3}/out", SMALL)
    local = ingest_scans(str(scans), str(tmp_path / "local"), SMALL)
    assert remote.manifest == local.manifest
    with zipfile.ZipFile(tmp_path / "scans.zip", "w") as archive:
        for path in scans.iterdir():
            archive.write(path, path.name)
    open_store(f"{s3}/zip").upload("scans.zip", tmp_path / "scans.zip")
    zipped = ingest_scans(f"{s3}/zip/scans.zip", f"{s3}/unzipped", SMALL)
    assert zipped.manifest == local.manifest
    assert json.dumps(dataclasses.asdict(remote))


def test_bad_input_is_named(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a")
    with pytest.raises(InputError, match="no such source"):
        ingest_scans(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="no files here"):
        ingest_scans(str(tmp_path / "empty"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="1 not_an_image"):
        ingest_scans(str(tmp_path / "text"), str(tmp_path / "out"))
    with pytest.raises(UsageError, match="did you mean 'window'"):
        ingest_scans(str(scans), str(tmp_path / "out"), {"ingest.windwo": "brain"})
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_is_not_there(scans: Path, s3: str) -> None:
    with pytest.raises(StoreError, match="bucket"):
        ingest_scans(str(scans), "s3://nobody-made-this-bucket/x", SMALL)
