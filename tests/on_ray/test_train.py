"""Training on Ray: a killed worker changes nothing, refusals come back as they were, GANTrainer gives Ray's result."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from medgan_ray import GANTrainer
from medgan_ray.artifacts import checkpoints
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import InputError, UsageError
from medgan_ray.host import LocalHost
from medgan_ray.on_ray.train import train
from medgan_ray.store import open_store
from tests.builders import SMALL, write_dataset

LONG = {**SMALL, "images": 1600, "workers": 2, "train": {**SMALL["train"], "checkpoint_images": 160}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("data"))
    write_dataset(uri)
    return uri


class Recording(LocalHost):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.reports: list[int] = []

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        self.reports.append(images)

    def log(self, text: str) -> None:
        self.lines.append(text)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.chaos
def test_a_killed_worker_changes_no_bit(ray_instance: Path, data: str, tmp_path: Path, descendants: Any) -> None:
    from ray.train import Result, ScalingConfig

    undisturbed = GANTrainer(data, str(tmp_path / "a"), LONG, ScalingConfig(num_workers=2)).fit()
    assert isinstance(undisturbed, Result)
    assert undisturbed.metrics["images"] == 1600
    assert Path(undisturbed.checkpoint.path).parent == tmp_path / "a" / "checkpoints", "registered, not copied"

    run, killed = tmp_path / "b", []

    def kill() -> None:
        store, deadline = open_store(str(run)), time.monotonic() + 200
        while not checkpoints.names(store) and time.monotonic() < deadline:
            time.sleep(0.02)
        for pid in descendants():
            if b"RayTrainWorker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
                return

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    host = Recording()
    disturbed = train(data, str(run), LONG, progress=host)
    killer.join()
    assert killed
    assert disturbed.weights_sha256 == undisturbed.return_value.weights_sha256
    resumed = [line for line in host.lines if line.startswith("resumed from checkpoint 0")]
    assert len(resumed) == 1, host.lines
    repeated = [images for images in set(host.reports) if host.reports.count(images) > 1]
    assert len(repeated) <= 1, "at most one checkpoint interval is repeated"
    assert host.reports[-1] == 1600

    assert train(data, str(run), LONG).weights_sha256 == disturbed.weights_sha256, "a finished run is not trained again"


@pytest.mark.slow
def test_a_truncated_shard_is_refused_by_name_and_not_tried_again(
    ray_instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(str(tmp_path / "data"))
    for shard in (tmp_path / "data" / "shards").iterdir():
        shard.write_bytes(shard.read_bytes()[:-100])
    host = Recording()
    with pytest.raises(InputError, match="shard") as refused:
        train(str(tmp_path / "data"), str(tmp_path / "run"), SMALL, progress=host)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_run_goes_on_without_a_truncated_shard_where_that_is_asked_for(ray_instance: Path, tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "data"), shard_bytes=64 * 2**10)
    entry = next(entry for entry in open_dataset(str(tmp_path / "data")).manifest.shards if entry.split == "train")
    shard = tmp_path / "data" / "shards" / f"{entry.sha256}.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    host, run = Recording(), str(tmp_path / "run")
    asked = {**SMALL, "workers": 2, "data": {"on_bad_shard": "skip"}}
    assert train(str(tmp_path / "data"), run, asked, progress=host).complete
    assert entry.sha256 in (tmp_path / "run" / "skipped.json").read_text()
    assert any("skipped from now on" in line for line in host.lines)


def test_mistakes_are_refused_before_anything_starts(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medgan_ray.on_ray.session.local", pytest.fail)
    run = str(tmp_path / "run")
    for config, message in [
        ({"model.name": "r3gen"}, "did you mean 'r3gan'"),
        ({"train.lr": -1}, "train.lr"),
        ({"ray.max_failure": 1}, "did you mean 'max_failures'"),
    ]:
        with pytest.raises(UsageError, match=message):
            train(data, run, config)
    with pytest.raises(InputError):
        train(str(tmp_path / "nowhere"), run)
    assert not Path(run).exists()


def test_gan_trainer_takes_one_place_and_trains_here_without_workers(data: str, tmp_path: Path) -> None:
    from ray.train import RunConfig, ScalingConfig

    run = str(tmp_path / "run")
    with pytest.raises(UsageError, match="two places"):
        GANTrainer(data, run, run_config=RunConfig(name="other", storage_path=str(tmp_path)))
    same = RunConfig(name="run", storage_path=str(tmp_path))
    result = GANTrainer(data, run, SMALL, ScalingConfig(num_workers=0), same).fit()
    assert result.metrics["images"] == 96
    assert result.checkpoint.path.startswith(f"{run}/checkpoints/")
