"""Values beyond those of real scans: tissue missing or too much of it in HU, quantiles elsewhere, reals within."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter

from medgan_ray.dataset.manifest import Intensity
from medgan_ray.evaluate.plausible import plausible_values

HU = Intensity(unit="HU", low=-1024, high=3071, window=(-160, 240))
GREY = Intensity(unit="grey", low=0, high=255, window=(0, 255))
REGIONS = {"air": -900.0, "fat": -100.0, "soft tissue": 50.0, "bone": 700.0}


def scans(n: int, seed: int, values: dict[str, float] | None = None, intensity: Intensity = HU) -> np.ndarray:
    """Return images of discs in discs: air outside, then fat, soft tissue and bone, each of some size."""
    draw = np.random.default_rng(seed)
    values = values or REGIONS
    radius = np.hypot(*(np.indices((32, 32)) - 15.5))
    outer = draw.uniform(12, 15, (n, 1, 1))
    at = outer * draw.uniform([1, 0.85, 0.3], [1.0001, 0.9, 0.4], (n, 3))[:, :, None, None].transpose(1, 0, 2, 3)
    images = np.full((n, 32, 32), values["air"])
    for name, reach in zip(("fat", "soft tissue", "bone"), at, strict=True):
        images = np.where(radius < reach, values[name], images)
    images += draw.normal(0, 10, images.shape)
    share = (images - intensity.low) / (intensity.high - intensity.low)
    return np.clip(share * 2 - 1, -1, 1)[:, None].astype(np.float32)


def test_scans_of_one_law_are_plausible_as_reals_are():
    found = plausible_values(scans(200, 0), scans(400, 1), np.arange(400), HU)
    assert list(found) == ["values.implausible", *(f"values.implausible[{name}]" for name in REGIONS)]
    for figure in found.values():
        assert figure.value < 0.03 and figure.floor < 0.03 and figure.n == 200
        assert figure.low <= figure.value <= figure.high


@pytest.mark.parametrize(("lost", "instead"), [("bone", 60.0), ("fat", 20.0), ("air", -100.0)])
def test_a_missing_region_fails(lost: str, instead: float):
    found = plausible_values(scans(100, 0, {**REGIONS, lost: instead}), scans(400, 1), np.arange(400), HU)
    assert found["values.implausible"].value == 1 == found["values.implausible"].low
    assert found[f"values.implausible[{lost}]"].value == 1


def test_too_much_of_a_tissue_in_some_scans_is_their_share():
    fakes = scans(100, 0)
    fakes[:30] = (700 + 1024) / 4095 * 2 - 1
    found = plausible_values(fakes, scans(400, 1), np.arange(400), HU)
    assert found["values.implausible"].value == pytest.approx(0.3, abs=0.02)
    assert found["values.implausible[bone]"].value == pytest.approx(0.3, abs=0.02)
    assert 0.15 < found["values.implausible"].low < 0.3 < found["values.implausible"].high < 0.45


def test_a_range_of_one_region_goes_by_quantiles():
    brain = Intensity(unit="HU", low=0, high=80, window=(0, 80))
    values = {"air": 0.0, "fat": 20.0, "soft tissue": 40.0, "bone": 80.0}
    found = plausible_values(scans(100, 0, values, brain), scans(400, 1, values, brain), np.arange(400), brain)
    assert "values.implausible[quantile 0.5]" in found and found["values.implausible"].value < 0.05
    soft = Intensity(unit="HU", low=-160, high=240, window=(-160, 240))
    found = plausible_values(scans(100, 0, None, soft), scans(400, 1, None, soft), np.arange(400), soft)
    assert set(found) == {"values.implausible", *(f"values.implausible[{n}]" for n in ("fat", "soft tissue", "bone"))}


def test_grey_levels_go_by_quantiles_of_real_heads(mednist: Path):
    files = sorted((mednist / "HeadCT").iterdir())[:400]
    images = np.stack([np.asarray(Image.open(file), np.float32) for file in files])[:, None] / 127.5 - 1
    order = np.random.default_rng(0).permutation(400)
    judged, real = images[order[:150]], images[order[150:]]
    good = plausible_values(judged, real, np.arange(250), GREY)["values.implausible"]
    assert good.value < 0.06 and good.floor < 0.06
    noise = gaussian_filter(np.random.default_rng(1).normal(0, 1, judged.shape), (0, 0, 1, 1)).astype(np.float32)
    for bad in (judged + np.float32(0.15), noise.clip(-1, 1), np.zeros_like(judged)):
        assert plausible_values(bad, real, np.arange(250), GREY)["values.implausible"].value > 0.5


def test_few_scans_or_patients_give_no_range():
    for fakes, reals, patients in ((40, 400, 400), (100, 90, 90), (100, 400, 1)):
        found = plausible_values(scans(fakes, 0), scans(reals, 1), np.arange(reals) % patients, HU)
        assert all(figure.value is None and "ranges need 50" in figure.not_applicable for figure in found.values())


def test_patients_of_many_scans_are_not_on_both_sides_of_the_floor():
    """Each patient has a size of its own: ranges of others hold it less often than ranges with it would."""
    patients = np.repeat(np.arange(12), 30)
    draw = np.random.default_rng(3)
    of_patient = draw.uniform(-0.8, 0.8, 12)[patients]
    real = np.broadcast_to(of_patient[:, None, None, None], (360, 1, 16, 16)).astype(np.float32)
    apart = plausible_values(real, real, patients, GREY)["values.implausible"].floor
    mixed = plausible_values(real, real, np.arange(360), GREY)["values.implausible"].floor
    assert mixed == 0 < apart
