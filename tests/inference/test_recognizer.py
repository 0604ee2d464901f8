"""What a recognizer says of a scan depends on that scan alone, and nothing is sure before it is calibrated."""

import dataclasses

import numpy as np
import pytest

from medgan_ray.artifacts import calibration
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import UsageError
from medgan_ray.inference.recognizer import BATCH, load_recognizer
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

TRAIN = {"targets": ["side"], "checkpoint_images": 1600, "writers": [], "lr": 3e-3, "coverage": 0.8}
TINY = {"task": "recognize", "batch": 16, "images": 1600, "model": {"recognizer_width": 8}, "train": TRAIN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A recognizer of the side on which a disk lies."""
    path = tmp_path_factory.mktemp("sides")
    counts = {"train": 120, "val": 200, "test": 60}  # of fewer than 99 in val, nothing is as rare as 1 %
    write_dataset(str(path / "data"), classes=("a", "b"), counts=counts, sides=True)
    train(str(path / "data"), str(path / "run"), TINY)
    return path


@pytest.fixture(scope="module")
def scans(folder):
    return open_dataset(str(folder / "data")).split("test").take(np.arange(60))


def rows_of(answers, rows):
    """Return everything that is said of some scans, as plain arrays."""
    values = [answers.p, answers.foreign, answers.abstained]
    for each in answers.sets:
        values += [each.probabilities, each.named, each.held, each.sure]
    return [value[rows] for value in values]


def test_an_answer_depends_on_its_scan_alone(folder, scans):
    model = load_recognizer(str(folder / "run"))
    whole = model.answers(scans.image)
    for rows in ([0], [59, 3], list(range(BATCH + 3)), list(range(60))[::-1]):
        for mine, theirs in zip(
            rows_of(model.answers(scans.image[rows]), slice(None)), rows_of(whole, rows), strict=True
        ):
            assert np.array_equal(mine, theirs)
    assert len(model.answers(scans.image[:0]).p) == 0


def test_it_knows_what_it_learned_and_says_how_likely_it_is(folder, scans):
    model = load_recognizer(str(folder / "run"))
    (side,) = model.answers(scans.image).sets
    assert side.labels.classes == ("left", "right")
    assert (side.named == scans.label[:, 1]).mean() > 0.8
    assert side.probabilities.sum(1) == pytest.approx(np.ones(60))
    assert np.array_equal(side.sure, side.held.sum(1) == 1) and side.sure.any()
    assert model.version == model.card.weights[:12]


def test_without_a_calibration_it_abstains_from_everything(folder, scans, tmp_path):
    calibrated = load_recognizer(str(folder / "run"))
    for key in ("model.safetensors", "model.json"):
        open_store(str(tmp_path)).replace(key, open_store(str(folder / "run" / "best")).read(key))
    model = load_recognizer(str(tmp_path))
    answers = model.answers(scans.image)
    assert model.calibration is None and calibrated.calibration is not None
    assert answers.abstained.all() and answers.sets[0].held.all()
    assert np.array_equal(answers.sets[0].named, calibrated.answers(scans.image).sets[0].named)
    facts, tensors = calibration.read(open_store(str(folder / "run" / "best")), model.card.weights)
    calibration.write(open_store(str(tmp_path)), facts.model_copy(update={"weights": "00" * 32}), tensors)
    assert load_recognizer(str(tmp_path)).answers(scans.image).abstained.all(), "that of other weights means nothing"


def test_a_foreign_scan_is_not_answered(folder, scans):
    model = load_recognizer(str(folder / "run"))
    noise = np.random.default_rng(0).integers(0, 65536, (20, 1, 32, 32)).astype(np.uint16)
    answers = model.answers(noise)
    assert answers.foreign.all() and answers.abstained.all()
    assert answers.p.max() < np.median(model.answers(scans.image).p)
    assert model.answers(scans.image).foreign.mean() < 0.2


def test_a_set_that_is_not_one_class_is_abstained_from(folder, scans):
    answers = load_recognizer(str(folder / "run")).answers(scans.image)
    known = np.zeros(60, bool)
    both = dataclasses.replace(answers.sets[0], held=np.ones((60, 2), bool))
    none = dataclasses.replace(answers.sets[0], held=np.zeros((60, 2), bool))
    for sets in (both, none):
        assert dataclasses.replace(answers, sets=(sets,), foreign=known).abstained.all()


def test_what_it_does_not_take_is_refused_in_a_line(folder, scans, tmp_path):
    model = load_recognizer(str(folder / "run"))
    with pytest.raises(UsageError, match=r"scans of shape \(1, 16, 32\).*this model takes \(1, 32, 32\)"):
        model.answers(scans.image[:, :, ::2])
    train(str(folder / "data"), str(tmp_path / "gan"), {**SMALL, "images": 8})
    with pytest.raises(UsageError, match="a model of task=generate recognizes nothing"):
        load_recognizer(str(tmp_path / "gan"))
