"""inspect says what an artifact is, draws it, verifies it and sweeps what nothing names."""

import pytest
from PIL import Image

from medgan_ray.artifacts import checkpoints
from medgan_ray.errors import InputError
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
    assert facts["result"]["images"] == 96 and facts["checkpoints"] == checkpoints.names(run)
    assert (tmp_path / "samples.png").exists()
    assert inspect(f"{run.uri}/best")["kind"] == "model"


def test_what_is_unknown_says_so(tmp_path):
    with pytest.raises(InputError, match="nothing known here"):
        inspect(str(tmp_path))
