"""Times one pass over a folder of scans and prints it as JSON; needs nothing but Python."""

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

MEMORY_BYTES = 16 << 30
"""A file of the corpus makes a peer ask for far more than it holds."""


def files(folder: str) -> list[str]:
    """Return the paths of all files below a folder, sorted."""
    return sorted(str(path) for path in Path(folder).rglob("*") if path.is_file())


class Each:
    """A pass that takes file after file and says how many did not fail."""

    def __init__(self, take: Callable[[str], None]) -> None:
        self._take = take

    def __call__(self, paths: list[str]) -> int:
        """Take them all."""
        taken = 0
        for path in paths:
            try:
                self._take(path)
                taken += 1
            except Exception as error:  # a peer raises whatever it trips over; the benchmark counts what it could read
                if os.environ.get("SHOW_FAILURES"):
                    print(f"{path}: {error}")
        return taken


def report(run: Callable[[list[str]], int], folder: str) -> None:
    """Run once over all files and print files, files taken, wall and processor seconds (children's with them).

    What goes file by file is warm: what it imports and starts is not counted.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    paths = files(folder)
    if isinstance(run, Each):
        run(paths[:1])  # libraries are imported when they are first needed
    before, began = _processor_s(), time.perf_counter()
    taken = run(paths)
    wall_s = time.perf_counter() - began
    figures = {"files": len(paths), "taken": taken, "wall_s": wall_s, "processor_s": _processor_s() - before}
    print(json.dumps(figures))


def _processor_s() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)
