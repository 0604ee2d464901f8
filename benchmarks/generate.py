"""Generation in bulk beside the bare forward rate: what do encoding, writing and Ray cost?

python benchmarks/generate.py                         # 64 px, 2 workers, 100,000 scans: minutes
python benchmarks/generate.py -n 8192 --forms png dataset

Bare: as many processes as workers run the generator alone, in batches of 16 on one thread each, nothing written. It is
measured before and after each form, since other work on the machine would favor one of them. The goal is 0.9 of it.
Beside the clock stands processor time: of the generator alone, over that of all processes that generate, Ray's too. On
a machine whose cores are busy with other things, that share alone means something.
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import os
import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", RAY_USAGE_STATS_ENABLED="0")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medgan_ray import load_model
from medgan_ray.inference.model import BATCH
from medgan_ray.on_ray import chores, session
from medgan_ray.verbs.train import train
from tests import processes
from tests.builders import write_dataset

GOAL = 0.9


def _model(folder: str, name: str) -> str:
    """Train a network of the default width for a moment: how fast it is doesn't depend on how good."""
    write_dataset(f"{folder}/data", size=64, classes=("normal", "lesion"), counts={"train": 40})
    short = {"checkpoint_images": 8, "figure_samples": 24}
    train(f"{folder}/data", f"{folder}/run", {"batch": 8, "images": 8, "model": {"name": name}, "train": short})
    return f"{folder}/run"


def _forward(run: str, seconds: float) -> tuple[float, float]:
    """Return images a second of the generator alone in this process, and processor seconds an image."""
    import torch

    torch.set_num_threads(1)
    model = load_model(run)
    with torch.no_grad():
        noise = torch.randn(BATCH, model.settings.latent)
        given = torch.from_numpy(model.conditions(model.codes(BATCH)))
        generator = model._generator
        for _ in range(5):
            generator(noise, given)
        began, used, batches = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - began < seconds:
            generator(noise, given)
            batches += 1
        images = batches * BATCH
        return images / (time.perf_counter() - began), (time.process_time() - used) / images


def bare(run: str, workers: int, seconds: float) -> tuple[float, float]:
    """Return images a second of the generator alone in so many processes at once, and processor seconds an image."""
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        found = list(pool.map(_forward, [run] * workers, [seconds] * workers))
    return sum(rate for rate, _ in found), sum(used for _, used in found) / workers


def _processor_s() -> float:
    """Return the processor time of this process and all below it, those that have ended too, seconds."""
    ticks = 0
    for pid in (os.getpid(), *processes.descendants(os.getpid())):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure each form and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--model", default="dcgan")
    parser.add_argument("--forms", nargs="+", default=["dataset", "png"])
    parser.add_argument("--seconds", type=float, default=15, help="how long the bare rate is measured each time")
    options = parser.parse_args()
    print(f"goal: {GOAL} of the bare rate")
    with tempfile.TemporaryDirectory() as folder:
        run = _model(folder, options.model)
        rates = [bare(run, options.workers, options.seconds)]
        with session.local(cpus=options.workers):
            chores.generate_scans(run, f"{folder}/warm", n=BATCH, config={"workers": options.workers})
            for form in options.forms:
                began, used = time.perf_counter(), _processor_s()
                chores.generate_scans(run, f"{folder}/out", n=options.n, form=form, config={"workers": options.workers})
                rate, used = options.n / (time.perf_counter() - began), (_processor_s() - used) / options.n
                shutil.rmtree(f"{folder}/out")
                rates.append(bare(run, options.workers, options.seconds))
                forward, least = ((before + after) / 2 for before, after in zip(rates[-2], rates[-1], strict=True))
                share = rate / forward
                print(
                    f"{options.model} 64 px, {options.workers} workers, {options.n:,} scans as {form}: {rate:,.0f} "
                    f"a second, bare {rates[-2][0]:,.0f} before and {rates[-1][0]:,.0f} after: {share:.2f} of it; "
                    f"processor {used * 1e6:,.0f} µs a scan, bare {least * 1e6:,.0f}: {least / used:.2f}",
                    flush=True,
                )
        print(f"driver's peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB")


if __name__ == "__main__":
    main()
