"""Splits: whole subjects, near the shares asked for, by content."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan_ray.errors import UsageError
from medgan_ray.ingest.split import SplitSettings, assign
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms


def samples(sizes: list[int]) -> tuple[list[str], list[bytes]]:
    subjects = [f"patient{number}" for number, size in enumerate(sizes) for _ in range(size)]
    return subjects, [f"digest{number}".encode() for number in range(len(subjects))]


def test_no_subject_crosses_a_split() -> None:
    subjects, digests = samples([3, 8, 1, 5, 5, 2, 9, 4, 4, 6])
    splits = assign(subjects, digests, SplitSettings())
    assert len(set(zip(subjects, splits, strict=True))) == 10
    assert set(splits) == {"train", "val", "test"}


@pytest.mark.parametrize("count", [3, 4, 7, 13, 200])
def test_each_split_gets_a_subject(count: int) -> None:
    subjects, digests = samples([1 + number * 7 % 5 for number in range(count)])
    splits = assign(subjects, digests, SplitSettings())
    assert {"train", "val", "test"} == set(splits)


def test_shares_are_met_where_samples_stand_alone() -> None:
    splits = assign([""] * 1000, [bytes([n % 256, n // 256]) for n in range(1000)], SplitSettings(val=0.2, test=0.1))
    assert {name: splits.count(name) for name in ("train", "val", "test")} == {"train": 700, "val": 200, "test": 100}


def test_neither_order_nor_names_matter() -> None:
    subjects, digests = samples([3, 8, 1, 5, 5, 2, 9, 4, 4, 6])
    expected = dict(zip(digests, assign(subjects, digests, SplitSettings()), strict=True))
    order = np.random.default_rng(0).permutation(len(subjects))
    renamed = [f"other {hash(subjects[i]) % 10**9}" for i in order]
    shuffled = [digests[i] for i in order]
    assert dict(zip(shuffled, assign(renamed, shuffled, SplitSettings()), strict=True)) == expected


def test_another_seed_divides_otherwise() -> None:
    subjects, digests = samples([1] * 60)
    assert assign(subjects, digests, SplitSettings()) != assign(subjects, digests, SplitSettings(seed=1))


def test_a_share_of_nothing_gets_nothing() -> None:
    subjects, digests = samples([1] * 20)
    assert set(assign(subjects, digests, SplitSettings(val=0))) == {"train", "test"}


def test_one_subject_trains() -> None:
    assert set(assign(["a"] * 9, [bytes([n]) for n in range(9)], SplitSettings())) == {"train"}


def test_shares_must_leave_something_to_train_on() -> None:
    with pytest.raises(UsageError, match="nothing to train on"):
        SplitSettings.parse({"val": 0.5, "test": 0.5})


def test_an_attribute_says_what_stays_together(tmp_path: Path) -> None:
    make_phantoms(str(tmp_path / "in"), patients=6, slices=2, size=48)
    for number, path in enumerate(sorted((tmp_path / "in").rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.InstitutionName = f"site {number % 3}"  # each patient's slices are of two sites
        dataset.save_as(path)
    (tmp_path / "in" / "labels.csv").unlink()
    options = {"size": 32, "ingest.workers": 1, "ingest.groups": "attribute:InstitutionName"}
    result = ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), options)
    assert (result.subjects, result.splits) == (3, {"train": 4, "val": 4, "test": 4})
