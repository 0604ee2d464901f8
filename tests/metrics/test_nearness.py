"""Copies of training scans are nearer to them; unseen scans are not; one image many times has no diversity."""

import numpy as np
import pytest

from medgan_ray.errors import InputError
from medgan_ray.metrics.nearness import diversity, nearer_share


@pytest.fixture
def sets():
    draw = np.random.default_rng(3)
    coarse = draw.normal(0, 1, (300, 1, 8, 8)).astype(np.float32)
    return np.split(np.kron(coarse, np.ones((1, 1, 4, 4), np.float32)), 3)


def test_copies_are_nearer_to_what_they_were_copied_from(sets):
    ours, theirs, unseen = sets
    noise = np.random.default_rng(0).normal(0, 0.3, ours.shape).astype(np.float32)
    assert nearer_share(ours + noise, ours, theirs) == 1.0
    assert nearer_share(theirs + noise, ours, theirs) == 0.0
    assert 0.35 < nearer_share(unseen, ours, theirs) < 0.65


def test_sides_that_no_block_divides_and_several_channels_are_taken():
    draw = np.random.default_rng(1)
    ours, theirs = draw.normal(0, 1, (2, 20, 3, 33, 50)).astype(np.float32)
    assert nearer_share(ours, ours, theirs) == 1.0


def test_unequal_sets_are_refused(sets):
    with pytest.raises(InputError, match="give two of equal number"):
        nearer_share(sets[0], sets[1], sets[2][:5])


def test_diversity_is_the_deviation_from_the_mean_image():
    one = np.full((10, 1, 4, 4), 0.3, np.float32)
    halves = np.concatenate([one - 0.5, one + 0.5])
    assert diversity(one) == pytest.approx(0, abs=1e-6) and diversity(halves) == pytest.approx(0.5)
