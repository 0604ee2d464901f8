"""Claim: with 100 training scans, adaptive augmentation keeps held-out quality within 10 % of its best for 5 minutes.

    nice -n 10 python benchmarks/small_data.py ../shared/data/mednist/HeadCT out/small_data

Trains one run a setting on one thread for 300 CPU-seconds each (of this process, measuring included, so that a busy
machine changes nothing): without augmentation, by the fixed schedule, and by the controller. Prints at each checkpoint
the chance of augmentation, r_v (see ``engine/controller.py``), the parts of the score on the val split (sliced
Wasserstein distances over their real-to-real floors) and the power of high frequencies; then by how much the last
differs from the best. ``mean`` is the score without its bounds.
"""

import argparse
import json
import math
import os
import platform
import time
from pathlib import Path

import torch

from medgan_ray import ingest_scans
from medgan_ray.config import from_words, merge
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.host import LocalHost
from medgan_ray.verbs.train import train

SPLIT = {"val": 0.74, "test": 0.209}
"""Shares that leave about 100 of the 2,000 files to train on."""
SETTINGS = {
    "none": ["augment.probability=0"],
    "schedule": ["augment.control=schedule"],
    "adaptive": ["augment.control=adaptive", "augment.probability=0.5"],
}
PARTS = ("whole_ratio", "patches_ratio", "mean")
SHOWN = ("augment_p", "r_v", "r_t", *PARTS, "power", "memorization")


class Budget(LocalHost):
    """Stops after CPU-seconds of this process, and keeps what they were at each report."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._began, self._seconds = time.process_time(), seconds
        self.spent_s: dict[int, float] = {}

    def should_stop(self) -> bool:
        """Say whether they are spent."""
        return time.process_time() - self._began > self._seconds

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Keep the time."""
        self.spent_s[images] = time.process_time() - self._began


def main() -> None:
    """Train the settings and print the tables."""
    torch.set_num_threads(1)
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/mednist/HeadCT"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/small_data"))
    words.add_argument("--seconds", type=float, default=300, help="CPU-seconds a run")
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--settings", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    words.add_argument("options", nargs="*", help="key=value for all runs")
    given = words.parse_args()
    dataset = given.out / "dataset"
    if not (dataset / "dataset.json").exists():
        ingest_scans(str(given.scans), str(dataset), {"size": 64, "split": SPLIT, "ingest": {"text": "keep"}})
    scans = len(open_dataset(str(dataset)).split("train"))
    print(f"{scans} training scans; {platform.machine()}, 1 thread, {given.seconds:.0f} CPU-seconds a run")
    rows = {name: _measure(dataset, name, given) for name in given.settings}
    print(f"\n{'last over best':>14} " + " ".join(f"{name:>14}" for name in PARTS))
    for name, found in rows.items():
        worse = (found[-1][part] / min(row[part] for row in found) - 1 for part in PARTS)
        print(f"{name:>14} " + " ".join(f"{each:>+14.1%}" for each in worse))


def _measure(dataset: Path, name: str, given: argparse.Namespace) -> list[dict[str, float]]:
    """Train one setting and print its curve; return its figures at each checkpoint."""
    host = Budget(given.seconds)
    options = {"seed": given.seed, "train": {"checkpoint_images": 5120, "keep_checkpoints": 1}}
    run = given.out / f"{name}-seed{given.seed}-{os.getpid()}"
    print(f"\n{name}\n{'CPU s':>6} {'images':>7} " + " ".join(f"{each:>13}" for each in SHOWN), flush=True)
    train(str(dataset), str(run), merge(options, from_words([*SETTINGS[name], *given.options])), host)
    (log,) = (run / "log").glob("*/metrics.jsonl")
    rows = [line for line in map(json.loads, log.read_text("utf-8").splitlines()) if "whole_ratio" in line]
    for row in rows:
        row["mean"] = (row["whole_ratio"] + row["patches_ratio"]) / 2
        shown = " ".join(f"{row.get(each, math.nan):>13.3f}" for each in SHOWN)
        print(f"{host.spent_s[row['images']]:>6.0f} {row['images']:>7} {shown}", flush=True)
    return rows


if __name__ == "__main__":
    main()
