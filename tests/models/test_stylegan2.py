"""stylegan2: what every network promises, its convolutions by the paper's own form, truncation."""

import pytest
import torch

from medgan_ray.models import catalog, stylegan2
from medgan_ray.models.catalog import ModelSettings, Shape
from tests.models import networks as promises

SMALL = ModelSettings(name="stylegan2", latent=8, generator_width=8, discriminator_width=8)
PRESET = ModelSettings(name="stylegan2")


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
    promises.check_shapes_without_memory(stylegan2, "stylegan2", shape, condition=shape.channels - 1)


def test_scaling_images_is_scaling_a_weight_a_sample() -> None:
    """The paper's own form (its equations 1 and 3), one sample at a time."""
    layer = stylegan2.Modulated(3, 5, 3, style=4).double()
    layer.initialize(0, "layer")
    images, style = promises.normal(4, 3, 8, 8).double(), promises.normal(4, 4, seed=1).double()
    for image, scales, found in zip(images, layer.style(style), layer(images, style), strict=True):
        weight = layer.weight / (3 * 9) ** 0.5 * scales[:, None, None]
        weight = weight / (weight.square().sum(dim=(1, 2, 3), keepdim=True) + 1e-8).sqrt()
        expected = torch.nn.functional.leaky_relu(torch.nn.functional.conv2d(image[None], weight, padding=1), 0.2)
        torch.testing.assert_close(found[None], expected * 2**0.5)


def test_going_up_is_inserting_zeros_convolving_and_smoothing() -> None:
    layer = stylegan2.Modulated(2, 2, 3, style=4, demodulate=False, up=True).double()
    layer.initialize(0, "layer")
    images, style = promises.normal(1, 2, 4, 4).double(), promises.normal(1, 4, seed=1).double()
    scaled = images * layer.style(style)[:, :, None, None]
    spread = torch.zeros(1, 2, 7, 7, dtype=torch.float64)
    spread[..., ::2, ::2] = scaled
    weight = (layer.weight / (2 * 9) ** 0.5).flip(2, 3)
    full = torch.nn.functional.conv2d(spread, weight, padding=2)
    line = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = 4 * (line[:, None] * line).expand(2, 1, 4, 4)
    torch.testing.assert_close(layer(images, style), torch.nn.functional.conv2d(full, kernel, padding=1, groups=2))


def test_truncation_leads_from_the_mean_of_a_label_to_the_image_itself() -> None:
    generator = catalog.build(SMALL, Shape(1, 32, 32), 2, 0).generator
    assert isinstance(generator, stylegan2.Generator)
    noise, given = promises.normal(4, 8), torch.eye(2)[[0, 0, 1, 1]]
    torch.testing.assert_close(generator.truncated(noise, given, 1.0), generator(noise, given))
    mean = generator.truncated(noise, given, 0.0)
    torch.testing.assert_close(mean[0], mean[1])
    torch.testing.assert_close(mean[2], mean[3])
    assert (mean[0] - mean[2]).abs().max() > 1e-4
    spread = [(generator.truncated(noise, given, truncation) - mean).square().mean() for truncation in (0.3, 0.6, 1.0)]
    assert 0 < spread[0] < spread[1] < spread[2]


def test_the_mean_style_is_a_function_of_weights_and_label() -> None:
    generator = catalog.build(SMALL, Shape(1, 32, 32), 2, 0).generator
    assert isinstance(generator, stylegan2.Generator)
    before = {name: value.clone() for name, value in generator.state_dict().items()}
    means = [generator.mean_style(torch.eye(2)[:1]) for _ in range(2)]
    assert torch.equal(*means) and not list(generator.buffers())
    assert all(torch.equal(value, before[name]) for name, value in generator.state_dict().items())
    many = generator.styles(promises.normal(20_000, 8), torch.eye(2)[:1].expand(20_000, 2))
    torch.testing.assert_close(means[0], many.mean(dim=0, keepdim=True), rtol=0, atol=0.15)


def test_its_loss_has_no_say_in_the_discriminators_layers() -> None:
    """No minibatch standard deviation under any loss, for its result would depend on the division among workers."""
    widths = catalog.settled(PRESET, Shape(1, 64, 64))
    assert (widths.generator_width, widths.discriminator_width) == (32, 32)
    network = catalog.build(PRESET, Shape(1, 64, 64), 0, 0).discriminator
    last = next(value for name, value in network.named_parameters() if name == "last.weight")
    assert last.shape[1] == 32
