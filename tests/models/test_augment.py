"""Augmentation: second derivatives, what each operation does, and that only its own draws move an image."""

import numpy as np
import pytest
import torch
from torch import Tensor

from medgan_ray import seeds
from medgan_ray.errors import UsageError
from medgan_ray.models.augment import Augment, AugmentSettings, shift

OPERATIONS = {
    "shift": AugmentSettings(shift=1),
    "flip": AugmentSettings(shift=0, flip=True),
    "rotate": AugmentSettings(shift=0, rotate_degrees=10),
    "scale": AugmentSettings(shift=0, scale=0.1),
    "all": AugmentSettings(shift=1, flip=True, rotate_degrees=10, scale=0.1),
}
VALUES = {
    "brightness": AugmentSettings(shift=0, brightness=0.2),
    "contrast": AugmentSettings(shift=0, contrast=0.3),
    "noise": AugmentSettings(shift=0, noise=0.1),
    "cutout": AugmentSettings(shift=0, cutout=0.5),
    "moved and changed": AugmentSettings(shift=1, rotate_degrees=10, brightness=0.2, contrast=0.3, noise=0.1),
}
"""Operations that may leave [-1, 1] or change a constant image."""
each_operation = pytest.mark.parametrize("settings", OPERATIONS.values(), ids=OPERATIONS)
every_operation = pytest.mark.parametrize(
    "settings", [*OPERATIONS.values(), *VALUES.values()], ids=[*OPERATIONS, *VALUES]
)


