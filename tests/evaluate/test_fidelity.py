"""Figures of generated scans: reals at their floor, and what is wrong with a set is seen by the figure meant to."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter

from medgan_ray.dataset.manifest import Intensity
from medgan_ray.errors import InputError
from medgan_ray.evaluate import fidelity as module
from medgan_ray.evaluate.fidelity import BY_CLASS, MEANINGS, MEASURES, Featured, fidelity
from medgan_ray.metrics.figure import Figure

GREY = Intensity(unit="grey", low=0, high=255, window=(0, 255))
CLASSES = ("AbdomenCT", "Hand")
N = 60
QUICK = tuple(measure._replace(halves=6, floors=2) for measure in MEASURES if measure.names != ("patches",))


def extract(images: np.ndarray) -> np.ndarray:
    """Return features of a fixed random network [n, 64]."""
    draw = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        maps = torch.from_numpy(np.ascontiguousarray(images))
        for inner, outer in ((1, 8), (8, 16)):
            weights = torch.randn(outer, inner, 5, 5, generator=draw) / (5 * inner**0.5)
            maps = torch.conv2d(maps, weights, stride=3).relu()
    return torch.nn.functional.adaptive_avg_pool2d(maps, 2).flatten(1).numpy()


def featured(images: np.ndarray, labels: np.ndarray, subjects: np.ndarray | None = None) -> Featured:
    count = len(images)
    sexes = (np.arange(count) % 3 == 0).astype(np.int16)[:, None]
    return Featured(images, extract(images), labels, np.arange(count) if subjects is None else subjects, sexes)


@pytest.fixture(scope="module")
def reals(mednist: Path) -> Featured:
    """300 scans of two classes, mixed."""
    files = [(file, code) for code, name in enumerate(CLASSES) for file in sorted((mednist / name).iterdir())[:150]]
    images = np.stack([np.asarray(Image.open(file), np.float32) for file, _ in files])[:, None] / 127.5 - 1
    order = np.random.default_rng(0).permutation(300)
    return featured(images[order], np.array([code for _, code in files])[order])


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MEASURES", QUICK)
        yield


def judge(reals: Featured, fake: Featured, **options) -> dict[str, Figure]:
    return fidelity(reals.rows(np.arange(120)), fake, reals, GREY, **options)


@pytest.fixture(scope="module")
def good(reals: Featured) -> dict[str, Figure]:
    """Figures of other real scans, as if they were generated."""
    return judge(reals, reals.rows(np.arange(180, 300)), classes=CLASSES, attributes=("sex",))


def changed(reals: Featured, change) -> dict[str, Figure]:
    images = reals.images[180:300].copy()
    return judge(reals, featured(change(images).astype(np.float32), reals.labels[180:300]))


def test_every_figure_of_real_scans_is_at_its_floor_and_says_its_n(good: dict[str, Figure]):
    whole = {name: figure for name, figure in good.items() if "[" not in name}
    assert set(whole) == set(MEANINGS) - {"fidelity.patches"}
    for name, figure in whole.items():
        assert figure.n == 120 and not figure.not_applicable, name
        assert figure.low <= figure.value <= figure.high and figure.floor is not None
        if name not in ("fidelity.kid", "values.implausible"):
            assert 0.7 < figure.value / figure.floor < 1.6, (name, figure)
    kid = whole["fidelity.kid"]
    assert kid.low < 0 < kid.high
    assert whole["values.implausible"].value < 0.1


def test_blur_noise_and_gray_levels_are_seen_by_those_meant_to(reals: Featured, good: dict[str, Figure]):
    noise = np.random.default_rng(1).normal(0, 0.15, (120, 1, 64, 64))
    blurred = changed(reals, lambda images: gaussian_filter(images, (0, 0, 1, 1)))
    noisy = changed(reals, lambda images: np.clip(images + noise, -1, 1))
    brighter = changed(reals, lambda images: np.clip(images + 0.2, -1, 1))
    assert blurred["fidelity.power"].high < 0.6 and noisy["fidelity.power"].low > 1.3
    for name in ("spectrum", "texture"):
        for bad in (blurred, noisy):
            assert bad[f"fidelity.{name}"].low > good[f"fidelity.{name}"].high, name
    assert noisy["fidelity.precision"].high < good["fidelity.precision"].low
    assert brighter["fidelity.histogram"].low > good["fidelity.histogram"].high
    assert brighter["values.implausible"].low > good["values.implausible"].high


def test_one_image_alone_is_seen_by_likeness_and_recall(reals: Featured, good: dict[str, Figure]):
    found = changed(reals, lambda images: np.repeat(images[:1], 120, axis=0))
    assert found["fidelity.similarity"].value == pytest.approx(1) and good["fidelity.similarity"].high < 0.6
    assert found["fidelity.recall"].value == 0 and found["fidelity.coverage"].value < 0.2
    assert 0 == found["fidelity.recall"].low < found["fidelity.recall"].high < 0.1


def test_a_missing_class_is_seen_by_coverage_and_by_class(reals: Featured, good: dict[str, Figure]):
    hands = np.flatnonzero(reals.labels == 1)
    fake = reals.rows(hands[-120:])
    found = judge(reals, fake, classes=CLASSES)
    assert found["fidelity.coverage"].high < good["fidelity.coverage"].low
    for name in ("kid", "frechet", "whole"):
        assert found[f"fidelity.{name}"].low > good[f"fidelity.{name}"].high, name
    for name in BY_CLASS:
        lost = found[f"fidelity.{name}[class=AbdomenCT]"]
        assert lost.value is None and "0 generated scans" in lost.not_applicable
        assert found[f"fidelity.{name}[class=Hand]"].value is not None


def test_a_class_is_compared_with_its_own_reals(reals: Featured, good: dict[str, Figure]):
    """Labels exchanged: the whole is as good as before, every class is not."""
    fake = reals.rows(np.arange(180, 300))
    exchanged = judge(reals, dataclasses.replace(fake, labels=1 - fake.labels), classes=CLASSES)
    assert exchanged["fidelity.kid"] == good["fidelity.kid"]
    for name in CLASSES:
        ours, theirs = (found[f"fidelity.kid[class={name}]"] for found in (good, exchanged))
        assert theirs.low > ours.high and ours.n >= 50


def test_how_much_of_a_subgroup_is_reached_and_small_ones_are_named(reals: Featured, good: dict[str, Figure]):
    men, women = good["fidelity.recall[sex=M]"], good["fidelity.recall[sex=F]"]
    assert men.value is None and "a small group: 40 real scans" in men.not_applicable and men.n == 40
    assert women.n == 80 and women.floor is not None and women.low <= women.value <= women.high
    sexes = reals.labels[:, None].astype(np.int16)
    hands = reals.rows(np.flatnonzero(reals.labels == 1)[-120:])
    found = judge(dataclasses.replace(reals, attributes=sexes), hands, attributes=("sex",))
    assert found["fidelity.coverage[sex=F]"].high < 0.3 < 0.6 < found["fidelity.coverage[sex=M]"].low


def test_as_many_are_compared_as_a_floor_has_and_too_few_say_so(reals: Featured):
    fake = reals.rows(np.arange(180, 300))
    found = fidelity(reals.rows(np.arange(120)), fake, reals.rows(np.arange(120)), GREY)
    assert {figure.n for name, figure in found.items() if name.startswith("fidelity.")} == {60}
    few = fidelity(reals.rows(np.arange(120)), fake, reals.rows(np.arange(80)), GREY)
    assert {figure.value for figure in few.values()} == {None}
    assert "too few: 120 real and 120 generated scans, 80 real ones" in few["fidelity.kid"].not_applicable


def test_patients_stay_on_one_side_and_too_few_give_no_interval(reals: Featured):
    alone = dataclasses.replace(reals, subjects=np.arange(300) // 50)
    found = judge(alone, reals.rows(np.arange(180, 300)))
    assert found["fidelity.kid"].low is None and found["fidelity.kid"].value is not None
    assert found["fidelity.kid"].floor is not None


def test_the_seed_alone_decides(reals: Featured, good: dict[str, Figure]):
    fake = reals.rows(np.arange(180, 300))
    again = judge(reals, fake, classes=CLASSES, attributes=("sex",))
    assert again == good
    assert judge(reals, fake, seed=1)["fidelity.whole"] != good["fidelity.whole"]


def test_features_wider_than_scans_give_no_frechet_distance(reals: Featured):
    wide = dataclasses.replace(reals, features=np.repeat(reals.features, 2, axis=1))
    figure = judge(wide, wide.rows(np.arange(180, 300)))["fidelity.frechet"]
    assert figure.value is None and "120 scans are no more than the 128 features" in figure.not_applicable


def test_sets_that_differ_are_refused(reals: Featured):
    with pytest.raises(InputError, match="one shape"):
        judge(reals, dataclasses.replace(reals, images=reals.images[:, :, :32]))
    with pytest.raises(InputError, match="one extractor"):
        judge(reals, dataclasses.replace(reals, features=reals.features[:, :5]))


def test_patches_are_measured_too(reals: Featured, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MEASURES", tuple(m for m in MEASURES if m.names == ("patches",)))
    small = reals.rows(np.arange(N * 2))
    found = fidelity(small, reals.rows(np.arange(180, 180 + N)), small, GREY)
    figure = found["fidelity.patches"]
    assert figure.n == N and 0.4 < figure.value / figure.floor < 2.5
