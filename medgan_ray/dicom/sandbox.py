"""Disposable processes that decode untrusted files: the parent never touches pixels that it did not get from here.

Each worker is a plain subprocess (``python -m medgan_ray.dicom.sandbox``, or a step's module) with a limit on address
space and no secrets in its environment. Requests and replies are frames over its pipes (``pipes``). A worker that dies,
hangs or runs out of memory costs its file, which is named, and is replaced.
"""

import contextlib
import dataclasses
import fcntl
import functools
import gc
import itertools
import logging
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts, Options
from medgan_ray.dicom.header import SliceHeader
from medgan_ray.dicom.pipes import TooSlow, open_end, read_header, read_into, requests, send
from medgan_ray.dicom.refusals import REFUSALS, Refused
from medgan_ray.errors import MedganError

BATCH_FILES = 16
RECYCLE_FILES = 10_000
START_LIMIT_S = 60.0
PIPE_BYTES = 1 << 20
"""A slice fits, so that a process goes on with the next file while the parent still works on this one."""

DECODE_S = 4.0
"""What decoding may take however small an image is: some decoders go on for long after bits that are wrong."""

SAMPLES_PER_S = 2_000_000
"""Slower than any decoder is, even if others want the machine."""

_DTYPES = ("int16", "uint16", "uint8", "float32")
_KEPT_ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")
_KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
"""glibc's: the arrays of one slice go into the memory of the last one, which costs no page faults."""


@dataclass(frozen=True)
class Limits:
    """What one file may cost: seconds, and bytes of address space for the process that decodes it.

    Pixels of few samples must be there sooner; see ``DECODE_S``.
    """

    file_s: float = 20.0
    memory_bytes: int = 1536 << 20
    file_bytes: int = 1 << 30


@dataclass(frozen=True, slots=True)
class Source:
    """A file to decode: a local path that the worker opens itself, or a function that fetches its bytes."""

    name: str
    path: str | None = None
    fetch: Callable[[], bytes] | None = None


Then = Callable[[Facts, NDArray[Any]], tuple[NDArray[Any], list[dict[str, Any]]]]
"""Takes a scan's facts and values [frames, H, W]; returns what to hand over, [frames, h, w], and a note a frame."""

Begin = Callable[[dict[str, Any]], Then]


