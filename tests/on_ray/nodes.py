"""Nodes faked on one machine, faults done to them, and when the loop ran again: for tests and benchmarks/recovery.py.

A Ray cluster of several nodes takes a process of its own, since a process holds one Ray instance: see ``in_child``.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from medgan_ray.host import LocalHost
from medgan_ray.on_ray import session
from medgan_ray.on_ray.train import train

WITHIN_S = 240.0


def in_child(function: Callable[..., Any], *words: Any) -> Any:
    """Return what ``function`` returns in the main thread of a fresh process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *words).result()


@contextlib.contextmanager
def cluster(folder: Path, nodes: int = 2) -> Iterator[Any]:
    """A Ray cluster on loopback: a head without slots and ``nodes`` nodes of one CPU slot; this process joins it."""
    before = session.prepare(loopback=True)
    os.environ["RAY_TRAIN_ENABLE_PREEMPTION_WATCHER"] = "1"
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(session.write_token(folder / "token"))
    import ray
    from ray.cluster_utils import Cluster

    started = Cluster(True, head_node_args={"num_cpus": 0, "node_ip_address": session.LOOPBACK})
    try:
        for _ in range(nodes):
            add(started)
        ray.init(address=started.address, log_to_driver=False, logging_level=logging.ERROR)
        yield started
    finally:
        ray.shutdown()
        started.shutdown()
        session.restore(before)


def add(started: Any) -> Any:
    """Add a node of one slot; only the main thread may."""
    return started.add_node(num_cpus=1, node_ip_address=session.LOOPBACK)


class Watch(LocalHost):
    """A driver's host that keeps what it is told, and when."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.seen: list[tuple[float, int]] = []
        self.checkpoints: list[tuple[float, int]] = []
        self.noticed: list[float] = []
        self.resumed: list[float] = []
        self.stop = False

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        self.checkpoints.append((time.monotonic(), images))

    def progress(self, images: int, total: int, rate: float) -> None:
        self.seen.append((time.monotonic(), images))

    def log(self, text: str) -> None:
        self.lines.append(text)
        if text.startswith("resumed"):
            self.resumed.append(time.monotonic())
        elif "start again" in text:
            self.noticed.append(time.monotonic())

    def should_stop(self) -> bool:
        return self.stop

    def running_after(self, fault: float, resumes: int) -> float | None:
        """Return when the loop first made a step after it was resumed for a further time, if it did."""
        if len(self.resumed) <= resumes:
            return None
        return next((when for when, _ in self.seen if when > self.resumed[resumes] > fault), None)


@dataclasses.dataclass
class Training:
    """A training in a thread beside the faults done to it."""

    dataset: str
    run: str
    config: Mapping[str, Any]
    watch: Watch = dataclasses.field(default_factory=Watch)
    result: Any = None
    error: BaseException | None = None

    def start(self) -> "Training":
        """Begin, and return at once."""
        self._thread = threading.Thread(target=self._train, daemon=True)
        self._thread.start()
        return self

    def _train(self) -> None:
        try:
            self.result = train(self.dataset, self.run, self.config, progress=self.watch)
        except BaseException as error:
            self.error = error

    def ended(self, within_s: float = WITHIN_S) -> Any:
        """Wait for the end and return the result."""
        self._thread.join(within_s)
        if self.error is not None:
            raise self.error
        assert not self._thread.is_alive(), self.watch.lines
        return self.result

    def until(self, told: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
        """Wait until ``told()`` is true and return what it gives."""
        deadline = time.monotonic() + within_s
        while not (found := told()):
            assert time.monotonic() < deadline, f"not within {within_s} s: {self.watch.lines}"
            if self.error is not None:
                raise self.error
            assert self._thread.is_alive(), "the training has ended"
            time.sleep(0.05)
        return found


def workers() -> list[int]:
    """Return the processes of Ray Train's workers below this one (of a local instance or of faked nodes)."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError, ValueError):
            if b"RayTrainWorker" in (entry / "cmdline").read_bytes() and _below(int(entry.name)):
                found.append(int(entry.name))
    return sorted(found)


def _below(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return False


def stop_worker() -> int:
    """Stop one worker's process, as a hang would; it is killed with its instance."""
    pid = workers()[-1]
    os.kill(pid, signal.SIGSTOP)
    return pid


def kill_worker() -> int:
    """Kill one worker's process."""
    pid = workers()[-1]
    os.kill(pid, signal.SIGKILL)
    return pid
