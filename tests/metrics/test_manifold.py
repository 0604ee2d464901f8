"""Precision, recall, density and coverage equal those of their authors' package; known cases; bounded memory."""

import contextlib
import io
import tracemalloc

import numpy as np
import pytest
from prdc import compute_prdc

from medgan_ray.errors import InputError
from medgan_ray.metrics.manifold import neighborhoods

NAMES = ("precision", "recall", "density", "coverage")


def cloud(n: int, seed: int, scale: float = 1.0, width: int = 16) -> np.ndarray:
    """Return features of which the first few hold most of the variance."""
    draw = np.random.default_rng(seed)
    return (draw.normal(0, scale, (n, width)) / np.arange(1, width + 1) + 3).astype(np.float32)


@pytest.mark.parametrize("nearest", [3, 5])
@pytest.mark.parametrize(("n", "m", "scale"), [(400, 400, 1.0), (300, 500, 0.6), (500, 200, 1.5)])
def test_figures_are_those_of_prdc(n: int, m: int, scale: float, nearest: int):
    real, fake = cloud(n, 0), cloud(m, 1, scale)
    with contextlib.redirect_stdout(io.StringIO()):
        expected = compute_prdc(real, fake, nearest)
    ours = neighborhoods(real, fake, nearest)
    for name in NAMES:
        assert getattr(ours, name) == pytest.approx(expected[name], abs=1e-4), name


def test_a_missing_mode_is_seen_by_recall_and_coverage_alone():
    real = np.concatenate([cloud(200, 0), cloud(200, 1) + 20])
    found = neighborhoods(real, cloud(400, 2))
    assert found.recall < 0.5 and found.coverage < 0.51 and found.precision > 0.9
    assert not found.reached[200:].any() and not found.covered[200:].any() and found.covered[:200].mean() > 0.9


def test_images_from_elsewhere_are_seen_by_precision():
    fake = np.concatenate([cloud(200, 2), cloud(200, 3) + 20])
    found = neighborhoods(cloud(400, 0), fake)
    assert 0.4 < found.precision < 0.5 and not found.hits[200:].any()


def test_one_law_covers_as_its_authors_say():
    found = neighborhoods(cloud(1000, 0), cloud(1000, 1))
    assert found.coverage == pytest.approx(1 - 2**-5, abs=0.02)
    assert found.density == pytest.approx(1, abs=0.1)


def test_memory_stays_bounded():
    real, fake = cloud(6000, 0), cloud(6000, 1)
    tracemalloc.start()
    found = neighborhoods(real, fake)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 110 << 20 < 6000 * 6000 * 8
    assert found.precision > 0.8


def test_sets_that_hold_no_neighborhoods_are_refused():
    good = cloud(10, 0)
    for bad in (cloud(5, 1), good[:, :3], np.full_like(good, np.nan)):
        with pytest.raises(InputError, match="feature"):
            neighborhoods(good, bad)
