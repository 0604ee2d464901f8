"""r3gan: what every network promises, and R3GAN's resampling."""

import pytest
import torch

from medgan_ray.models import catalog, r3gan
from medgan_ray.models.catalog import ModelSettings, Shape
from tests.models import networks as promises

SMALL = ModelSettings(name="r3gan", latent=8, generator_width=32, discriminator_width=32)
PRESET = ModelSettings(name="r3gan")


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
@pytest.mark.parametrize("shape", [Shape(1, 32, 32), Shape(2, 48, 32)], ids=str)
def test_presets_take_a_step(shape: Shape, condition: int) -> None:
    promises.check_a_step_both_ways(PRESET, shape, condition)


@pytest.mark.parametrize("shape", [*promises.SQUARES, *promises.ODD], ids=str)
def test_presets_fit_together_up_to_512_pixels(shape: Shape) -> None:
    promises.check_shapes_without_memory(r3gan, "r3gan", shape, condition=shape.channels - 1)


def test_the_preset_is_128_wide_at_64_pixels_and_grows() -> None:
    widths = [catalog.settled(PRESET, shape).generator_width for shape in promises.SQUARES]
    assert widths == [128, 128, 256, 512, 768]


def test_resampling_is_that_of_one_channel_at_a_time() -> None:
    """What R3GAN does: channels as samples under [1, 3, 3, 1], four times as strong upwards."""
    images = promises.normal(2, 3, 6, 8)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    kernel, flat = (line[:, None] * line)[None, None], images.reshape(6, 1, 6, 8)
    up = torch.nn.functional.conv_transpose2d(flat, 4 * kernel, stride=2, padding=1).reshape(2, 3, 12, 16)
    down = torch.nn.functional.conv2d(flat, kernel, stride=2, padding=1).reshape(2, 3, 3, 4)
    torch.testing.assert_close(r3gan.Resample(3, 3, up=True)(images), up)
    torch.testing.assert_close(r3gan.Resample(3, 3, up=False)(images), down)
