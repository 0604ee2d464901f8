"""Augmentation: second derivatives, what each operation does, and that only its own draws move an image."""

import pytest
import torch
from torch import Tensor

from medgan_ray.errors import UsageError
from medgan_ray.models.augment import Augment, AugmentSettings, shift

OPERATIONS = {
    "shift": AugmentSettings(shift=1),
    "flip": AugmentSettings(shift=0, flip=True),
    "rotate": AugmentSettings(shift=0, rotate_degrees=10),
    "scale": AugmentSettings(shift=0, scale=0.1),
    "all": AugmentSettings(shift=1, flip=True, rotate_degrees=10, scale=0.1),
}
each_operation = pytest.mark.parametrize("settings", OPERATIONS.values(), ids=OPERATIONS)


def images(n: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> Tensor:
    drawn = torch.rand((n, 1, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * 2 - 1


def draws(n: int, seed: int = 1) -> Tensor:
    return torch.rand((n, Augment.draws_width), generator=torch.Generator().manual_seed(seed))


@each_operation
def test_there_is_a_second_derivative(settings: AugmentSettings) -> None:
    augment, given = Augment(settings, (4, 4)), draws(2, seed=2)

    def curved(batch: Tensor) -> Tensor:
        return augment.apply(batch, given, 1.0).pow(3)

    batch = images(2, (4, 4)).requires_grad_()
    assert not torch.equal(augment.apply(batch, given, 1.0), batch)
    assert torch.autograd.gradcheck(curved, batch)
    assert torch.autograd.gradgradcheck(curved, batch)


@each_operation
def test_values_stay_in_range_and_a_constant_image_as_it_is(settings: AugmentSettings) -> None:
    augment = Augment(settings, (8, 8))
    out = augment.apply(images(64), draws(64), 1.0)
    assert out.shape == (64, 1, 8, 8)
    assert out.abs().max() <= 1
    dark = torch.full((16, 1, 8, 8), -0.8)
    torch.testing.assert_close(augment.apply(dark, draws(16), 1.0), dark)


@each_operation
def test_an_image_depends_on_its_own_draws_alone(settings: AugmentSettings) -> None:
    augment, batch, given = Augment(settings, (8, 8)), images(6), draws(6)
    together = augment.apply(batch, given, 0.7)
    alone = torch.cat([augment.apply(batch[i : i + 1], given[i : i + 1], 0.7) for i in range(6)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@each_operation
@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_the_given_share_of_images_is_touched(settings: AugmentSettings, probability: float) -> None:
    augment, batch = Augment(settings, (8, 8)), images(2000)
    touched = (augment.apply(batch, draws(2000), probability) != batch).flatten(1).any(dim=1).float().mean()
    if probability == 0:
        assert touched == 0
    else:
        assert 0.1 < touched < 0.75


def test_a_shift_moves_whole_pixels_and_repeats_the_border() -> None:
    line = torch.arange(4.0).reshape(1, 1, 1, 4).repeat(3, 1, 1, 1)
    moved = shift(line, torch.tensor([[0, 1], [0, -2], [3, 0]]))
    assert moved[:, 0, 0].tolist() == [[1, 2, 3, 3], [0, 0, 0, 1], [0, 1, 2, 3]]


def test_shifts_reach_their_limit_on_both_sides_evenly() -> None:
    augment = Augment(AugmentSettings(shift=2), (9, 9))
    dot = torch.zeros(5000, 1, 9, 9)
    dot[:, :, 4, 4] = 1
    rows, columns = augment.apply(dot, draws(5000), 1.0)[:, 0].nonzero()[:, 1:].unbind(1)
    for places in (rows, columns):
        counts = torch.bincount(places, minlength=9).tolist()
        assert counts[:2] == counts[7:] == [0, 0]
        assert all(850 < count < 1150 for count in counts[2:7])


def test_the_greatest_draw_stays_within_the_limit() -> None:
    largest = torch.nextafter(torch.tensor(1.0), torch.tensor(0.0))
    augment = Augment(AugmentSettings(shift=3), (16, 16))
    batch = images(1, (16, 16))
    given = torch.full((1, Augment.draws_width), float(largest))
    torch.testing.assert_close(augment.apply(batch, given, 1.0), shift(batch, torch.tensor([[3, 3]])))


def test_a_rotation_turns_about_the_center() -> None:
    augment = Augment(AugmentSettings(shift=0, rotate_degrees=30), (33, 33))
    batch = torch.zeros(1, 1, 33, 33)
    batch[..., 16, 16] = 1
    given = torch.zeros(1, Augment.draws_width)
    turned = augment.apply(batch, given, 1.0)
    assert turned[..., 16, 16] == pytest.approx(1, abs=1e-4)
    batch = torch.zeros(1, 1, 33, 33)
    batch[..., 16, 28] = 1
    row, column = divmod(int(augment.apply(batch, given, 1.0).argmax()), 33)
    assert (abs(row - 16), column) == (6, 26)


def test_a_flip_is_exact_and_happens_half_the_time() -> None:
    augment, batch = Augment(OPERATIONS["flip"], (8, 8)), images(2000)
    out = augment.apply(batch, draws(2000), 1.0)
    flipped = (out == batch.flip(3)).flatten(1).all(dim=1)
    assert bool((flipped | (out == batch).flatten(1).all(dim=1)).all())
    assert flipped.float().mean() == pytest.approx(0.5, abs=0.05)


def test_a_shift_of_half_the_image_is_refused() -> None:
    with pytest.raises(UsageError, match=r"augment\.shift"):
        Augment(AugmentSettings(shift=16), (32, 64))


@pytest.mark.parametrize("word", ["probability=0.9", "shift=-1", "rotate_degrees=90", "scale=0.5", "blur=1"])
def test_what_leaks_or_makes_no_sense_is_refused(word: str) -> None:
    name, value = word.split("=")
    with pytest.raises(UsageError, match=name):
        AugmentSettings.parse({name: float(value)})
