"""Text in pixels is found and blanked, whatever its size, place and tone; scans without text are left alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medgan_ray.dicom import phantom
from medgan_ray.dicom.burned import blank, find_lines
from medgan_ray.dicom.sandbox import Source, decode

SIDE = 256


def drawn(kind: str) -> NDArray[np.float32]:
    return next(phantom.draw(kind, 1, 1, SIDE, 3)).values.copy()


def ink(text: str, cap: float, top: int, left: int) -> NDArray[np.bool_]:
    """Return which pixels a text takes whose capitals are ``cap`` pixels high."""
    image = Image.new("1", (SIDE, SIDE))
    ImageDraw.Draw(image).text((left, top), text, fill=1, font=ImageFont.load_default(cap / 0.7))
    return np.asarray(image)


@pytest.mark.parametrize("kind", ["ct", "ct_body", "mr", "xray"])
@pytest.mark.parametrize(
    ("text", "cap", "top", "left"), [("DOE^JOHN", 9, 4, 6), ("1971-04-23", 14, 120, 60), ("Smith, Anna", 26, 210, 20)]
)
@pytest.mark.parametrize("bright", [True, False])
def test_text_is_found_and_leaves_no_pixel(kind: str, text: str, cap: float, top: int, left: int, bright: bool) -> None:
    frame = drawn(kind)
    if not bright:
        frame[top : top + 50] = frame.max()  # dark text needs a ground to be seen on
    letters = ink(text, cap, top, left)
    frame[letters] = frame.max() + 1 if bright else frame.min()
    assert find_lines(frame)
    nothing = float(frame.min()) - 1
    boxes = blank(frame, nothing)
    assert boxes and (frame[letters] == nothing).all()
    assert not find_lines(frame)
    assert (frame == nothing).mean() < 0.35


@pytest.mark.parametrize("kind", ["ct", "ct_body", "mr", "xray"])
@pytest.mark.parametrize("seed", range(3))
def test_a_phantom_holds_no_text(kind: str, seed: int) -> None:
    for each in phantom.draw(kind, 2, 2, SIDE, seed):
        before = each.values.copy()
        assert find_lines(each.values) == []
        assert blank(each.values, -1e6) == []
        np.testing.assert_array_equal(each.values, before)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.float32])
def test_any_type_of_pixels(dtype: type) -> None:
    frame = np.add.outer(np.linspace(0, 90, SIDE), np.linspace(0, 90, SIDE)).astype(dtype)
    assert find_lines(frame) == []
    frame[ink("ID: 1234567", 12, 20, 20)] = 250
    assert find_lines(frame)


@pytest.mark.parametrize("frame", [np.zeros((300, 300)), np.ones((20, 20)), np.eye(95), np.zeros((1, 1))])
def test_flat_and_tiny_frames_hold_none(frame: NDArray[np.float64]) -> None:
    assert find_lines(frame) == []


@pytest.mark.parametrize("shape", [(40, 200), (200, 40), (96, 60)])
def test_text_in_strips_is_found(shape: tuple[int, int]) -> None:
    frame = np.zeros(shape, np.float32)
    letters = ink("1971 ABC", 9, 12, 2)[:40, :60]
    frame[: letters.shape[0], : letters.shape[1]][letters[: shape[0], : shape[1]]] = 1
    assert find_lines(frame)


@pytest.mark.parametrize("bright", [True, False])
def test_a_page_of_text_leaves_no_pixel(bright: bool) -> None:
    """Each of its hundred lines leads to all its letters; followed from every line anew they would take minutes."""
    page = np.zeros((512, 512), bool)
    for top in range(4, 500, 30):
        for left in (0, SIDE):
            page[top : top + 24, left : left + SIDE] = ink("Anna Smith 1971-04-23 1234567", 9, 2, 4)[:24]
    frame = np.where(page == bright, 200, 20).astype(np.uint8)
    frame[0, 0] = 1  # a value beside that of the fill
    boxes = blank(frame, 0)
    assert boxes and (frame[page] == 0).all()


def test_side_markers_are_no_line() -> None:
    frame = drawn("xray")
    frame[ink("L", 14, 10, 10)] = frame.max()
    assert find_lines(frame) == []


def real(folder: Path, pattern: str) -> Iterator[NDArray[np.generic]]:
    for outcome in decode([Source(path.name, str(path)) for path in sorted(folder.rglob(pattern))[::4]], 2):
        assert outcome.values is not None
        yield from outcome.values


def test_real_scans_without_text_are_left_alone(ct_multi_patient: Path, ct_series: Path, chest_xray: Path) -> None:
    for folder, pattern in ((ct_multi_patient, "*.dcm"), (ct_series, "*.dcm"), (chest_xray, "*.jpg")):
        frames = list(real(folder, pattern))
        assert len(frames) >= 10
        assert sum(bool(find_lines(frame)) for frame in frames) == 0