@dataclass(frozen=True)
class Step:
    """What a decoding process does with the values of a scan before it hands them over.

    Attributes:
        module: what it runs as (``python -m``): a module that calls ``serve``.
        told: plain data for that module.
    """

    module: str = "medgan_ray.dicom.sandbox"
    told: dict[str, Any] = field(default_factory=dict)


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
    """Wall time that the decoding process took, or until it was given up."""
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
            refusal, detail = "too_slow", f"{self._limits.file_s} s"
        except (OSError, EOFError, ValueError, TypeError, KeyError, RecursionError) as error:
            code = self._discard()
            refusal = "too_slow" if code == -signal.SIGALRM else "decoder_crashed"
            detail = f"signal {-code}" if code and code < 0 else str(error)
        lost = sources[len(outcomes)]
        return [*outcomes, Outcome(lost, refusal=refusal, detail=detail, seconds=time.monotonic() - begun)]

    def _opened(self, process: "subprocess.Popen[bytes]", sources: list[Source]) -> Iterator[Outcome]:
        """Ask for files that the process opens itself, all at once."""
        for source in sources:
            self._request(process, source, b"")
        for source in sources:
            yield self._receive(process, source)

    def _fetched(self, process: "subprocess.Popen[bytes]", sources: list[Source]) -> Iterator[Outcome]:
        """Ask for bytes; the next are fetched while these are decoded. More would fill both pipes, and stop all."""
        payload = _fetch(sources[0])
        for source, following in itertools.zip_longest(sources, sources[1:]):
            if not isinstance(payload, Refused):
                self._request(process, source, payload)
            fetched = b"" if following is None else _fetch(following)
            if isinstance(payload, Refused):
                yield Outcome(source, refusal=payload.code, detail=payload.detail)
            else:
                yield self._receive(process, source)
            payload = fetched

    def _request(self, process: "subprocess.Popen[bytes]", source: Source, payload: bytes) -> None:
        send(open_end(process.stdin), {"path": source.path}, payload)

    def _ready(self) -> "subprocess.Popen[bytes]":
        if self._process is not None and self._served >= RECYCLE_FILES:
            self._discard()
        if self._process is None:
            with self._lock:
                if self._closed:
                    raise EOFError("the pool is closed")
                self._process = _start(self._module, self._limits)
            self._served = 0
            try:
                read_header(open_end(self._process.stdout), time.monotonic() + START_LIMIT_S)
            except (TooSlow, EOFError) as error:
                self._discard()
                fix = f"run 'python -m {self._module} 2000000000' to see why; ingest.memory_mb may be too low"
                raise MedganError("the decoding process does not start", "sandbox", fix) from error
            send(open_end(self._process.stdin), self._told, b"")
        return self._process

    def _receive(self, process: "subprocess.Popen[bytes]", source: Source) -> Outcome:
        pipe, deadline = open_end(process.stdout), time.monotonic() + self._limits.file_s
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
        data = np.empty(size, np.uint8)
        read_into(pipe, data.data, deadline)
        values = data.view(header["dtype"]).reshape(shape)
        slices = tuple(SliceHeader.from_json(each) for each in header["slices"])
        return Outcome(source, facts, values, tuple(header["notes"]), seconds=seconds, slices=slices)

    def _discard(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
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


def _start(module: str, limits: Limits) -> "subprocess.Popen[bytes]":
    root = str(Path(__file__).resolve().parents[2])
    environment = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
    environment |= {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **_KEPT_MEMORY}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", module, str(limits.memory_bytes)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env=environment,
        start_new_session=True,
    )
    with contextlib.suppress(OSError, AttributeError):  # Linux alone, and within a user's share of pipes
        fcntl.fcntl(open_end(process.stdout).fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return process


def serve(begin: Begin | None = None) -> None:
    """Answer requests until standard input ends; what ``python -m MODULE LIMIT_BYTES`` does in a decoding process.

    Args:
        begin: makes, of what the parent tells, the function that each scan goes through before it is handed over.
    """
    # Libraries print to standard output: keep the real one for replies.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    from medgan_ray.dicom import read

    logging.disable()  # nobody reads what libraries say here, and pydicom formats a trace for each rung of the ladder
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    send(replies, {"ready": True}, b"")
    asked = requests(os.fdopen(0, "rb"))
    told = next(asked, ({}, b""))[0]
    if not told:
        return
    options, limits = Options(**told["options"]), Limits(**told["limits"])
    then = begin(told["step"]) if begin else None

    longest_s = limits.file_s * 1.25 + 1

    def hurry(samples: int) -> None:
        signal.setitimer(signal.ITIMER_REAL, min(longest_s, DECODE_S + samples / SAMPLES_PER_S))

    def read_scan(request: dict[str, Any], payload: bytes) -> Any:
        return read.read_scan(payload if request["path"] is None else _load(request["path"], limits), options, hurry)

    gc.freeze()  # what was imported stays: no need to look through it again and again
    for request, payload in asked:
        # If the parent is gone, nobody else ends a decoder that hangs.
        signal.setitimer(signal.ITIMER_REAL, longest_s)
        begun = time.monotonic()
        header, values = _answer(functools.partial(read_scan, request, payload), then, options.inspect)
        signal.setitimer(signal.ITIMER_REAL, 0)
        header["seconds"] = time.monotonic() - begun
        send(replies, header, b"" if values is None else np.ascontiguousarray(values).data.cast("B"))


def _answer(read: Callable[[], Any], then: Then | None, inspect: bool) -> tuple[dict[str, Any], NDArray[Any] | None]:
    try:
        scan = read()
        if scan.values is None or inspect:
            return {"facts": scan.facts.to_json(), "dtype": None}, None
        values, notes = then(scan.facts, scan.values) if then else (scan.values, [])
    except Refused as refusal:
        return {"refusal": refusal.code, "detail": refusal.detail}, None
    except MemoryError:
        return {"refusal": "over_memory"}, None
    except RecursionError:
        return {"refusal": "broken_header", "detail": "nested too deeply"}, None
    except Exception as error:  # whatever a library raises on hostile bytes must not end the worker
        return {"refusal": "broken_header", "detail": f"{type(error).__name__}: {error}"[:200]}, None
    slices = [each.to_json() for each in scan.slices]
    shown = {"dtype": values.dtype.name, "shape": values.shape, "notes": notes, "slices": slices}
    return {"facts": scan.facts.to_json(), **shown}, values


def _load(path: str, limits: Limits) -> bytes:
    try:
        with Path(path).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > limits.file_bytes:
                raise Refused("too_large", "more bytes than a file may have")
            return file.readall()
    except OSError as error:
        raise Refused("unreadable", error.strerror or str(error)) from None


if __name__ == "__main__":
    serve()
