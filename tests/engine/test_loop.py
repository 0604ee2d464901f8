"""Runs are exact: the same weights however often they stop, however many ranks share the batch, whatever is damaged."""

import json
import os

import pytest

from medgan_ray import load_model
from medgan_ray.artifacts import checkpoints
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine.loop import _Loop
from medgan_ray.engine.plan import Plan
from medgan_ray.errors import Interrupted, TrainingStopped, UsageError
from medgan_ray.store import open_store
from medgan_ray.tasks.generate import GenerateTask
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.train import begin, train
from tests.builders import SMALL, write_dataset
from tests.engine.ranks import Stopping, train_on


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "data"), classes=("normal", "lesion"))
    return str(tmp_path / "data")


def lines(run, kind):
    found = sorted((open_store(run).path("log")).glob("*/metrics.jsonl"))
    return [line for path in found for line in map(json.loads, path.read_text().splitlines()) if kind in line]


def test_a_run_leaves_what_it_promises(dataset, tmp_path):
    run = str(tmp_path / "run")
    result = train(dataset, run, SMALL)
    assert result.figures == {} and result.not_applicable == "the test split holds 24 scans, quality figures need 100"
    assert result.complete and result.images == 96 and len(result.weights_sha256) == 64
    keys = [entry.key for entry in open_store(run).list()]
    for expected in ("run.json", "result.json", "best.json", "best/model.safetensors", "best/model.json"):
        assert expected in keys
    assert any(key.startswith("log/000000000000/tensorboard/events") for key in keys)
    assert {key for key in keys if key.startswith("previews/")} == {
        "previews/walk.gif",
        *(f"previews/{images:012d}.png" for images in (32, 64, 96)),
    }
    assert len(checkpoints.names(open_store(run))) == 2
    assert [line["images"] for line in lines(run, "generator_loss")] == list(range(8, 97, 8))


def test_a_complete_run_is_returned_at_once(dataset, tmp_path):
    first = train(dataset, str(tmp_path / "run"), SMALL)
    again = train(dataset, str(tmp_path / "run"), SMALL)
    assert again == first.model_copy(update={"seconds": 0.0})


def test_a_run_that_stops_anywhere_ends_with_the_same_weights(dataset, tmp_path):
    whole = train(dataset, str(tmp_path / "whole"), {**SMALL, "images": 320})
    host = Stopping(after=3)
    part = train(dataset, str(tmp_path / "parts"), {**SMALL, "images": 320}, host)
    assert not part.complete and part.images == 128
    host = Stopping()
    rest = train(dataset, str(tmp_path / "parts"), {**SMALL, "images": 320}, host)
    assert rest.weights_sha256 == whole.weights_sha256
    assert any(said.startswith("resumed from checkpoint 000000000128-") for said in host.said)


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(dataset, tmp_path):
    whole = train(dataset, str(tmp_path / "whole"), {**SMALL, "images": 160})
    run = str(tmp_path / "run")
    train(dataset, run, {**SMALL, "images": 96})
    newest = checkpoints.names(open_store(run))[-1]
    path = open_store(run).path(f"checkpoints/{newest}/state.safetensors")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(data)
    host = Stopping()
    result = train(dataset, run, {**SMALL, "images": 160}, host)
    assert any(f"checkpoint {newest} is corrupt" in said for said in host.said)
    assert any("at 64 images" in said for said in host.said)
    assert result.images == whole.images == 160


def test_a_best_model_left_half_written_is_mended(dataset, tmp_path):
    run = open_store(str(tmp_path / "run"))
    train(dataset, run.uri, {**SMALL, "images": 64})
    whole = run.read("best/model.safetensors")
    run.replace("best/model.safetensors", b"of a checkpoint that was never committed")
    host = Stopping(after=1)
    train(dataset, run.uri, {**SMALL, "images": 320}, host)
    assert "best model is written again: weights do not match their SHA-256" in host.said
    run.replace("best/model.json", b"{")
    train(dataset, run.uri, {**SMALL, "images": 320}, Stopping())
    assert load_model(run.uri).card.images == 320 and whole != run.read("best/model.safetensors")


def test_another_configuration_for_the_same_run_is_refused(dataset, tmp_path):
    run = str(tmp_path / "run")
    train(dataset, run, SMALL)
    with pytest.raises(UsageError, match=r"begun with another train\.gamma"):
        begin(dataset, run, {**SMALL, "train": {**SMALL["train"], "gamma": 5.0}})
    with pytest.raises(UsageError, match=r"begun with another data\.span_shards"):
        begin(dataset, run, {**SMALL, "data": {"span_shards": 2}})
    assert begin(dataset, run, {**SMALL, "data": {"cache": str(tmp_path)}}) is not None
    with pytest.raises(UsageError, match="begun on another dataset"):
        write_dataset(str(tmp_path / "other"), size=32, counts={"train": 50})
        begin(str(tmp_path / "other"), run, SMALL)


def test_a_signal_makes_a_checkpoint_and_says_so(dataset, tmp_path):
    class Signalled(Stopping):
        def progress(self, images, total, rate):
            if images == 24:
                os.kill(os.getpid(), 15)

    with pytest.raises(Interrupted, match="stopped at 128 images"):
        train(dataset, str(tmp_path / "run"), {**SMALL, "images": 960}, Signalled())
    assert checkpoints.names(open_store(str(tmp_path / "run")))[-1].startswith("000000000128-")


