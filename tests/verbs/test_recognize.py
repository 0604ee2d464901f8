"""A recognizer is trained like a generator: one command, any number of ranks, exact, and its model says what it is."""

import json
import signal

import pytest

from medgan_ray import load_model
from medgan_ray.artifacts import checkpoints
from medgan_ray.artifacts.versions import read_model
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import UsageError
from medgan_ray.inference.recognizer import load_recognizer
from medgan_ray.store import open_store
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.train import begin, train
from tests.builders import write_dataset
from tests.engine.ranks import Stopping, train_on

TRAIN = {"checkpoint_images": 32, "log_images": 16, "writers": []}
SMALL = {"task": "recognize", "batch": 8, "images": 96, "model": {"recognizer_width": 8}, "train": TRAIN}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Disks of two classes: what tells them apart is their number's parity, which nothing shows."""
    folder = str(tmp_path_factory.mktemp("disks"))
    write_dataset(folder, classes=("normal", "lesion"), counts={"train": 60, "val": 24, "test": 30})
    return folder


def lines(run):
    found = sorted(open_store(run).path("log").glob("*/metrics.jsonl"))
    return [line for path in found for line in map(json.loads, path.read_text().splitlines())]


def test_a_run_ends_with_figures_and_a_model_that_says_what_it_is(dataset, tmp_path):
    host, run = Stopping(), str(tmp_path / "run")
    result = train(dataset, run, SMALL, host)
    assert result.complete and result.not_applicable == ""
    expected = {"score", "balanced_accuracy", "auroc", "ece", "majority_accuracy", "sensitivity_normal"}
    assert expected <= result.figures.keys() and result.figures["majority_accuracy"] == 0.5
    weights, card = read_model(open_store(run).child("best"))
    assert card.task == "recognize" and card.model["name"] == "residual" and card.class_counts == (30, 30)
    assert weights["head.weight"].shape[0] == 2 and not any("discriminator" in name for name in weights)
    assert any(line.startswith("residual, 8 wide") for line in host.said)
    measured = [line for line in lines(run) if "score" in line]
    assert [line["images"] for line in measured] == [32, 64, 96] and "augment_p" in measured[0]
    best = json.loads(open_store(run).read("best.json"))
    assert best["score"] == min(line["score"] for line in measured)
    assert not open_store(run).list("previews")
    assert train(dataset, run, SMALL) == result.model_copy(update={"seconds": 0.0})


def test_a_run_that_stops_anywhere_ends_with_the_same_weights(dataset, tmp_path):
    whole = train(dataset, str(tmp_path / "whole"), {**SMALL, "images": 160})
    part = train(dataset, str(tmp_path / "parts"), {**SMALL, "images": 160}, Stopping(after=3))
    assert not part.complete and 0 < part.images < 160
    rest = train(dataset, str(tmp_path / "parts"), {**SMALL, "images": 160})
    assert rest.weights_sha256 == whole.weights_sha256 and rest.figures == whole.figures


def test_a_signal_at_the_end_leaves_no_run_without_its_calibration(dataset, tmp_path):
    """A complete run is never trained again: nothing would make up for it."""

    class Signalled(Stopping):
        def report(self, images, figures, checkpoint):
            super().report(images, figures, checkpoint)
            if images == SMALL["images"]:
                signal.raise_signal(signal.SIGTERM)

    run = str(tmp_path / "run")
    assert train(dataset, run, SMALL, Signalled()).complete
    assert load_recognizer(run).calibration is not None


@pytest.mark.slow
def test_two_ranks_train_and_judge_as_one(dataset):
    exact = {**SMALL, "images": 64, "train": {**TRAIN, "precision": "float64"}}
    one, two = train_on(1, dataset, exact), train_on(2, dataset, exact)
    mine, theirs = (checkpoints.newest(open_store(run), print).tensors for run in (one, two))
    for name, value in mine.items():
        assert (value - theirs[name]).abs().max() < 1e-10, name
    first, second = (json.loads(open_store(run).read("result.json"))["figures"] for run in (one, two))
    assert first == pytest.approx(second, abs=1e-6)


def test_what_makes_no_scans_is_told_in_a_line(dataset, tmp_path):
    run = str(tmp_path / "run")
    train(dataset, run, {**SMALL, "images": 8})
    with pytest.raises(UsageError, match=r"a model of task=recognize makes no scans \(.*\): give one of task=generate"):
        load_model(run)
    with pytest.raises(UsageError, match="makes no scans"):
        inspect(run, grid=str(tmp_path / "grid.png"))
    assert inspect(f"{run}/best")["task"] == "recognize"


