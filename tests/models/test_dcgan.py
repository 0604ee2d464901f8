"""dcgan: what every network promises, and a bounded image."""

import pytest
import torch

from medgan_ray.models import catalog, dcgan
from medgan_ray.models.catalog import ModelSettings, Shape
from tests.models import networks as promises

SMALL = ModelSettings(name="dcgan", latent=8, generator_width=4, discriminator_width=4)
PRESET = ModelSettings(name="dcgan")


def test_weights_are_a_function_of_the_seed() -> None:
    promises.check_weights_are_a_function_of_the_seed(SMALL)


@pytest.mark.parametrize("condition", [0, 3])
def test_images_are_judged_and_drawn_each_by_itself(condition: int) -> None:
    promises.check_an_image_is_judged_by_itself(SMALL, condition)
    promises.check_an_image_is_drawn_by_itself(SMALL, condition)


def test_a_condition_changes_both() -> None:
    promises.check_a_condition_changes_both(SMALL)


def test_the_penalty_has_its_gradient() -> None:
    promises.check_the_penalty_has_its_gradient(SMALL)


@pytest.mark.parametrize("condition", [0, 3])
@pytest.mark.parametrize("shape", [Shape(1, 32, 32), Shape(1, 64, 64), Shape(2, 96, 64), Shape(3, 64, 64)], ids=str)
def test_presets_take_a_step(shape: Shape, condition: int) -> None:
    promises.check_a_step_both_ways(PRESET, shape, condition)


@pytest.mark.parametrize("shape", [*promises.SQUARES, *promises.ODD], ids=str)
def test_presets_fit_together_up_to_512_pixels(shape: Shape) -> None:
    promises.check_shapes_without_memory(dcgan, "dcgan", shape, condition=shape.channels - 1)


def test_images_are_bounded() -> None:
    images = catalog.build(SMALL, Shape(1, 32, 32), 0, 0).generator(100 * promises.normal(2, 8), torch.zeros(2, 0))
    assert images.abs().max() <= 1


def test_the_preset_at_64_pixels_is_16_wide() -> None:
    settled = catalog.settled(PRESET, Shape(1, 64, 64))
    assert (settled.generator_width, settled.discriminator_width) == (16, 16)
