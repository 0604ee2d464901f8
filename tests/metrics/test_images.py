"""Structural similarity equals scikit-image's, on several scales pytorch-msssim's; a set of one image is all alike."""

import numpy as np
import pytest
import torch
from pytorch_msssim import ms_ssim as theirs_ms
from pytorch_msssim import ssim as theirs
from scipy.ndimage import gaussian_filter
from skimage.metrics import structural_similarity

from medgan_ray.errors import InputError
from medgan_ray.metrics.images import ms_ssim, pair_similarity, ssim

WEIGHTS = np.array([0.0448, 0.2856, 0.3001, 0.2363, 0.1333])


def smooth(n: int, size: tuple[int, int], seed: int, channels: int = 1) -> np.ndarray:
    """Return smooth images over the whole range with some noise."""
    draw = np.random.default_rng(seed)
    waves = gaussian_filter(draw.normal(0, 1, (n, channels, *size)), (0, 0, 4, 4)) * 6
    return np.clip(waves + draw.normal(0, 0.1, waves.shape), -1, 1).astype(np.float32)


def near(images: np.ndarray, noise: float = 0.2) -> np.ndarray:
    drawn = np.random.default_rng(9).normal(0, noise, images.shape)
    return np.clip(images * 0.8 + drawn, -1, 1).astype(np.float32)


@pytest.mark.parametrize(("size", "channels"), [((64, 64), 1), ((33, 70), 3)])
def test_similarity_is_that_of_scikit_image(size: tuple[int, int], channels: int):
    images = smooth(3, size, 0, channels)
    other = near(images)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 2.0}
    expected = [
        structural_similarity(a.astype(np.float64), b.astype(np.float64), channel_axis=0, **options)
        for a, b in zip(images, other, strict=True)
    ]
    np.testing.assert_allclose(ssim(images, other), expected, atol=1e-4)
    assert 0.1 < ssim(images, other).mean() < 0.95


def test_five_scales_are_those_of_pytorch_msssim():
    images = smooth(4, (192, 176), 1, 2)
    for other in (near(images), images[::-1].copy()):
        given = (torch.from_numpy(each.astype(np.float64)) for each in (images, other))
        expected = theirs_ms(*given, data_range=2, size_average=False).numpy()
        np.testing.assert_allclose(ms_ssim(images, other), expected, atol=1e-4)


def test_small_images_have_as_many_scales_as_hold_a_window():
    """At 64 pixels three: structure at 64 and 32, the whole at 16, by pytorch-msssim's terms and rescaled weights."""
    images = smooth(4, (64, 64), 2)
    other = near(images, 0.1)
    a, b = (torch.from_numpy(each.astype(np.float64)) for each in (images, other))
    weights = WEIGHTS[:3] / WEIGHTS[:3].sum()
    expected = np.ones(4)
    for level, weight in enumerate(weights):
        if level < 2:
            blurred = [[gaussian(each) for each in (a, b, a * a, b * b, a * b)]][0]
            structure = (2 * (blurred[4] - blurred[0] * blurred[1]) + 0.0036) / (
                blurred[2] - blurred[0] ** 2 + blurred[3] - blurred[1] ** 2 + 0.0036
            )
            term = structure.mean((1, 2, 3)).numpy()
            a, b = (torch.nn.functional.avg_pool2d(each, 2) for each in (a, b))
        else:
            term = theirs(a, b, data_range=2, size_average=False).numpy()
        expected *= np.maximum(term, 0) ** weight
    np.testing.assert_allclose(ms_ssim(images, other), expected, atol=1e-4)
    assert 0.2 < expected.mean() < 0.95


def gaussian(images: torch.Tensor) -> torch.Tensor:
    """Return Gaussian means where a whole window of 11x11 fits."""
    taps = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    return torch.nn.functional.conv2d(images, window[None, None])


def test_similarity_does_not_depend_on_how_many_are_compared_at_once(monkeypatch: pytest.MonkeyPatch):
    images = smooth(5, (32, 32), 3)
    whole = ms_ssim(images, images[::-1])
    monkeypatch.setattr("medgan_ray.metrics.images._CHUNK_PIXELS", 1)
    np.testing.assert_allclose(ms_ssim(images, images[::-1]), whole, rtol=1e-12)


def test_pairs_of_one_image_are_all_alike_and_no_image_is_in_two():
    images = smooth(41, (32, 32), 4)
    collapsed = np.repeat(images[:1], 41, axis=0)
    assert pair_similarity(collapsed) == pytest.approx(1)
    alike = pair_similarity(images)
    assert len(alike) == 20 and alike.mean() < 0.5
    changed = images.copy()
    changed[7] = near(images[7:8], 0.5)[0]
    assert (pair_similarity(changed) != alike).sum() <= 1
    assert (pair_similarity(images, seed=1) != alike).any()


@pytest.mark.parametrize("shape", [(4, 1, 10, 64), (4, 16, 16), (0, 1, 16, 16)])
def test_what_cannot_be_compared_is_refused(shape: tuple[int, ...]):
    images = np.zeros(shape, np.float32)
    for figure in (ssim, ms_ssim):
        with pytest.raises(InputError):
            figure(images, images)
    with pytest.raises(InputError):
        ssim(np.zeros((2, 1, 16, 16), np.float32), np.zeros((2, 1, 16, 17), np.float32))