def test_what_a_recognizer_cannot_follow_is_refused_before_there_is_a_run(dataset, tmp_path):
    write_dataset(str(tmp_path / "plain"))
    write_dataset(str(tmp_path / "one"), classes=("only",))
    refused = [
        (str(tmp_path / "plain"), {}, "training scans of 0 classes"),
        (str(tmp_path / "one"), {}, "training scans of 1 classes"),
        (dataset, {"augment": {"control": "adaptive"}}, r"augment\.control"),
        (dataset, {"train": {"freeze_trunk": True}}, r"set train\.init_from"),
        (dataset, {"train": {"targets": ["finding"]}}, r"no label set 'finding' \(train\.targets\)"),
        (dataset, {"model": {"recognizer_width": 9}}, "multiple of 8"),
    ]
    for where, options, message in refused:
        with pytest.raises(UsageError, match=message):
            train(where, str(tmp_path / "run"), {**SMALL, **options})
    assert not (tmp_path / "run" / "checkpoints").exists()


@pytest.mark.parametrize("freeze", [False, True])
def test_a_discriminator_becomes_a_trunk(dataset, tmp_path, freeze):
    """Its maps are those of the run that it comes from, and stay so where they are frozen."""
    gan = {"batch": 8, "images": 16, "model": {"name": "dcgan", "latent": 8, "discriminator_width": 8}, "train": TRAIN}
    train(dataset, str(tmp_path / "gan"), gan)
    taken = {**TRAIN, "init_from": str(tmp_path / "gan"), "freeze_trunk": freeze}
    config = {"model": {"name": "dcgan", "recognizer_width": 8}, "train": taken}
    train(dataset, str(tmp_path / "run"), {**SMALL, "images": 24, **config})
    donor = checkpoints.newest(open_store(str(tmp_path / "gan")), print).tensors
    mine = checkpoints.newest(open_store(str(tmp_path / "run")), print).tensors
    for name in ("stages.0.weight", "stages.2.bias"):
        moved = (donor[f"networks/discriminator/{name}"] - mine[f"networks/recognizer/trunk.{name}"]).abs().max()
        assert moved == 0 if freeze else 0 < moved < 0.01
    assert mine["networks/recognizer/head.weight"].any()
    with pytest.raises(UsageError, match="no weight fits the recognizer"):
        train(dataset, str(tmp_path / "wide"), {**SMALL, **config, "model": {"name": "dcgan", "recognizer_width": 24}})


def test_findings_side_by_side_are_learned_together(tmp_path):
    """Two label sets, of which the second is what a disk's side shows."""
    data = str(tmp_path / "data")
    write_dataset(data, classes=("a", "b"), counts={"train": 60, "val": 40, "test": 40}, sides=True)
    result = train(data, str(tmp_path / "run"), SMALL)
    assert {"label.auroc", "side.sensitivity_left", "score"} <= result.figures.keys()
    weights, card = read_model(open_store(str(tmp_path / "run")).child("best"))
    assert [each.name for each in card.labels] == ["label", "side"] and weights["head.weight"].shape[0] == 4
    alone = {**SMALL, "train": {**TRAIN, "targets": ["side"]}}
    result = train(data, str(tmp_path / "alone"), alone)
    _, card = read_model(open_store(str(tmp_path / "alone")).child("best"))
    assert "auroc" in result.figures and card.labels[0].classes == ("left", "right")


def test_each_task_has_its_own_network(dataset, tmp_path):
    assert Config.of({"task": "recognize"}).model.name == "residual"
    assert Config.of({"task": "recognize", "model.latent": 9}).model.name == "residual"
    assert Config.of({}).model.name == "dcgan"
    again = Config.of(Config.of({"task": "recognize"}).model_dump(mode="json"))
    assert again.model.name == "residual"
    assert Config.of({"task": "recognize", "model.name": "dcgan"}).model.name == "dcgan"
    for name in ("residual", "efficientnet-lite0"):
        with pytest.raises(UsageError, match="is no network for task="):
            Config.of({"model.name": name})


def test_classes_that_are_sampled_alike_are_learned_as_equally_common(tmp_path):
    data = str(tmp_path / "data")
    write_dataset(data, classes=("a", "b", "c"), counts={"train": 7, "val": 0, "test": 0})
    for balance, expected in (("none", [3, 2, 2]), ("classes", [1, 1, 1])):
        run = str(tmp_path / balance)
        train(data, run, {**SMALL, "images": 8, "data": {"balance": balance}})
        weights, _ = read_model(open_store(run).child("best"))
        shares = weights["offset"].exp()
        assert shares.tolist() == pytest.approx([count / sum(expected) for count in expected], rel=1e-5)
    assert open_dataset(data).split("train").class_counts(3) == (3, 2, 2)


def test_a_request_is_checked_before_it_is_recorded(dataset, tmp_path):
    begin(dataset, str(tmp_path / "run"), SMALL)
    asked = json.loads((tmp_path / "run" / "run.json").read_text())["config"]
    assert asked["model"]["recognizer_width"] == 8 and asked["train"]["logit_adjustment"] == 1.0
    with pytest.raises(UsageError, match=r"begun with another train\.logit_adjustment"):
        begin(dataset, str(tmp_path / "run"), {**SMALL, "train": {**TRAIN, "logit_adjustment": 0.5}})
