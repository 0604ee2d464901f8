"""Claim: training costs at most 3 % over a loop written by hand, Ray at most 2 % more; and it is ahead of MONAI.

    python benchmarks/train_step.py --peers out/peers       # --install-peers makes that environment first

Trains in turn, a second or two each, with batches of 32 (8 at 256 px) and one thread: our ``train`` without Ray and a
loop of plain PyTorch with the same networks and the same mathematics (contenders/by_hand.py). Both stay in memory,
stand still while the other trains, and change who goes first; the first turn is thrown away. ``with shifts`` augments
as the defaults do, by hand with draws of its own.
r3gan's preset takes seconds a step on a CPU, so it runs at a quarter of its width and in batches of 8.

In the peers' environment, likewise: MONAI's GanTrainer against our ``train`` on MONAI's Generator and Discriminator,
which a user's package brings (contenders/monai_package). Non-saturating loss without penalty, the same optimizer. Ours
also keeps an average of the generator and a log.

Through Ray, which is started once, each run is a new one, and what counts is the median of the images/s in its own log:
with one worker beside the same run outside Ray; and with two workers of one thread each beside one of two threads.
Ray stands idle while the run outside it is measured.

Each ratio is the geometric mean over the rounds, with its 95 % interval (Student's t of the log ratios).
"""

import argparse
import contextlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import t as student

HERE = Path(__file__).parent / "contenders"
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT))
PEERS = ("torch==2.13.0", "monai==1.6.1", "pytorch-ignite")
BATCH, LATENT = 32, 64
SCANS = {64: 2000, 128: 1000, 256: 500}
WARM_S = 2.5
LIMIT_S = 60
BASE = {"batch": BATCH, "latent": LATENT, "loss": "relativistic", "gamma": 2.0, "augment": 0.0, "precision": "auto"}
CELLS: dict[str, dict[str, Any]] = {
    "dcgan 64": {"name": "dcgan", "size": 64, "steps": 12},
    "dcgan 64 with shifts": {"name": "dcgan", "size": 64, "steps": 12, "augment": 0.3},
    "dcgan 128": {"name": "dcgan", "size": 128, "steps": 4},
    "dcgan 256": {"name": "dcgan", "size": 256, "steps": 4, "batch": 8},
    "stylegan2 64": {"name": "stylegan2", "size": 64, "steps": 4},
    "r3gan 64, width 32": {"name": "r3gan", "size": 64, "steps": 4, "width": 32, "batch": 8},
}
MONAI = {"name": "monai", "size": 64, "steps": 8, "loss": "non_saturating", "gamma": 0.0}
RAY = {"name": "dcgan", "size": 64, "steps": 4}

Figures = dict[str, float]
Rounds = list[dict[str, Figures]]


