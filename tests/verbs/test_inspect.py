"""inspect says what an artifact is, draws it, verifies it and sweeps what nothing names."""

import dataclasses
import shutil

import pytest
from PIL import Image

from medgan_ray.artifacts import checkpoints
from medgan_ray.cli.main import main
from medgan_ray.dataset.manifest import Manifest, read_manifest, write_manifest
from medgan_ray.dataset.shards import ShardWriter, open_shard, shard_key
from medgan_ray.errors import InputError
from medgan_ray.ingest.deidentify import subject_key
from medgan_ray.ingest.withdraw import withdraw
from medgan_ray.store import open_store
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "data"), classes=("normal", "lesion"))
    return open_store(str(tmp_path / "data"))


def test_a_dataset_is_told_drawn_and_verified(dataset, tmp_path):
    facts = inspect(dataset.uri, grid=str(tmp_path / "grid.png"), verify=True)
    assert (facts["kind"], facts["samples"], facts["verified"]) == ("dataset", 168, 3)
    assert facts["classes"] == {"label": ["normal", "lesion"]}
    with Image.open(tmp_path / "grid.png") as grid:
        assert grid.mode == "L"


def test_verifying_names_a_damaged_shard(dataset):
    shard = dataset.list("shards")[0].key
    dataset.replace(shard, dataset.read(shard)[:-1])
    with pytest.raises(InputError, match="shard holds"):
        inspect(dataset.uri, verify=True)


def test_sweeping_removes_only_what_nothing_names(dataset):
    shard, orphan = dataset.list("shards")[0].key, f"shards/{'0' * 64}.safetensors"
    dataset.replace(orphan, b"left by a crash")
    assert inspect(dataset.uri, sweep=True)["swept"] == [orphan]
    assert dataset.exists(shard) and not dataset.exists(orphan)


def test_a_run_is_told_drawn_verified_and_swept(dataset, tmp_path):
    run = open_store(str(tmp_path / "run"))
    train(dataset.uri, run.uri, SMALL)
    torn = "checkpoints/000000000099-000000000000/state.safetensors"
    run.replace(torn, b"half")
    facts = inspect(run.uri, grid=str(tmp_path / "samples.png"), verify=True, sweep=True)
    assert facts["kind"] == "run" and facts["verified"] == 4 and facts["swept"] == [torn]
    assert facts["previews"][:2] == ["previews/walk.gif", "previews/000000000096.png"]
    assert facts["result"]["images"] == 96 and facts["checkpoints"] == checkpoints.names(run)
    assert (tmp_path / "samples.png").exists()
    assert inspect(f"{run.uri}/best")["kind"] == "model"


def test_runs_and_models_of_a_dataset_are_named(tmp_path, capfd, monkeypatch):
    monkeypatch.setenv("MEDGAN_SUBJECT_KEY", "a key for this test")
    data, other, trials = (str(tmp_path / name) for name in ("data", "other", "runs"))
    hashes = [subject_key().hash(f"patient:{number}") for number in range(4)]
    _with_subjects(data, hashes)
    first = train(data, f"{trials}/first", SMALL)
    shutil.copytree(f"{trials}/first/best", f"{trials}/model")
    withdraw(data, ["2"], purge=True)
    train(data, f"{trials}/second", SMALL)
    write_dataset(other)
    train(other, str(tmp_path / "stranger"), {**SMALL, "images": 32})
    found = inspect(data, among=[trials, str(tmp_path / "stranger")])
    assert found["subjects"] == 3
    told = {each["uri"].rpartition("/")[2]: (each["kind"], each["withdrawn"]) for each in found["runs"]}
    assert told == {"first": ("run", True), "model": ("model", True), "second": ("run", False)}
    assert first.run.endswith("first")
    assert main(["inspect", data, "--runs", f"{trials}/first", f"{trials}/second"]) == 0
    lines = [line.split() for line in capfd.readouterr().out.splitlines() if "/runs/" in line]
    assert [(line[1], line[-1]) for line in lines] == [("run", "yes"), ("run", "no")]
    assert main(["inspect", data, f"{trials}/first"]) == 2
    assert main(["inspect", f"{trials}/first", "--runs", trials]) == 2
    assert main(["inspect", data, "--runs", f"{tmp_path}/nowhere"]) == 4


def _with_subjects(uri, hashes):
    """Write a small dataset whose samples are of four subjects that a key knows."""
    write_dataset(uri, counts={"train": 60, "val": 20})
    store = open_store(uri)
    manifest, sha256 = read_manifest(store)
    shards = []
    for entry in manifest.shards:
        samples = open_shard(store.path(shard_key(entry.sha256)))
        writer = ShardWriter(store, entry.split, "recipe")
        writer.add(dataclasses.replace(samples, subject=samples.subject % 2 + 2 * (entry.split == "train")))
        shards += writer.close()
    changes = {"subjects": hashes, "shards": shards, "key_fingerprint": subject_key().fingerprint}
    write_manifest(store, Manifest.parse({**manifest.model_dump(), **changes}), sha256)


def test_what_is_unknown_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing known here"):
        inspect(str(tmp_path))
