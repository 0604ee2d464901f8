"""When training ends, a recognizer is calibrated on held-out scans: its sets then hold the true class as promised."""

import numpy as np
import pytest

from medgan_ray.artifacts import calibration
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.inference.calibrating import calibrate_run
from medgan_ray.inference.recognizer import load_recognizer
from medgan_ray.metrics import anomaly, calibrate
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import write_dataset

COVERAGE = 0.8
TRAIN = {"targets": ["side"], "checkpoint_images": 800, "writers": [], "lr": 3e-3, "coverage": COVERAGE}
TINY = {"task": "recognize", "batch": 16, "images": 800, "model": {"recognizer_width": 8}, "train": TRAIN}
VAL, TEST = 200, 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("calibrated")
    counts = {"train": 100, "val": VAL, "test": TEST}
    write_dataset(str(path / "data"), counts=counts, sides=True)
    train(str(path / "data"), str(path / "run"), TINY)
    return path


def test_the_coverage_of_new_scans_is_near_the_promise(folder):
    model = load_recognizer(str(folder / "run"))
    samples = open_dataset(str(folder / "data")).split("test").take(np.arange(TEST))
    (side,) = model.answers(samples.image).sets
    reached = side.held[np.arange(TEST), samples.label[:, 0]].mean()
    told = calibrate.promise(VAL, COVERAGE)
    error = 3 * np.sqrt(COVERAGE * (1 - COVERAGE) / TEST)
    assert told.low - error <= reached <= told.high + error


def test_what_it_was_fitted_to_is_told_and_is_the_val_split(folder):
    store = open_store(str(folder / "run" / "best"))
    model = load_recognizer(str(folder / "run"))
    facts, tensors = calibration.read(store, model.card.weights)
    assert (facts.coverage, facts.sets[0].name) == (COVERAGE, "side")
    assert (facts.sets[0].scans, facts.sets[0].patients) == (VAL, VAL)
    samples = open_dataset(str(folder / "data")).split("val").take(np.arange(VAL))
    logits, described = model.seen(samples.image)
    labels = samples.label[:, 0].astype(np.int64)
    assert facts.sets[0].temperature == pytest.approx(calibrate.temperature(logits, model.offsets()[0], labels))
    balanced = calibrate.equally(logits, facts.sets[0].temperature)
    least = calibrate.threshold(balanced, labels, np.arange(VAL), COVERAGE)
    assert facts.sets[0].least == pytest.approx(least)
    train_scans = open_dataset(str(folder / "data")).split("train").take(np.arange(100))
    known = anomaly.cloud(model.seen(train_scans.image)[1])
    assert tensors["distances"] == pytest.approx(np.sort(anomaly.distances(described, known)))


def test_it_depends_on_the_run_alone_and_a_higher_coverage_makes_larger_sets(folder):
    dataset, run = open_dataset(str(folder / "data")), str(folder / "run")
    before = open_store(run).read(f"best/{calibration.FILE}")
    try:
        high = calibrate_run(run, dataset, 0.99)
        images = dataset.split("test").take(np.arange(TEST)).image
        larger = load_recognizer(run).answers(images).sets[0].held.sum()
        calibrate_run(run, dataset, COVERAGE)
        assert open_store(run).read(f"best/{calibration.FILE}") == before
        assert high.coverage == 0.99 and larger > load_recognizer(run).answers(images).sets[0].held.sum()
    finally:
        open_store(run).replace(f"best/{calibration.FILE}", before)


def test_too_few_scans_leave_it_uncalibrated(tmp_path):
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    write_dataset(data, counts={"train": 40, "val": 9, "test": 20}, sides=True)
    train(data, run, {**TINY, "images": 16})
    assert not open_store(run).exists(f"best/{calibration.FILE}")
    images = open_dataset(data).split("test").take(np.arange(20)).image
    assert load_recognizer(run).answers(images).abstained.all()
