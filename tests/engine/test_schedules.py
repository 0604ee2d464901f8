"""Schedules equal R3GAN's own at the points of the fixture, and depend on images seen alone."""

import json
from pathlib import Path

import pytest

from medgan_ray.engine.schedules import cosine, ema_beta, values
from medgan_ray.tasks.protocol import TrainSettings

FIXTURE = Path(__file__).resolve().parents[3] / "shared" / "design" / "r3gan_fixture.json"


def test_a_half_cosine_has_its_ends_its_middle_and_a_flat_tail():
    assert [cosine(2.0, 0.2, images, 100) for images in (0, 50, 100, 1000)] == pytest.approx([2.0, 1.1, 0.2, 0.2])


def test_the_average_starts_as_a_copy_and_halves_at_its_half_life():
    assert ema_beta(32, 0.0) == 0.0
    assert ema_beta(32, 320.0) ** 10 == pytest.approx(0.5)


def test_values_move_with_images_seen():
    train = TrainSettings(gamma=10.0, gamma_final=2.0)
    first, last = (values(train, 0.3, images, 1000, 10) for images in (0, 1000))
    assert (first.lr, first.gamma, first.beta2, first.augment, first.ema_beta) == (
        train.lr,
        train.gamma,
        train.beta2,
        0.0,
        0.0,
    )
    assert (last.lr, last.gamma, last.beta2, last.augment) == (
        train.lr_final,
        train.gamma_final,
        train.beta2_final,
        0.3,
    )
    assert last.ema_beta == pytest.approx(0.5 ** (10 / (train.ema_share * 1000)))


def test_a_penalty_that_was_left_to_a_preset_has_to_be_settled_first():
    with pytest.raises(ValueError, match="settle"):
        values(TrainSettings(), 0.3, 0, 1000, 10)


def test_schedules_equal_the_fixture():
    if not FIXTURE.exists():
        pytest.skip("no fixture beside the project")
    fixture = json.loads(FIXTURE.read_text())["schedules_ffhq64"]
    ends = {"lr": (2e-4, 5e-5), "gamma": (2.0, 0.2), "beta2": (0.9, 0.99), "ema_nimg": (0.0, 5e5), "aug_p": (0.0, 0.3)}
    for name, (first, final) in ends.items():
        for images, expected in fixture["values"][name].items():
            assert cosine(first, final, int(images), 2e7) == pytest.approx(expected, rel=1e-12)
    for images, expected in fixture["ema_beta_batch256"].items():
        assert ema_beta(256, fixture["values"]["ema_nimg"][images]) == pytest.approx(expected, rel=1e-12)
