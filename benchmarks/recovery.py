"""Seconds from a fault to the loop running again, and whether a busy machine is ever taken for a fault.

python benchmarks/recovery.py --times 5               # worker killed, worker stopped, node lost: medians
python benchmarks/recovery.py --false-alarm 5         # minutes of training beside 8 busy processes a core: restarts

Two workers on two nodes of one machine (``ray.cluster_utils.Cluster``, loopback) train a small network that commits a
checkpoint every few seconds. The clock starts at the signal; "noticed" is when the driver is told, "running again" when
it hears of the first step after the resume. Ray's defaults gave 11.6 s for a killed worker; a stopped one was
noticed after 600 s.
"""

import argparse
import collections
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.builders import SMALL, write_dataset
from tests.on_ray import nodes

GOALS = {"worker killed": 7.0, "worker stopped": 20.0, "node lost": 20.0}
BUSY_A_CORE = 8
SETTINGS: dict[str, Any] = {
    **SMALL,
    "images": 100_000_000,
    "workers": [1, 2],
    "ray": {"shared_paths": True, "elastic_resize_monitor_interval_s": 2, "max_failures": 10_000},
    "train": {**SMALL["train"], "checkpoint_images": 800, "log_images": 8},
}


def _begin(folder: Path) -> nodes.Training:
    if not (folder / "data").exists():
        write_dataset(str(folder / "data"), counts={"train": 120, "val": 120, "test": 24})
    training = nodes.Training(str(folder / "data"), str(folder / "run"), SETTINGS).start()
    training.until(lambda: training.watch.checkpoints)
    return training


def _after(training: nodes.Training, fault: Any) -> tuple[float, float]:
    """Do the fault; return seconds until it was noticed and until the loop ran again."""
    watch = training.watch
    resumes, notices, commits = len(watch.resumed), len(watch.noticed), len(watch.checkpoints)
    training.until(lambda: len(watch.checkpoints) > commits)
    began = time.monotonic()
    fault()
    again = training.until(lambda: watch.running_after(began, resumes))
    noticed = watch.noticed[notices] if len(watch.noticed) > notices else again
    return noticed - began, again - began


def faults(times: int) -> None:
    """Print each recovery as it comes, then the table of medians."""
    found = collections.defaultdict[str, list[tuple[float, float]]](list)
    with tempfile.TemporaryDirectory() as temporary, nodes.cluster(Path(temporary)) as cluster:

        def lose() -> None:
            cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

        every = {
            "worker killed": nodes.kill_worker,
            "worker stopped": nodes.stop_worker,
            "node lost": lose,
            "node joined": lambda: nodes.add(cluster),
        }
        training = _begin(Path(temporary))
        for _ in range(times):
            for name, fault in every.items():
                found[name].append(_after(training, fault))
                noticed, again = found[name][-1]
                load = os.getloadavg()[0]
                print(f"{name}: noticed {noticed:.1f} s, running again {again:.1f} s (load {load:.1f})", flush=True)
        training.watch.stop = True
        training.ended()
    print(f"\nMedians of {times} on {os.cpu_count()} cores")
    print(f"{'fault':16} {'noticed, s':>12} {'running again, s':>18} {'goal':>6}")
    for name, pairs in found.items():
        noticed, again = (statistics.median(column) for column in zip(*pairs, strict=True))
        goal = f"{GOALS[name]:6.0f}" if name in GOALS else ""
        print(f"{name:16} {noticed:12.1f} {again:18.1f} {goal}")


def false_alarm(minutes: float) -> None:
    """Print how often a training beside busy processes was restarted."""
    busy = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(BUSY_A_CORE * (os.cpu_count() or 1))
    ]
    try:
        with tempfile.TemporaryDirectory() as temporary, nodes.cluster(Path(temporary)) as cluster:
            assert cluster
            training = _begin(Path(temporary))
            began, seen = time.monotonic(), training.watch.seen[-1][1]
            while time.monotonic() - began < 60 * minutes and training.error is None:
                time.sleep(1)
            images = training.watch.seen[-1][1] - seen
            training.watch.stop = True
            training.ended()
    finally:
        for process in busy:
            process.kill()
            process.wait()
    watch = training.watch
    print(f"{minutes:g} minutes beside {len(busy)} busy processes on {os.cpu_count()} cores: {images} images,")
    print(
        f"{len(watch.checkpoints)} checkpoints with figures, {len(watch.noticed)} alarms, {len(watch.resumed)} restarts"
    )


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=3, help="how often each fault is done")
    parser.add_argument("--false-alarm", type=float, metavar="MINUTES", help="train beside busy processes instead")
    given = parser.parse_args()
    if given.false_alarm:
        false_alarm(given.false_alarm)
    else:
        faults(given.times)


if __name__ == "__main__":
    main()