def main() -> None:
    """Write the datasets, run what there is and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--rounds", type=int, default=10)
    words.add_argument("--seconds", type=float, default=1.0, help="of a turn, at least")
    words.add_argument("--images", type=int, default=896, help="of a run through Ray")
    words.add_argument("--threads", type=int, default=1)
    words.add_argument("--only", nargs="+", default=[], help=f"of {', '.join(CELLS)}, monai, ray")
    words.add_argument("--peers", type=Path, help="a virtual environment with MONAI and this project")
    words.add_argument("--install-peers", action="store_true", help="make it with pip")
    words.add_argument("--raw", type=Path, help="file to which the figures of every round are appended as JSON")
    given = words.parse_args()
    if given.install_peers:
        _install(given.peers)
    print(f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {given.rounds} rounds")
    print(f"{'':>44} {'images/s':>17} {'ratio':>7} {'95 % interval':>16} {'of processor seconds':>21}")
    with tempfile.TemporaryDirectory(prefix="benchmark-step-") as folder:
        bench = Bench(given, Path(folder))
        for name, cell in CELLS.items():
            if _wanted(given, name):
                bench.by_hand(name, {**BASE, **cell})
        if _wanted(given, "ray"):
            bench.ray({**BASE, **RAY})
        if given.peers and _wanted(given, "monai"):
            bench.monai({**BASE, **MONAI})
        elif not given.peers:
            print("MONAI is left out: --peers PATH names its environment")


def _wanted(given: argparse.Namespace, name: str) -> bool:
    return not given.only or name in given.only


def _install(peers: Path | None) -> None:
    if peers is None:
        raise SystemExit("error: --install-peers: say where with --peers PATH")
    subprocess.run([sys.executable, "-m", "venv", str(peers)], check=True)
    pins = ["-c", str(ROOT / "constraints.txt")]
    own = ["-e", str(ROOT), "-e", str(HERE / "monai_package")]
    subprocess.run([str(peers / "bin/pip"), "install", "--quiet", *pins, *PEERS, *own], check=True)


class Bench:
    """The comparisons, over datasets in a folder."""

    def __init__(self, given: argparse.Namespace, folder: Path) -> None:
        self.given, self.folder, self.runs = given, folder, 0

    def by_hand(self, title: str, cell: dict[str, Any]) -> None:
        """Ours without Ray over the loop written by hand."""
        rounds = self._in_turn({"ours": sys.executable, "hand": sys.executable}, self._on_data(cell))
        found = _show(title, "ours over by hand", rounds, "ours", "hand")
        _judge("cost over the loop by hand", found, at_most=0.03)

    def monai(self, cell: dict[str, Any]) -> None:
        """Ours over MONAI's trainer, in both precisions."""
        python = str(self.given.peers / "bin/python")
        for precision in ("float32", "auto"):
            on_data = self._on_data({**cell, "precision": precision})
            rounds = self._in_turn({"ours": python, "monai": python}, on_data)
            found = _show("MONAI's networks 64", f"ours ({precision}) over MONAI", rounds, "ours", "monai")
            print(f"{'':>8}ahead of MONAI: {'reached' if found[1] > 1 else 'not reached'}")

    def ray(self, cell: dict[str, Any]) -> None:
        """One worker over none, and two workers of a thread over one worker of two."""
        cell = {**self._on_data(cell), "images": self.given.images}
        forms = {
            "outside Ray, 1 thread": (0, 1),
            "Ray, 1 worker, 1 thread": (1, 1),
            "Ray, 1 worker, 2 threads": (1, 2),
            "Ray, 2 workers, 1 thread each": (2, 1),
        }
        outside, one, two_threads, two = forms
        with self._started(sys.executable, "ray", cell) as placed:
            rounds: Rounds = []
            for number in range(self.given.rounds):
                order = list(forms) if number % 2 == 0 else list(reversed(forms))
                rounds.append({name: self._run(placed, cell, *forms[name]) for name in order})
                self._keep("ray", rounds[-1])
        found = _show("dcgan 64", "Ray, 1 worker, over outside", rounds, one, outside)
        _judge("cost of Ray over outside", found, at_most=0.02)
        found = _show("dcgan 64", "2 workers over 1 of 2 threads", rounds, two, two_threads)
        print(f"{'':>8}at least 0.95: {'reached' if found[0] >= 0.95 else 'not reached'}")

    def _on_data(self, cell: dict[str, Any]) -> dict[str, Any]:
        from tests.builders import write_dataset

        size = cell["size"]
        dataset = self.folder / f"dataset-{size}"
        if not dataset.exists():
            write_dataset(str(dataset), size, {"train": SCANS[size], "val": 4, "test": 4})
        return {**cell, "dataset": str(dataset)}

    def _in_turn(self, pythons: dict[str, str], cell: dict[str, Any]) -> Rounds:
        with contextlib.ExitStack() as stack:
            contenders = {
                name: stack.enter_context(self._started(python, name, cell)) for name, python in pythons.items()
            }
            for contender in contenders.values():
                contender.ask(WARM_S)
            rounds = []
            for number in range(self.given.rounds):
                order = list(contenders) if number % 2 == 0 else list(reversed(contenders))
                rounds.append({name: contenders[name].ask(self.given.seconds) for name in order})
                self._keep(f"{cell['name']} {cell['size']}", rounds[-1])
            return rounds

    def _keep(self, title: str, figures: dict[str, Figures]) -> None:
        if self.given.raw:
            with self.given.raw.open("a") as file:
                file.write(json.dumps({"title": title, **figures}) + "\n")

    def _run(self, placed: "Contender", cell: dict[str, Any], workers: int, threads: int) -> Figures:
        """Train one run to its end, through Ray if there are workers."""
        self.runs += 1
        asked = {"run": str(self.folder / f"run-{self.runs}"), "workers": workers, "threads": threads}
        if workers:
            return placed.ask(asked)
        with self._started(sys.executable, "whole", cell) as alone:
            return alone.answer()

    @contextlib.contextmanager
    def _started(self, python: str, name: str, cell: dict[str, Any]) -> Iterator["Contender"]:
        self.runs += 1
        asked = {**cell, "run": str(self.folder / f"run-{self.runs}")}
        # Ray's workers take their threads from the CPU slots that they are given.
        counts = {} if name == "ray" else {"OMP_NUM_THREADS": str(self.given.threads)}
        kept = {key: value for key, value in os.environ.items() if not key.endswith("_NUM_THREADS")}
        environment = {**kept, **counts, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
        contender = Contender([python, str(HERE / "steps.py"), name, json.dumps(asked)], environment, self.folder)
        try:
            yield contender
        finally:
            contender.end()


class Contender:
    """A process that answers lines with figures."""

    def __init__(self, command: list[str], environment: dict[str, str], folder: Path) -> None:
        self._name = command[2]
        self._errors = tempfile.TemporaryFile("w+", dir=folder)  # noqa: SIM115 -- closed in end()
        self._process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=folder,
        )

    def ask(self, what: Any) -> Figures:
        """Send a line, and return what comes back: images and seconds."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(what) + "\n")
            self._process.stdin.flush()
        return self.answer()

    def answer(self) -> Figures:
        """Return the figures that come next."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            self._errors.seek(0)
            raise SystemExit(f"error: {self._name} failed: {self._errors.read()[-2000:]}")
        found: Figures = json.loads(line)
        return found

    def end(self) -> None:
        """End the process: it goes when it is no longer asked anything."""
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        self._process.stdout.close()  # type: ignore[union-attr]
        self._errors.close()


