"""Marks: thin strokes of letter size, at their places, at the resolution that shows them."""

import numpy as np
import pytest

from medgan_ray.dicom.marks import LARGE, levels, marks


def bars(width: int, height: int) -> np.ndarray:
    frame = np.zeros((128, 160), np.float32)
    for left in (20, 60, 100):
        frame[40 : 40 + height, left : left + width] = 100
    return frame


@pytest.mark.parametrize(("width", "height", "scale"), [(2, 14, 1), (7, 40, 2), (14, 80, 4)])
def test_strokes_are_found_where_they_are(width: int, height: int, scale: int) -> None:
    frame = bars(width, height)
    level = next(each for each in levels(frame) if each.scale == scale)
    found = next(marks(level, bright=True))
    tops, lefts = (found.boxes[:, :2] * scale).T
    assert sorted(lefts.tolist()) == pytest.approx([20, 60, 100], abs=scale)
    assert tops.tolist() == pytest.approx([40] * 3, abs=scale)


def test_dark_strokes_are_marks_of_the_inverted_frame() -> None:
    level = next(levels(100 - bars(2, 14)))
    assert next(marks(level, bright=True), None) is None
    assert len(next(marks(level, bright=False)).boxes) == 3


def test_areas_are_no_strokes() -> None:
    frame = np.zeros((128, 128), np.float32)
    frame[30:90, 30:90] = 100
    assert next(marks(next(levels(frame)), bright=True), None) is None


def test_huge_frames_are_halved_first() -> None:
    frame = np.zeros((LARGE >> 11, 1 << 12), np.uint8)
    frame[0, 0] = 1
    assert next(levels(frame)).scale == 2
