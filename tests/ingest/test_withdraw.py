"""Withdrawal: a patient's scans leave the dataset, the rest stays as it was, byte for byte where it can."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.content import ContentDigest
from medgan_ray.dataset.manifest import Manifest, read_manifest
from medgan_ray.dicom import phantom
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.ingest import withdraw as module
from medgan_ray.ingest.deidentify import KEY_VARIABLE, count_subjects, subject_key
from medgan_ray.ingest.withdraw import withdraw, withdrawn
from medgan_ray.store import open_store
from medgan_ray.verbs.ingest import ingest_scans

PATIENTS = 6
SLICES = 2
CONFIG = {"size": 32, "ingest": {"workers": 1, "near_duplicates": "off"}}


def _scans(folder: Path, patients: int = PATIENTS) -> list[str]:
    """Write phantoms as DICOM files; return the patients' ids."""
    folder.mkdir()
    ids = []
    for number, each in enumerate(phantom.draw("ct", patients, SLICES, 64, 3)):
        (folder / f"{number}.dcm").write_bytes(phantom.encode(each, 3))
        ids.append(each.patient_id)
    return list(dict.fromkeys(ids))


@pytest.fixture(scope="module")
def ingested(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A dataset of six patients, shards of about two samples; its folder and the patients' ids."""
    folder = tmp_path_factory.mktemp("withdraw")
    ids = _scans(folder / "scans")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("medgan_ray.dataset.shards.ShardWriter.__init__.__defaults__", (2 * 32 * 32 * 2 + 200,))
        ingest_scans(str(folder / "scans"), str(folder / "data"), CONFIG)
    return folder / "data", ids


@pytest.fixture
def made(ingested: tuple[Path, list[str]], tmp_path: Path) -> tuple[str, list[str]]:
    """A copy of that dataset to change: its address and the patients' ids."""
    shutil.copytree(ingested[0], tmp_path / "data")
    return str(tmp_path / "data"), ingested[1]


def _content(uri: str) -> tuple[Manifest, str, dict[bytes, str]]:
    """Return the newest manifest, the content digest as its samples have it, and the subject of each image."""
    dataset = open_dataset(uri)
    manifest = dataset.manifest
    digest = ContentDigest(manifest.recipe, manifest.modality, manifest.intensity, manifest.classes)
    subjects: dict[bytes, str] = {}
    for name in manifest.splits:
        split = dataset.split(name)
        if len(split):
            samples = split.take(np.arange(len(split)))
            labels = samples.label[:, 0].tolist() if samples.label.shape[1] else [-1] * len(samples)
            digest.add(samples.image, labels, [name] * len(samples))
            for image, code in zip(samples.image, samples.subject, strict=True):
                subjects[image.tobytes()] = manifest.subjects[code]
    return manifest, digest.hexdigest(), subjects


def test_a_subject_leaves_and_the_rest_stays(made: tuple[str, list[str]]):
    uri, ids = made
    before, digest, subjects = _content(uri)
    assert before.content_digest == digest and len(before.shards) >= 4
    result = withdraw(uri, [ids[2], "nobody's"])
    after, digest, left = _content(uri)
    gone = subject_key().hash(f"patient:{ids[2]}")
    assert (result.subjects, result.samples, result.unknown) == (1, SLICES, 1)
    assert result.manifest == read_manifest(open_store(uri))[1]
    assert left == {image: name for image, name in subjects.items() if name != gone}
    assert gone not in after.subjects and after.content_digest == digest != before.content_digest
    kept = set(before.shards) & set(after.shards)
    assert len(before.shards) - len(kept) == result.shards_rewritten < len(before.shards)
    assert sum(split.subjects for split in after.splits.values()) == PATIENTS - 1
    assert sum(split.samples for split in after.splits.values()) == (PATIENTS - 1) * SLICES
    changed = [name for name in before.splits if before.splits[name] != after.splits[name]]
    assert len(changed) == 1  # a patient stands in one split; the others are as they were


def test_old_manifests_stay_readable_until_purged(made: tuple[str, list[str]]):
    uri, ids = made
    store = open_store(uri)
    old = read_manifest(store)[1]
    store.replace("report.html", b"thumbnails")
    store.replace("private/accepted/1.png", b"pixels")
    withdraw(uri, ids[:1])
    assert len(open_dataset(uri, manifest=old).split("train").take(np.arange(1))) == 1
    assert store.exists("report.html") and withdrawn(store) == {old}
    result = withdraw(uri, ids[:1], purge=True)
    assert (result.subjects, result.samples, result.manifests_deleted) == (0, 0, 1) and result.shards_deleted >= 1
    assert {entry.key for entry in store.list("manifests")} == {f"manifests/{result.manifest}.json"}
    named = {f"shards/{shard.sha256}.safetensors" for shard in read_manifest(store)[0].shards}
    assert {entry.key for entry in store.list("shards")} == named
    assert not store.exists("report.html") and store.list("private") == [] and withdrawn(store) == {old}
    with pytest.raises(InputError, match="none of the 1 ids"):
        withdraw(uri, ids[:1], purge=True)


def test_a_purge_leaves_no_byte_of_the_subject(made: tuple[str, list[str]]):
    uri, ids = made
    subjects = _content(uri)[2]
    gone = subject_key().hash(f"patient:{ids[1]}")
    images = [image for image, name in subjects.items() if name == gone]
    assert any(images[0] in path.read_bytes() for path in Path(uri).rglob("*.safetensors"))
    withdraw(uri, [ids[1]], purge=True)
    everything = b"".join(path.read_bytes() for path in Path(uri).rglob("*") if path.is_file())
    assert gone.encode() not in everything and all(image not in everything for image in images)


def test_an_interrupted_purge_goes_on(made: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch):
    uri, ids = made
    store = open_store(uri)

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "delete", fail)
        with pytest.raises(KeyboardInterrupt):
            withdraw(uri, ids[:2], purge=True)
    assert len(store.list("manifests")) == 2  # nothing that finds the rest is lost
    assert withdraw(uri, ids[:2], purge=True).manifests_deleted == 1
    assert len(store.list("manifests")) == 1


