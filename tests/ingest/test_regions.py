"""Regions: the exposed field of a projection, the body in a slice, and parts that have the image's own shape."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.read import read_scan
from medgan_ray.ingest import regions
from medgan_ray.ingest.values import WINDOWS
from medgan_ray.verbs.phantom import make_phantoms


@pytest.fixture
def exposure() -> NDArray[np.float32]:
    """An exposed field, rows 20 to 90 and columns 10 to 100 of 120, inside what the collimator covered."""
    draw = np.random.default_rng(1)
    image = draw.normal(0.02, 0.002, (120, 120))
    image[20:90, 10:100] = draw.uniform(0.2, 1, (70, 90))
    return image.astype(np.float32)


def sides(part: regions.Part) -> tuple[int, int, int, int]:
    return part[0].start, part[0].stop, part[1].start, part[1].stop


def test_what_the_collimator_covered_is_left_out(exposure: NDArray[np.float32]) -> None:
    assert sides(regions.field(exposure)) == (20, 90, 10, 100)
    assert sides(regions.field(1 - exposure)) == (20, 90, 10, 100)


@pytest.mark.parametrize("turns", range(4))
def test_a_finger_is_no_edge_of_the_field(turns: int) -> None:
    image = np.random.default_rng(2).normal(0.02, 0.002, (120, 240))
    image[20:, 100:106] = 0.5
    image[60:, 70:170] = 0.7
    turned = np.rot90(image, turns)
    assert sides(regions.field(turned)) == (0, turned.shape[0], 0, turned.shape[1])


def test_edges_may_be_soft_and_borders_of_two_kinds(exposure: NDArray[np.float32]) -> None:
    exposure[:20], exposure[21] = 0.99, exposure[20]
    exposure[20] = (exposure[19] + exposure[21]) / 2
    assert sides(regions.field(exposure)) == (20, 90, 10, 100)


def test_the_header_goes_before_the_pixels(exposure: NDArray[np.float32]) -> None:
    assert sides(regions.field(exposure, (31, 80, 1, 120))) == (30, 80, 0, 120)


@pytest.mark.parametrize("edges", [(1, 2, 1, 120), (500, 600, 1, 120), (-90, -2, 1, 120)])
def test_a_field_that_cannot_be_is_passed_over(exposure: NDArray[np.float32], edges: tuple[int, ...]) -> None:
    assert sides(regions.field(exposure, edges)) == (20, 90, 10, 100)


def test_a_flat_image_is_taken_whole() -> None:
    assert sides(regions.field(np.zeros((8, 8), np.float32))) == (0, 8, 0, 8)


def test_a_body_without_its_table() -> None:
    slice_ = np.full((100, 100), -1000.0)
    slice_[30:70, 20:80] = 40
    slice_[90:92] = 200  # the table's top
    top, bottom, left, right = regions.body(slice_, "HU") or (0, 0, 0, 0)
    assert (top, bottom) == pytest.approx((0.3 - regions.MARGIN, 0.7 + regions.MARGIN), abs=0.02)
    assert (left, right) == pytest.approx((0.2 - regions.MARGIN, 0.8 + regions.MARGIN), abs=0.02)


def test_air_has_no_body() -> None:
    draw = np.random.default_rng(0)
    assert regions.body(draw.normal(-1000, 5, (64, 64)), "HU") is None


def test_real_slices_are_cut_to_the_body(ct_series: Path) -> None:
    for path in sorted((ct_series / "head_gantry_tilt").glob("*.dcm"))[::6]:
        values = read_scan(path.read_bytes(), Options()).values
        assert values is not None
        box = regions.body(values[0], "HU")
        part = regions.around(box, (512, 512))
        inside = np.zeros((512, 512), bool)
        inside[part] = True
        dense = values[0] > WINDOWS["soft"][0]
        assert inside.mean() < 0.9
        assert dense[~inside].sum() < 0.02 * dense.sum()


def test_parts_keep_the_shape_and_stay_inside() -> None:
    rows, columns = regions.around((0.8, 1.0, 0.0, 0.5), (64, 128))
    assert (rows.stop - rows.start, columns.stop - columns.start) == (32, 64)
    assert (rows.stop, columns.start) == (64, 0)
    assert sides(regions.around(None, (64, 128))) == (0, 64, 0, 128)


def test_the_union_holds_both() -> None:
    assert regions.union((0.2, 0.5, 0.1, 0.3), (0.1, 0.4, 0.2, 0.9)) == (0.1, 0.5, 0.1, 0.9)


def test_the_field_is_read_from_the_header(tmp_path: Path) -> None:
    make_phantoms(str(tmp_path), patients=1, slices=1, size=64, kind="xray")
    path = next(tmp_path.rglob("*.dcm"))
    dataset = pydicom.dcmread(path)
    dataset.CollimatorShape = ["RECTANGULAR", "POLYGONAL"]
    dataset.CollimatorUpperHorizontalEdge, dataset.CollimatorLowerHorizontalEdge = 5, 60
    dataset.CollimatorLeftVerticalEdge, dataset.CollimatorRightVerticalEdge = 9, 50
    dataset.save_as(path)
    assert read_scan(path.read_bytes(), Options()).facts.field == (5, 60, 9, 50)
