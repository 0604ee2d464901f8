"""One run of two workers under faults: start it, strike it, start it again, and note what each strike cost."""

import dataclasses
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from medgan_ray.artifacts import checkpoints
from medgan_ray.store import Store, open_store
from tests.processes import descendants

ROOT = Path(__file__).resolve().parents[2]
CONFIG: dict[str, Any] = {
    "workers": 2,
    "images": 16_000,
    "batch": 8,
    "model": {"generator_width": 8, "discriminator_width": 8, "latent": 8},
    "train": {"checkpoint_images": 800, "log_images": 80},
    "ray": {"max_failures": 100},
}
RECOVER_S = 300
CALM_S = 900


class Unrecovered(AssertionError):
    """A run that neither went on nor stopped with a name."""


@dataclasses.dataclass
class Strike:
    """What became of one fault: how many images were repeated, and the seconds until new ones were seen."""

    fault: str
    survived: bool
    repeated: int
    seconds: float
    said: str = ""


class Campaign:
    """A run, its driver and what it has said.

    Attributes:
        folder: where the run, its events and local faults live.
        run: the run's store.
        scratch: where Ray keeps its own files.
        world: the S3 server and the proxy before it; None for a local run.
    """

    def __init__(
        self,
        folder: Path,
        dataset: str,
        run: str,
        draw: random.Random,
        environment: Mapping[str, str],
        world: Any = None,
    ) -> None:
        self.folder, self.dataset, self.run_uri, self.draw = folder, dataset, run, draw
        self.scratch = Path(tempfile.mkdtemp(prefix="chaos-"))  # sockets lie below, whose paths must be short
        self.environment = {**os.environ, **environment, "TMPDIR": str(self.scratch)}
        self.world = world
        self.events_path = folder / "events.jsonl"
        self.driver: subprocess.Popen[bytes] | None = None

    @property
    def run(self) -> Store:
        """The run's store."""
        return open_store(self.run_uri)

    def begin(self) -> None:
        """Start the driver, or start it again."""
        words = [self.dataset, self.run_uri, str(self.events_path), json.dumps(CONFIG)]
        with (self.folder / "driver.log").open("ab") as log:
            self.driver = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.driver", *words],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def events(self) -> list[dict[str, Any]]:
        """Return all that the drivers have noted."""
        if not self.events_path.exists():
            return []
        lines = self.events_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.endswith("}")]

    def images(self) -> int:
        """Return the most images that any attempt has seen."""
        return max((event["images"] for event in self.events() if "images" in event), default=0)

    def workers(self) -> list[int]:
        """Return the processes that train."""
        found = []
        for pid in descendants(self.driver.pid if self.driver else 0):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes()
            except OSError:
                continue
            if b"RayTrainWorker" in words:
                found.append(pid)
        return found

    def weights(self) -> str | None:
        """Return the digest of the weights that the run ended with, if it has."""
        return next((event["weights"] for event in reversed(self.events()) if "weights" in event), None)

    def wait(self, done: Callable[[], bool], limit_s: float, what: str) -> None:
        """Wait until ``done``, starting the driver again whenever it has ended with a name.

        Raises:
            Unrecovered: if that takes longer than ``limit_s``, or the driver ends without one.
        """
        deadline = time.monotonic() + limit_s
        while not done():
            self.revive()
            if time.monotonic() > deadline:
                raise Unrecovered(f"{what}: not within {limit_s:.0f} s; {self.folder}")
            time.sleep(0.1)

    def revive(self) -> None:
        """Start the driver again if it has ended before the run's end."""
        code = self.driver.poll() if self.driver else None
        if code is None or self.weights() is not None:
            return
        if code not in (130, 4, 5, -signal.SIGKILL, -signal.SIGTERM):
            said = (self.folder / "driver.log").read_text()[-2000:]
            raise Unrecovered(f"the driver ended with {code}; {self.folder}\n{said}")
        self.begin()

    def end_driver(self, number: int) -> None:
        """Send the driver a signal and wait for its end and that of its workers."""
        if self.driver is None or self.driver.poll() is not None:
            return
        below = descendants(self.driver.pid)
        self.driver.send_signal(number)
        self.driver.wait(RECOVER_S)
        deadline = time.monotonic() + 30
        while any(Path(f"/proc/{pid}").exists() for pid in below) and time.monotonic() < deadline:
            time.sleep(0.1)

    def newest_checkpoint(self) -> str:
        """Return the name of the newest checkpoint; there is one from the start."""
        self.wait(lambda: bool(checkpoints.names(self.run)), RECOVER_S, "a first checkpoint")
        return checkpoints.names(self.run)[-1]

    def strike(self, name: str, fault: "Callable[[Campaign], None]") -> Strike:
        """Wait until the run is under way again, strike, and wait until it sees images that it has not seen before."""
        goal = self.images() + self.draw.randrange(80, 1200)
        self.wait(lambda: self.images() >= goal or self.weights() is not None, CALM_S, "calm running")
        before, since, noted = self.images(), time.time(), len(self.events())
        fault(self)
        self.wait(lambda: self.images() > before or self.weights() is not None, RECOVER_S, name)
        after = self.events()[noted:]
        resumed = [event["log"] for event in after if event.get("log", "").startswith(("resumed from", "went back"))]
        repeated = sum(max(0, before - int(line.split(" at ")[1].split(" ")[0])) for line in resumed[-1:])
        refusals = [event["refusal"] for event in after if "refusal" in event]
        return Strike(name, True, repeated, time.time() - since, "; ".join(refusals))

    def finish(self) -> str:
        """Let the run come to its end; return the digest of its weights."""
        self.wait(lambda: self.weights() is not None, CALM_S, "the end")
        if self.driver:
            self.driver.wait(60)
        shutil.rmtree(self.scratch, ignore_errors=True)
        return str(self.weights())
