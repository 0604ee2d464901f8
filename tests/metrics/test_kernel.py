"""Kernel and Fréchet distances equal torchmetrics' and scipy's on the same features, also where rows are few."""

import numpy as np
import pytest
import torch
from scipy import linalg
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from medgan_ray.errors import InputError
from medgan_ray.metrics.kernel import frechet, kid, rank_deficient

WIDTH = 24


class Flat(torch.nn.Module):
    """A feature network whose features are the pixels: [n, 3, 2, 4] to [n, 24]."""

    num_features = WIDTH

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1).float()


def sets(n: int, m: int, width: int = WIDTH) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of features as networks give them: not below zero, correlated, of unlike scale."""
    draw = np.random.default_rng(n)
    mix = draw.normal(0, 1, (width, width))
    a, b = np.maximum(draw.normal(0.2, 1, (n, width)) @ mix, 0), np.maximum(draw.normal(0.3, 1.2, (m, width)) @ mix, 0)
    return a.astype(np.float32) / 8, b.astype(np.float32) / 8


def pixels(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(features.reshape(-1, 3, 2, 4))


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance` will save:UserWarning")
def test_kid_is_that_of_torchmetrics():
    a, b = sets(200, 200)
    theirs = KernelInceptionDistance(feature=Flat(), subsets=1, subset_size=200)
    theirs.update(pixels(b), real=True)
    theirs.update(pixels(a), real=False)
    assert kid(a, b) == pytest.approx(float(theirs.compute()[0]), abs=1e-4)
    assert kid(a, b) > 0.01


def test_kid_of_unequal_sets_is_the_sum_over_all_pairs():
    a, b = sets(7, 11)
    rows = [*a.tolist(), *b.tolist()]
    kernel = [[(sum(u * v for u, v in zip(x, y, strict=True)) / WIDTH + 1) ** 3 for y in rows] for x in rows]
    within_a = sum(kernel[i][j] for i in range(7) for j in range(7) if i != j) / 42
    within_b = sum(kernel[i][j] for i in range(7, 18) for j in range(7, 18) if i != j) / 110
    between = sum(kernel[i][j] for i in range(7) for j in range(7, 18)) / 77
    assert kid(a, b) == pytest.approx(within_a + within_b - 2 * between, rel=1e-9)


def test_kid_is_unbiased_and_blocks_do_not_show():
    draw = np.random.default_rng(0)
    values = [kid(draw.normal(size=(20, 8)), draw.normal(size=(20, 8))) for _ in range(400)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 20 and min(values) < 0
    a, b = draw.normal(size=(1500, 4)), draw.normal(size=(1100, 4))
    whole = [((x @ y.T) / 4 + 1) ** 3 for x, y in ((a, a), (b, b), (a, b))]
    for one in whole[:2]:
        np.fill_diagonal(one, 0)
    expected = whole[0].sum() / (1500 * 1499) + whole[1].sum() / (1100 * 1099) - 2 * whole[2].mean()
    assert kid(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_is_that_of_torchmetrics():
    a, b = sets(300, 250)
    theirs = FrechetInceptionDistance(feature=Flat()).set_dtype(torch.float64)
    theirs.update(pixels(b), real=True)
    theirs.update(pixels(a), real=False)
    assert frechet(a, b) == pytest.approx(float(theirs.compute()), rel=1e-4)


@pytest.mark.parametrize(("n", "m"), [(300, 250), (60, 400)])
def test_frechet_is_that_of_the_root_by_scipy(n: int, m: int):
    a, b = (each.astype(np.float64) for each in sets(n, m))
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = a.mean(0) - b.mean(0)
    expected = apart @ apart + np.trace(covariances[0] + covariances[1] - 2 * root)
    assert frechet(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_of_fewer_rows_than_features_is_exact():
    """The root of a singular product goes wrong by scipy; singular values of the centered rows' product don't."""
    a, b = (each.astype(np.float64) for each in sets(10, 9))
    centered = [(each - each.mean(0)) / np.sqrt(len(each) - 1) for each in (a, b)]
    nuclear = np.linalg.svd(centered[0] @ centered[1].T, compute_uv=False).sum()
    apart = a.mean(0) - b.mean(0)
    expected = apart @ apart + (centered[0] ** 2).sum() + (centered[1] ** 2).sum() - 2 * nuclear
    assert frechet(a, b) == pytest.approx(expected, rel=1e-7)
    assert frechet(a, a) == pytest.approx(0, abs=1e-6)
    assert rank_deficient(10, WIDTH) and rank_deficient(WIDTH, WIDTH) and not rank_deficient(WIDTH + 1, WIDTH)


def test_frechet_between_gaussians_has_a_closed_form():
    draw = np.random.default_rng(3)
    a, b = draw.normal(0, 1, (20000, 3)), draw.normal([1, 0, 0], [2, 1, 1], (20000, 3))
    assert frechet(a, b) == pytest.approx(1 + 1, rel=0.05)


@pytest.mark.parametrize("figure", [kid, frechet])
def test_what_are_no_two_feature_sets_is_refused(figure):
    good = np.ones((3, 4), np.float32)
    for bad in (good[:1], good[:, :3], good[0], np.full((3, 4), np.nan)):
        with pytest.raises(InputError, match="feature"):
            figure(good, bad)
