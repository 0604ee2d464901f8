"""Guards decide by figures and tally alone."""

import math

import pytest

from medgan_ray.engine import guards

CALM = {
    "discriminator_adversarial": 0.5,
    "discriminator_loss": 0.9,
    "discriminator_penalty": 1e6,
    "generator_loss": 0.9,
}


def acts(decisions):
    return [(decision.guard, decision.act) for decision in decisions]


def test_a_calm_run_is_left_alone():
    decisions, tally = guards.on_losses(CALM, {})
    assert decisions == [] and not any(key.startswith("guard_") for key in tally)
    assert guards.on_figures({"diversity": 0.9, "memorization": 0.1, "r_v": 0.8, "score": math.inf}, {})[0] == []
    assert guards.on_figures({}, {}) == ([], {})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", sorted(CALM))
def test_a_loss_that_is_no_number_goes_back(name, value):
    decisions, tally = guards.on_losses({**CALM, name: value}, {"guard_not_finite": 1})
    assert acts(decisions) == [("not_finite", "rollback")] and tally["guard_not_finite"] == 2
    assert name in decisions[0].why


@pytest.mark.parametrize("name", ["generator_loss", "discriminator_loss", "discriminator_adversarial"])
def test_a_loss_beyond_use_goes_back(name):
    assert acts(guards.on_losses({**CALM, name: -101.0}, {})[0]) == [("runaway", "rollback")]


def test_a_discriminator_that_is_certain_for_long_is_named_a_few_times():
    certain, tally, said = {**CALM, "discriminator_adversarial": 0.001}, {}, []
    for _ in range(guards.SATURATED_LINES * 6):
        decisions, tally = guards.on_losses(certain, tally)
        said += acts(decisions)
    assert said == [("saturation", "warn")] * guards.MOST_WARNINGS and tally["guard_saturation"] == 6
    for _ in range(guards.SATURATED_LINES - 1):
        decisions, tally = guards.on_losses(certain, {**tally, "guard_saturation": 0})
        assert decisions == []
    assert guards.on_losses(CALM, tally)[1]["saturated_lines"] == 0


def test_diversity_that_collapses_is_named_and_then_ends_the_run():
    said, tally = [], {}
    for diversity in (0.05, 0.8, 0.7, 0.19, 0.07, 0.6, 0.07, 0.07):
        decisions, tally = guards.on_figures({"diversity": diversity}, tally)
        said.append(acts(decisions))
    warn, stop = [("collapse", "warn")], [("collapse", "stop")]
    assert said == [[], [], [], warn, warn, [], warn, stop]


def test_copies_and_overfitting_are_named():
    decisions, _ = guards.on_figures({"memorization": 0.3, "r_v": 0.95}, {})
    assert acts(decisions) == [("memorization", "warn"), ("overfitting", "warn")]
    assert all(decision.advice for decision in decisions)


def test_a_tally_is_left_as_it_was():
    tally = {"saturated_lines": 4.0}
    guards.on_losses({**CALM, "discriminator_adversarial": 0.001}, tally)
    guards.on_figures({"diversity": 0.5}, tally)
    assert tally == {"saturated_lines": 4.0}


def test_a_dataset_too_small_for_its_settings_is_named_with_the_setting_to_change():
    assert guards.before(75_000, 1_500, 0.0) == []
    few, often = guards.before(9_000, 40, 0.0)
    assert "40 training scans" in few and "train.init_from" in few
    assert "225 times" in often and "augment.probability=0.3, or images=2000" in often
    assert guards.before(9_000, 400, 0.3) == []
