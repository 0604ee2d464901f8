"""Elastic runs: a node of two is lost mid-run and another comes; the images and the noise stay the same."""

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from medgan_ray.errors import UsageError
from medgan_ray.on_ray.settings import PlacedConfig
from medgan_ray.on_ray.train import scaling
from medgan_ray.verbs import train as verb
from tests.builders import SMALL, write_dataset
from tests.on_ray import nodes

EXACT = {
    **SMALL,
    "images": 6400,
    "train": {**SMALL["train"], "checkpoint_images": 400, "log_images": 40, "precision": "float64"},
}
PLACED = {**EXACT, "workers": [1, 2], "ray": {"shared_paths": True, "elastic_resize_monitor_interval_s": 1}}


def _losses(run: Path) -> dict[int, list[dict[str, float]]]:
    """Return the losses at each number of images, one for each attempt that got there."""
    found: dict[int, list[dict[str, float]]] = {}
    for segment in sorted(run.glob("log/*/metrics.jsonl")):
        for line in map(json.loads, segment.read_text().splitlines()):
            losses = {name: value for name, value in line.items() if name.startswith(("generator", "discriminator"))}
            if losses:
                found.setdefault(line["images"], []).append(losses)
    return found


def _resized(folder: str) -> dict[str, Any]:
    """Train on two nodes; remove one, then add one; return what was seen."""
    times = {}
    with nodes.cluster(Path(folder)) as cluster:
        training = nodes.Training(f"{folder}/data", f"{folder}/run", PLACED).start()
        watch = training.watch
        training.until(lambda: watch.checkpoints)
        sizes = [len(nodes.workers())]
        for what, change in [
            ("lost", lambda: cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)),
            ("joined", lambda: nodes.add(cluster)),
        ]:
            resumes, began = len(watch.resumed), time.monotonic()
            change()
            again = training.until(partial(watch.running_after, began, resumes))
            times[what] = again - began
            sizes.append(len(nodes.workers()))
        result = training.ended()
    return {"times": times, "sizes": sizes, "result": result.model_dump(), "resumed": len(watch.resumed)}


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(500)
def test_a_node_is_lost_another_comes_and_every_loss_is_the_same(tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "data"))
    seen = nodes.in_child(_resized, str(tmp_path))
    assert seen["sizes"] == [2, 1, 2]
    assert seen["resumed"] == 2
    assert seen["result"]["complete"] and seen["result"]["images"] == EXACT["images"]
    assert seen["times"]["lost"] < 60, "generous: the machine may be busy; benchmarks/recovery.py has the figures"

    undisturbed = verb.train(str(tmp_path / "data"), str(tmp_path / "alone"), EXACT)
    assert undisturbed.complete
    alone, disturbed = _losses(tmp_path / "alone"), _losses(tmp_path / "run")
    assert len(alone) == EXACT["images"] // 40 and disturbed.keys() == alone.keys()
    for images, attempts in disturbed.items():
        for losses in attempts:
            assert losses == pytest.approx(alone[images][0], rel=1e-7), images


@pytest.mark.parametrize("workers", [[8, 1], [0, 2], [1], [1, 2, 3], 0, "two", True, 1.5])
def test_workers_are_a_number_or_the_fewest_and_the_most(workers: Any) -> None:
    with pytest.raises(
        UsageError, match=r"workers=.*: give a number of at least 1, or the fewest and the most: \[1,8\]"
    ):
        PlacedConfig.of({"workers": workers})


def test_an_elastic_run_asks_ray_for_a_pair(ray_instance: Path) -> None:
    asked = scaling(PlacedConfig.of({"workers": [1, 8], "ray.elastic_resize_monitor_interval_s": 7}))
    assert (asked.num_workers, asked.elastic_resize_monitor_interval_s) == ((1, 8), 7)
    assert scaling(PlacedConfig.of({"workers": 2})).num_workers == 2
