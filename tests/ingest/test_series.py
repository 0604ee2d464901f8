"""Series in space: order, gaps, tilt, copies, orientations, and the slices asked for."""

import math
from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan_ray.ingest.series import Geometry, examine, wanted

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


def stack(heights: list[float], tilt_degrees: float = 0.0) -> Geometry:
    """Return the geometry of slices at these heights, in shuffled order, whose plane leans by some degrees."""
    shuffled = [heights[i] for i in np.random.default_rng(0).permutation(len(heights))]
    angle = math.radians(tilt_degrees)
    leaning = (1.0, 0.0, 0.0, 0.0, math.cos(angle), -math.sin(angle))
    found = examine([(0.0, 0.0, z) for z in shuffled], [leaning] * len(heights), [str(z) for z in shuffled])
    assert [shuffled[i] for i in found.order] == sorted(heights)
    return found


def test_an_even_series() -> None:
    found = stack([0, 2.5, 5, 7.5])
    assert (found.steps_mm, found.tilt_degrees, found.flags, found.apart) == ((2.5,) * 3, 0, (), {})


def test_gaps_and_short_steps() -> None:
    assert stack([0, 2, 4, 8]).flags == ("uneven_slices",)
    assert stack([0, 4, 8, 9, 13]).flags == ("uneven_slices",)
    assert stack([0, 2, 4.9]).flags == ()


def test_a_leaning_gantry() -> None:
    found = stack([0, 4, 8, 12], tilt_degrees=12)
    assert (found.tilt_degrees, found.flags) == (12.0, ("tilted",))


def test_two_echoes_are_two_stacks_and_a_copy_is_a_copy() -> None:
    places = [(0.0, 0.0, z) for z in (0, 0, 3, 3, 6, 6)]
    found = examine(places, [AXIAL] * 6, list("badcfe"))
    assert (found.order, found.apart, found.flags) == ((1, 0, 3, 2, 5, 4), {}, ())
    found = examine([(0.0, 0.0, z) for z in (0, 3, 3, 6)], [AXIAL] * 4, list("abcd"))
    assert (found.order, found.apart) == ((0, 1, 3), {2: "duplicate_slice"})


def test_another_orientation_goes() -> None:
    sagittal = (0.0, 1.0, 0.0, 0.0, 0.0, -1.0)
    found = examine([(0.0, 0.0, z) for z in range(4)], [AXIAL, AXIAL, sagittal, AXIAL], list("abcd"))
    assert found.apart == {2: "mixed_orientation"}


def test_orientations_that_differ_by_rounding_are_one() -> None:
    """Wherever they lie: there is no grid on which two of them could fall apart."""
    for lean in (0.005, 0.0149999, 0.3):
        angles = [lean + jitter for jitter in (-1e-6, 1e-6, -1e-6, 1e-6)]
        leaning = [(math.cos(angle), math.sin(angle), 0.0, -math.sin(angle), math.cos(angle), 0.0) for angle in angles]
        found = examine([(0.0, 0.0, float(z)) for z in range(4)], leaning, list("abcd"))
        assert (found.order, found.apart, found.flags) == ((0, 1, 2, 3), {}, ())


def test_slices_without_a_place_stay() -> None:
    found = examine([None, (0.0, 0.0, 1.0), None], [None, AXIAL, None], list("bca"))
    assert found.order == (2, 0, 1)


@pytest.mark.parametrize(
    ("slices", "expected"),
    [("all", list(range(7))), ("every:3", [0, 3, 6]), ("central:3", [2, 3, 4]), ("central:99", list(range(7)))],
)
def test_the_slices_asked_for(slices: str, expected: list[int]) -> None:
    assert wanted(slices, range(7), 6) == expected


def test_a_place_with_two_echoes_counts_once() -> None:
    assert wanted("every:2", range(6), 2) == [0, 1, 4, 5]


def test_real_gantry_tilt(ct_series: Path) -> None:
    headers = [
        pydicom.dcmread(path, stop_before_pixels=True) for path in (ct_series / "head_gantry_tilt").glob("*.dcm")
    ]
    found = examine(
        [tuple(map(float, header.ImagePositionPatient)) for header in headers],
        [tuple(map(float, header.ImageOrientationPatient)) for header in headers],
        [header.SOPInstanceUID for header in headers],
    )
    assert found.flags == ("uneven_slices", "tilted")
    assert found.tilt_degrees == pytest.approx(18.5, abs=0.1)
    np.testing.assert_allclose(found.steps_mm, [4.22] * 5 + [1.14] + [7.38] * 5, atol=0.01)
