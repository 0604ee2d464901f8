"""The linear model that recognizers are compared with is scikit-learn's, with the penalty that suits held-out scans."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.evaluate import baselines
from medgan_ray.evaluate.baselines import Pixels
from tests.builders import write_dataset


def drawn(n, seed):
    draw = np.random.default_rng(seed)
    labels = draw.choice(3, n, p=[0.6, 0.3, 0.1])
    values = draw.normal(0, 1, (n, 12))
    values[:, :3] += np.eye(3)[labels]
    return Pixels(values, labels[:, None].astype(np.int32))


@pytest.mark.parametrize("strength", [0.01, 1.0])
def test_the_fit_is_scikit_learns(strength):
    given = drawn(300, 0)
    labels = given.labels[:, 0].astype(np.int64)
    weights = baselines.fit(given.values, labels, np.zeros((13, 3)), strength)
    share = 1 / (3 * np.bincount(labels)[labels])
    peer = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=2000).fit(given.values, labels, sample_weight=share)
    scores = given.values @ weights[:-1] + weights[-1]
    mine = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(mine, peer.predict_proba(given.values), atol=2e-3)


def test_the_penalty_is_the_one_that_suits_held_out_scans_best():
    """Of scans that tell nothing it learns nothing; of many that do, all."""
    train, val, test = (drawn(400, seed) for seed in range(3))
    found = baselines.linear(train, val, test.values, 0, 3)
    right = (found.argmax(1) == test.labels[:, 0]).mean()
    assert right > 0.55 and found.sum(1) == pytest.approx(np.ones(400))
    draw = np.random.default_rng(9)
    empty = [Pixels(draw.normal(0, 1, (40, 200)), draw.integers(0, 3, (40, 1)).astype(np.int32)) for _ in range(2)]
    blind = baselines.linear(*empty, draw.normal(0, 1, (50, 200)), 0, 3)
    assert abs(blind - 1 / 3).max() < 0.1


def test_what_cannot_be_fitted_says_so():
    train, val = drawn(40, 0), drawn(40, 1)
    one = Pixels(train.values, np.where(train.labels == 0, 0, -1).astype(np.int32))
    assert baselines.linear(one, val, val.values, 0, 3) is None
    unknown = Pixels(val.values, np.full((40, 1), -1, np.int32))
    assert baselines.linear(train, unknown, val.values, 0, 3).shape == (40, 3)


def test_pixels_are_those_of_the_scans(tmp_path):
    write_dataset(str(tmp_path), size=48, classes=("a", "b"), counts={"train": 30, "val": 8, "test": 8})
    dataset = open_dataset(str(tmp_path))
    found = baselines.pixels(dataset, "train", most=20)
    assert found.values.shape == (20, 24 * 24) and found.labels.shape == (20, 1)
    assert -1 <= found.values.min() < found.values.max() <= 1
    split = dataset.split("train")
    means = split.take(np.arange(30)).image.mean((1, 2, 3)) / 32767.5 - 1
    assert all(np.abs(means - each).min() < 1e-3 for each in found.values.mean(1))
