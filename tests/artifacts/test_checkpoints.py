"""A checkpoint is whole or it is not there."""

import pytest
import torch

from medgan_ray.artifacts import checkpoints
from medgan_ray.errors import InputError
from medgan_ray.store import open_store


def state(value):
    return {"networks/generator/w": torch.full((4, 3), value), "optimizers/generator/w/step": torch.tensor(value)}


@pytest.fixture(params=["folder", "s3"])
def run(request, tmp_path):
    return open_store(str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3"))


def test_the_newest_whole_one_is_found_and_the_others_are_named(run):
    names = [checkpoints.commit(run, images, state(float(images)), {"figures": {}}) for images in (32, 64, 96, 128)]
    data = bytearray(run.read(f"checkpoints/{names[3]}/state.safetensors"))
    data[-3] ^= 1
    run.replace(f"checkpoints/{names[3]}/state.safetensors", bytes(data))
    run.replace(f"checkpoints/{names[2]}/state.safetensors", bytes(data[:-9]))
    said = []
    found = checkpoints.newest(run, said.append)
    assert found is not None and found.name == names[1] and found.images == 64
    assert torch.equal(found.tensors["networks/generator/w"], torch.full((4, 3), 64.0))
    assert [names[3] in said[0], names[2] in said[1]] == [True, True]


def test_without_a_commit_there_is_no_checkpoint(run):
    name = checkpoints.commit(run, 32, state(1.0), {})
    run.delete(f"checkpoints/{name}/commit.json")
    assert checkpoints.names(run) == [] and checkpoints.newest(run, print) is None


def test_the_same_state_has_the_same_name(run):
    assert checkpoints.commit(run, 32, state(1.0), {}) == checkpoints.commit(run, 32, state(1.0), {})
    assert len(checkpoints.names(run)) == 1


def test_the_newest_and_the_best_are_kept(run):
    names = [checkpoints.commit(run, images, state(float(images)), {}) for images in (8, 16, 24, 32)]
    checkpoints.prune(run, checkpoints.Keep(last=2, interval=8), best=names[0])
    assert checkpoints.names(run) == [names[0], names[2], names[3]]
    assert all(entry.key.split("/")[1] != names[1] for entry in run.list("checkpoints"))


def test_what_the_schedule_made_outlives_what_an_interruption_made_and_every_nth_stays(run):
    names = [checkpoints.commit(run, images, state(float(images)), {}) for images in (8, 11, 16, 24, 29, 32, 37)]
    checkpoints.prune(run, checkpoints.Keep(last=1, interval=8, every=16), best=None)
    assert checkpoints.names(run) == [names[2], names[5], names[6]]


def test_what_was_never_committed_is_swept_once_a_newer_one_is(run):
    names = [checkpoints.commit(run, images, state(float(images)), {}) for images in (8, 16, 24)]
    for name in (names[0], names[2]):
        run.delete(f"checkpoints/{name}/commit.json")
    checkpoints.prune(run, checkpoints.Keep(last=2, interval=8), best=None)
    assert {entry.key.split("/")[1] for entry in run.list("checkpoints")} == {names[1], names[2]}


def test_a_pickle_in_place_of_tensors_is_refused(run):
    import hashlib
    import json

    name = checkpoints.commit(run, 32, state(1.0), {})
    evil = b"\x80\x04cos\nsystem\n."
    run.replace(f"checkpoints/{name}/state.safetensors", evil)
    hashes = json.loads(run.read(f"checkpoints/{name}/commit.json"))
    hashes["state.safetensors"] = hashlib.sha256(evil).hexdigest()
    run.replace(f"checkpoints/{name}/commit.json", json.dumps(hashes).encode())
    with pytest.raises(InputError, match="not a safetensors file"):
        checkpoints.load(run, name)
