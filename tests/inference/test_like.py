"""The noise of a scan is found, the nearer the more it is refined, and what varies from it stays near at first."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import UsageError
from medgan_ray.inference.like import load_likeness
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A generator of disks, an encoder for it, and scans that neither has seen."""
    folder = tmp_path_factory.mktemp("like")
    write_dataset(str(folder / "data"), classes=("a", "b"), counts={"train": 60, "val": 24, "test": 24})
    train(str(folder / "data"), str(folder / "gan"), {**SMALL, "images": 640})
    settings = {"init_from": str(folder / "gan"), "checkpoint_images": 640, "writers": [], "lr": 3e-3}
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "task": "encode", "images": 640, "train": settings})
    return folder, open_dataset(str(folder / "data")).split("test").take(np.arange(12)).image


def test_refining_brings_it_nearer_and_a_scan_s_noise_is_its_own(made):
    model, images = load_likeness(str(made[0] / "run")), made[1]
    rough, refined = model.find(images, steps=0), model.find(images, steps=30)
    assert (refined.difference < rough.difference).mean() > 0.9
    np.testing.assert_array_equal(refined.noise, model.find(images, steps=30).noise)
    few = model.find(images[3:5], steps=30)
    np.testing.assert_allclose(few.difference, refined.difference[3:5], atol=5e-3)


def test_variation_goes_from_the_scan_itself_to_any_other(made):
    model, images = load_likeness(str(made[0] / "run")), made[1]
    found = model.find(images[:2], steps=5)
    np.testing.assert_array_equal(model.vary(found, 1, 0.0, 3, seed=1), found.noise[[1, 1, 1]])
    some, more = (model.vary(found, 0, 0.5, n, seed=1) for n in (2, 6))
    np.testing.assert_array_equal(some, more[:2])
    assert len(np.unique(more, axis=0)) == 6
    apart = [np.abs(model.vary(found, 0, share, 40, seed=2) - found.noise[0]).mean() for share in (0.1, 0.5, 1.0)]
    assert apart[0] < apart[1] < apart[2]
    assert model.make(more, np.zeros(6, np.int64)).shape == (6, 1, 32, 32)


def test_what_it_cannot_take_is_refused(made):
    model, images = load_likeness(str(made[0] / "run")), made[1]
    with pytest.raises(UsageError, match="takes"):
        model.find(images[:, :, :16])
    with pytest.raises(UsageError, match=r"variation=1\.5"):
        model.vary(model.find(images[:1], steps=0), 0, 1.5, 1, seed=0)
    with pytest.raises(UsageError, match="has no encoder"):
        load_likeness(str(made[0] / "gan"))
