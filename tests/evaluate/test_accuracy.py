"""Class accuracy: the mean over classes beside the reals', each class with its interval, small ones named."""

import numpy as np
import pytest

from medgan_ray.evaluate.accuracy import class_accuracy

CLASSES = ("a", "b", "c")


def test_each_class_counts_alike_and_stands_beside_the_reals():
    asked = np.repeat([0, 1], [90, 30])
    named = asked.copy()
    named[:45] = 1
    real = np.repeat([0, 1, -1], [20, 20, 5])
    named_real = real.copy()
    named_real[:5] = 2
    found = class_accuracy(named, asked, named_real, real, CLASSES, draws=50)
    whole = found["classes.accuracy"]
    assert (whole.value, whole.floor, whole.n) == (pytest.approx(0.75), pytest.approx(0.875), 120)
    assert whole.low < 0.75 < whole.high
    first, second, third = (found[f"classes.accuracy[class={name}]"] for name in CLASSES)
    assert (first.value, first.floor) == (pytest.approx(0.5), pytest.approx(0.75))
    assert (second.value, second.low, second.high) == (1.0, 1.0, 1.0)
    assert third.value is None and "small class: 0" in third.not_applicable


def test_one_class_is_no_choice():
    asked = np.repeat([0, 1], [90, 3])
    (figure,) = class_accuracy(asked, asked, asked, asked, CLASSES, draws=20).values()
    assert figure.value is None and "two classes" in figure.not_applicable
