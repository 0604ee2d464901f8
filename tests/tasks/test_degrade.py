"""What is given of an image depends on the image and its position alone, and is as coarse or noisy as asked."""

import numpy as np
import pytest
import torch

from medgan_ray.tasks.degrade import degraded, dose_sd

IMAGES = torch.rand(6, 1, 64, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1
PLACES = np.array([3, 11, 4, 100, 7, 8])


@pytest.mark.parametrize("given", ["down2", "down4", "noise", "dose", "hole"])
def test_it_is_drawn_by_position(given):
    whole = degraded(IMAGES, given, 0.2, PLACES, "digest", 1)
    some = degraded(IMAGES[[4, 1]], given, 0.2, PLACES[[4, 1]], "digest", 1)
    assert torch.equal(some.images, whole.images[[4, 1]]) and torch.equal(some.trusted, whole.trusted[[4, 1]])
    other = degraded(IMAGES, given, 0.2, PLACES, "digest", 2)
    assert torch.equal(other.images, whole.images) == given.startswith("down")


def test_blocks_become_their_mean():
    coarse = degraded(IMAGES, "down4", 0.2, PLACES, "digest").images
    assert coarse.shape == (6, 1, 16, 12)
    torch.testing.assert_close(coarse[2, 0, 3, 5], IMAGES[2, 0, 12:16, 20:24].mean())


@pytest.mark.parametrize("given", ["noise", "dose"])
def test_noise_is_as_strong_as_asked(given):
    plain = torch.zeros(64, 1, 64, 48)
    noise = degraded(plain, given, 0.2, np.arange(64), "digest").images.numpy()
    assert noise.std() == pytest.approx(0.2, rel=0.02) and abs(noise.mean()) < 0.01
    power = np.abs(np.fft.rfft2(noise[:, 0])) ** 2
    fine, coarse = power[:, 24:40, 15:].mean(), power[:, 1:4, 1:4].mean()
    assert fine == pytest.approx(coarse, rel=0.15) if given == "noise" else fine < 0.05 * power.max()


def test_a_quarter_of_the_dose_doubles_the_noise():
    """The noise of the whole dose and what is added make twice the deviation together."""
    assert np.hypot(12, dose_sd(0.25, 12)) == pytest.approx(24)


def test_a_hole_hides_what_was_there():
    given = degraded(IMAGES, "hole", 0.2, PLACES, "digest")
    hidden = given.trusted == 0
    assert set(given.trusted.unique().tolist()) == {0, 1} and not given.images[hidden].any()
    share = hidden.float().mean((1, 2, 3))
    assert (share > 0.01).all() and (share < 0.13).all() and share.unique().numel() > 1
    assert torch.equal(given.images[~hidden], IMAGES[~hidden])
