"""The order is a pure function of (content digest, seed, position)."""

import itertools

import numpy as np

from medgan_ray.dataset.order import Order


def order(seed=0, span=2, sizes=(5, 7, 3, 9, 4)):
    return Order(list(sizes), ("digest", seed, "discriminator"), span)


def test_each_epoch_sees_each_sample_once():
    for epoch in range(3):
        assert sorted(order().indices(28 * epoch, 28)) == list(range(28))


def test_any_cut_of_the_order_gives_the_same_positions():
    whole = order().indices(0, 200)
    cuts = [0, 1, 27, 28, 29, 90, 91, 200]
    parts = [order().indices(start, end - start) for start, end in itertools.pairwise(cuts)]
    assert np.array_equal(np.concatenate(parts), whole)


def test_seeds_and_epochs_differ():
    assert not np.array_equal(order(0).indices(0, 28), order(1).indices(0, 28))
    assert not np.array_equal(order().indices(0, 28), order().indices(28, 28))


def test_only_a_span_of_shards_is_touched_at_a_time():
    ends = np.cumsum([5, 7, 3, 9, 4])
    first = order(span=1).indices(0, 28)
    shards = np.searchsorted(ends, first, side="right")
    assert np.count_nonzero(np.diff(shards)) == 4


def test_an_epoch_sees_a_sample_as_often_as_asked():
    times = np.arange(28) % 3 + 1
    balanced = Order([5, 7, 3, 9, 4], ("digest", 0, "discriminator"), 2, times)
    assert balanced.length == times.sum()
    for epoch in range(2):
        seen = balanced.indices(epoch * balanced.length, balanced.length)
        assert np.bincount(seen).tolist() == times.tolist()