def test_a_stop_by_a_signal_decides_nothing_about_the_best(tmp_path):
    counts, options = {"train": 300, "val": 110, "test": 110}, {**SMALL, "images": 320}
    write_dataset(str(tmp_path / "data"), counts=counts)
    options["train"] = {**SMALL["train"], "checkpoint_images": 80, "floor_draws": 2, "figure_samples": 100}
    whole, parts = (open_store(str(tmp_path / name)) for name in ("whole", "parts"))
    train(str(tmp_path / "data"), whole.uri, options)
    train(str(tmp_path / "data"), parts.uri, options, Stopping(after=3))
    newest = checkpoints.load(parts, checkpoints.names(parts)[-1])
    assert newest.images == 128 and newest.facts["figures"] == {} and not newest.facts["judged"]
    train(str(tmp_path / "data"), parts.uri, options)
    for name in ("best.json", "best/model.safetensors", "result.json"):
        assert whole.read(name) == parts.read(name)


class Diverging(GenerateTask):
    """A generator that is lost at 88 images unless the learning rate has been lowered; nothing else can tell."""

    def losses(self, phase, share, values):
        found = dict(super().losses(phase, share, values))
        if share.positions[0] == 88 and self.lost():
            found["loss"] = found["loss"] * float("nan")
        return found


def diverging_run(dataset, folder, lost, host, images=160):
    """Train with ``Diverging``; return the outcome."""
    asked = {**SMALL, "images": images, "train": {**SMALL["train"], "gamma": 10.0, "gamma_final": 2.0}}
    begin(dataset, folder, asked)
    options, opened = Config.of(asked), open_dataset(dataset)
    task = Diverging(opened.manifest, options.model, options.train, options.augment, options.seed)
    facts = {"model": {}, "channels": 1, "size": (32, 32), "modality": "CT", "intensity": opened.manifest.intensity}
    facts |= {"content_digest": "", "manifest": opened.sha256, "code_version": "0"}
    plan = Plan(images, options.batch, 0, options.train, 0.3, 0, facts)
    loop = _Loop(task, opened, plan, open_store(folder), host)
    task.lost = lambda: loop.state.facts["rollbacks"] < lost
    try:
        return loop.run()
    finally:
        loop.close()


def test_a_run_that_is_lost_goes_back_and_on_at_a_lower_rate(dataset, tmp_path):
    host = Stopping()
    outcome = diverging_run(dataset, str(tmp_path / "run"), 2, host)
    assert outcome.complete and outcome.images == 160
    said = [line for line in host.said if "guard" in line or "back" in line]
    assert [line[:6] for line in said] == ["guard ", "went b"] * 2
    assert said[0] == "guard not_finite: discriminator_loss is nan at 96 images: lower train.lr or raise train.gamma"
    assert "went back to checkpoint 000000000064-" in said[1]
    newest = checkpoints.newest(open_store(str(tmp_path / "run")), print)
    assert newest.facts["loop"]["state"]["rate"] == 0.25 and newest.facts["loop"]["state"]["rollbacks"] == 2
    again = diverging_run(dataset, str(tmp_path / "again"), 2, Stopping())
    assert again.weights_sha256 == outcome.weights_sha256


def test_a_run_that_was_interrupted_goes_back_as_far_as_one_that_was_not(dataset, tmp_path):
    whole = diverging_run(dataset, str(tmp_path / "whole"), 1, Stopping(), images=240)
    part = diverging_run(dataset, str(tmp_path / "parts"), 1, Stopping(after=17), images=240)
    rest = diverging_run(dataset, str(tmp_path / "parts"), 1, Stopping(), images=240)
    assert not part.complete and rest.weights_sha256 == whole.weights_sha256


def test_losses_that_are_no_numbers_end_the_run(dataset, tmp_path):
    wild = {**SMALL, "train": {**SMALL["train"], "lr": 1e30, "lr_final": 1e30}}
    with pytest.raises(TrainingStopped, match=r"is (nan|inf) at \d+ images, after 3 rollbacks") as stopped:
        train(dataset, str(tmp_path / "run"), wild)
    assert stopped.value.exit_code == 6
    last = lines(str(tmp_path / "run"), "generator_loss")[-1]
    assert "nan" in last.values() or "inf" in last.values(), "the log tells what ended the run"


@pytest.mark.slow
def test_first_losses_agree_in_float32_and_a_world_repeats_itself_bit_for_bit(dataset):
    config = {**SMALL, "train": {**SMALL["train"], "precision": "float32"}}
    first = [lines(train_on(world, dataset, config), "generator_loss")[0] for world in (1, 2)]
    for name in ("discriminator_loss", "discriminator_penalty", "generator_loss"):
        assert abs(first[0][name] - first[1][name]) < 1e-6 * max(1, abs(first[0][name]))
    digests = {
        json.loads(open_store(train_on(2, dataset, SMALL)).read("result.json"))["weights_sha256"] for _ in range(2)
    }
    assert len(digests) == 1
