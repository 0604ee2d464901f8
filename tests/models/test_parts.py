"""What networks share: depth, widths, resampling, the last layer, and draws by name."""

import pytest
import torch
from torch.nn import functional

from medgan_ray.errors import UsageError
from medgan_ray.models import parts
from tests.models.networks import normal


@pytest.mark.parametrize(
    ("size", "times"), [((8, 8), 1), ((32, 32), 3), ((64, 64), 4), ((96, 64), 4), ((512, 512), 7), ((8, 64), 1)]
)
def test_images_are_halved_until_the_smaller_side_is_4_to_7(size: tuple[int, int], times: int) -> None:
    assert parts.halvings((1, *size)) == times


def test_widths_halve_after_the_constant_stages() -> None:
    assert parts.halving_widths(32, 7, 4, 2, "net") == [32, 32, 32, 32, 16, 8, 4]
    assert parts.halving_widths(6, 3, 4, 2, "net") == [6, 6, 6]
    with pytest.raises(UsageError, match=r"a width of 24 \(model\.\*_width\): net takes multiples of 16"):
        parts.halving_widths(24, 7, 4, 2, "net")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_resampling_is_the_kernel_1331_with_zeros_beyond_the_border(dtype: torch.dtype) -> None:
    images = normal(2, 3, 6, 10).to(dtype)
    line = torch.tensor([1, 3, 3, 1], dtype=dtype) / 8
    kernel = (line[:, None] * line).expand(3, 1, 4, 4)
    torch.testing.assert_close(parts.smoothed(images, 2), functional.conv2d(images, kernel, padding=2, groups=3))
    expected = functional.conv2d(images, kernel, stride=2, padding=1, groups=3)
    torch.testing.assert_close(parts.halved(images), expected)
    expected = functional.conv_transpose2d(images, 4 * kernel, stride=2, padding=1, groups=3)
    torch.testing.assert_close(parts.doubled(images), expected)


def test_resampling_has_second_derivatives_and_keeps_its_type() -> None:
    images = normal(1, 2, 6, 6).double().requires_grad_()
    for function in (parts.halved, parts.doubled, lambda batch: parts.smoothed(batch, 1)):
        assert torch.autograd.gradgradcheck(lambda batch, each=function: each(batch).pow(3), images)
        assert function(images.bfloat16()).dtype == torch.bfloat16


def test_the_head_is_linear_without_and_a_product_with_a_condition() -> None:
    features = normal(3, 6)
    plain = parts.Head(6, 0)
    plain.initialize(1)
    torch.testing.assert_close(plain(features, torch.zeros(3, 0)), features @ plain.linear.weight[0])
    projecting = parts.Head(6, 2)
    projecting.initialize(1)
    given = torch.eye(2)[[0, 1, 1]]
    assert projecting.embed is not None
    expected = ((features @ projecting.linear.weight.T) * (given @ projecting.embed.weight.T)).sum(dim=1)
    torch.testing.assert_close(projecting(features, given), expected)


def test_the_head_judges_in_its_own_precision_under_autocast() -> None:
    head = parts.Head(6, 0)
    head.initialize(1)
    with torch.autocast("cpu", torch.bfloat16):
        assert head(normal(3, 6).bfloat16(), torch.zeros(3, 0)).dtype == torch.float32


def test_draws_depend_on_seed_and_name_and_have_the_deviation_asked_for() -> None:
    layers = [torch.nn.Linear(200, 100) for _ in range(4)]
    for layer, (seed, name) in zip(layers, [(0, "a"), (0, "a"), (1, "a"), (0, "b")], strict=True):
        parts.draw_(layer, 0.5, seed, name)
    first, same, other_seed, other_name = (layer.weight for layer in layers)
    assert torch.equal(first, same) and not layers[0].bias.any()
    assert not torch.equal(first, other_seed) and not torch.equal(first, other_name)
    assert first.std().item() == pytest.approx(0.5, rel=0.02)
