"""Training past a corrupt shard: it stops by name, or goes on without it and always ends with the same weights."""

import pytest

from medgan_ray.errors import BadShard
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


def test_a_run_without_a_corrupt_shard_ends_with_the_same_weights_each_time(tmp_path):
    manifest = write_dataset(str(tmp_path / "data"), shard_bytes=40_000)
    path = tmp_path / "data" / "shards" / f"{manifest.shards[2].sha256}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(BadShard, match=path.stem):
        train(str(tmp_path / "data"), str(tmp_path / "stopped"), SMALL)
    skip = {**SMALL, "data": {"on_bad_shard": "skip"}}
    runs = [train(str(tmp_path / "data"), str(tmp_path / name), skip) for name in ("one", "two")]
    assert runs[0].images == 96 and runs[0].weights_sha256 == runs[1].weights_sha256
    assert path.stem.encode() in open_store(str(tmp_path / "one")).read("skipped.json")
