"""Sliced Wasserstein distances: closed forms, what they notice, and the floor on real scans."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan_ray import seeds
from medgan_ray.errors import InputError
from medgan_ray.metrics.sliced import floor, laplacian_pyramid, patch_levels, patch_sliced_wasserstein
from medgan_ray.metrics.sliced import sliced_wasserstein as whole

Images = NDArray[np.float32]


def blobs(n: int, seed: int, size: int = 32) -> Images:
    """Return smooth random images in [-1, 1]."""
    noise = seeds.generator("blobs", seed).standard_normal((n, 1, size // 4, size // 4), np.float32)
    return np.tanh(noise).repeat(4, axis=2).repeat(4, axis=3)


def test_a_constant_offset_has_a_closed_form() -> None:
    """Shifting every pixel by d moves a projection on u by d * sum(u); E|sum(u)| is sqrt(2 / pi) for unit u."""
    images = blobs(64, 0)
    distance = whole(images + 0.1, images)
    assert distance == pytest.approx(0.1 * np.sqrt(2 / np.pi), rel=0.1)


def test_the_same_set_in_another_order_is_at_distance_zero() -> None:
    images = blobs(32, 1)
    assert whole(images[::-1], images) == pytest.approx(0, abs=1e-6)


def test_the_seed_alone_decides() -> None:
    one, other = blobs(32, 1), blobs(32, 2)
    assert whole(one, other, seed=3) == whole(one, other, seed=3) != whole(one, other, seed=4)
    assert patch_levels(one, other, seed=3) == patch_levels(one, other, seed=3) != patch_levels(one, other, seed=4)


def test_patches_notice_lost_contrast_because_the_reference_normalizes() -> None:
    images = blobs(48, 0)
    same = patch_sliced_wasserstein(images, images)
    faded = patch_sliced_wasserstein(images * 0.5, images)
    assert same < 0.02 < 0.2 < faded


def test_blur_shows_in_the_finest_level_first() -> None:
    real = seeds.generator("texture").standard_normal((48, 1, 64, 64), np.float32) * 0.1 + blobs(48, 0, 64)
    blurred = (real + np.roll(real, 1, 2) + np.roll(real, 1, 3) + np.roll(real, (1, 1), (2, 3))) / 4
    fine, middle, coarse = patch_levels(blurred, real)
    assert fine > middle > coarse


@pytest.mark.parametrize(
    ("size", "levels"), [((64, 64), 3), ((32, 32), 2), ((128, 96), 3), ((28, 28), 1), ((66, 66), 2)]
)
def test_the_pyramid_halves_to_sixteen_pixels(size: tuple[int, int], levels: int) -> None:
    images = seeds.generator("pyramid").standard_normal((2, 1, *size), np.float32)
    pyramid = laplacian_pyramid(images)
    assert [level.shape[2:] for level in pyramid] == [(size[0] >> k, size[1] >> k) for k in range(levels)]


def test_a_constant_image_stands_in_the_last_level_alone() -> None:
    *bands, rest = laplacian_pyramid(np.full((1, 2, 64, 64), 0.5, np.float32))
    np.testing.assert_allclose(rest, 0.5, atol=1e-6)
    for band in bands:
        np.testing.assert_allclose(band[:, :, 4:-4, 4:-4], 0, atol=1e-6)


def test_color_channels_are_normalized_each_by_itself() -> None:
    images = np.concatenate([blobs(32, 0), blobs(32, 1) * 0.01], axis=1)
    wrong = images.copy()
    wrong[:, 1] *= 0.5
    assert patch_sliced_wasserstein(wrong, images) > 0.1


def test_the_floor_draws_disjoint_halves() -> None:
    def overlap(a: Images, b: Images) -> float:
        return float(len(np.intersect1d(a, b)))

    real = np.arange(40, dtype=np.float32).reshape(40, 1, 1, 1)
    assert floor(overlap, real, n=20, draws=5) == (0, 0, 0)
    mean, low, high = floor(whole, blobs(40, 0), n=20, draws=4)
    assert 0 < low < mean < high
    assert floor(whole, blobs(40, 0), 20, 4, seed=1) != (mean, low, high)


@pytest.mark.parametrize("n", [0, 21])
def test_a_floor_refuses_what_it_cannot_draw(n: int) -> None:
    with pytest.raises(InputError, match="40 real images"):
        floor(whole, blobs(40, 0), n)


@pytest.mark.parametrize("other", [(3, 1, 8, 8), (4, 1, 8, 7), (4, 8, 8)])
def test_unequal_sets_are_refused(other: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="shapes"):
        whole(np.zeros((4, 1, 8, 8), np.float32), np.zeros(other, np.float32))


def test_images_smaller_than_a_patch_are_refused() -> None:
    tiny = np.zeros((4, 1, 6, 9), np.float32)
    with pytest.raises(InputError, match="6x9"):
        patch_sliced_wasserstein(tiny, tiny)


def test_the_floor_on_real_heads_is_the_published_one(mednist: Path) -> None:
    """On 500 against 500 the floor was measured before: whole .0303 (sd .0015), patches .0136, .0161, .0230."""
    files = sorted((mednist / "HeadCT").iterdir())[::2]
    images = np.stack([np.asarray(Image.open(file).convert("L"), np.float32) for file in files])[:, None] / 127.5 - 1
    images = images[seeds.permutation(len(images), "heads")]
    distance, levels = whole(images[:500], images[500:]), patch_levels(images[:500], images[500:])
    assert distance == pytest.approx(0.0303, rel=0.25)
    assert levels == pytest.approx((0.0136, 0.0161, 0.0230), rel=0.6)
