"""Open the writers that ``train.writers`` names: TensorBoard beside the run, trackers in threads of their own.

A tracker is somebody else's service: it may be slow, refuse or be gone. It is opened and fed in the background, its
failures are told in a line, and no run waits for it or ends because of it: all figures stand in metrics.jsonl.
"""

import importlib.metadata
import importlib.util
import io
import queue
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from medgan_ray.engine import trackers
from medgan_ray.errors import UsageError
from medgan_ray.host import WRITER_ENTRY_POINTS, Writer
from medgan_ray.store import LocalStore, Store

Factory = Callable[[Store, str], Writer]
"""(the run's store, the key of the attempt's log below it) to a writer."""

WAITING = 1000
"""Figures and pictures that wait for a tracker; what comes beyond them is lost to it."""
CLOSE_S = 30.0
"""How long the end of an attempt waits for a tracker to take what is still waiting, seconds."""
_EXTRAS = {"mlflow": "mlflow", "wandb": "wandb"}
"""The module of a writer that an opt-in extra of the same name installs."""


def check(names: Sequence[str], run: Store) -> None:
    """Refuse writers that could not write, before training begins.

    Raises:
        UsageError: if a package is missing, or a local tracker is asked for a run that isn't on this machine.
    """
    for name in names:
        if name in _EXTRAS and not _installed(_EXTRAS[name]):
            fix = f"pip install 'medgan-ray[{name}]', or leave it out of train.writers"
            raise UsageError(f"the package {_EXTRAS[name]} is not installed", f"train.writers={name}", fix)
        if name in trackers.NEEDS:
            trackers.NEEDS[name](run)


def _installed(module: str) -> bool:
    """Say whether a package can be imported: a folder of its name that a tracker left here is none."""
    found = importlib.util.find_spec(module)
    return found is not None and found.origin is not None


def opened(names: Sequence[str], run: Store, segment: str, log: Callable[[str], None]) -> list[Writer]:
    """Return the named writers for one attempt.

    Args:
        names: see ``host.writer_names``.
        run: the run's store.
        segment: key of the attempt's log, ``log/IMAGES``.
        log: told in a line when a tracker fails.
    """
    found: list[Writer] = []
    for name in names:
        if name == "tensorboard":
            found.append(TensorBoard(run, segment))
        else:
            found.append(Background(name, partial(_factory(name), run, segment), log))
    return found


def _factory(name: str) -> Factory:
    if name in trackers.TRACKERS:
        return trackers.TRACKERS[name]
    factory: Factory = next(iter(importlib.metadata.entry_points(group=WRITER_ENTRY_POINTS, name=name))).load()
    return factory


class TensorBoard:
    """Event files in ``SEGMENT/tensorboard``; for a remote run they are written aside and uploaded by ``flush``."""

    def __init__(self, run: Store, segment: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._run, self._key = run, f"{segment}/tensorboard"
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(run, LocalStore):
            self._folder = run.path(self._key)
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="medgan-tensorboard-")
            self._folder = Path(self._temporary.name)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(self._folder))

    def scalars(self, images: int, figures: Mapping[str, float]) -> None:
        """Take figures."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, images)

    def image(self, name: str, images: int, png: bytes) -> None:
        """Take a picture."""
        picture = np.asarray(Image.open(io.BytesIO(png)))
        self._writer.add_image(name, picture, images, dataformats="HW" if picture.ndim == 2 else "HWC")

    def flush(self) -> None:
        """Write to disk, and upload."""
        self._writer.flush()
        if self._temporary is not None:
            for path in self._folder.iterdir():
                self._run.upload(f"{self._key}/{path.name}", path)

    def close(self) -> None:
        """Flush and let go."""
        self.flush()
        self._writer.close()
        if self._temporary is not None:
            self._temporary.cleanup()


class Background:
    """A writer that is opened and fed by a thread: calls return at once, failures are told once and counted.

    Args:
        name: what the writer is called in messages.
        open_writer: opens it; tried again with the next figures if it fails.
        log: takes a line for a person.
    """

    def __init__(self, name: str, open_writer: Callable[[], Writer], log: Callable[[str], None]) -> None:
        self._name, self._open, self._log = name, open_writer, log
        self._writer: Writer | None = None
        self._waiting: queue.Queue[Callable[[Writer], None] | None] = queue.Queue(WAITING)
        self._lost = 0
        self._thread = threading.Thread(target=self._feed, name=f"medgan-{name}", daemon=True)
        self._thread.start()

    def scalars(self, images: int, figures: Mapping[str, float]) -> None:
        """Have figures written."""
        taken = dict(figures)
        self._put(lambda writer: writer.scalars(images, taken))

    def image(self, name: str, images: int, png: bytes) -> None:
        """Have a picture written."""
        self._put(lambda writer: writer.image(name, images, png))

    def flush(self) -> None:
        """Do nothing: what was taken is on its way."""

    def close(self) -> None:
        """Wait up to ``CLOSE_S`` until everything is written; say what was not."""
        try:
            self._waiting.put(None, timeout=CLOSE_S)
            self._thread.join(CLOSE_S)
        except queue.Full:
            pass
        left = self._waiting.qsize() if self._thread.is_alive() else 0
        if self._lost or left or self._thread.is_alive():
            self._log(f"{self._name} did not take all figures; all of them stand in metrics.jsonl")

    def _put(self, job: Callable[[Writer], None]) -> None:
        try:
            self._waiting.put_nowait(job)
        except queue.Full:
            self._lost += 1

    def _feed(self) -> None:
        while (job := self._waiting.get()) is not None:
            self._do(job)
        if self._writer is not None:
            self._do(lambda writer: writer.close())

    def _do(self, job: Callable[[Writer], None]) -> None:
        try:
            if self._writer is None:
                self._writer = self._open()
            job(self._writer)
        except Exception as error:  # whatever a tracker raises: it ends no run
            if not self._lost:
                reason = " ".join(str(error).split())[:300] or type(error).__name__
                self._log(f"{self._name} failed, training goes on: {reason}")
            self._lost += 1
