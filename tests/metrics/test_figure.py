"""Intervals: right coverage for a known case, whole patients drawn, the same draws for figures that share a name."""

import numpy as np
import pytest
from scipy import stats

from medgan_ray.errors import InputError
from medgan_ray.metrics.figure import Figure, absent, bootstrap, interval


def test_the_interval_of_a_mean_is_near_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = interval(lambda rows: values[rows].mean(), np.arange(400), draws=2000)
    expected = stats.norm.interval(0.95, values.mean(), values.std() / 20)
    assert (low, high) == pytest.approx(expected, abs=0.03)


def test_scans_of_one_patient_do_not_count_as_many():
    patients = np.repeat(np.arange(20), 25)
    values = np.random.default_rng(0).normal(0, 1, 20)[patients]
    alone = interval(lambda rows: values[rows].mean(), np.arange(500))
    grouped = interval(lambda rows: values[rows].mean(), patients)
    assert grouped[1] - grouped[0] > 3 * (alone[1] - alone[0])


def test_figures_of_one_name_see_the_same_draws():
    groups = np.arange(50)
    one, same = (bootstrap(lambda rows: float(rows.sum()), groups, name=name) for name in ("auroc", "auroc"))
    other = bootstrap(lambda rows: float(rows.sum()), groups, name="recall")
    assert (one == same).all() and (one != other).any()


def test_draws_without_a_number_are_left_out_and_none_at_all_is_refused():
    low, high = interval(lambda rows: 1.0 if 0 in rows else np.nan, np.arange(5))
    assert (low, high) == (1.0, 1.0)
    with pytest.raises(InputError, match="no draw can give"):
        interval(lambda rows: np.nan, np.arange(5))
    with pytest.raises(InputError, match="no scans"):
        interval(lambda rows: 0.0, np.arange(0))


def test_what_cannot_be_said_has_a_reason():
    assert absent("3 scans", 3) == Figure(n=3, not_applicable="3 scans")
