"""Cleaning: constant, small, alike, contradicting."""

import math

import numpy as np
import pytest

from medgan_ray.ingest.clean import contrast, duplicates, frame_reason

WHOLE = (slice(0, 64), slice(0, 64))


def test_constant_goes_before_all_else() -> None:
    assert frame_reason(np.full((64, 64), 25, np.float32), WHOLE, (64, 64), 2.0) == "constant"


@pytest.mark.parametrize(("side", "reason"), [(32, None), (31, "too_small")])
def test_less_than_half_the_size_is_too_small(side: int, reason: str | None) -> None:
    image = np.arange(side * 64, dtype=np.float32).reshape(side, 64)
    assert frame_reason(image, (slice(0, side), slice(0, 64)), (64, 64), 2.0) == reason


@pytest.mark.parametrize(("shape", "reason"), [((130, 64), None), ((131, 64), "odd_aspect"), ((64, 200), "odd_aspect")])
def test_what_is_far_from_the_shape_is_odd(shape: tuple[int, int], reason: str | None) -> None:
    image = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    assert frame_reason(image, WHOLE, (64, 64), 2.03) == reason


def test_contrast_is_a_share_of_the_range() -> None:
    image = np.zeros((1, 2, 2), np.uint16)
    image[0, 0] = 65535
    assert contrast(image) == pytest.approx([0.5])


def test_one_of_equal_images_stays_whatever_the_order() -> None:
    digests, labels, ranks = [b"a", b"b", b"a", b"a"], ["", "x", "", "x"], [("p",), ("q",), ("o",), ("z",)]
    assert duplicates(digests, labels, ranks) == {0: "duplicate", 2: "duplicate"}


def test_equal_images_under_two_labels_all_go() -> None:
    assert duplicates([b"a", b"a", b"b"], ["x", "y", "x"], [(), (), ()]) == {0: "label_conflict", 1: "label_conflict"}
