"""Distances are Mahalanobis's, p-values are uniform among scans alike, and what lies far out is found."""

import numpy as np
import pytest
from scipy.spatial.distance import mahalanobis
from scipy.stats import kstest

from medgan_ray.errors import InputError
from medgan_ray.metrics import anomaly

WIDTH = 6
MIXING = np.random.default_rng(0).normal(0, 1, (WIDTH, WIDTH)) * [1, 10, 0.1, 1, 1, 1]


def scans(draw, count):
    return draw.normal(0, 1, (count, WIDTH)) @ MIXING + 5


def test_distances_are_those_of_scipy_under_the_same_covariance():
    draw = np.random.default_rng(1)
    known, asked = anomaly.cloud(scans(draw, 50)), scans(draw, 20)
    inverse = known.whitening.T @ known.whitening
    expected = [mahalanobis(row, known.mean, inverse) for row in asked]
    assert anomaly.distances(asked, known) == pytest.approx(expected)


def test_with_many_scans_the_covariance_is_theirs():
    features = scans(np.random.default_rng(2), 50_000)
    known = anomaly.cloud(features)
    found = np.linalg.inv(known.whitening.T @ known.whitening)
    scale = np.sqrt(np.outer(features.var(0), features.var(0)))
    assert np.abs((found - np.cov(features.T)) / scale).max() < 0.01
    assert known.mean == pytest.approx(features.mean(0))


def test_the_shrinkage_is_that_of_ledoit_and_wolf():
    from sklearn.covariance import ledoit_wolf

    features = scans(np.random.default_rng(3), 15)
    scaled = (features - features.mean(0)) / features.std(0)
    expected, share = ledoit_wolf(scaled, assume_centered=True)
    known = anomaly.cloud(features)
    whitening = known.whitening * features.std(0)
    assert share > 0.05 and np.linalg.inv(whitening.T @ whitening) == pytest.approx(expected, rel=1e-6)


def test_p_values_are_uniform_among_scans_alike():
    """One of each of many draws of calibration scans: (1 + k) / (1 + n), each k as likely."""
    draw, n, found = np.random.default_rng(4), 19, []
    known = anomaly.cloud(scans(draw, 200))
    for _ in range(2_000):
        distances = anomaly.distances(scans(draw, n + 1), known)
        found.append(anomaly.p_values(distances[:1], np.sort(distances[1:]))[0])
    ranks = np.rint(np.array(found) * (n + 1)).astype(int)
    counts = np.bincount(ranks, minlength=n + 2)
    assert counts[0] == 0 and counts[1:].sum() == 2_000
    assert ((counts[1:] - 100) ** 2 / 100).sum() < 43.8, "chi-squared of 19, 0.1 %"
    assert kstest(np.array(found) - draw.random(2_000) / (n + 1), "uniform").pvalue > 0.001


def test_what_lies_far_out_has_the_smallest_p_value_there_is():
    draw = np.random.default_rng(5)
    known = anomaly.cloud(scans(draw, 200))
    calibration = np.sort(anomaly.distances(scans(draw, 99), known))
    far = scans(draw, 20) + 100 * MIXING[0]
    assert (anomaly.p_values(anomaly.distances(far, known), calibration) == 0.01).all()
    middle = anomaly.distances(known.mean[None], known)
    assert anomaly.p_values(middle, calibration).tolist() == [1.0]


def test_a_feature_that_never_changes_does_no_harm_and_few_scans_are_refused():
    features = scans(np.random.default_rng(6), 40)
    features[:, 2] = 3.0
    assert np.isfinite(anomaly.distances(features, anomaly.cloud(features))).all()
    with pytest.raises(InputError, match="9 scans"):
        anomaly.cloud(features[:9])
