"""Disposable processes that decode untrusted files: the parent never touches pixels that it did not get from here.

Each worker is a plain subprocess (``python -m medgan_ray.dicom.child``) with a limit on address space and no secrets in
its environment. Requests and replies are frames over its pipes (``pipes``), values come through memory (``shared``). A
worker that dies, hangs or runs out of memory costs its file, which is named, and is replaced.
"""

import contextlib
import dataclasses
import itertools
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts, Options
from medgan_ray.dicom.header import SliceHeader
from medgan_ray.dicom.pipes import TooSlow, open_end, read_header, read_into, send
from medgan_ray.dicom.refusals import REFUSALS, Refused
from medgan_ray.dicom.shared import NONE, SLOTS, Slots
from medgan_ray.dicom.terms import Limits, Step
from medgan_ray.errors import MedganError

__all__ = ["Limits", "Outcome", "Source", "Step", "Worker", "decode", "decode_one"]

BATCH_FILES = 16
RECYCLE_FILES = 10_000
START_LIMIT_S = 60.0
CHILD = "medgan_ray.dicom.child"

_DTYPES = ("int16", "uint16", "uint8", "float32")
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""glibc's: the arrays of one slice go into the memory of the last one, which costs no page faults."""


@dataclass(frozen=True, slots=True)
class Source:
    """A file to decode: a local path that the worker opens itself, or a function that fetches its bytes."""

    name: str
    path: str | None = None
    fetch: Callable[[], bytes] | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of a source: facts and values [frames, H, W] (None if only inspected), or a refusal's code."""

    source: Source
    facts: Facts | None = None
    values: NDArray[Any] | None = None
    notes: tuple[Any, ...] = ()
    """What the step noted, a note a frame; it comes from a process that met untrusted bytes."""
    refusal: str = ""
    detail: str = ""
    seconds: float = 0.0
    """Processor time that it took, or time on the clock until it was given up."""
    slices: tuple[SliceHeader, ...] = ()
    """The header of each frame, where it was asked for."""


def decode(
    sources: Iterable[Source],
    workers: int = 2,
    *,
    options: Options | None = None,
    limits: Limits | None = None,
    step: Step | None = None,
) -> Iterator[Outcome]:
    """Yield the outcome of each source, in order; memory is bounded by a few batches a worker.

    Args:
        sources: what to decode.
        workers: how many processes.
        options: what to take, and whether only to look; see ``facts.Options``.
        limits: what one file may cost.
        step: what happens to values before they are handed over; by default nothing.
    """
    local = threading.local()
    made: list[Worker] = []

    def run(batch: list[Source]) -> list[Outcome]:
        if not hasattr(local, "worker"):
            local.worker = Worker(options or Options(), limits or Limits(), step or Step())
            made.append(local.worker)
        outcomes: list[Outcome] = local.worker.run(batch)
        return outcomes

    pool = ThreadPoolExecutor(workers, thread_name_prefix="sandbox")
    pending: deque[Future[list[Outcome]]] = deque()
    try:
        for batch in _batches(sources):
            pending.append(pool.submit(run, batch))
            while len(pending) > 2 * workers:
                yield from pending.popleft().result()
        while pending:
            yield from pending.popleft().result()
    finally:
        for future in pending:
            future.cancel()
        for worker in list(made):
            worker.kill()
        pool.shutdown(wait=True)


def decode_one(source: Source, options: Options | None = None, limits: Limits | None = None) -> Outcome:
    """Return the outcome of one source, in one disposable process."""
    return next(decode([source], 1, options=options, limits=limits))


def _batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    iterator = iter(sources)
    while batch := list(itertools.islice(iterator, BATCH_FILES)):
        yield batch


