"""Gathering returns the samples asked for, in the order asked for."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.errors import InputError, UsageError
from tests.builders import write_dataset


def test_samples_come_in_the_order_asked_for(tmp_path):
    write_dataset(str(tmp_path), shard_bytes=40_000)
    split = open_dataset(str(tmp_path)).split("train")
    asked = np.array([119, 0, 60, 60, 3, 118, 1])
    assert split.take(asked).subject.tolist() == asked.tolist()
    assert len(split.take(asked[:0])) == 0


def test_an_index_out_of_range_is_refused(tmp_path):
    write_dataset(str(tmp_path))
    with pytest.raises(InputError, match="out of range"):
        open_dataset(str(tmp_path)).split("val").take(np.array([24]))


def test_what_is_known_of_samples_comes_without_their_pixels(tmp_path):
    write_dataset(str(tmp_path), shard_bytes=40_000, classes=("a", "b"))
    split, asked = open_dataset(str(tmp_path)).split("train"), np.array([119, 0, 60, 60, 3])
    found = split.known(asked)
    assert found.subject.tolist() == asked.tolist() and found.label[:, 0].tolist() == (asked % 2).tolist()
    assert found.image.size == 0 and len(found) == 5
    with pytest.raises(InputError, match="out of range"):
        split.known(np.array([120]))
    assert len(open_dataset(str(tmp_path)).split("val").known(asked[:0])) == 0


def test_of_a_split_that_is_empty_nothing_is_known(tmp_path):
    write_dataset(str(tmp_path), counts={"train": 8})
    with pytest.raises(InputError, match="the split is empty"):
        open_dataset(str(tmp_path)).split("val").known(np.arange(0))


def test_classes_are_counted(tmp_path):
    write_dataset(str(tmp_path), classes=("a", "b", "c"), counts={"train": 100})
    assert open_dataset(str(tmp_path)).split("train").class_counts(3) == (34, 33, 33)


def test_rare_classes_come_as_often_as_common_ones(tmp_path):
    write_dataset(str(tmp_path), classes=("a", "b", "c", "d"), counts={"train": 5})  # two of a, one of each other
    split = open_dataset(str(tmp_path), DataSettings(balance="classes")).split("train")
    order = split.order(0, "discriminator")
    labels = split.take(order.indices(0, order.length)).label[:, 0]
    assert np.bincount(labels).tolist() == [2, 2, 2, 2]


def test_a_dataset_without_classes_has_none_to_balance(tmp_path):
    write_dataset(str(tmp_path))
    with pytest.raises(UsageError, match=r"data\.balance"):
        open_dataset(str(tmp_path), DataSettings(balance="classes")).split("train").order(0, "discriminator")
