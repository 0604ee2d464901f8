"""Train on Ray workers as the command line does, and write what the driver is told to a file, with times.

    python -m tests.chaos.driver DATASET RUN EVENTS CONFIG

EVENTS gets a line of JSON for each: {"at": seconds, "images"}, {"at", "log"}, {"at", "weights"} or {"at", "refusal"}.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

from medgan_ray.errors import MedganError
from medgan_ray.host import LocalHost
from medgan_ray.on_ray.train import train


class Noting(LocalHost):
    """A driver's host that notes all it is told."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._file = Path(path).open("a", buffering=1)  # noqa: SIM115 - it ends with the process

    def note(self, **what: Any) -> None:
        """Write one event."""
        self._file.write(json.dumps({"at": time.time(), **what}) + "\n")

    def progress(self, images: int, total: int, rate: float) -> None:
        self.note(images=images)

    def log(self, text: str) -> None:
        self.note(log=text)


def main(dataset: str, run: str, events: str, config: str) -> int:
    """Train; return what the command line would exit with."""
    host = Noting(events)
    try:
        result = train(dataset, run, json.loads(config), progress=host)
    except MedganError as error:
        host.note(refusal=str(error))
        return error.exit_code
    host.note(weights=result.weights_sha256)
    return 0 if result.complete else 130


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