class Worker:
    """One decoding process at a time, started when needed and replaced when lost; for one thread at a time."""

    def __init__(self, options: Options, limits: Limits, step: Step) -> None:
        self._module, self._limits = step.module, limits
        told = {"options": dataclasses.asdict(options), "limits": dataclasses.asdict(limits)}
        self._told: dict[str, Any] = {**told, "step": step.told}
        self._process: subprocess.Popen[bytes] | None = None
        self._served, self._closed = 0, False
        self._lock = threading.Lock()

    def run(self, batch: list[Source]) -> list[Outcome]:
        """Return the outcomes of a batch; requests are sent ahead, so that waiting costs nothing."""
        outcomes: list[Outcome] = []
        while len(outcomes) < len(batch):
            rest = batch[len(outcomes) :]
            opened = list(itertools.takewhile(lambda source: source.path is not None, rest))
            fetched = list(itertools.takewhile(lambda source: source.path is None, rest))
            outcomes += self._exchange(opened, self._opened) if opened else self._exchange(fetched, self._fetched)
        return outcomes

    def kill(self) -> None:
        """End the process, if there is one, for good."""
        with self._lock:
            self._closed = True
        self._discard()

    def _exchange(self, sources: list[Source], ask: "_Asking") -> list[Outcome]:
        """Return the outcomes of these sources up to and including the first that costs the process."""
        outcomes: list[Outcome] = []
        begun = time.monotonic()
        try:
            for outcome in ask(self._ready(), sources):
                outcomes.append(outcome)
                self._served += 1
                begun = time.monotonic()
            return outcomes
        except TooSlow:
            self._discard()
            refusal, detail = "too_slow", f"{self._limits.wall_s:g} s"
        except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError) as error:
            code = self._discard()
            refusal = "too_slow" if code in (-signal.SIGPROF, -signal.SIGALRM) else "decoder_crashed"
            detail = f"signal {-code}" if code and code < 0 else str(error)
        lost = sources[len(outcomes)]
        return [*outcomes, Outcome(lost, refusal=refusal, detail=detail, seconds=time.monotonic() - begun)]

    def _opened(self, process: "subprocess.Popen[bytes]", sources: list[Source]) -> Iterator[Outcome]:
        """Ask for files that the process opens itself, as many ahead as its values have places."""
        for asked, source in enumerate(sources[:SLOTS]):
            self._request(process, source, b"", asked)
        for number, source in enumerate(sources):
            outcome = self._receive(process, source, number % SLOTS)
            if number + SLOTS < len(sources):
                self._request(process, sources[number + SLOTS], b"", number % SLOTS)
            yield outcome

    def _fetched(self, process: "subprocess.Popen[bytes]", sources: list[Source]) -> Iterator[Outcome]:
        """Ask for bytes; the next are fetched while these are decoded. More would fill both pipes, and stop all."""
        payload = _fetch(sources[0])
        for source, following in itertools.zip_longest(sources, sources[1:]):
            if not isinstance(payload, Refused):
                self._request(process, source, payload, 0)
            fetched = b"" if following is None else _fetch(following)
            if isinstance(payload, Refused):
                yield Outcome(source, refusal=payload.code, detail=payload.detail)
            else:
                yield self._receive(process, source, 0)
            payload = fetched

    def _request(self, process: "subprocess.Popen[bytes]", source: Source, payload: bytes, slot: int) -> None:
        send(open_end(process.stdin), {"path": source.path, "slot": slot}, payload)

    def _ready(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._served >= RECYCLE_FILES:
            self._discard()
        if self._process is None:
            with self._lock:
                if self._closed:
                    raise EOFError("the pool is closed")
                self._slots = Slots()  # its own: nobody else has ever written there
                self._process = _start(self._module, self._limits, self._slots.descriptor)
            self._served = 0
            try:
                read_header(open_end(self._process.stdout), time.monotonic() + START_LIMIT_S)
            except (TooSlow, EOFError) as error:
                self._discard()
                fix = (
                    f"run 'python -m {CHILD} 2000000000 -1 {self._module}' to see why; ingest.memory_mb may be too low"
                )
                raise MedganError("the decoding process does not start", "sandbox", fix) from error
            send(open_end(self._process.stdin), self._told, b"")
        return self._process

    def _receive(self, process: "subprocess.Popen[bytes]", source: Source, slot: int) -> Outcome:
        pipe, deadline = open_end(process.stdout), time.monotonic() + self._limits.wall_s
        header, size = read_header(pipe, deadline)
        seconds = float(header["seconds"])
        if header.get("refusal"):
            if header["refusal"] not in REFUSALS:
                raise ValueError("a reply that is none")
            detail = str(header.get("detail", ""))
            return Outcome(source, refusal=header["refusal"], detail=detail, seconds=seconds)
        facts = Facts.from_json(header["facts"])
        if header.get("dtype") is None:
            return Outcome(source, facts, seconds=seconds)
        shape = tuple(int(side) for side in header["shape"])
        if header["dtype"] not in _DTYPES or size > self._limits.memory_bytes or len(shape) != 3:
            raise ValueError("a reply that is none")
        if header["shared"]:
            data = self._slots.copy(slot, math.prod(shape) * np.dtype(header["dtype"]).itemsize)
        else:
            data = np.empty(size, np.uint8)
            read_into(pipe, data.data, deadline)
        values = data.view(header["dtype"]).reshape(shape)
        slices = tuple(SliceHeader.from_json(each) for each in header["slices"])
        return Outcome(source, facts, values, tuple(header["notes"]), seconds=seconds, slices=slices)

    def _discard(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        self._slots.close()
        # A process that died by itself has a status that kill must not cover up.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.05)
        process.kill()
        code = process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                open_end(pipe).close()
        return code


_Asking = Callable[["subprocess.Popen[bytes]", list[Source]], Iterator[Outcome]]


def _fetch(source: Source) -> bytes | Refused:
    try:
        return b"" if source.fetch is None else source.fetch()
    except Refused as refusal:
        return refusal


def _start(module: str, limits: Limits, memory: int) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).resolve().parents[2])
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **_KEPT_MEMORY}
    return subprocess.Popen(
        [sys.executable, "-P", "-m", CHILD, str(limits.memory_bytes), str(memory), *([module] if module else [])],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=environment,
        start_new_session=True,
        pass_fds=() if memory == NONE else (memory,),
    )