def images(n: int, size: tuple[int, int] = (8, 8), seed: int = 0) -> Tensor:
    drawn = torch.rand((n, 1, *size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return drawn * 2 - 1


def draws(n: int, seed: int = 1) -> Tensor:
    return torch.rand((n, Augment.draws_width), generator=torch.Generator().manual_seed(seed))


def noise(n: int, size: tuple[int, int] = (8, 8)) -> Tensor:
    return torch.randn((n, 1, *size), generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@every_operation
def test_there_is_a_second_derivative(settings: AugmentSettings) -> None:
    augment, given, values = Augment(settings, (4, 4)), draws(2, seed=2), noise(2, (4, 4))

    def curved(batch: Tensor) -> Tensor:
        return augment.apply(batch, given, 1.0, values).pow(3)

    batch = images(2, (4, 4)).requires_grad_()
    assert not torch.equal(augment.apply(batch, given, 1.0, values), batch)
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


@every_operation
def test_an_image_depends_on_its_own_draws_alone(settings: AugmentSettings) -> None:
    augment, batch, given, values = Augment(settings, (8, 8)), images(6), draws(6), noise(6)
    together = augment.apply(batch, given, 0.7, values)
    each = (slice(i, i + 1) for i in range(6))
    alone = torch.cat([augment.apply(batch[i], given[i], 0.7, values[i]) for i in each])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@every_operation
@pytest.mark.parametrize("probability", [0.0, 0.3])
def test_the_given_share_of_images_is_touched(settings: AugmentSettings, probability: float) -> None:
    augment, batch = Augment(settings, (8, 8)), images(2000)
    out = augment.apply(batch, draws(2000), probability, noise(2000))
    touched = (out != batch).flatten(1).any(dim=1).float().mean()
    if probability == 0:
        assert touched == 0
    else:
        assert 0.1 < touched < 0.85


@pytest.mark.parametrize("first", OPERATIONS.values(), ids=OPERATIONS)
def test_what_an_operation_draws_is_its_own_whatever_others_are_on(first: AugmentSettings) -> None:
    """Brightness, on top, adds a constant to each image and moves nothing."""
    alone = Augment(first, (8, 8)).apply(images(50), draws(50), 0.5)
    both = Augment(first.model_copy(update={"brightness": 0.2}), (8, 8)).apply(images(50), draws(50), 0.5)
    added = (both - alone).flatten(1)
    torch.testing.assert_close(added, added[:, :1].expand_as(added))
    assert 10 < (added[:, 0] != 0).sum() < 40


def test_brightness_contrast_and_noise_are_not_clipped() -> None:
    batch, given = images(200), draws(200)
    brighter = Augment(VALUES["brightness"], (8, 8)).apply(batch, given, 1.0) - batch
    torch.testing.assert_close(brighter[:, 0, 0, 0], 0.2 * (2 * given[:, 9].double() - 1), rtol=0, atol=1e-7)
    factors = Augment(VALUES["contrast"], (8, 8)).apply(batch, given, 1.0) / batch
    torch.testing.assert_close(factors[:, 0, 0, 0], 1 + 0.3 * (2 * given[:, 11].double() - 1), rtol=0, atol=1e-6)
    noisy = Augment(VALUES["noise"], (8, 8)).apply(batch, given, 1.0, noise(200)) - batch
    assert noisy.flatten(1).std(dim=1).max() == pytest.approx(0.1, rel=0.3)
    assert noisy.std() == pytest.approx(0.1 / 3**0.5, rel=0.1)
    for settings in (VALUES["brightness"], VALUES["contrast"]):
        assert Augment(settings, (8, 8)).apply(torch.ones(50, 1, 8, 8), draws(50), 1.0).max() > 1.1


def test_cutout_blackens_one_whole_rectangle_anywhere() -> None:
    augment = Augment(AugmentSettings(shift=0, cutout=0.25), (8, 16))
    black = augment.apply(torch.zeros(2000, 1, 8, 16), draws(2000), 1.0)[:, 0] == -1
    assert bool((black.flatten(1).sum(dim=1) == 2 * 4).all())
    assert bool((black.any(dim=1).sum(dim=1) == 4).all() and (black.any(dim=2).sum(dim=1) == 2).all())
    assert bool(black.any(dim=0).all())


def test_a_position_has_the_same_draws_in_any_batch_and_without_noise_none_are_taken() -> None:
    augment = Augment(VALUES["noise"], (8, 8))
    few, many = np.array([700, 3]), np.arange(1000)
    assert np.array_equal(augment.draw(few, "digest", 0), augment.draw(many, "digest", 0)[few])
    assert augment.draw(few, "digest", 0).shape == (2, Augment.draws_width)
    drawn = [augment.draw_noise(positions, 2, "digest", 0) for positions in (few, many)]
    assert drawn[0] is not None and drawn[1] is not None and drawn[0].shape == (2, 2, 8, 8)
    assert np.array_equal(drawn[0], drawn[1][few])
    assert Augment(AugmentSettings(), (8, 8)).draw_noise(few, 1, "digest", 0) is None


def test_the_first_draws_are_those_of_the_first_version() -> None:
    """Runs of the first options (shift, flip, turn) train as they did when nothing else was drawn."""
    positions = np.arange(300, 310)
    assert np.array_equal(
        Augment(AugmentSettings(), (8, 8)).draw(positions, "digest", 0)[:, :8], seeds.uniform(positions, 8, "digest", 0)
    )


@pytest.mark.parametrize(
    ("modality", "flips"), [("DX", False), ("CR", False), ("CT", False), ("MR", False), ("OT", False), ("SM", True)]
)
def test_flips_by_themselves_only_where_there_are_no_sides(modality: str, flips: bool) -> None:
    batch, given = images(100), draws(100)
    for chosen, expected in (("auto", flips), (True, True), (False, False)):
        augment = Augment(AugmentSettings(shift=0, flip=chosen), (8, 8), modality)
        assert (not torch.equal(augment.apply(batch, given, 1.0), batch)) is expected


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


@pytest.mark.parametrize("word", ["probability=0.9", "shift=-1", "rotate_degrees=90", "scale=0.5", "blur=1", "noise=1"])
def test_what_leaks_or_makes_no_sense_is_refused(word: str) -> None:
    name, value = word.split("=")
    with pytest.raises(UsageError, match=name):
        AugmentSettings.parse({name: float(value)})
