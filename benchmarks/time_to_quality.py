"""Claim: on a CPU the default preset, dcgan, comes nearer to real scans than the others, at every budget of time.

    python benchmarks/time_to_quality.py ../shared/data/mednist/HeadCT out/quality --minutes 10 --seeds 0 1 2

Trains each preset in this process for so many CPU minutes a core: first a short run measures its images a CPU-second,
then the run itself gets as many images as fit, since schedules follow images and never the clock. Prints, for each
preset, sliced Wasserstein distances over their real-to-real floors (whole images and patches), power of high
frequencies and lattice index on the validation split against CPU-seconds of training (measuring is left out), means
over the seeds. The same call goes on where it stopped.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgan_ray import ingest_scans
from medgan_ray.host import LocalHost
from medgan_ray.verbs.train import train

PRESETS: dict[str, dict[str, Any]] = {
    "dcgan": {"model.name": "dcgan"},
    "stylegan2": {"model.name": "stylegan2"},
    "stylegan2, non-saturating": {"model.name": "stylegan2", "train.loss": "non_saturating"},
    "r3gan": {"model.name": "r3gan"},
}
FIGURES = ("whole_ratio", "patches_ratio", "power", "lattice")
CHECKPOINTS = 10
TRIAL_IMAGES = 640


class Clock(LocalHost):
    """Counts the CPU-seconds of steps, and keeps the figures of each checkpoint."""

    def __init__(self) -> None:
        super().__init__()
        self._began = (time.process_time(), 0)
        self._rates: list[float] = []
        self.figures: dict[int, dict[str, float]] = {}

    def progress(self, images: int, total: int, rate: float) -> None:
        """Take the CPU-seconds an image since the last line of the log."""
        seconds, before = self._began
        now = time.process_time()
        self._rates.append((now - seconds) / (images - before))
        self._began = now, images

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Keep the figures."""
        self.figures[images] = figures

    @property
    def image_s(self) -> float:
        """CPU-seconds of training an image: the median, which measuring at a checkpoint doesn't move."""
        return float(np.median(self._rates[1:] or self._rates))


def main() -> None:
    """Train the presets and print the curves."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/mednist/HeadCT"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/quality"))
    words.add_argument("--minutes", type=float, default=10.0)
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    words.add_argument("--only", nargs="+", default=list(PRESETS))
    given = words.parse_args()
    dataset = given.out / "dataset"
    if not (dataset / "dataset.json").exists():
        ingest_scans(str(given.scans), str(dataset), {"size": 64})
    budget = given.minutes * 60 * torch.get_num_threads()
    print(f"{platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} cores, {given.minutes:g} minutes each")
    print(f"{'preset':>28} {'CPU-seconds':>12} {'images':>8} " + " ".join(f"{name:>14}" for name in FIGURES))
    for name in given.only:
        curves = [_curve(dataset, given.out, name, seed, budget) for seed in given.seeds]
        for points in zip(*curves, strict=True):
            means = [np.mean([point[figure] for point in points]) for figure in FIGURES]
            ranges = [np.ptp([point[figure] for point in points]) for figure in FIGURES]
            row = " ".join(f"{mean:8.3f} ±{spread / 2:.2f}" for mean, spread in zip(means, ranges, strict=True))
            seconds, images = (np.mean([point[key] for point in points]) for key in ("seconds", "images"))
            print(f"{name:>28} {seconds:12.0f} {images:8.0f} {row}", flush=True)


def _curve(dataset: Path, out: Path, name: str, seed: int, budget: float) -> list[dict[str, float]]:
    """Return the points of one run; they are kept beside it."""
    run = out / f"{name.replace(', ', '-')}-{seed}"
    kept = run.with_suffix(".json")
    if not kept.exists():
        trial = Clock()
        quick = {"images": TRIAL_IMAGES, "train.log_images": 64, "train.checkpoint_images": TRIAL_IMAGES}
        train(str(dataset), f"{run}-trial", {**PRESETS[name], **quick, "seed": seed}, trial)
        images = max(TRIAL_IMAGES, int(budget / trial.image_s))
        clock = Clock()
        asked = {"images": images, "train.checkpoint_images": images // CHECKPOINTS, "seed": seed}
        train(str(dataset), str(run), {**PRESETS[name], **asked}, clock)
        points = [
            {"images": seen, "seconds": seen * clock.image_s, **figures} for seen, figures in clock.figures.items()
        ]
        kept.write_text(json.dumps(points))
    found: list[dict[str, float]] = json.loads(kept.read_text())
    return found[:CHECKPOINTS]


if __name__ == "__main__":
    main()