def _ratio(first: list[float], second: list[float]) -> tuple[float, float, float]:
    """Return the geometric mean of the ratios of a round and its 95 % interval."""
    logs = np.log(np.array(first) / np.array(second))
    middle = float(logs.mean())
    if len(logs) < 2:
        return math.exp(middle), math.nan, math.nan
    half = float(student.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) / math.sqrt(len(logs)))
    return math.exp(middle), math.exp(middle - half), math.exp(middle + half)


def _show(title: str, what: str, rounds: Rounds, one: str, other: str) -> tuple[float, float, float]:
    """Print the rates of two contenders and their ratio; return the ratio and its interval."""
    rates, used = {}, {}
    for name in (one, other):
        rates[name] = [row[name]["images"] / row[name]["wall_s"] for row in rounds]
        used[name] = [row[name]["images"] / row[name]["processor_s"] for row in rounds if "processor_s" in row[name]]
        print(f"{title:>24} {name:>29} {statistics.median(rates[name]):>8,.1f}")
    found = _ratio(rates[one], rates[other])
    busy = f"{_ratio(used[one], used[other])[0]:>21.3f}" if used[one] and used[other] else ""
    print(f"{what:>54} {'':>7} {found[0]:>7.3f} {f'{found[1]:.3f} to {found[2]:.3f}':>16} {busy}")
    return found


def _judge(what: str, ratio: tuple[float, float, float], at_most: float) -> None:
    cost = 1 / ratio[0] - 1
    verdict = "reached" if cost <= at_most else "not reached"
    interval = f"{1 / ratio[2] - 1:.1%} to {1 / ratio[1] - 1:.1%}"
    print(f"{'':>8}{what}: {cost:.1%} ({interval}), goal {at_most:.0%}: {verdict}", flush=True)


if __name__ == "__main__":
    main()
