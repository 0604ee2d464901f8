"""The score is a mean of ratios inside the bounds, infinite outside; nothing is claimed from few scans."""

import math

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine.ranks import Ranks
from medgan_ray.engine.watch import Watch, score, to_signed
from medgan_ray.store import open_store
from medgan_ray.tasks.protocol import TrainSettings
from tests.builders import write_dataset


class Copies:
    """A task whose samples are real test scans, or those scans blurred."""

    def __init__(self, images, blur=False):
        self.images = (images + np.roll(images, 1, -1) + np.roll(images, 1, -2)) / 3 if blur else images

    def sample(self, positions, labels):
        return self.images[positions]


@pytest.fixture
def watched(tmp_path):
    write_dataset(str(tmp_path / "data"), counts={"train": 300, "val": 120, "test": 120})
    dataset = open_dataset(str(tmp_path / "data"))
    run = open_store(str(tmp_path / "run"))
    real = to_signed(dataset.split("test").take(np.arange(120)).image)
    return Watch(dataset, "val", TrainSettings(floor_draws=3), run, Ranks()), real, run


def test_real_scans_stand_at_their_floor_and_blurred_ones_do_not(watched):
    watch, real, _ = watched
    good, blurred = watch.figures(Copies(real)), watch.figures(Copies(real, blur=True))
    assert 0.5 < good["whole_ratio"] < 1.6 and 0.5 < good["patches_ratio"] < 1.6
    assert good["power"] == pytest.approx(1, abs=0.1) and math.isfinite(good["score"])
    assert blurred["patches_ratio"] > 3 * good["patches_ratio"] and blurred["power"] < 0.7
    assert blurred["score"] == math.inf


def test_floors_are_measured_once(watched, tmp_path):
    _, _, run = watched
    run.replace("floors.json", b'{"val-120-3": {"whole": 1.0, "patches": 2.0}}')
    watch = Watch(open_dataset(str(tmp_path / "data")), "val", TrainSettings(floor_draws=3), run, Ranks())
    real = np.zeros((120, 1, 32, 32), np.float32)
    with np.errstate(all="ignore"):
        assert watch.figures(Copies(real))["whole_ratio"] < 1.0


def test_below_a_hundred_scans_nothing_is_claimed(tmp_path):
    write_dataset(str(tmp_path / "data"), counts={"train": 300, "val": 99})
    watch = Watch(open_dataset(str(tmp_path / "data")), "val", TrainSettings(), open_store(str(tmp_path)), Ranks())
    assert watch.not_applicable == "the val split holds 99 scans, quality figures need 100"
    assert watch.figures(Copies(np.zeros((0,)))) == {}


@pytest.mark.parametrize(("power", "lattice"), [(0.74, 1), (1.26, 1), (1, 0.84), (1, 1.21)])
def test_outside_the_bounds_the_score_is_infinite(power, lattice):
    assert score({"a": 1.0, "b": 2.0}, power, lattice) == math.inf
    assert score({"a": 1.0, "b": 2.0}, 1, 1) == 1.5
