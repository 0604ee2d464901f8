"""How near a copy has to be is right for known tails, also with few scans; shares have exact intervals."""

import numpy as np
import pytest

from medgan_ray.evaluate.judged import rare_distance, share


@pytest.mark.parametrize(("count", "within"), [(200, 2.5), (20_000, 1.2)])
def test_a_thousandth_lies_below_the_rare_distance(count, within):
    limits = [rare_distance(np.random.default_rng(draw).power(4, count).astype(np.float32)) for draw in range(20)]
    # The share below x of this law is x**4.
    assert 0.001 / within < np.median(limits) ** 4 < 0.001 * within


def test_scans_that_are_there_twice_leave_nothing_to_tell():
    assert rare_distance(np.concatenate([np.zeros(20), np.ones(180)]).astype(np.float32)) < 1e-5


def test_what_was_not_seen_can_be():
    none, half = share(np.zeros(100, bool), 0.25), share(np.arange(100) < 50)
    assert (none.value, none.low, none.floor, none.n) == (0, 0, 0.25, 100) and none.high == pytest.approx(
        0.0362, abs=1e-4
    )
    assert (half.low, half.high) == pytest.approx((0.3983, 0.6017), abs=1e-4)
    assert share(np.zeros(0, bool)).not_applicable
