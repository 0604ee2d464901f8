"""A translator is trained like everything else: one command, exact, and better than the plain method."""

import json

import pytest

from medgan_ray import load_model
from medgan_ray.artifacts import checkpoints
from medgan_ray.artifacts.runs import read_log
from medgan_ray.artifacts.versions import read_model
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import write_dataset
from tests.engine.ranks import Stopping, train_on

TRAIN = {"checkpoint_images": 64, "log_images": 32, "writers": [], "given": "down2", "lr": 3e-3}
SMALL = {"task": "translate", "batch": 8, "images": 128, "model": {"generator_width": 8}, "train": TRAIN}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("disks"))
    write_dataset(folder, counts={"train": 60, "val": 24, "test": 24}, pairs=True)
    return folder


def changed(**train):
    return {**SMALL, "train": {**TRAIN, **train}}


@pytest.mark.parametrize("given", ["pair", "down4", "noise", "dose", "hole"])
def test_it_gets_better_than_the_plain_method(dataset, tmp_path, given):
    host, run = Stopping(), str(tmp_path / "run")
    result = train(dataset, run, {**changed(given=given, noise_sd=400), "images": 320}, host)
    assert result.complete and result.figures["score"] < 0.97
    assert result.figures["mae"] < result.figures["plain_mae"]
    assert result.figures["mae_low"] <= result.figures["mae"] <= result.figures["mae_high"]
    assert f"unet, 8 wide, given {given}, faithful" in host.said
    _, card = read_model(open_store(run).child("best"))
    assert card.task == "translate" and card.translation["given"] == given and not card.labels


def test_a_run_that_stops_anywhere_ends_with_the_same_weights(dataset, tmp_path):
    longer = {**SMALL, "images": 480}
    whole = train(dataset, str(tmp_path / "whole"), longer)
    part = train(dataset, str(tmp_path / "parts"), longer, Stopping(after=3))
    assert not part.complete and 0 < part.images < 480
    rest = train(dataset, str(tmp_path / "parts"), longer)
    assert rest.weights_sha256 == whole.weights_sha256 and rest.figures == whole.figures


@pytest.mark.slow
@pytest.mark.parametrize("head", ["faithful", "realistic"])
def test_two_ranks_train_and_judge_as_one(dataset, head):
    exact = {**changed(precision="float64", head=head), "images": 64}
    one, two = train_on(1, dataset, exact), train_on(2, dataset, exact)
    mine, theirs = (checkpoints.newest(open_store(run), print).tensors for run in (one, two))
    for name, value in mine.items():
        assert (value - theirs[name]).abs().max() < 1e-10, name
    first, second = (json.loads(open_store(run).read("result.json"))["figures"] for run in (one, two))
    assert first == pytest.approx(second, rel=1e-5)


def test_the_discriminator_joins_in_when_half_is_seen(dataset, tmp_path):
    run = str(tmp_path / "run")
    train(dataset, run, changed(head="realistic"))
    lines = read_log(open_store(run))
    fooled = {line["images"]: line.get("translator_adversarial") for line in lines if "translator_apart" in line}
    assert fooled[64] is None and fooled[96] > 0 and fooled[128] > 0
    weights, _ = read_model(open_store(run).child("best"))
    assert not any("discriminator" in name for name in weights), "it is never published"


def test_what_it_cannot_follow_is_refused(dataset, tmp_path):
    write_dataset(str(tmp_path / "single"))
    for where, options, message in [
        (str(tmp_path / "single"), changed(given="pair"), "holds no pairs"),
        (dataset, changed(init_from="elsewhere"), r"starts afresh \(train\.init_from\)"),
        (dataset, {**SMALL, "augment": {"control": "adaptive"}}, r"augment\.control"),
        (
            dataset,
            {**SMALL, "augment": {"noise": 0.1}},
            r"noise that a translator would have to make \(augment\.noise\)",
        ),
        (dataset, {**SMALL, "model": {"name": "dcgan"}}, "no network for task=translate"),
    ]:
        with pytest.raises(UsageError, match=message):
            train(where, str(tmp_path / "run"), options)
    train(dataset, str(tmp_path / "made"), {**SMALL, "images": 8})
    with pytest.raises(UsageError, match="a model of task=translate makes no scans"):
        load_model(str(tmp_path / "made"))
