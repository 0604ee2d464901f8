"""Near-duplicates: found whatever their order, and no known group of real scans is cut."""

import csv
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import Intensity
from medgan_ray.dicom.sandbox import Source, decode
from medgan_ray.ingest import geometry, values
from medgan_ray.ingest.near import near_sets
from medgan_ray.verbs.ingest import ingest_scans

GREY = Intensity(unit="grey", low=0, high=255, window=(0, 255))


@pytest.fixture
def images() -> NDArray[np.uint16]:
    """Six smooth images of 48 x 48; the last two are the first two, brighter and with noise."""
    draw = np.random.default_rng(0)
    smooth = gaussian_filter(draw.normal(size=(4, 48, 48)), (0, 4, 4))
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    copies = smooth[:2] * 0.9 + 0.05 + draw.normal(scale=0.01, size=(2, 48, 48))
    return np.rint(np.concatenate([smooth, copies]).clip(0, 1) * 65535).astype(np.uint16)


def test_altered_copies_are_found_and_others_are_not(images: NDArray[np.uint16]) -> None:
    assert near_sets(6, lambda rows: images[list(rows)]) == [(0, 4), (1, 5)]


def test_the_order_does_not_matter(images: NDArray[np.uint16]) -> None:
    order = [5, 2, 0, 4, 3, 1]
    found = near_sets(6, lambda rows: images[[order[row] for row in rows]])
    assert {frozenset(order[row] for row in rows) for rows in found} == {frozenset({0, 4}), frozenset({1, 5})}


def test_no_known_group_of_real_scans_crosses_a_split(brain_mri: Path, tmp_path: Path) -> None:
    """The files alone are given; the groups are read here only to check."""
    rows = list(csv.DictReader((brain_mri / "labels.csv").read_text().splitlines()))
    groups = {row["file"]: row["near_group"] for row in rows}
    members = [name for name in groups if list(groups.values()).count(groups[name]) > 1]
    for name in members:
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / name).symlink_to(brain_mri / name)
    ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), {"size": 64, "ingest.labels": "none"})
    splits = _splits_by_picture(tmp_path / "out", [tmp_path / "in" / name for name in members])
    found: dict[str, set[str]] = {}
    for name, split in zip(members, splits, strict=True):
        found.setdefault(groups[name], set()).add(split)
    assert len(found) > 100
    assert all(len(each - {""}) <= 1 for each in found.values())


def _splits_by_picture(dataset: Path, pictures: list[Path]) -> list[str]:
    """Return the split that holds each picture, found by its pixels; empty for a copy that was dropped."""
    opened = open_dataset(str(dataset))
    held = {}
    for name in ("train", "val", "test"):
        split = opened.split(name)
        for image in split.take(np.arange(len(split))).image[:, 0]:
            held[image.tobytes()] = name
    found = []
    for outcome in decode([Source(str(path), path=str(path)) for path in pictures]):
        assert outcome.values is not None
        image = outcome.values[0]
        part = geometry.crop(*image.shape, (64, 64), None)
        stored = values.quantize(geometry.resize(image[part].astype(np.float64), (64, 64)).astype(np.float32), GREY)
        found.append(held.get(stored.tobytes(), ""))
    assert sum(map(bool, found)) > 0.9 * len(found)
    return found
