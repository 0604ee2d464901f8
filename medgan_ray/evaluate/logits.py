"""What a run's discriminator makes of scans: the strongest hint at membership that anybody could have had."""

import numpy as np
from numpy.typing import NDArray

from medgan_ray.artifacts import checkpoints, runs
from medgan_ray.evaluate.case import GeneratorCase
from medgan_ray.evaluate.sets import CHUNK, drawn
from medgan_ray.models.augment import AugmentSettings
from medgan_ray.models.catalog import ModelSettings
from medgan_ray.tasks.generate import GenerateTask
from medgan_ray.tasks.protocol import TrainSettings

_NETWORK = "networks/discriminator/"


def discriminator(case: GeneratorCase) -> GenerateTask | None:
    """Return the run's task with the discriminator of its best checkpoint; None where that checkpoint is gone.

    Raises:
        InputError: if the checkpoint is corrupt.
    """
    best = runs.read_json(case.run, runs.BEST) or {}
    name = str(best.get("checkpoint", ""))
    if name not in checkpoints.names(case.run):
        return None
    tensors = checkpoints.load(case.run, name).tensors
    config = case.asked["config"]
    train = TrainSettings(loss=config["train"].get("loss", TrainSettings().loss), precision="float32")
    model = ModelSettings.parse(config["model"])
    task = GenerateTask(case.dataset.manifest, model, train, AugmentSettings(), config["seed"])
    network = task.networks["discriminator"]
    network.load_state_dict({key: tensors[f"{_NETWORK}{key}"] for key in network.state_dict()})
    return task


def logits(case: GeneratorCase, task: GenerateTask, name: str, most: int) -> NDArray[np.float32]:
    """Return the discriminator's logits [n] of the scans of a split at ``sets.drawn``, without augmentation."""
    split, chosen = case.dataset.split(name), drawn(case.dataset, name, most)
    starts = range(0, len(chosen), CHUNK)
    parts = [task.probe(split.take(chosen[start : start + CHUNK])) for start in starts]
    return np.concatenate([np.empty(0, np.float32), *parts])
