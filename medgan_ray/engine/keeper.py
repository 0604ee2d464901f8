"""The keeper: commits checkpoints, keeps the best and brings the log to the store, while training goes on.

Rank 0 has one. One thread does one checkpoint at a time; the next waits for it. A store that fails does not end a run
at once: the checkpoint is missed, with a line in the log, and the next is tried. ``MOST_MISSED`` in a row, or the last
of an attempt, end it.
"""

import concurrent.futures
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray.artifacts import checkpoints, versions
from medgan_ray.artifacts.runs import BEST, read_json, write_json
from medgan_ray.engine.record import Record
from medgan_ray.errors import InputError, StoreError
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import PUBLISHED

MOST_MISSED = 3
_PUBLISHED = f"networks/{PUBLISHED}/"


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What a checkpoint is made of.

    Attributes:
        images: images seen.
        tensors: copies that nobody else changes.
        loop: plain facts of the loop, for going on.
        figures: quality figures; empty where nothing was measured.
        judged: whether it may become the best: one that an interruption made may not, or the best of a run would
            depend on who interrupted it.
        preview: samples [n, C, H, W] in [-1, 1]; None where there are none to show.
    """

    images: int
    tensors: Mapping[str, Tensor]
    loop: Mapping[str, Any]
    figures: Mapping[str, float]
    judged: bool
    preview: NDArray[np.float32] | None


class Keeper:
    """Writes the checkpoints of one attempt at a run."""

    def __init__(
        self, run: Store, record: Record, keep: checkpoints.Keep, facts: Mapping[str, Any], log: Callable[[str], None]
    ) -> None:
        self._run, self._record, self._keep, self._facts, self._log = run, record, keep, facts, log
        self._thread = concurrent.futures.ThreadPoolExecutor(1, "medgan-keeper")
        self._pending: concurrent.futures.Future[str] | None = None
        self._missed = 0

    def submit(self, snapshot: Snapshot) -> None:
        """Begin to write; the one before must have been waited for."""
        self._pending = self._thread.submit(self._write, snapshot)

    @property
    def idle(self) -> bool:
        """Whether nothing is being written."""
        return self._pending is None or self._pending.done()

    def wait(self, last: bool = False) -> str:
        """Wait for what is being written; return the checkpoint's URI, or nothing if it was missed.

        Raises:
            StoreError: if the store failed too often in a row, or now and this is the last.
        """
        if self._pending is None:
            return ""
        pending, self._pending = self._pending, None
        try:
            name = pending.result()
        except StoreError as error:
            self._missed += 1
            if last or self._missed >= MOST_MISSED:
                raise
            self._log(f"a checkpoint could not be written, training goes on: {error}")
            return ""
        self._missed = 0
        return f"{self._run.uri}/{checkpoints.FOLDER}/{name}"

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown()

    def _write(self, snapshot: Snapshot) -> str:
        figures = {key: value for key, value in snapshot.figures.items() if math.isfinite(value)}
        facts = {"figures": figures, "loop": snapshot.loop, "judged": snapshot.judged}
        if snapshot.preview is not None:
            self._record.preview(snapshot.images, snapshot.preview)
        self._record.flush()  # before the commit: who goes on from this checkpoint never logs again what came before it
        name = checkpoints.commit(self._run, snapshot.images, snapshot.tensors, facts)
        written = checkpoints.Checkpoint(name, snapshot.images, {**snapshot.tensors}, facts)
        if snapshot.judged:
            keep_if_best(self._run, written, self._facts)
        best = read_json(self._run, BEST)
        checkpoints.prune(self._run, self._keep, str(best["checkpoint"]) if best else None)
        return name


def newest(run: Store, facts: Mapping[str, Any], log: Callable[[str], None]) -> checkpoints.Checkpoint | None:
    """Return the newest whole checkpoint, after mending what a crash has left half done in ``best/``."""
    _mend_best(run, facts, log)
    found = checkpoints.newest(run, log)
    if found and found.facts.get("judged", True):
        keep_if_best(run, found, facts)
    return found


def keep_if_best(run: Store, checkpoint: checkpoints.Checkpoint, facts: Mapping[str, Any]) -> None:
    """Make this checkpoint the best if its score is no worse, or if nothing can be measured."""
    old = read_json(run, BEST)
    figures = checkpoint.facts["figures"]
    score = figures.get("score", math.inf)
    if old and (old["checkpoint"] == checkpoint.name or (old["score"] is not None and float(old["score"]) < score)):
        return
    _write_best(run, checkpoint, facts)
    kept = score if math.isfinite(score) else None
    write_json(run, BEST, {"checkpoint": checkpoint.name, "score": kept, "images": checkpoint.images})


def _write_best(run: Store, checkpoint: checkpoints.Checkpoint, facts: Mapping[str, Any]) -> None:
    named = {key.removeprefix(_PUBLISHED): key for key in checkpoint.tensors if key.startswith(_PUBLISHED)}
    weights = {name: checkpoint.tensors[key] for name, key in named.items()}
    of_checkpoint = {"checkpoint": checkpoint.name, "images": checkpoint.images, "figures": checkpoint.facts["figures"]}
    versions.write_model(run.child("best"), weights, {**facts, **of_checkpoint})


def _mend_best(run: Store, facts: Mapping[str, Any], log: Callable[[str], None]) -> None:
    """Write the best model again from its checkpoint if it is damaged; without that, the next one becomes the best."""
    try:
        best = read_json(run, BEST)
    except InputError as error:
        log(f"{BEST} is made again: {error.what}")
        run.delete(BEST)
        return
    if not best:
        return
    try:
        versions.read_model(run.child("best"))
    except InputError as error:
        log(f"best model is written again: {error.what}")
        try:
            _write_best(run, checkpoints.load(run, str(best["checkpoint"])), facts)
        except InputError:
            run.delete(BEST)
