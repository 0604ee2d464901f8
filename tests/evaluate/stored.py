"""Generators that a gate has to judge, as a package of one's own brings them: what they make is stored in them."""

import numpy as np
import torch
from torch import nn

from medgan_ray.artifacts.versions import read_model, write_model
from medgan_ray.models.catalog import Networks
from medgan_ray.store import open_store

ENTRY_POINTS = "[medgan_ray.models]\nstored = tests.evaluate.stored:build\n"
PLACES = 4096


class Stored(nn.Module):
    """Image ``n`` of those stored, moved; both drawn from the noise."""

    def __init__(self, latent, shape):
        super().__init__()
        self.register_buffer("images", torch.zeros(PLACES, *shape))
        self.register_buffer("count", torch.ones((), dtype=torch.int64))
        self.register_buffer("most_shift", torch.zeros((), dtype=torch.int64))
        self.register_buffer("grain", torch.zeros(()))
        self.register_buffer("spread", torch.zeros(latent, shape.channels * shape.height * shape.width))

    def forward(self, noise, condition):
        uniform = torch.special.ndtr(noise[:, :3])
        which = (uniform[:, 0] * self.count).long().clamp(max=int(self.count) - 1)
        span = 2 * int(self.most_shift) + 1
        moves = (uniform[:, 1:3] * span).long().clamp(max=span - 1) - int(self.most_shift)
        moved = [
            torch.roll(self.images[row], (int(down), int(right)), (1, 2))
            for row, (down, right) in zip(which, moves, strict=True)
        ]
        grain = torch.sin(noise @ self.spread * 40).reshape(len(noise), *self.images.shape[1:])
        return torch.stack(moved) + self.grain * grain


def build(settings, shape, condition_width, seed):
    return Networks(Stored(settings.latent, shape), nn.Linear(1, 1))


def install(folder, monkeypatch):
    """Let medgan-ray find the network by its name, as that of an installed package."""
    info = folder / "stored-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stored\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    monkeypatch.syspath_prepend(str(folder))


def replace_best(run, images, most_shift=0, grain=0.0):
    """Put a generator of these images [n, C, H, W] in [-1, 1] where the run's best stood."""
    best = open_store(run).child("best")
    _, card = read_model(best)
    latent = card.model["latent"]
    places = np.zeros((PLACES, *images.shape[1:]), np.float32)
    places[: len(images)] = images
    spread = np.random.default_rng(0).standard_normal((latent, images[0].size), np.float32)
    tensors = {
        "images": places,
        "count": np.int64(len(images)),
        "most_shift": np.int64(most_shift),
        "grain": np.float32(grain),
        "spread": spread,
    }
    facts = {**card.model_dump(mode="json", exclude={"weights"}), "model": {**card.model, "name": "stored"}}
    write_model(best, {name: torch.as_tensor(value) for name, value in tensors.items()}, facts)
