"""Areas equal Mann and Whitney's statistic; patients, not scans, make intervals; controls show what chance does."""

import numpy as np
import pytest
from scipy import stats

from medgan_ray.evaluate.membership import attack
from medgan_ray.metrics.classify import auroc


def test_the_area_is_that_of_mann_and_whitney():
    draw = np.random.default_rng(0)
    higher, lower = draw.integers(1, 9, 80).astype(float), draw.integers(0, 7, 50).astype(float)
    scores, positive = np.concatenate([higher, lower]), np.arange(130) < 80
    assert auroc(scores, positive) == pytest.approx(stats.mannwhitneyu(higher, lower).statistic / 4000)
    assert np.isnan(auroc(higher, np.ones(len(higher), bool)))


def test_what_is_told_is_told_and_what_is_not_is_not():
    draw, patients = np.random.default_rng(1), np.arange(200) // 2
    told = attack(draw.normal(1, 1, 200), draw.normal(0, 1, 200), (patients, patients))
    assert told.tells and told.figure.value == pytest.approx(stats.norm.cdf(0.5**0.5), abs=0.05)
    assert told.figure.low < told.figure.value < told.figure.high and told.figure.n == 400
    assert told.figure.floor == max(told.among_members.value, told.among_others.value) < 0.6
    assert not attack(draw.normal(0, 1, 200), draw.normal(0, 1, 200), (patients, patients)).tells


def test_few_patients_with_many_scans_prove_nothing():
    draw, patients = np.random.default_rng(3), np.repeat(np.arange(6), 40)
    members, others = draw.normal(0.5, 1, 6)[patients], draw.normal(0, 1, 6)[patients]
    found = attack(members, others, (patients, patients))
    assert found.figure.high - found.figure.low > 0.3 and found.among_members.high > 0.8 and not found.tells


def test_one_patient_has_no_halves():
    found = attack(np.arange(9.0), np.arange(9.0), (np.zeros(9, np.int64), np.arange(9)))
    assert "one patient" in found.among_members.not_applicable and not found.tells