@pytest.mark.parametrize("purge", [False, True])
def test_later_ingests_leave_out_who_was_withdrawn(made: tuple[str, list[str]], tmp_path: Path, purge: bool):
    uri, ids = made
    before = _content(uri)[2]
    for known in ids[:2]:
        withdraw(uri, [known], purge)
    left = _content(uri)[2]
    _scans(tmp_path / "more", PATIENTS + 2)
    result = ingest_scans(str(tmp_path / "more"), uri, CONFIG)
    assert result.rejected == {"withdrawn": 2 * SLICES, "duplicate": (PATIENTS - 2) * SLICES}
    manifest, digest, subjects = _content(uri)
    assert left.items() <= subjects.items() and manifest.content_digest == digest
    assert not (before.keys() - left.keys()) & subjects.keys()
    assert len(set(subjects.values())) == count_subjects(manifest.subjects) == PATIENTS
    again = ingest_scans(str(tmp_path / "more"), uri, CONFIG)
    assert (again.manifest, again.added, again.rejected["withdrawn"]) == (result.manifest, 0, 2 * SLICES)


def test_the_wish_is_kept_before_anything_else(made: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch):
    """A crash, or another writer who is faster, must not leave a dataset that takes the scans back."""
    uri, ids = made
    store = open_store(uri)
    with monkeypatch.context() as patch:
        patch.setattr(type(store), "swap", lambda *_: False)
        with pytest.raises(StoreError, match="another writer"):
            withdraw(uri, ids[:1])
    key = subject_key()
    assert key.mark(key.hash(f"patient:{ids[0]}")) in module.marks(store)
    assert key.mark(key.hash(f"group:{ids[0]}")) in module.marks(store)
    assert withdraw(uri, ids[:1]).samples == SLICES


def test_withdrawals_name_nobody(made: tuple[str, list[str]]):
    """Neither an id nor the hash by which shards and manifests knew the subject."""
    uri, ids = made
    withdraw(uri, ids[:2], purge=True)
    kept = b"".join(path.read_bytes() for path in Path(uri).rglob("*") if path.is_file())
    for known in ids[:2]:
        assert known.encode() not in kept
        assert all(subject_key().hash(f"{kind}:{known}").encode() not in kept for kind in ("patient", "group", "study"))


def test_what_is_cached_goes_too(made: tuple[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    uri, ids = made
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    for entry in open_store(uri).list("shards"):
        open_store(str(tmp_path / "cache")).replace(entry.key, b"a copy")
    result = withdraw(uri, ids[:1], purge=True)
    assert result.shards_deleted >= 1
    cached = {path.name for path in (tmp_path / "cache" / "shards").iterdir()}
    there = {Path(entry.key).name for entry in open_store(uri).list("shards")}
    assert cached and cached <= there


def test_groups_of_a_table_are_withdrawn_by_their_names(tmp_path: Path):
    _scans(tmp_path / "scans")
    rows = [f"{number}.dcm,family{number // 4}" for number in range(PATIENTS * SLICES)]
    (tmp_path / "scans" / "labels.csv").write_text("\n".join(["file,patient", *rows]))
    ingest_scans(str(tmp_path / "scans"), str(tmp_path / "data"), CONFIG)
    result = withdraw(str(tmp_path / "data"), ["family1"])
    assert (result.subjects, result.samples) == (1, 4)


def test_everybody_may_leave(made: tuple[str, list[str]]):
    uri, ids = made
    assert withdraw(uri, ids, purge=True).samples == PATIENTS * SLICES
    assert read_manifest(open_store(uri))[0].shards == () and open_store(uri).list("shards") == []


def test_nobody_matched_and_wrong_keys_are_refused(made: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch):
    uri, ids = made
    before = open_store(uri).list()
    with pytest.raises(InputError, match="none of the 2 ids") as refused:
        withdraw(uri, ["JANE-DOE", "x"])
    assert "JANE" not in str(refused.value) and refused.value.exit_code == 4
    monkeypatch.setenv(KEY_VARIABLE, "another key, long enough")
    with pytest.raises(UsageError, match="another subject key"):
        withdraw(uri, ids[:1])
    assert open_store(uri).list() == before


def test_it_works_on_s3(s3: str, tmp_path: Path):
    ids = _scans(tmp_path / "scans", 4)
    ingest_scans(str(tmp_path / "scans"), f"{s3}/data", CONFIG)
    result = withdraw(f"{s3}/data", ids[:1], purge=True)
    assert (result.subjects, result.manifests_deleted) == (1, 1)
    assert ingest_scans(str(tmp_path / "scans"), f"{s3}/data", CONFIG).rejected["withdrawn"] == SLICES
    assert len(_content(f"{s3}/data")[2]) == 3 * SLICES
    assert module.withdrawn(open_store(f"{s3}/data"))
