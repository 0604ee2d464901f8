"""Means are over steps; what is saved and loaded goes on as if nothing had happened."""

import json

import torch

from medgan_ray.engine.means import Means
from medgan_ray.engine.ranks import Ranks


def step(means, value):
    means.add("generator", {"loss": torch.tensor(value) / 2})
    means.add("generator", {"loss": torch.tensor(value) / 2})
    means.step()


def test_parts_of_a_step_add_up_and_steps_are_averaged():
    means = Means()
    for value in (1.0, 2.0, 6.0):
        step(means, value)
    assert means.take(Ranks()) == {"generator_loss": 3.0}
    assert means.take(Ranks()) == {}


def test_a_saved_half_is_gone_on_with_and_counted_once():
    means, first, other = Means(), Means(), Means()
    step(means, 1.0)
    saved = json.loads(json.dumps(means.save(Ranks())))
    first.load(saved, rank=0)
    other.load(saved, rank=1)
    step(first, 5.0)
    assert first.take(Ranks()) == {"generator_loss": 3.0}
    assert other.take(Ranks()) == {"generator_loss": 0.0}
