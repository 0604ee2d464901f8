"""How sure a recognizer may be: calibration errors without their bias, and the error among the surest scans."""

import math

import numpy as np
import pytest
from scipy.special import softmax
from scipy.stats import beta

from medgan_ray.metrics import calibrate


def drawn(n, seed, hotter=1.0):
    """Return probabilities that hold exactly, or are too sure (``hotter`` above 1), and labels drawn by them."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (n, 3))
    true = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    labels = (draw.random((n, 1)) > true.cumsum(1)).sum(1).clip(max=2)
    said = np.exp(logits * hotter)
    return said / said.sum(1, keepdims=True), labels


def by_hand(probabilities, labels, bins):
    """The estimator of Kumar et al., written out bin by bin; squared, and not cut at 0."""
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    total = 0.0
    for part in np.array_split(np.argsort(confidence), bins):
        accuracy = right[part].mean()
        total += len(part) * ((confidence[part].mean() - accuracy) ** 2 - right[part].var(ddof=1) / len(part))
    return total / len(labels)


@pytest.mark.parametrize("hotter", [0.5, 1.0, 2.0])
def test_the_debiased_error_is_the_estimator_of_kumar_and_others(hotter):
    probabilities, labels = drawn(400, 0, hotter)
    expected = math.sqrt(max(0.0, by_hand(probabilities, labels, 15)))
    assert calibrate.debiased_error(probabilities, labels) == pytest.approx(expected, abs=1e-12)


def test_the_debiased_error_is_right_on_average_where_the_plain_one_is_too_large():
    """On so few scans: of probabilities that hold, and of those that are too sure by a known amount."""
    for hotter in (1.0, 2.0):
        large, labels = drawn(200_000, 1, hotter)
        found = calibrate.reliability(large, labels, bins=200)
        truth = (found.scans * (found.accuracy - found.confidence) ** 2).sum() / len(labels)
        debiased, plain = [], []
        for seed in range(300):
            probabilities, few = drawn(150, 100 + seed, hotter)
            bins = calibrate.reliability(probabilities, few)
            plain.append((bins.scans * (bins.accuracy - bins.confidence) ** 2).sum() / 150)
            debiased.append(by_hand(probabilities, few, 15))
        assert abs(np.mean(debiased) - truth) < 4 * np.std(debiased) / math.sqrt(300) + 0.002
        assert np.mean(plain) > truth + 0.01


def test_bins_hold_as_many_scans_each_and_never_too_few():
    probabilities, labels = drawn(301, 2)
    found = calibrate.reliability(probabilities, labels)
    assert found.scans.sum() == 301 and set(found.scans.tolist()) == {20, 21}
    assert (np.diff(found.confidence) >= 0).all()
    assert (found.scans * found.accuracy).sum() == pytest.approx((probabilities.argmax(1) == labels).sum())
    few = calibrate.reliability(probabilities[:12], labels[:12])
    assert few.scans.tolist() == [6, 6]
    assert calibrate.reliability(probabilities[:3], labels[:3]).scans.tolist() == [3]
    assert math.isnan(calibrate.debiased_error(probabilities[:0], labels[:0]))


def test_the_error_among_the_surest():
    certainty = np.array([0.9, 0.5, 0.7, 0.6])
    found = calibrate.risk(certainty, np.array([False, True, False, True]))
    assert found.answered.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.error == pytest.approx([0, 0, 1 / 3, 1 / 2]) and found.area == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert found.at(0.5) == 0 and found.at(1.0) == 0.5 and found.at(0.01) == 0
    blind = calibrate.risk(np.ones(4), np.array([True, False, False, False]))
    assert blind.error == pytest.approx([0.25] * 4), "in whatever order they came"
    assert math.isnan(calibrate.risk(np.empty(0), np.empty(0, bool)).area)


def test_what_few_patients_promise():
    few = calibrate.promise(28, 0.9)
    assert (few.coverage, round(few.low, 2), round(few.high, 2)) == (0.9, 0.82, 0.99)
    many = calibrate.promise(1000, 0.9)
    assert 0.87 < many.low < 0.9 < many.high < 0.93
    none = calibrate.promise(8, 0.9)
    assert (none.low, none.high) == (1, 1)
    probabilities, labels = drawn(8, 4)
    least = calibrate.threshold(probabilities, labels, np.arange(8), 0.9)
    assert least == 0 and calibrate.members(probabilities, least).all()


CLASSES = 3


def patients_drawn(draw, patients, most=1):
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
        balanced, labels, groups = patients_drawn(draw, patients + 1, most)
        known = groups < patients
        least = calibrate.threshold(balanced[known], labels[known], groups[known], coverage)
        inside.append(covered(balanced[~known], labels[~known], least).mean())
    error = 4 * np.sqrt(coverage * (1 - coverage) / draws)
    assert coverage - error <= np.mean(inside) <= coverage + 1 / (patients + 1) + error


def test_scans_of_one_patient_count_once():
    balanced, labels, groups = patients_drawn(np.random.default_rng(2), 60)
    many = np.append(np.arange(60), np.zeros(500, int))
    again = [each[many] for each in (balanced, labels, groups)]
    assert calibrate.threshold(*again, 0.9) == calibrate.threshold(balanced, labels, groups, 0.9)
    alone = calibrate.threshold(again[0], again[1], np.arange(560), 0.9)
    assert alone != calibrate.threshold(*again, 0.9)


@pytest.mark.parametrize(("patients", "coverage"), [(99, 0.9), (49, 0.8)])
def test_the_coverage_that_chance_leaves_is_the_promised_one(patients, coverage):
    """Measured on many scans, for each of many draws of calibration patients."""
    draw = np.random.default_rng(3)
    balanced, labels, _ = patients_drawn(draw, 40_000)
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
    balanced, labels, groups = patients_drawn(np.random.default_rng(4), 8, most=30)
    least = calibrate.threshold(balanced, labels, groups, 0.9)
    assert calibrate.members(balanced, least).all() and calibrate.promise(8, 0.9) == (1.0, 1.0, 1.0)
    nobody = calibrate.threshold(balanced[:0], labels[:0], groups[:0], 0.9)
    assert calibrate.members(balanced, nobody).all()
    nine, labels, groups = patients_drawn(np.random.default_rng(4), 9)
    assert not calibrate.members(nine, calibrate.threshold(nine, labels, groups, 0.9)).all()
