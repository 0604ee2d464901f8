"""Trains in turns for benchmarks/train_step.py: each contender in a process, in the environment that has it.

python benchmarks/contenders/steps.py ours|hand|monai|whole|ray JSON

``ours``, ``hand`` and ``monai`` stand still until a line on standard input says for how many seconds to train; after
that they print images, seconds and processor seconds as JSON. ``whole`` and ``ray`` train runs to their ends, outside
and through Ray, and print the median of the images/s in the log.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

SKIPPED_LINES = 3
"""Lines of a whole run's log that count as warm-up."""

Cell = dict[str, Any]


class Turns:
    """Stops the training between turns, and tells what each gave."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._began: tuple[int, float, float] | None = None

    def __call__(self, images: int) -> None:
        """Be told how many images were seen so far; come back when training is to go on."""
        now, used = time.perf_counter(), time.process_time()
        if self._began:
            before, began, had = self._began
            if now - began < self._seconds:
                return
            print(json.dumps({"images": images - before, "wall_s": now - began, "processor_s": used - had}), flush=True)
        line = sys.stdin.readline()
        if not line:
            os._exit(0)
        self._seconds = float(line)
        self._began = images, time.perf_counter(), time.process_time()


def ours(cell: Cell) -> None:
    """Our training without Ray: its host is asked at each line of the log."""
    from medgan_ray.host import LocalHost
    from medgan_ray.verbs.train import train

    turns = Turns()

    class Paused(LocalHost):
        def progress(self, images: int, total: int, rate: float) -> None:
            turns(images)

    train(cell["dataset"], cell["run"], _options(cell, 10**9), Paused())


def hand(cell: Cell) -> None:
    """A loop of plain PyTorch."""
    from by_hand import Loop

    from medgan_ray.engine import processor

    processor.prepare()  # what it sets is the process's, not the loop's
    loop, turns, images = Loop(cell), Turns(), 0
    while True:
        turns(images)
        for _ in range(cell["steps"]):
            loop.step()
        loop.log()
        images += cell["steps"] * cell["batch"]


def monai(cell: Cell) -> None:
    """MONAI's GanTrainer on MONAI's networks, with batches from memory."""
    import torch
    from ignite.engine import Events
    from monai.data import DataLoader, Dataset
    from monai.engines import GanTrainer
    from monai_networks import discriminator, generator
    from torch.nn import functional

    from medgan_ray.models.catalog import Shape

    shape, batch, turns = Shape(1, cell["size"], cell["size"]), cell["batch"], Turns()
    images = torch.from_numpy(stored(cell).astype(np.float32) / 32767.5 - 1)
    networks = generator(cell["latent"], shape), discriminator(shape)
    makes, judges = networks
    optimizers = [torch.optim.Adam(each.parameters(), lr=1e-3, betas=(0.0, 0.99), fused=True) for each in networks]

    def generator_loss(fake: torch.Tensor) -> torch.Tensor:
        logits = judges(fake)
        return functional.binary_cross_entropy_with_logits(logits, torch.ones_like(logits))

    def discriminator_loss(fake: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        for_real, for_fake = judges(real), judges(fake.detach())
        on_real = functional.binary_cross_entropy_with_logits(for_real, torch.ones_like(for_real))
        return on_real + functional.binary_cross_entropy_with_logits(for_fake, torch.zeros_like(for_fake))

    trainer = GanTrainer(
        device=torch.device("cpu"),
        max_epochs=10**9,
        train_data_loader=DataLoader(Dataset([{"reals": image} for image in images]), batch_size=batch, shuffle=True),
        g_network=makes,
        g_optimizer=optimizers[0],
        g_loss_function=generator_loss,
        d_network=judges,
        d_optimizer=optimizers[1],
        d_loss_function=discriminator_loss,
        d_prepare_batch=lambda batch, device, non_blocking, **_: batch["reals"].to(device),
        latent_shape=cell["latent"],
        decollate=False,  # it would take each batch apart, for transforms that there are none of
        optim_set_to_none=True,
    )

    def completed() -> None:
        if trainer.state.iteration % cell["steps"] == 0:
            turns(trainer.state.iteration * batch)

    trainer.add_event_handler(Events.ITERATION_COMPLETED, completed)
    trainer.run()


def whole(cell: Cell) -> None:
    """A run of ours to its end, without Ray."""
    from medgan_ray.verbs.train import train

    train(cell["dataset"], cell["run"], _options(cell, cell["images"]))
    print(json.dumps(_logged(cell)))


def ray(cell: Cell) -> None:
    """Runs through Ray, which is started once, as lines on standard input say: workers, threads and run as JSON."""
    from medgan_ray.on_ray import session
    from medgan_ray.on_ray.train import train

    with session.local(cpus=2):
        for line in sys.stdin:
            asked = {**cell, **json.loads(line)}
            placed = {"workers": asked["workers"], "ray.cpus_per_worker": asked["threads"]}
            train(asked["dataset"], asked["run"], {**_options(asked, asked["images"]), **placed})
            print(json.dumps(_logged(asked)), flush=True)


def stored(cell: Cell) -> np.ndarray:
    """Return all training images of a dataset, uint16 [n, 1, H, W]."""
    from medgan_ray.dataset.batches import open_dataset

    split = open_dataset(cell["dataset"]).split("train")
    return split.take(np.arange(len(split))).image


def _options(cell: Cell, images: int) -> dict[str, Any]:
    """Return a run's options: no figures, no checkpoint before the end, schedules at their ends from the start."""
    line = cell["steps"] * cell["batch"]
    return {
        "images": images,
        "batch": cell["batch"],
        "model.name": cell["name"],
        "model.latent": cell["latent"],
        "model.generator_width": cell.get("width"),
        "model.discriminator_width": cell.get("width"),
        "train.loss": cell["loss"],
        "train.gamma": cell["gamma"],
        "train.gamma_final": cell["gamma"],
        "train.burn_in": 1e-9,
        "train.precision": cell["precision"],
        "train.checkpoint_images": 10**9,
        "train.log_images": line,
        "augment.probability": cell["augment"],
    }


def _logged(cell: Cell) -> dict[str, float]:
    """Return the median of the images/s in a run's log, as images and seconds."""
    lines = [
        json.loads(line)
        for path in Path(cell["run"]).glob("log/*/metrics.jsonl")
        for line in path.read_text().splitlines()
    ]
    rates = [line["images_per_s"] for line in lines if "images_per_s" in line]
    return {"images": statistics.median(rates[SKIPPED_LINES:]), "wall_s": 1.0}


if __name__ == "__main__":
    globals()[sys.argv[1]](json.loads(sys.argv[2]))
