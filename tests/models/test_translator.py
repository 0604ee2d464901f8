"""A translator starts as the plain method, agrees with what is known, and takes images of any size."""

import pytest
import torch
from torch.nn import functional

from medgan_ray.models import catalog
from medgan_ray.models.catalog import ModelSettings, Shape
from medgan_ray.models.translator import GIVEN, factor

SETTINGS = ModelSettings(name="unet", generator_width=8)


def built(given, trained=True, channels=1):
    network = catalog.build_translator(SETTINGS, given, Shape(channels, 32, 32), 1)
    if trained:
        torch.nn.init.normal_(network.last.weight, std=0.3, generator=torch.Generator().manual_seed(0))
    return network.requires_grad_(False)


def shown(given, height=32, width=32, channels=1):
    draw = torch.Generator().manual_seed(2)
    images = torch.rand(2, channels, height // factor(given), width // factor(given), generator=draw) * 2 - 1
    return images, (torch.rand(2, 1, height, width, generator=draw) > 0.3).float()


@pytest.mark.parametrize("given", GIVEN)
def test_a_fresh_one_is_the_plain_method(given):
    network, (images, trusted) = built(given, trained=False), shown(given)
    expected = network.agreeing(network.plain(images), images, trusted)
    torch.testing.assert_close(network(images, trusted), expected)
    if factor(given) == 1:
        torch.testing.assert_close(expected, images)


@pytest.mark.parametrize("given", ["down2", "down4"])
def test_a_finer_image_gives_back_the_coarse_one(given):
    network, (images, trusted) = built(given), shown(given)
    answer = network(images, trusted)
    torch.testing.assert_close(functional.avg_pool2d(answer, factor(given)), images, atol=1e-5, rtol=0)
    assert (answer - network.plain(images)).abs().max() > 0.05


def test_what_lies_outside_a_hole_stays():
    network, (images, trusted) = built("hole"), shown("hole")
    answer = network(images, trusted)
    assert torch.equal(answer * trusted, images * trusted)
    assert ((answer - images).abs() * (1 - trusted)).max() > 0.05


@pytest.mark.parametrize(("height", "width"), [(32, 48), (37, 51), (8, 8)])
def test_any_size_and_any_number_of_channels_are_taken(height, width):
    network = built("noise", channels=2)
    images, trusted = shown("noise", height, width, 2)
    assert network(images, trusted).shape == (2, 2, height, width)


def test_far_pixels_do_not_matter_so_that_tiles_can_be_translated_alone():
    network, (images, trusted) = built("noise"), shown("noise", 128, 128)
    other = images.clone()
    other[..., 64:] = 0.5
    torch.testing.assert_close(network(images, trusted)[..., :16], network(other, trusted)[..., :16])


def test_weights_are_a_function_of_the_seed():
    first, again = (catalog.build_translator(SETTINGS, "noise", Shape(1, 32, 32), 3) for _ in range(2))
    other = catalog.build_translator(SETTINGS, "noise", Shape(1, 32, 32), 4)
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.first.weight, other.first.weight)
