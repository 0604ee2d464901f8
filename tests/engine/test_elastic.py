"""Whatever number of ranks shares the batch, and however it changes, the same images and noise give the same losses."""

import json

import numpy as np
import pytest

from medgan_ray.store import open_store
from tests.builders import SMALL, write_dataset
from tests.engine.ranks import digest, seen, train_on

STEPS = 40
CONFIG = {
    **SMALL,
    "images": 8 * STEPS,
    "train": {**SMALL["train"], "precision": "float64", "checkpoint_images": 80, "log_images": 8},
}
NAMES = ("discriminator_adversarial", "discriminator_penalty", "generator_loss")


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "data"), classes=("normal", "lesion"))
    return str(tmp_path / "data")


def losses(run):
    """Return the losses [steps, 3] by images seen; a step that was repeated must have repeated its losses."""
    found = {}
    for path in open_store(run).path("log").glob("*/metrics.jsonl"):
        for line in map(json.loads, path.read_text().splitlines()):
            if "generator_loss" in line:
                row = np.array([line[name] for name in NAMES])
                assert np.abs(found.setdefault(line["images"], row) - row).max() < 1e-10
    return np.array([found[images] for images in sorted(found)])


@pytest.mark.slow
def test_worlds_of_one_two_and_four_and_one_that_changes_see_and_learn_the_same(dataset):
    runs = {str(world): train_on(world, dataset, CONFIG) for world in (1, 2, 4)}
    changing = train_on(2, dataset, CONFIG, after=5)
    train_on(1, dataset, CONFIG, changing, after=5)
    runs["2, 1, 2"] = train_on(2, dataset, CONFIG, changing)
    attempts = {path.name for path in open_store(changing).path("log").iterdir()}
    assert attempts == {"000000000000", "000000000128", "000000000256"}
    found = {world: seen(run) for world, run in runs.items()}
    for world, each in found.items():
        print(f"workers {world}: {len(each)} pairs, digest {digest(each)}")
    assert len(found["1"]) == 2 * 8 * STEPS
    assert len({digest(each) for each in found.values()}) == 1
    values = {world: losses(run) for world, run in runs.items()}
    assert {len(each) for each in values.values()} == {STEPS}
    assert max(np.abs(each - values["1"]).max() for each in values.values()) < 1e-10


def test_micro_batches_add_up_to_the_share(dataset):
    whole, parts = (
        losses(train_on(1, dataset, {**CONFIG, "train": {**CONFIG["train"], "micro_batch": size}})) for size in (0, 3)
    )
    assert np.abs(whole - parts).max() < 1e-10
