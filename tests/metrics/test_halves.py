"""Halves of patients: none is cut, none is twice; the interval of a mean holds the truth as often as it says."""

import numpy as np
import pytest

from medgan_ray.metrics.halves import disjoint, disjoint_size, half, interval_of_halves


def test_a_half_takes_whole_patients_once():
    patients = np.random.default_rng(0).integers(0, 21, 200)
    rows = half(patients, "a", 1)
    chosen = set(patients[rows])
    assert len(chosen) == 10 and (np.diff(rows) > 0).all()
    assert set(np.flatnonzero(np.isin(patients, list(chosen)))) == set(rows)
    assert list(half(patients, "a", 1)) == list(rows) != list(half(patients, "a", 2))


@pytest.mark.parametrize("scans", [1, 5])
def test_the_interval_of_a_mean_holds_the_truth(scans: int):
    """120 patients of 1 or 5 like scans; 300 samples of them."""
    draw, held = np.random.default_rng(1), 0
    patients = np.repeat(np.arange(120), scans)
    for sample in range(300):
        values = draw.normal(3, 1, 120)[patients] + draw.normal(0, 0.1, len(patients))
        means = [values[half(patients, sample, each)].mean() for each in range(20)]
        low, high = interval_of_halves(values.mean(), means)
        held += low < 3 < high
    assert 0.91 < held / 300 < 0.985


def test_a_bias_by_size_does_not_show():
    low, high = interval_of_halves(1.0, [3.0, 3.1, 2.9])
    assert (low + high) / 2 == pytest.approx(1) and high - low < 1


def test_values_that_are_no_number_are_left_out():
    assert interval_of_halves(1.0, [1.0, np.nan, 2.0]) is None
    assert interval_of_halves(1.0, []) is None
    assert interval_of_halves(1.0, [1.0, 2.0, 3.0, np.inf]) == interval_of_halves(1.0, [1.0, 2.0, 3.0])


def test_two_sets_of_one_size_share_no_patient():
    patients = np.random.default_rng(2).integers(0, 30, 301)
    size = disjoint_size(patients)
    assert size == (301 - np.bincount(patients).max()) // 2
    for draw in range(20):
        one, other = disjoint(patients, size, draw)
        assert len(set(one)) == len(set(other)) == size
        assert not set(patients[one]) & set(patients[other])
    assert list(disjoint(patients, 50, 1)[0]) != list(disjoint(patients, 50, 2)[0])


def test_scans_of_one_patient_each_are_halved():
    assert disjoint_size(np.arange(101)) == 50
    assert disjoint_size(np.zeros(100)) == 0 == disjoint_size(np.empty(0))
