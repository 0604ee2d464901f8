"""Scans are drawn by whole patients, from whatever chunks they come in, and patients stand on one side of the cut."""

import numpy as np
import pytest

from medgan_ray.errors import InputError
from medgan_ray.evaluate.sampled import Lineup, Population, by_patient, draw_lineup
from medgan_ray.metrics.neighbors import chunked

IMAGES = np.random.default_rng(0).normal(0, 0.4, (120, 1, 16, 16)).astype(np.float32)


def test_patients_are_drawn_whole_but_for_the_last():
    groups = np.random.default_rng(1).integers(0, 30, 300)
    rows = by_patient(groups, 100, "a")
    assert len(set(rows)) == 100
    drawn, counts = np.unique(groups[rows], return_counts=True)
    assert (counts < np.bincount(groups)[drawn]).sum() <= 1
    assert (np.diff(groups[rows]) != 0).sum() == len(drawn) - 1
    assert len(by_patient(groups, 1000, "a")) == 300 and (by_patient(groups, 100, "b") != rows).any()


def test_unknown_patients_are_each_one_of_their_own():
    groups = Population(chunked(IMAGES), np.array([4, -1, -1, 4])).groups
    assert groups[0] == groups[3] == 4 and len(set(groups)) == 3 and groups.min() < -1


@pytest.mark.parametrize("size", [7, 120])
def test_a_case_holds_the_scans_that_it_names(size):
    subjects = np.arange(120) // 3
    lineup = draw_lineup(
        IMAGES, Population(chunked(IMAGES, size), subjects), Population(chunked(-IMAGES, size), subjects + 40), 0
    )
    assert isinstance(lineup, Lineup)
    assert (lineup.members.images == IMAGES[lineup.members.rows]).all()
    assert (lineup.others.images == -IMAGES[lineup.others.rows]).all()
    assert not set(lineup.others.groups[: lineup.cut]) & set(lineup.others.groups[lineup.cut :]) and lineup.equal == 60


def test_other_numbers_of_subjects_are_refused():
    with pytest.raises(InputError, match="give one subject a scan"):
        draw_lineup(IMAGES, Population(chunked(IMAGES), np.arange(119)), Population(chunked(IMAGES), np.arange(120)), 0)
