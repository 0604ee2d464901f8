"""Looks at this process's own decoding processes, from outside."""

import os
import re
import resource
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

LOOK_S = 0.03


def children() -> list[Path]:
    """Return the /proc folders of this process's own decoding processes."""
    found = []
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        for pid in (task / "children").read_text().split():
            if b"medgan_ray.dicom.child" in Path("/proc", pid, "cmdline").read_bytes():
                found.append(Path("/proc", pid))
    return found


class MemoryWatch:
    """Within it, a thread looks at what the decoding processes take; peaks only grow, so that few are missed."""

    def __init__(self) -> None:
        self.address_bytes = 0
        """The most address space that one had."""
        self.resident_bytes = 0
        """The most memory that one had; also of processes between two looks, if no other child had more before."""
        self.limits: set[int] = set()
        """The limits on address space that the kernel held them to, bytes; those of all that had begun to decode."""
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look_often, daemon=True)

    def __enter__(self) -> Self:
        self._before = _most_resident(resource.RUSAGE_CHILDREN)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        after = _most_resident(resource.RUSAGE_CHILDREN)
        # A child has its parent's memory until it becomes another program.
        if after > max(self._before, _most_resident(resource.RUSAGE_SELF)):
            self.resident_bytes = max(self.resident_bytes, after)

    def _look_often(self) -> None:
        while not self._done.wait(LOOK_S):
            try:
                for child in children():
                    self._look((child / "status").read_text(), (child / "limits").read_text())
            except OSError:  # one of them ended
                continue

    def _look(self, status: str, limits: str) -> None:
        peaks = {name: int(value) * 1024 for name, value in re.findall(r"(VmPeak|VmHWM):\s*(\d+) kB", status)}
        self.address_bytes = max(self.address_bytes, peaks.get("VmPeak", 0))
        self.resident_bytes = max(self.resident_bytes, peaks.get("VmHWM", 0))
        limit = re.search(r"Max address space\s+(\d+)", limits)
        if limit:  # none until the process has imported what it needs
            self.limits.add(int(limit[1]))


def _most_resident(whose: int) -> int:
    return resource.getrusage(whose).ru_maxrss * 1024
