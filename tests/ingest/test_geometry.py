"""Geometry: nothing stretched, nothing padded, area means."""

import math

import numpy as np
import pytest

from medgan_ray.ingest.geometry import crop, resample, resize, spacing_after


@pytest.mark.parametrize(
    ("shape", "size", "spacing", "expected"),
    [
        ((512, 512), (64, 64), None, (512, 512)),
        ((300, 200), (64, 64), None, (200, 200)),
        ((300, 200), (96, 64), (1.0, 1.0), (300, 200)),
        ((100, 200), (64, 64), (2.0, 1.0), (100, 200)),
        ((200, 200), (64, 64), (2.0, 1.0), (100, 200)),
    ],
)
def test_crop_keeps_the_shape_in_millimeters(
    shape: tuple[int, int], size: tuple[int, int], spacing: tuple[float, float] | None, expected: tuple[int, int]
) -> None:
    rows, columns = crop(*shape, size, spacing)
    assert (rows.stop - rows.start, columns.stop - columns.start) == expected
    assert abs(rows.start - (shape[0] - rows.stop)) <= 1
    assert abs(columns.start - (shape[1] - columns.stop)) <= 1


def test_reduction_is_the_mean_over_the_area() -> None:
    image = np.arange(64.0).reshape(8, 8)
    np.testing.assert_allclose(resize(image, (4, 2)), image.reshape(4, 2, 2, 4).mean((1, 3)))
    assert resize(image, (3, 5)).mean() == pytest.approx(image.mean())


def test_enlarging_a_ramp_stays_a_ramp() -> None:
    ramp = np.repeat(np.arange(8.0)[None], 4, 0)
    wide = resize(ramp, (4, 16))
    np.testing.assert_allclose(np.diff(wide[0, 1:-1]), 0.5)
    assert (wide.min(), wide.max()) == (0, 7)


def test_spacing_follows_the_pixels() -> None:
    part = crop(200, 400, (50, 50), (1.0, 1.0))
    assert spacing_after((1.0, 1.0), part, (50, 50)) == (4.0, 4.0)
    assert all(map(math.isnan, spacing_after(None, part, (50, 50))))


def test_resampling_by_halves_is_the_mean_of_the_middle():
    image = np.arange(64.0).reshape(8, 8)
    middle = image[2:6, 2:6]
    np.testing.assert_allclose(resample(image, (2, 2), (2.0, 2.0), -1), middle.reshape(2, 2, 2, 2).mean((1, 3)))


def test_beyond_the_borders_is_what_was_said():
    wide = resample(np.full((4, 4), 5.0), (8, 6), (1.0, 1.0), -1)
    assert wide.shape == (8, 6)
    np.testing.assert_allclose(wide[2:6, 1:5], 5)
    assert (wide[:2] == -1).all() and (wide[6:] == -1).all() and (wide[:, 0] == -1).all() and (wide[:, 5] == -1).all()


@pytest.mark.parametrize("scale", [0.4, 1.7])
def test_a_pixel_half_outside_is_half_of_each(scale: float):
    sums = resample(np.ones((10, 10)), (40, 40), (scale, scale), 0).sum() * scale**2
    assert sums == pytest.approx(100, rel=0.02)  # as much as there was


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8, np.int8])
@pytest.mark.parametrize(
    ("shape", "size"), [((64, 64), (8, 8)), ((64, 32), (4, 32)), ((256, 128), (2, 1)), ((60, 64), (30, 8))]
)
def test_whole_numbers_are_resized_to_the_same_bits_as_others(
    kind: type[np.integer], shape: tuple[int, int], size: tuple[int, int]
) -> None:
    ends = np.iinfo(kind)
    drawn = np.random.default_rng(0).integers(ends.min, ends.max, shape, kind, endpoint=True)
    for image in (drawn, np.full(shape, ends.max, kind), np.full(shape, ends.min, kind), drawn.T.copy().T):
        np.testing.assert_array_equal(resize(image, size), resize(image.astype(np.float64), size))
