"""Training with dataset, run and cache on S3 goes on where it stopped, like anywhere else."""

import json

import pytest

from medgan_ray import load_model
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.host import LocalHost
from medgan_ray.store import open_store
from medgan_ray.verbs.train import begin, train
from tests.builders import SMALL, write_dataset


class StopsOnce(LocalHost):
    def should_stop(self):
        return True


def test_a_run_on_s3_equals_a_local_one(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    write_dataset(str(tmp_path / "data"))
    write_dataset(f"{s3}/data")
    config = {**SMALL, "images": 256}
    local = train(str(tmp_path / "data"), str(tmp_path / "run"), config)
    part = train(f"{s3}/data", f"{s3}/run", config, StopsOnce())
    assert not part.complete and part.images == 128
    whole = train(f"{s3}/data", f"{s3}/run", config)
    assert whole.weights_sha256 == local.weights_sha256
    assert load_model(f"{s3}/run").version == load_model(str(tmp_path / "run")).version
    log = open_store(f"{s3}/run").list("log")
    assert {entry.key.split("/")[1] for entry in log} == {"000000000000", "000000000128"}
    assert any("tensorboard/events" in entry.key for entry in log)


def test_a_truncated_shard_stops_before_training(tmp_path):
    manifest = write_dataset(str(tmp_path / "data"))
    path = tmp_path / "data" / "shards" / f"{manifest.shards[0].sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(InputError, match="shard holds"):
        train(str(tmp_path / "data"), str(tmp_path / "run"), SMALL)


def test_bad_requests_leave_no_run(tmp_path, s3):
    write_dataset(str(tmp_path / "data"))
    with pytest.raises(UsageError, match=r"size=\[64, 64\]"):
        begin(str(tmp_path / "data"), str(tmp_path / "run"), {"size": 64})
    with pytest.raises(InputError, match="no dataset here"):
        begin(str(tmp_path / "none"), str(tmp_path / "run"))
    with pytest.raises(StoreError, match="no such bucket"):
        begin("s3://nowhere/data", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_what_was_asked_is_recorded_whole(tmp_path):
    write_dataset(str(tmp_path / "data"))
    begin(str(tmp_path / "data"), str(tmp_path / "run"), SMALL)
    asked = json.loads((tmp_path / "run" / "run.json").read_text())
    assert asked["config"]["train"]["lr"] == 0.001 and asked["config"]["model"]["latent"] == 8
    assert asked["code_version"] and len(asked["manifest"]) == 64


def test_a_run_from_before_an_option_was_there_goes_on_where_that_stands_at_its_default(tmp_path):
    data, run = str(tmp_path / "data"), tmp_path / "run"
    write_dataset(data)
    begin(data, str(run), SMALL)
    asked = json.loads((run / "run.json").read_text())
    del asked["config"]["train"]["most_rollbacks"]
    (run / "run.json").write_text(json.dumps(asked))
    assert begin(data, str(run), SMALL) is None
    with pytest.raises(UsageError, match=r"begun with another train\.most_rollbacks"):
        begin(data, str(run), {**SMALL, "train": {**SMALL["train"], "most_rollbacks": 1}})
