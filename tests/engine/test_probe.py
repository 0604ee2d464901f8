"""Adaptive augmentation in a run: what is measured, that it steers, and that it is as exact as all else."""

import json

import numpy as np
import pytest

from medgan_ray.artifacts import checkpoints
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine.controller import held_out_gap, sign_of_real
from medgan_ray.engine.probe import Probe
from medgan_ray.engine.ranks import Ranks
from medgan_ray.store import open_store
from medgan_ray.tasks.generate import GenerateTask
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset
from tests.engine.test_loop import Stopping, lines, train_on

COUNTS = {"train": 60, "val": 40, "test": 24}
AUGMENT = {"control": "adaptive", "probability": 0.8, "target": 0.6, "speed_images": 320}
ADAPTIVE = {**SMALL, "images": 320, "augment": AUGMENT}
"""A look every 16 images, at which the chance moves by 0.05."""


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "data"), counts=COUNTS)
    return str(tmp_path / "data")


def test_the_signals_are_those_of_the_logits_of_scans_as_they_are(dataset):
    options, opened = Config.of(SMALL), open_dataset(dataset)
    task = GenerateTask(opened.manifest, options.model, options.train, options.augment, 0)
    train_split, val_split = (opened.split(name) for name in ("train", "val"))
    real, held = (task.probe(split.take(np.arange(len(split)))) for split in (train_split, val_split))
    fake = task.probe(train_split.take(np.arange(60)), np.arange(60))
    assert real.shape == fake.shape == (60,) and real.dtype == np.float32
    found = Probe(opened, Ranks()).signals(task)
    assert found["r_t"] == pytest.approx(sign_of_real(real))
    np.testing.assert_allclose(found["r_v"], held_out_gap(real, held, fake), rtol=1e-5)
    assert not np.array_equal(fake, task.probe(train_split.take(np.arange(60)), np.arange(100, 160)))


def test_the_chance_moves_with_the_signal_and_is_told(dataset, tmp_path):
    train(dataset, str(tmp_path / "run"), ADAPTIVE)
    told = [
        (line["images"], line["augment_p"], line.get("r_v")) for line in lines(str(tmp_path / "run"), "generator_loss")
    ]
    expected, p = {}, 0.0
    for images, _, r_v in told:
        if images % 16 == 0 and r_v is not None:
            p = min(0.8, max(0.0, p + (0.05 if r_v > 0.6 else -0.05)))
        expected[images] = pytest.approx(p)
    assert {images: chance for images, chance, _ in told} == expected
    assert max(expected) == 320 and any(r_v is None for _, _, r_v in told)
    chances = [chance for images, chance, _ in told if images % 16 == 0]
    assert any(np.diff(chances) > 0) and any(np.diff(chances) < 0), "it goes both ways"


def test_a_run_that_stops_anywhere_ends_with_the_same_weights(dataset, tmp_path):
    whole = train(dataset, str(tmp_path / "whole"), ADAPTIVE)
    part = train(dataset, str(tmp_path / "parts"), ADAPTIVE, Stopping(after=3))
    assert not part.complete
    newest = checkpoints.newest(open_store(str(tmp_path / "parts")), lambda text: None)
    assert newest.facts["loop"]["state"]["control"]["images"] == part.images
    rest = train(dataset, str(tmp_path / "parts"), ADAPTIVE, Stopping())
    assert rest.weights_sha256 == whole.weights_sha256
    plain = train(dataset, str(tmp_path / "plain"), {**ADAPTIVE, "augment": {"probability": 0}})
    assert plain.weights_sha256 != whole.weights_sha256


def test_without_held_out_scans_the_schedule_is_kept_and_a_line_says_so(tmp_path):
    dataset = str(tmp_path / "data")
    write_dataset(dataset, counts={**COUNTS, "val": 29})
    host = Stopping()
    found = train(dataset, str(tmp_path / "adaptive"), ADAPTIVE, host)
    scheduled = train(dataset, str(tmp_path / "schedule"), {**ADAPTIVE, "augment": {"probability": 0.8}})
    assert found.weights_sha256 == scheduled.weights_sha256
    (said,) = (said for said in host.said if "r_v" in said)
    assert said == "augmentation follows the schedule: the val split holds 29 scans, r_v needs 30"


@pytest.mark.slow
def test_the_chance_does_not_depend_on_the_number_of_ranks_and_a_world_repeats_itself(dataset):
    config = {**ADAPTIVE, "train": {**SMALL["train"], "precision": "float64"}}
    runs = [train_on(world, dataset, config) for world in (1, 2, 2)]
    names = ("augment_p", "discriminator_adversarial", "generator_loss")
    values = np.array([[[line[name] for name in names] for line in lines(run, "generator_loss")] for run in runs])
    assert np.abs(values[1:] - values[0]).max() < 1e-10 and values[0, :, 0].max() > 0
    digests = [json.loads(open_store(run).read("result.json"))["weights_sha256"] for run in runs[1:]]
    assert digests[0] == digests[1]


def test_a_loss_that_fixes_the_logits_level_needs_no_held_out_scans(tmp_path):
    write_dataset(str(tmp_path / "data"), counts={**COUNTS, "val": 29})
    host, run = Stopping(), str(tmp_path / "run")
    train(str(tmp_path / "data"), run, {**ADAPTIVE, "train": {**SMALL["train"], "loss": "hinge"}}, host)
    assert not any("augmentation follows the schedule" in said for said in host.said)
    chance = 0.0
    for line in lines(run, "generator_loss"):
        if line["images"] % 16 == 0:
            chance = min(0.8, max(0.0, chance + (0.05 if line["r_t"] > 0.6 else -0.05)))
        assert line["augment_p"] == pytest.approx(chance) and "r_v" not in line
    assert chance > 0
