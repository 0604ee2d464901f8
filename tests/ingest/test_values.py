"""Intensity maps: exact in HU, robust where there is no unit."""

import numpy as np
import pytest

from medgan_ray.ingest.values import WINDOWS, body_range, image_range, intensity_map, quantize, to_share


@pytest.mark.parametrize("window", WINDOWS)
def test_hounsfield_units_survive_within_a_step(window: str) -> None:
    intensity = intensity_map("HU", window)
    values = np.linspace(intensity.low, intensity.high, 1001).astype(np.float32)
    stored = quantize(values, intensity)
    back = intensity.low + stored / 65535 * (intensity.high - intensity.low)
    assert np.abs(back - values).max() < (intensity.high - intensity.low) / 65535
    assert (stored[0], stored[-1]) == (0, 65535)


def test_values_outside_are_clipped() -> None:
    stored = quantize(np.array([-2000, 5000], np.float32), intensity_map("HU", "soft"))
    assert stored.tolist() == [0, 65535]


def test_full_range_is_shown_through_the_soft_tissue_window() -> None:
    assert intensity_map("HU", "full").window == WINDOWS["soft"]


def test_body_range_ignores_a_few_hot_pixels_and_keeps_air_black() -> None:
    draw = np.random.default_rng(0)
    images = draw.normal(20, 5, (4, 32, 32)).astype(np.float32)
    images[:, 8:24, 8:24] = draw.normal(600, 50, (4, 16, 16))
    images[0, 12, 12] = 30000
    low, high = body_range(images)
    assert low < 20 and 650 < high < 800
    assert to_share(images, low, high)[:, :4].max() < 0.06


def test_ranges_of_constant_images_are_finite() -> None:
    flat = np.full((2, 8, 8), 7, np.float32)
    assert body_range(flat) == image_range(flat) == (7, 7)
    assert np.isfinite(to_share(flat, 7, 7)).all()


def test_uptake_is_held_far_beyond_one() -> None:
    intensity = intensity_map("SUV", "soft")
    values = np.array([0, 0.5, 2.5, 7, 18], np.float32)
    np.testing.assert_allclose(intensity.values(quantize(values, intensity)), values, atol=1e-3)


def test_ranges_of_values_far_from_zero_and_close_to_it() -> None:
    """Float32 has no room for a histogram where the values are large beside their spread, nor a reason to be large."""
    images = np.zeros((2, 16, 16), np.float32)
    images[:, 4:12, 4:12] = np.arange(64).reshape(8, 8)
    for factor, offset in ((64, 1e9), (1e-9, 0), (1, 2**24)):
        scaled = (images * factor + offset).astype(np.float32)
        low, high = body_range(scaled)
        shares = to_share(scaled, low, high)
        assert shares.min() == 0 and shares.max() == 1 and shares.std() > 0.1
