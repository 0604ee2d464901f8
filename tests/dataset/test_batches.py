"""Gathering returns the samples asked for, in the order asked for."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import InputError
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


def test_classes_are_counted(tmp_path):
    write_dataset(str(tmp_path), classes=("a", "b", "c"), counts={"train": 100})
    assert open_dataset(str(tmp_path)).split("train").class_counts(3) == (34, 33, 33)
