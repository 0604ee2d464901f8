"""Copies are found whatever hides them; nearest is nearest; chunks, groups and blanks count as they should."""

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from medgan_ray.errors import InputError
from medgan_ray.metrics.neighbors import FREE, chunked, nearest_features, nearest_images


def blobs(count, size=64, channels=1, seed=0):
    """Smooth random pictures in [-1, 1]."""
    noise = np.random.default_rng(seed).normal(0, 1, (count, channels, size, size))
    smooth = gaussian_filter(noise, (0, 0, size / 16, size / 16))
    return (smooth / np.abs(smooth).max((1, 2, 3), keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def head_ct(mednist):
    """HeadCT, 64 px: 100 queries and 500 others."""
    files = sorted((mednist / "HeadCT").iterdir())[:600]
    images = np.stack([np.asarray(Image.open(file), np.float32) for file in files])[:, None] / 127.5 - 1
    return images[:100], images[100:]


def moved(images, down, right):
    return np.roll(images, (down, right), (2, 3))


@pytest.mark.parametrize(
    ("size", "channels", "down", "right"), [(64, 1, 3, -3), (64, 3, -3, 1), (128, 1, 6, 5), (32, 1, 1, -1)]
)
def test_a_shifted_mirrored_brighter_noisy_copy_is_found(size, channels, down, right):
    images = blobs(40, size, channels)
    noise = np.random.default_rng(1).normal(0, 0.02, images.shape).astype(np.float32)
    copies = moved(images[..., ::-1], down, right) * 0.6 + 0.2 + noise
    found = nearest_images(copies, chunked(images))
    assert (found.index == np.arange(40)).all() and found.distance.max() < 0.25
    others = nearest_images(copies, chunked(blobs(40, size, channels, seed=5)))
    assert others.distance.min() > 2 * found.distance.max()


def test_a_copy_shifted_further_than_is_looked_is_not_at_zero():
    images = blobs(20)
    near, far = (nearest_images(moved(images, by, 0), chunked(images)).distance.max() for by in (3, 9))
    assert near < 1e-3 and far > 0.2


def test_the_coarse_stage_loses_hardly_anything_on_real_scans(head_ct):
    queries, among = head_ct
    found = nearest_images(queries, chunked(among))
    exact = np.full(len(queries), np.inf)
    # Each set is small enough for all of it to be candidates.
    for start in range(0, len(among), 16):
        exact = np.minimum(exact, nearest_images(queries, chunked(among[start : start + 16])).distance)
    shown = exact < 1.4
    assert (found.distance[shown] <= exact[shown] + 1e-4).mean() >= 0.9
    assert (found.distance[shown] / exact[shown]).mean() < 1.01


def test_the_distance_is_that_of_the_best_window_by_brute_force():
    queries, among = blobs(3, 32), blobs(4, 32, seed=9)
    reach, best = 2, np.full((3, 4), -1.0)
    middles = queries[:, :, reach:-reach, reach:-reach]
    for middle in (middles, middles[..., ::-1]):
        for down in range(2 * reach + 1):
            for right in range(2 * reach + 1):
                window = among[:, :, down : down + 28, right : right + 28].reshape(4, -1)
                joint = np.corrcoef(np.concatenate([middle.reshape(3, -1), window]))[:3, 3:]
                best = np.maximum(best, joint)
    found = nearest_images(queries, chunked(among))
    np.testing.assert_allclose(found.distance, np.sqrt(2 - 2 * best.max(1)), atol=1e-3)
    assert (found.index == best.argmax(1)).all()


def test_chunks_make_no_difference(head_ct):
    queries, among = head_ct
    one, other = (nearest_images(queries[:20], chunked(among, size)) for size in (37, 500))
    assert (one.index == other.index).all() and (one.distance == other.distance).all()
    rows = among.reshape(len(among), -1)[:, :300]
    one, other = (nearest_features(rows[:20], chunked(rows, size)) for size in (37, 500))
    assert (one.index == other.index).all() and (one.distance == other.distance).all()


@pytest.mark.parametrize("search", [nearest_images, nearest_features])
def test_scans_of_a_group_do_not_find_each_other(search):
    rows = blobs(12)
    rows = rows if search is nearest_images else rows.reshape(12, -1)
    patients = np.arange(12) // 2
    assert (search(rows, chunked(rows)).index == np.arange(12)).all()
    others = search(rows, chunked(rows), (patients, patients))
    assert (patients[others.index] != patients).all() and np.isfinite(others.distance).all()
    free = search(rows, chunked(rows), (np.full(12, FREE), patients))
    assert (free.index == np.arange(12)).all()
    alone = search(rows, chunked(rows), (patients * 0, patients * 0))
    assert (alone.index == -1).all() and np.isinf(alone.distance).all()


def test_features_are_compared_exactly():
    draw = np.random.default_rng(0)
    queries, among = draw.normal(50, 1, (30, 20)).astype(np.float32), draw.normal(50, 1, (600, 20)).astype(np.float32)
    queries[0] = among[555] + 1e-4
    found, all_pairs = nearest_features(queries, chunked(among)), cdist(queries, among)
    assert (found.index == all_pairs.argmin(1)).all()
    np.testing.assert_allclose(found.distance, all_pairs.min(1), rtol=1e-4)


def test_blank_images_resemble_nothing():
    blank = np.full((3, 1, 64, 64), 0.2, np.float32) + np.random.default_rng(0).normal(0, 1e-3, (3, 1, 64, 64))
    found = nearest_images(blank.astype(np.float32), chunked(np.concatenate([blank, blobs(5)]).astype(np.float32)))
    assert found.distance.min() > 1.3


def test_other_shapes_and_numbers_are_refused():
    images = blobs(4, 32)
    with pytest.raises(InputError, match="give one shape"):
        nearest_images(images, chunked(blobs(4, 64)))
    with pytest.raises(InputError, match="give one group a row"):
        nearest_images(images, chunked(images), (np.arange(4), np.arange(5)))
    with pytest.raises(InputError, match="give larger ones"):
        nearest_images(images[:, :, :3, :3], chunked(images[:, :, :3, :3]))
    with pytest.raises(InputError, match="give one shape"):
        nearest_features(images.reshape(4, -1), chunked(np.zeros((4, 5), np.float32)))
