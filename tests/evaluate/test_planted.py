"""Canaries are drawn of scans that show something, once each, and are disguised as a leaking generator would."""

import numpy as np

from medgan_ray.evaluate.planted import copies, plantable


def test_blank_and_repeated_scans_are_not_planted():
    scans = np.random.default_rng(0).normal(0, 0.4, (20, 1, 16, 16)).astype(np.float32)
    scans[3], scans[4:9] = 0.5, scans[12]
    rows = plantable(scans, 50, "a")
    assert set(rows) == {0, 1, 2, 4, 9, 10, 11, 13, 14, 15, 16, 17, 18, 19}
    assert len(plantable(scans, 5, "a")) == 5 and (plantable(scans, 50, "a") == rows).all()


def test_copies_are_disguised_each_in_another_way():
    columns = np.broadcast_to(np.linspace(-0.8, 0.8, 64, dtype=np.float32), (200, 1, 64, 64))
    made = copies(columns, "a")
    slopes = np.diff(made.mean((1, 2)), axis=1).mean(1)
    assert 60 < (slopes < 0).sum() < 140 and made.std() > 0.1 and np.abs(made).max() <= 1
    assert (copies(columns, "a") == made).all() and (copies(columns, "b") != made).any()
    assert 0.01 < np.diff(made[:, 0], axis=1).std() < 0.04
