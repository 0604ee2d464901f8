"""The controller: what its signals cancel, when it holds still, and that p follows the signal at the speed given."""

import math

import numpy as np
import pytest

from medgan_ray.engine.controller import Control, Rule, adapt, held_out_gap, sign_of_real

DRAW = np.random.default_rng(0)
RULE, FAST = Rule("r_v", 0.3, 20_000, most=0.8), Rule("r_v", 0.3, 10_000, most=0.5)
TRAIN, VAL, FAKE = DRAW.normal(2.0, 1, 200), DRAW.normal(1.4, 1, 200), DRAW.normal(0.0, 1, 200)


def test_the_gap_is_the_share_of_the_lead_that_held_out_scans_lack():
    assert held_out_gap([2, 4], [2, 3], [0, 0.5]) == pytest.approx((3 - 2.5) / (3 - 0.25))
    assert held_out_gap(TRAIN, VAL, FAKE) == pytest.approx(0.3, abs=0.1)
    assert held_out_gap(TRAIN, TRAIN, FAKE) == 0
    assert held_out_gap(TRAIN, FAKE, FAKE) == 1


@pytest.mark.parametrize(("factor", "added"), [(1.0, 100.0), (1.0, -3.0), (0.01, 0.0), (50.0, 7.0)])
def test_the_gap_knows_neither_level_nor_scale_but_the_sign_does(factor, added):
    moved = [logits * factor + added for logits in (TRAIN, VAL, FAKE)]
    assert held_out_gap(*moved) == pytest.approx(held_out_gap(TRAIN, VAL, FAKE))
    assert sign_of_real(TRAIN - 100) == -1 and sign_of_real(TRAIN + 100) == 1


def test_a_lead_below_its_standard_error_says_nothing():
    def spread(lead):  # means lead and 0, standard deviation 1, 50 of each: standard error 0.2
        values = np.tile([-1.0, 1.0], 25) / np.sqrt(50 / 49)
        return values + lead, values

    real, fake = spread(0.19)
    assert math.isnan(held_out_gap(real, fake, fake))
    real, fake = spread(0.21)
    assert held_out_gap(real, fake, fake) == pytest.approx(1)
    assert math.isnan(held_out_gap(FAKE, VAL, TRAIN)), "generated images lead"
    assert math.isnan(held_out_gap([math.nan, 1.0], [1.0], [0.0, 0.1]))
    assert math.isnan(held_out_gap(TRAIN, [], FAKE)) and math.isnan(sign_of_real([]))


def test_p_moves_towards_the_target_by_the_images_seen():
    control = Control()
    control = adapt(control, 0.5, 2_000, RULE)
    assert control == Control(0.1, 2_000)
    control = adapt(control, 0.9, 6_000, RULE)
    assert control.probability == pytest.approx(0.3) and control.images == 6_000
    assert adapt(control, 0.1, 8_000, RULE).probability == pytest.approx(0.2)
    assert adapt(control, 0.3, 8_000, RULE).probability == pytest.approx(0.3)


def test_p_stays_within_its_bounds():
    assert adapt(Control(0.01, 0), 0.0, 10_000, RULE).probability == 0
    assert adapt(Control(0.7, 0), 1.0, 10_000, RULE).probability == 0.8
    assert adapt(Control(0.4, 0), 1.0, 10_000, FAST).probability == 0.5


def test_a_look_that_says_nothing_holds_p_and_is_not_made_up_for_later():
    held = adapt(Control(0.2, 1_000), math.nan, 9_000, FAST)
    assert held == Control(0.2, 9_000)
    assert adapt(held, 1.0, 10_000, FAST).probability == pytest.approx(0.3)


def test_the_state_survives_a_checkpoint_exactly():
    control = Control(0.1 + 0.2, 12_345)
    assert Control.of(control.facts()) == control
    assert Control.of({}) == Control()
