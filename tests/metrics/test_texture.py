"""Texture and histogram distances equal plain reckonings; blur, noise and contrast are seen by those meant to."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import wasserstein_distance

from medgan_ray.errors import InputError
from medgan_ray.metrics.texture import glcm_distance, glcm_features, histogram_distance


def images(n: int, seed: int, sigma: float = 1.5, size: int = 24) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 1, (n, 1, size, size))
    smooth = gaussian_filter(noise, (0, 0, sigma, sigma))
    return np.clip(smooth / smooth.std() * 0.4, -1, 1).astype(np.float32)


def counted(image: np.ndarray, down: int, across: int) -> tuple[float, float, float, float]:
    """Return the four properties of one offset, counted pair by pair."""
    levels = np.minimum(np.floor((image.astype(np.float64) + 1) * 16), 31).astype(int)
    height, width = levels.shape
    matrix = np.zeros((32, 32))
    for row in range(height):
        for column in range(width):
            other = row + down, column + across
            if 0 <= other[0] < height and 0 <= other[1] < width:
                matrix[levels[row, column], levels[other]] += 1
    matrix = (matrix + matrix.T) / (2 * matrix.sum())
    i, j = np.indices(matrix.shape)
    mean = (i * matrix).sum()
    variance = ((i - mean) ** 2 * matrix).sum()
    contrast, homogeneity = ((i - j) ** 2 * matrix).sum(), (matrix / (1 + (i - j) ** 2)).sum()
    return contrast, homogeneity, np.sqrt((matrix**2).sum()), ((i - mean) * (j - mean) * matrix).sum() / variance


def test_features_are_those_counted_by_hand():
    image = images(1, 0)
    found = glcm_features(image)[0].reshape(4, 3)
    for place, step in enumerate((1, 2, 4)):
        # Along a diagonal the library takes the nearest pixel at that distance.
        slant = round(step * np.sqrt(0.5))
        offsets = ((0, step), (slant, slant), (step, 0), (slant, -slant))
        expected = np.mean([counted(image[0, 0], *offset) for offset in offsets], axis=0)
        np.testing.assert_allclose(found[:, place], expected, atol=1e-4, rtol=1e-4)


def test_channels_count_alike():
    gray, other = images(2, 0), images(2, 1)
    both = glcm_features(np.concatenate([gray, other], axis=1))
    np.testing.assert_allclose(both, (glcm_features(gray) + glcm_features(other)) / 2)


def test_texture_distance_is_in_deviations_of_the_reference():
    reference = np.random.default_rng(0).normal(0, [1, 5, 0.1], (2000, 3))
    shifted = reference + 2 * reference.std(axis=0)
    assert glcm_distance(shifted, reference) == pytest.approx(2)
    assert glcm_distance(reference[::-1], reference) == pytest.approx(0, abs=1e-12)


def test_blur_and_noise_are_seen_by_texture():
    real, other = glcm_features(images(60, 0)), glcm_features(images(60, 1))
    floor = glcm_distance(other, real)
    noise = np.random.default_rng(2).normal(0, 0.1, (60, 1, 24, 24)).astype(np.float32)
    assert glcm_distance(glcm_features(images(60, 1) + noise), real) > 3 * floor
    assert glcm_distance(glcm_features(images(60, 1, sigma=2.0)), real) > 3 * floor


def test_histogram_distance_is_that_of_scipy():
    a, b = images(30, 0), (images(20, 1) * 0.7 + 0.1).astype(np.float32)
    expected = wasserstein_distance(a.reshape(-1).astype(float), b.reshape(-1).astype(float))
    assert histogram_distance(a, b) == pytest.approx(expected, abs=1e-5)
    assert expected > 0.05


def test_histogram_distance_from_black_to_white_is_two(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("medgan_ray.metrics.texture._CHUNK_PIXELS", 100)
    black = np.full((3, 1, 8, 8), -1, np.float32)
    assert histogram_distance(black, -black) == pytest.approx(2)
    assert histogram_distance(black * 3, black) == 0


def test_what_is_no_set_is_refused():
    with pytest.raises(InputError):
        glcm_features(np.zeros((2, 1, 4, 9), np.float32))
    with pytest.raises(InputError):
        glcm_distance(np.zeros((2, 3)), np.zeros((2, 4)))
    with pytest.raises(InputError):
        histogram_distance(np.zeros((0, 1, 8, 8), np.float32), np.zeros((1, 1, 8, 8), np.float32))
