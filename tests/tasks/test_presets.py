"""What null stands for: the penalty's weight by loss and size."""

import pytest

from medgan_ray.models.catalog import Shape
from medgan_ray.tasks.presets import settled
from medgan_ray.tasks.protocol import TrainSettings


@pytest.mark.parametrize(
    ("loss", "side", "first", "final"),
    [
        ("relativistic", 64, 10.0, 2.0),
        ("relativistic", 32, 10.0, 2.0),
        ("relativistic", 128, 87.0, 17.0),
        ("relativistic", 256, 750.0, 150.0),
        ("non_saturating", 64, 1.0, 1.0),
        ("hinge", 256, 16.0, 16.0),
    ],
)
def test_the_weight_grows_with_the_side(loss, side, first, final):
    train = settled(TrainSettings(loss=loss), Shape(1, side, side))
    assert (train.gamma, train.gamma_final) == (first, final)


def test_what_was_chosen_stays_also_zero():
    train = settled(TrainSettings(gamma=0.0, gamma_final=3.0), Shape(1, 256, 256))
    assert (train.gamma, train.gamma_final) == (0.0, 3.0)
    assert settled(train, Shape(1, 64, 64)) == train


def test_an_oblong_image_counts_by_its_area():
    assert settled(TrainSettings(), Shape(1, 128, 32)).gamma == 10.0
