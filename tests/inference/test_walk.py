"""A walk is closed, smooth, the same each time, and shows the classes in turn."""

import numpy as np
import pytest

from medgan_ray import load_model
from medgan_ray.inference.walk import slerp, walk
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), classes=tuple("abcdefgh"), counts={"train": 90})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return load_model(str(folder / "run"))


def test_a_stop_a_class_and_small_steps_between(model):
    frames = walk(model, walkers=2, steps=4)
    assert frames.dtype == np.uint16 and frames.shape == (8 * 4, 2, 1, 32, 32)
    assert np.array_equal(frames, walk(load_model(model.uri), walkers=2, steps=4))
    steps = np.abs(np.diff(frames.astype(float), axis=0)).mean((1, 2, 3, 4))
    back = np.abs(frames[-1].astype(float) - frames[0]).mean()
    assert 0 < steps.max() < 3 * np.median(steps) and back < 3 * np.median(steps), "no jump, the last step included"


def test_at_a_stop_a_class_is_shown_as_it_is(model):
    frames = walk(model, walkers=1, steps=2)
    noise = [walk_noise(model, stop) for stop in range(8)]
    given = model.conditions(np.arange(8))
    shown = model.render(np.stack(noise), given).astype(int)
    assert np.abs(frames[::2, 0] - shown).max() < 200, "within 0.3 % of the range"
    assert np.abs(np.roll(frames[::2, 0], 1, 0) - shown).max() > 2000


def walk_noise(model, stop):
    from medgan_ray import seeds

    return seeds.normal(np.array([stop]), model.settings.latent, model.card.weights, "walk")[0]


def test_slerp_stays_on_the_sphere():
    draw = np.random.default_rng(3)
    first, last = draw.standard_normal((2, 5, 64)).astype(np.float32)
    share = np.linspace(0, 1, 9, dtype=np.float32)[:, None, None]
    path = slerp(first, last, share)
    assert np.allclose(path[0], first, atol=1e-5) and np.allclose(path[-1], last, atol=1e-5)
    lengths = np.linalg.norm(path, axis=-1)
    ends = np.linalg.norm(np.stack([first, last]), axis=-1)
    assert (lengths >= ends.min(0) - 1e-4).all() and (lengths <= ends.max(0) + 1e-4).all()
    assert np.allclose(np.diff(lengths, axis=0), np.diff(lengths, axis=0).mean(0), atol=1e-3), "in proportion"
    assert np.allclose(slerp(first, first, share), first, atol=1e-4)


def test_images_do_not_depend_on_how_many_are_rendered(model):
    draw = np.random.default_rng(3)
    noise, given = draw.standard_normal((21, 8)).astype(np.float32), model.conditions(np.arange(21) % 8)
    assert np.array_equal(model.render(noise, given)[:3], model.render(noise[:3], given[:3]))
