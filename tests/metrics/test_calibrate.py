"""How sure a recognizer may be: calibration errors without their bias, and the error among the surest scans."""

import math

import numpy as np
import pytest

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


def test_a_temperature_makes_them_so():
    probabilities, labels = drawn(4000, 3, hotter=3.0)
    logits = np.log(probabilities)
    heat = calibrate.temperature(logits, np.zeros(3), labels)
    assert heat == pytest.approx(3.0, rel=0.1)
    after = calibrate.equally(logits, heat)
    assert calibrate.debiased_error(after, labels) < 0.03 < calibrate.debiased_error(probabilities, labels)


def test_the_error_among_the_surest():
    certainty = np.array([0.9, 0.5, 0.7, 0.6])
    found = calibrate.risk(certainty, np.array([False, True, False, True]))
    assert found.answered.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert found.error == pytest.approx([0, 0, 1 / 3, 1 / 2]) and found.area == pytest.approx((1 / 3 + 1 / 2) / 4)
    assert found.at(0.5) == 0 and found.at(1.0) == 0.5 and found.at(0.01) == 0
    blind = calibrate.risk(np.ones(4), np.array([True, False, False, False]))
    assert blind.error == pytest.approx([0.25] * 4), "in whatever order they came"
    assert math.isnan(calibrate.risk(np.empty(0), np.empty(0, bool)).area)


def test_sets_hold_the_true_class_of_a_new_patients_scan_as_often_as_promised():
    """Over many calibrations; patients have unequally many scans, which are alike."""
    reached, patients = [], 40
    for seed in range(200):
        draw = np.random.default_rng(seed)
        groups = np.repeat(np.arange(2 * patients), draw.integers(1, 9, 2 * patients))
        hard = draw.normal(0, 1, 2 * patients)[groups]
        labels = draw.integers(0, 3, len(groups))
        logits = 1.5 * np.eye(3)[labels] + draw.normal(0, 1, (len(groups), 3)) * np.exp(hard / 2)[:, None]
        balanced = calibrate.equally(logits, 1.0)
        fitted = groups < patients
        least = calibrate.threshold(balanced[fitted], labels[fitted], groups[fitted], 0.8)
        held = calibrate.members(balanced, least)[np.arange(len(labels)), labels][~fitted]
        own = groups[~fitted]
        weights = 1 / np.bincount(own)[own]
        reached.append(np.average(held, weights=weights))
    assert np.mean(reached) == pytest.approx(0.8, abs=0.02)
    assert np.mean(reached) > 0.8 - 0.005, "never less than promised, on average"


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
