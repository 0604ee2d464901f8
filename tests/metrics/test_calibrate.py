"""A temperature is found again, sets hold the true class as often as promised, also where patients have many scans."""

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta

from medgan_ray.metrics import calibrate

CLASSES = 3


def drawn(draw, patients, most=1):
    """Return balanced probabilities, labels and patients of scans, those of a patient alike."""
    groups = np.repeat(np.arange(patients), draw.integers(1, most + 1, patients))
    easy, labels = draw.normal(1.5, 1, patients)[groups], draw.integers(0, CLASSES, patients)[groups]
    logits = draw.normal(0, 0.5, (len(groups), CLASSES)) + draw.normal(0, 1, (patients, CLASSES))[groups]
    logits[np.arange(len(groups)), labels] += easy
    return softmax(logits, axis=1), labels, groups


def covered(balanced, labels, least):
    return calibrate.members(balanced, least)[np.arange(len(labels)), labels]


@pytest.mark.parametrize("true", [0.4, 1.0, 3.0])
def test_a_known_temperature_is_found_at_any_prevalence(true):
    draw, offset = np.random.default_rng(0), np.log([0.7, 0.2, 0.1])
    logits = draw.normal(0, 2 * true, (20_000, CLASSES))
    chances = np.cumsum(softmax(logits / true + offset, axis=1), axis=1)
    labels = np.minimum((draw.random((len(logits), 1)) > chances).sum(1), CLASSES - 1)
    found = calibrate.temperature(logits, offset, labels)
    assert found == pytest.approx(true, rel=0.05)
    told = calibrate.probabilities(logits, offset, found)
    assert told.mean(0) == pytest.approx(np.bincount(labels) / len(labels), abs=0.01)
    assert calibrate.temperature(np.empty((0, CLASSES)), offset, np.empty(0, int)) == 1.0


@pytest.mark.parametrize("coverage", [0.8, 0.9])
@pytest.mark.parametrize("most", [1, 12])
def test_sets_hold_the_true_class_of_a_new_patient_as_often_as_promised(coverage, most):
    """Over many draws of calibration patients and one new patient each, within four standard errors of a share."""
    draw, draws, patients, inside = np.random.default_rng(1), 1_500, 49, []
    for _ in range(draws):
        balanced, labels, groups = drawn(draw, patients + 1, most)
        known = groups < patients
        least = calibrate.threshold(balanced[known], labels[known], groups[known], coverage)
        inside.append(covered(balanced[~known], labels[~known], least).mean())
    error = 4 * np.sqrt(coverage * (1 - coverage) / draws)
    assert coverage - error <= np.mean(inside) <= coverage + 1 / (patients + 1) + error


def test_scans_of_one_patient_count_once():
    balanced, labels, groups = drawn(np.random.default_rng(2), 60)
    many = np.append(np.arange(60), np.zeros(500, int))
    again = [each[many] for each in (balanced, labels, groups)]
    assert calibrate.threshold(*again, 0.9) == calibrate.threshold(balanced, labels, groups, 0.9)
    alone = calibrate.threshold(again[0], again[1], np.arange(560), 0.9)
    assert alone != calibrate.threshold(*again, 0.9)


@pytest.mark.parametrize(("patients", "coverage"), [(99, 0.9), (49, 0.8)])
def test_the_coverage_that_chance_leaves_is_the_promised_one(patients, coverage):
    """Measured on many scans, for each of many draws of calibration patients."""
    draw = np.random.default_rng(3)
    balanced, labels, _ = drawn(draw, 40_000)
    reached = []
    for _ in range(800):
        rows = draw.choice(len(labels), patients, replace=False)
        least = calibrate.threshold(balanced[rows], labels[rows], np.arange(patients), coverage)
        reached.append(covered(balanced, labels, least).mean())
    told = calibrate.promise(patients, coverage)
    assert told.coverage == coverage == pytest.approx(np.mean(reached), abs=0.01)
    assert np.quantile(reached, [0.025, 0.975]) == pytest.approx([told.low, told.high], abs=0.012)
    spared = round((patients + 1) * (1 - coverage))
    assert [told.low, told.high] == pytest.approx(beta.interval(0.95, patients + 1 - spared, spared))


def test_too_few_patients_promise_every_class():
    balanced, labels, groups = drawn(np.random.default_rng(4), 8, most=30)
    least = calibrate.threshold(balanced, labels, groups, 0.9)
    assert calibrate.members(balanced, least).all() and calibrate.promise(8, 0.9) == (1.0, 1.0, 1.0)
    nobody = calibrate.threshold(balanced[:0], labels[:0], groups[:0], 0.9)
    assert calibrate.members(balanced, nobody).all()
    nine, labels, groups = drawn(np.random.default_rng(4), 9)
    assert not calibrate.members(nine, calibrate.threshold(nine, labels, groups, 0.9)).all()
