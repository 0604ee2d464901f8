"""What runs in a decoding process: ``python -m medgan_ray.dicom.child LIMIT_BYTES MEMORY [MODULE]``; see ``sandbox``.

Requests come through standard input; replies go through standard output, values through the memory of the descriptor
MEMORY (``shared``); the parent ends it. One is started anew after every file that kills one, so it imports little:
nothing of the parent's side, and see ``lean``.
"""

import functools
import gc
import importlib
import logging
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom import lean, shared
from medgan_ray.dicom.pipes import requests, send
from medgan_ray.dicom.refusals import Refused

if TYPE_CHECKING:  # these import pydicom, which comes after ``lean``
    from medgan_ray.dicom.facts import Options
    from medgan_ray.dicom.terms import Limits, Then

DECODE_S = 4.0
"""Processor time of decoding, however small an image is: some decoders go on for long after bits that are wrong."""

SAMPLES_PER_S = 2_000_000
"""Slower than any decoder is."""


def main() -> None:
    """Answer requests until standard input ends."""
    # Libraries print to standard output: keep the real one for replies.
    replies = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    gc.disable()  # while importing: all of it stays
    lean.keep_out()
    from medgan_ray.dicom import read, terms
    from medgan_ray.dicom.facts import Options

    step = importlib.import_module(sys.argv[3]) if sys.argv[3:] else None
    logging.disable()  # nobody reads what libraries say here, and pydicom formats a trace for each rung of the ladder
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[1]),) * 2)
    send(replies, {"ready": True}, b"")
    asked = requests(os.fdopen(0, "rb"))
    told = next(asked, ({}, b""))[0]
    if not told:
        return
    then = step.begin(told["step"]) if step else None
    gc.freeze()  # no need to look through what was imported again and again
    gc.enable()
    reading = _Reading(read.read_scan, Options(**told["options"]), terms.Limits(**told["limits"]), then)
    memory = shared.opened(int(sys.argv[2]))
    for request, payload in asked:
        header, values = reading.answer(request, payload)
        header["shared"] = values is not None and shared.put(memory, request["slot"], values)
        send(
            replies, header, b"" if values is None or header["shared"] else np.ascontiguousarray(values).data.cast("B")
        )


class _Reading:
    """Reads one file after another, each within its time: processor time, which a busy machine doesn't lengthen."""

    def __init__(self, read: Callable[..., Any], options: "Options", limits: "Limits", then: "Then | None") -> None:
        self._read, self._options, self._limits, self._then = read, options, limits, then
        self._longest_s = limits.file_s
        self._orphaned_s = limits.wall_s * 1.25 + 1

    def answer(self, request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], NDArray[Any] | None]:
        """Return what is replied to a request: a header, and values if there are any."""
        # If the parent is gone, nobody else ends a decoder that hangs.
        signal.setitimer(signal.ITIMER_REAL, self._orphaned_s)
        signal.setitimer(signal.ITIMER_PROF, self._longest_s)
        begun = time.process_time()
        header, values = _answer(functools.partial(self._scan, request["path"], payload), self._then, self._options)
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)
        header["seconds"] = time.process_time() - begun
        return header, values

    def _scan(self, path: str | None, payload: bytes) -> Any:
        return self._read(payload if path is None else _load(path, self._limits), self._options, self._hurry)

    def _hurry(self, samples: int) -> None:
        signal.setitimer(signal.ITIMER_PROF, min(self._longest_s, DECODE_S + samples / SAMPLES_PER_S))


def _answer(
    read: Callable[[], Any], then: "Then | None", options: "Options"
) -> tuple[dict[str, Any], NDArray[Any] | None]:
    try:
        scan = read()
        if scan.values is None or options.inspect:
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


def _load(path: str, limits: "Limits") -> bytes:
    try:
        with Path(path).open("rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_size > limits.file_bytes:
                raise Refused("too_large", "more bytes than a file may have")
            return file.readall()
    except OSError as error:
        raise Refused("unreadable", error.strerror or str(error)) from None


if __name__ == "__main__":
    main()
