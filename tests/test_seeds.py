"""Draws depend on key and position alone."""

import numpy as np

from medgan_ray import seeds


def test_rows_belong_to_positions_not_to_batches():
    positions = np.arange(1000, dtype=np.int64)
    whole = seeds.normal(positions, 5, "digest", 1, "noise")
    for shuffled in (positions[::-1], positions[255:258], positions[1::2]):
        assert np.array_equal(seeds.normal(shuffled, 5, "digest", 1, "noise"), whole[shuffled])


def test_every_part_of_the_key_matters():
    draws = [seeds.generator(*parts).random() for parts in [("a", 1), ("a", "1"), ("a1",), (1, "a"), ("a", 1, 0)]]
    assert len(set(draws)) == len(draws)


def test_draws_have_the_law_they_promise():
    positions = np.arange(4096, dtype=np.int64)
    normal, uniform = seeds.normal(positions, 8, 0), seeds.uniform(positions, 8, 0)
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01


def test_these_numbers_never_change():
    assert seeds.permutation(8, "digest", 0).tolist() == FROZEN_PERMUTATION
    assert seeds.key("a", 1) == FROZEN_KEY


FROZEN_PERMUTATION = [6, 0, 4, 2, 3, 7, 1, 5]
FROZEN_KEY = 9403640246125343293491693366223995149
