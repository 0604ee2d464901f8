"""An encoder finds the noise of a scan for a generator that stays as it is, exactly as every other training."""

import json

import pytest

from medgan_ray import load_model
from medgan_ray.artifacts import checkpoints
from medgan_ray.artifacts.versions import read_model
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset
from tests.engine.ranks import Stopping, train_on

TRAIN = {"checkpoint_images": 160, "log_images": 32, "writers": [], "lr": 3e-3, "precision": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gan")
    write_dataset(str(folder / "data"), classes=("a", "b"), counts={"train": 60, "val": 24, "test": 24})
    train(str(folder / "data"), str(folder / "gan"), {**SMALL, "images": 320})
    return folder


def options(made, images=160, **given):
    return {**SMALL, "task": "encode", "images": images, "train": {**TRAIN, "init_from": str(made / "gan"), **given}}


def test_it_learns_and_the_generator_stays_as_it_is(made, tmp_path):
    host, run = Stopping(), str(tmp_path / "run")
    result = train(str(made / "data"), run, options(made, 640), host)
    log = [json.loads(line) for path in (tmp_path / "run" / "log").glob("*/metrics.jsonl") for line in lines(path)]
    scores = {line["images"]: line["score"] for line in log if "score" in line}
    assert result.figures["score"] < 0.9 * scores[160] and 0 < result.figures["ssim"] <= 1
    weights, card = read_model(open_store(run).child("best"))
    generator, _ = read_model(open_store(str(made / "gan")).child("best"))
    assert card.task == "encode" and {name for name in weights if name.startswith("generator.")} == {
        f"generator.{name}" for name in generator
    }
    for name, value in generator.items():
        assert (weights[f"generator.{name}"] == value).all()
    assert load_model(run).sample(2, "a").shape == (2, 1, 32, 32), "it also generates"
    assert host.said[0] == "an encoder for dcgan, 4 wide"


def lines(path):
    return path.read_text().splitlines()


@pytest.mark.slow
def test_two_ranks_train_as_one_and_a_stop_changes_nothing(made, tmp_path):
    exact = options(made, 64, precision="float64")
    one, two = (train_on(world, str(made / "data"), exact) for world in (1, 2))
    mine, theirs = (checkpoints.newest(open_store(run), print).tensors for run in (one, two))
    for name, value in mine.items():
        assert (value - theirs[name]).abs().max() < 1e-10, name
    whole = train(str(made / "data"), str(tmp_path / "whole"), options(made, 320))
    part = train(str(made / "data"), str(tmp_path / "parts"), options(made, 320), Stopping(after=3))
    assert not part.complete
    rest = train(str(made / "data"), str(tmp_path / "parts"), options(made, 320))
    assert rest.weights_sha256 == whole.weights_sha256


def test_what_it_cannot_follow_is_refused(made, tmp_path):
    data = str(made / "data")
    wide = {**options(made), "model": {**SMALL["model"], "generator_width": 8}}
    for config, message in [
        ({**SMALL, "task": "encode"}, r"no generator to encode for \(train\.init_from\)"),
        (wide, "no weight fits the generator|would be frozen and is not there"),
        (options(made, freeze_trunk=True), r"train\.freeze_trunk"),
    ]:
        with pytest.raises(UsageError, match=message):
            train(data, str(tmp_path / "run"), config)
