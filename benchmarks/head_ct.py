"""Claim: 75,000 images on two workers make head CTs whose distances to held-out scans are near the real-to-real floor.

    python benchmarks/head_ct.py ../shared/data/mednist/HeadCT out/head_ct

Trains one run a seed through Ray (the same command goes on where it stopped) and prints, for the best checkpoint of
each, the figures on the test split (sliced Wasserstein distances over their floors, of whole images and of Laplacian
7x7 patches; power of high frequencies and lattice index over the real images') and the seconds of the whole call.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

from medgan_ray import ingest_scans
from medgan_ray.on_ray.train import train

GOALS = {"whole_ratio": "<= 1.2", "patches_ratio": "<= 1.75", "power": "0.75 to 1.25", "lattice": "0.85 to 1.2"}


def main() -> None:
    """Train the seeds and print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/mednist/HeadCT"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/head_ct"))
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    words.add_argument("--images", type=int, default=75_000)
    words.add_argument("--workers", type=int, default=2)
    given = words.parse_args()
    dataset = given.out / "dataset"
    if not (dataset / "dataset.json").exists():
        ingest_scans(str(given.scans), str(dataset), {"size": 64})
    rows = [_measure(dataset, given.out / f"seed{seed}", seed, given) for seed in given.seeds]
    print(f"\n{platform.machine()}, {os.cpu_count()} cores, {given.workers} workers, {given.images} images")
    print(f"{'seed':>6} {'seconds':>8} " + " ".join(f"{name:>14}" for name in GOALS))
    for seed, (seconds, figures) in zip(given.seeds, rows, strict=True):
        print(f"{seed:>6} {seconds:8.0f} " + " ".join(f"{figures[name]:14.3f}" for name in GOALS))
    means = [np.mean([figures[name] for _, figures in rows]) for name in GOALS]
    print(
        f"{'mean':>6} {np.mean([seconds for seconds, _ in rows]):8.0f} " + " ".join(f"{mean:14.3f}" for mean in means)
    )
    print(f"{'goal':>6} {'600':>8} " + " ".join(f"{goal:>14}" for goal in GOALS.values()))


def _measure(dataset: Path, run: Path, seed: int, given: argparse.Namespace) -> tuple[float, dict[str, float]]:
    """Return the seconds of the whole call and the figures; both are kept beside the run."""
    kept = run.with_suffix(".json")
    if not kept.exists():
        began = time.monotonic()
        options = {"images": given.images, "seed": seed, "workers": given.workers}
        result = train(str(dataset), str(run), options)
        kept.write_text(json.dumps([time.monotonic() - began, result.figures]))
    seconds, figures = json.loads(kept.read_text())
    return seconds, figures


if __name__ == "__main__":
    main()
