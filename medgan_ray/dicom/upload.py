"""One uploaded scan at a time: decoded in the sandbox within limits, or refused with an error that has an HTTP status.

The bytes are counted before anything looks at them, the pixels that they claim before anything decodes them. Nothing of
what was sent is repeated in a refusal.
"""

import dataclasses
import queue
from typing import Self

from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.refusals import REFUSALS
from medgan_ray.dicom.sandbox import Limits, Outcome, Source, Step, Worker
from medgan_ray.errors import BrokenInput, InputError, InputTooLarge, UnknownType

UPLOAD_LIMITS = Limits(file_s=6.0, memory_bytes=1 << 30, file_bytes=64 << 20)
UPLOAD_PIXELS = 1 << 25
"""Samples, all frames together: 128 slices of 512 by 512."""

_KINDS: dict[str, type[InputError]] = {
    "not_an_image": UnknownType,
    "unsupported_pixels": UnknownType,
    "over_memory": InputTooLarge,
    "too_large": InputTooLarge,
    "too_slow": InputTooLarge,
    "broken_header": BrokenInput,
    "decoder_crashed": BrokenInput,
    "empty_file": BrokenInput,
    "header_lies": BrokenInput,
    "truncated_pixels": BrokenInput,
    "undecodable": BrokenInput,
}
"""By reason; the others are of what was understood and can't be used: ``InputError`` itself, 422."""


class Uploads:
    """Decodes uploads (DICOM, PNG, JPEG, TIFF, told by content) in processes that are kept between them.

    Args:
        options: what to take; volumes (NIfTI, NPZ) never are.
        limits: what one upload may cost.
        max_pixels: samples that it may claim, all frames together.
        workers: how many are decoded at a time; further ones wait.
        step: what happens to values before they are handed over; by default nothing.
    """

    def __init__(
        self,
        options: Options | None = None,
        limits: Limits = UPLOAD_LIMITS,
        max_pixels: int = UPLOAD_PIXELS,
        workers: int = 1,
        step: Step | None = None,
    ) -> None:
        taken = dataclasses.replace(options or Options(), volumes=False, inspect=False, max_pixels=max_pixels)
        self._file_bytes = limits.file_bytes
        self._workers = [Worker(taken, limits, step or Step()) for _ in range(workers)]
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)

    def read(self, data: bytes) -> Outcome:
        """Return what an upload holds: ``facts`` and ``values`` [frames, rows, columns]; from any thread.

        Raises:
            InputTooLarge: 413, too many bytes or pixels, or it took too much memory or time.
            UnknownType: 415, no picture and no DICOM, or of a kind that is not supported.
            BrokenInput: 400, it cannot be parsed or decoded.
            InputError: 422, it is no scan that can be used; the reason is named.
        """
        if len(data) > self._file_bytes:
            raise InputTooLarge(f"the upload has more than {self._file_bytes} bytes", "too_large", "send a smaller one")
        worker = self._free.get()
        try:
            outcome = worker.run([Source("upload", fetch=lambda: data)])[0]
        finally:
            self._free.put(worker)
        if outcome.refusal:
            # Advice in a meaning is for who ingests; details may repeat what was sent.
            meaning = REFUSALS[outcome.refusal].partition(";")[0]
            raise _KINDS.get(outcome.refusal, InputError)(meaning, outcome.refusal, "send another scan")
        return outcome

    def close(self) -> None:
        """End the processes; whoever still waits for one is refused."""
        for worker in self._workers:
            worker.kill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
