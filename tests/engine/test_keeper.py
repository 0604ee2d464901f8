"""Checkpoints are written beside the training; a store that fails for a while costs a checkpoint and not the run."""

import contextlib
import resource

import pytest
import torch

from medgan_ray.artifacts import checkpoints
from medgan_ray.artifacts.runs import read_json, read_log
from medgan_ray.artifacts.versions import read_model
from medgan_ray.engine import keeper
from medgan_ray.engine.keeper import Keeper, Snapshot
from medgan_ray.engine.record import Record
from medgan_ray.errors import StoreError
from medgan_ray.store import open_store

FACTS = {
    "model": {"name": "dcgan"},
    "channels": 1,
    "size": (8, 8),
    "modality": "CT",
    "intensity": {"unit": "HU", "low": -1024, "high": 3071, "window": (0, 80)},
    "content_digest": "d",
    "manifest": "m",
    "code_version": "0",
}


def snapshot(images, score=None, judged=True):
    tensors = {"networks/average/w": torch.full((50, 50), float(images)), "networks/generator/w": torch.zeros(1)}
    figures = {} if score is None else {"score": score}
    return Snapshot(images, tensors, {"state": {"rate": 1.0}}, figures, judged, None)


@pytest.fixture
def said():
    return []


@pytest.fixture
def run(tmp_path):
    return open_store(str(tmp_path / "run"))


@pytest.fixture
def kept(run, said):
    made = Keeper(run, Record(run, 0), checkpoints.Keep(2, 8), FACTS, said.append)
    yield made
    made.close()


@contextlib.contextmanager
def files_of_at_most(size):
    """A disk that refuses to hold larger files, as a full one does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_is_written_can_be_gone_on_from_and_the_best_is_kept(kept, run, said):
    for images, score in ((8, 2.0), (16, 1.5), (24, 1.7), (32, 1.6)):
        kept.submit(snapshot(images, score))
        assert kept.wait() == f"{run.uri}/checkpoints/{checkpoints.names(run)[-1]}"
    found = keeper.newest(run, FACTS, said.append)
    assert found.images == 32 and found.facts["loop"] == {"state": {"rate": 1.0}}
    assert read_json(run, "best.json")["images"] == 16 and read_model(run.child("best"))[1].images == 16
    assert [checkpoints.images_of(name) for name in checkpoints.names(run)] == [16, 24, 32]


def test_figures_before_a_checkpoint_are_in_the_store_when_it_is_there(run, said, monkeypatch):
    """Who is killed right after the commit has logged what led to it; who goes on from it won't log that again."""
    record, at_commit, commit = Record(run, 0), [], checkpoints.commit

    def look_then_commit(*given):
        at_commit.append([line["images"] for line in read_log(run)])
        return commit(*given)

    monkeypatch.setattr(checkpoints, "commit", look_then_commit)
    kept = Keeper(run, record, checkpoints.Keep(2, 8), FACTS, said.append)
    for images in (8, 16):
        record.add(images - 4, {"loss": 1.0})
        record.add(images, {"loss": 1.0})
        kept.submit(snapshot(images))
        kept.wait()
    kept.close()
    assert at_commit == [[4, 8], [4, 8, 12, 16]]


def test_one_that_an_interruption_made_never_is_the_best(kept, run, said):
    for images, score, judged in ((8, 2.0, True), (11, 1.0, False)):
        kept.submit(snapshot(images, score, judged))
        kept.wait()
    assert keeper.newest(run, FACTS, said.append).images == 11
    assert read_json(run, "best.json")["images"] == 8


def test_the_best_is_the_same_if_the_process_died_before_it_was_written(kept, run, said):
    for images, score in ((8, 2.0), (16, 1.0)):
        kept.submit(snapshot(images, score))
        kept.wait()
        if images == 8:
            before = run.read("best.json")
    run.replace("best.json", before)
    keeper.newest(run, FACTS, said.append)
    assert read_json(run, "best.json")["images"] == 16 and read_model(run.child("best"))[1].images == 16


def test_a_best_json_that_is_torn_is_made_again(kept, run, said):
    kept.submit(snapshot(8, 2.0))
    kept.wait()
    run.replace("best.json", b"{")
    keeper.newest(run, FACTS, said.append)
    assert read_json(run, "best.json")["images"] == 8
    assert said[0].startswith("best.json is made again")


def test_a_full_disk_costs_checkpoints_until_it_has_room_again(kept, run, said):
    with files_of_at_most(5000):
        for images in (8, 16):
            kept.submit(snapshot(images))
            assert kept.wait() == ""
    kept.submit(snapshot(24))
    assert kept.wait().endswith(checkpoints.names(run)[0])
    assert [line.startswith("a checkpoint could not be written, training goes on: ") for line in said] == [True, True]
    assert [checkpoints.images_of(name) for name in checkpoints.names(run)] == [24]


def test_a_disk_that_stays_full_ends_the_run_with_its_name(kept, run):
    with files_of_at_most(5000), pytest.raises(StoreError, match="File too large"):
        for images in (8, 16, 24):
            kept.submit(snapshot(images))
            kept.wait()
    with files_of_at_most(5000), pytest.raises(StoreError, match="File too large"):
        kept.submit(snapshot(32))
        kept.wait(last=True)
