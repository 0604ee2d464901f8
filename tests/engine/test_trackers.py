"""MLflow and Weights & Biases, the packages themselves: a run that goes on goes on in the same run of theirs."""

import json

import pytest

from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

FIGURES = ("generator_loss", "images_per_s")


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_API_KEY", "WANDB_DIR", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    write_dataset(str(tmp_path / "data"))
    return str(tmp_path / "data")


def two_attempts(dataset, run, writer):
    """Train to 96 images, then on to 160; return the identifier that was kept after each."""
    kept = []
    for images in (96, 160):
        config = {**SMALL, "images": images, "train": {**SMALL["train"], "writers": ["tensorboard", writer]}}
        train(dataset, run, config)
        kept.append(json.loads(open_store(run).read(f"writers/{writer}.json"))["run"])
    return kept


def test_mlflow_keeps_one_run_over_several_attempts(dataset, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    run = str(tmp_path / "heads-1")
    first, second = two_attempts(dataset, run, "mlflow")
    assert first == second
    client = mlflow.MlflowClient((tmp_path / "heads-1" / "mlflow").as_uri())
    found = client.get_run(first)
    assert (found.info.run_name, found.info.status) == ("heads-1", "FINISHED")
    assert client.get_experiment(found.info.experiment_id).name == "medgan-ray"
    steps = [each.step for each in client.get_metric_history(first, "generator_loss")]
    assert steps == list(range(8, 161, 8))
    assert set(FIGURES) <= set(found.data.metrics)
    params = found.data.params
    assert params["model.latent"] == "8" and params["batch"] == "8" and "dataset" not in params
    assert all(str(tmp_path) not in value for value in {**params, **found.data.tags}.values())
    pictures = [each.path for each in client.list_artifacts(first, "images")]
    assert {int(path.split("step")[1].strip("+%").split("+")[0]) for path in pictures} >= {32, 96, 160}


def test_mlflow_goes_on_elsewhere_if_the_server_has_forgotten(dataset, tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    run = str(tmp_path / "run")
    store = open_store(run)
    store.replace("writers/mlflow.json", json.dumps({"run": "0" * 32}).encode())
    first, second = two_attempts(dataset, run, "mlflow")
    assert first == second != "0" * 32


def test_wandb_is_offline_without_a_key_and_keeps_its_identifier(dataset, tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    run = str(tmp_path / "run")
    first, second = two_attempts(dataset, run, "wandb")
    assert first == second
    attempts = sorted((tmp_path / "run" / "wandb").glob(f"offline-run-*-{first}*"))
    assert attempts, "nothing was written"
    written = b"".join(path.read_bytes() for attempt in attempts for path in attempt.rglob("*.wandb"))
    assert b"generator_loss" in written and b"images_per_s" in written
    assert str(tmp_path).encode() not in written
    assert list((tmp_path / "run" / "wandb").rglob("media/images/preview_*.png"))
