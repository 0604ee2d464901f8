"""What a run writes for people to look at: metrics.jsonl, TensorBoard and previews, one segment an attempt.

RUN/log/IMAGES/metrics.jsonl       a line at each log interval and each checkpoint
RUN/log/IMAGES/tensorboard/        the same for TensorBoard
RUN/previews/IMAGES.png            samples of the averaged generator with fixed noise
"""

import json
import math
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgan_ray.report.figures import grid_png
from medgan_ray.store import LocalStore, Store

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class Record:
    """The log of one attempt; rank 0 alone writes it."""

    def __init__(self, run: Store, images: int) -> None:
        self._run = run
        self._segment = _free_segment(run, images)
        self._lines: list[str] = []
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if isinstance(run, LocalStore):
            self._folder = run.path(f"{self._segment}/tensorboard")
        else:
            self._temporary = tempfile.TemporaryDirectory(prefix="medgan-tensorboard-")
            self._folder = Path(self._temporary.name)
        self._writer = _summary_writer(self._folder)

    def add(self, images: int, figures: dict[str, float]) -> None:
        """Take figures at ``images`` images seen."""
        plain = {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}
        self._lines.append(json.dumps({"images": images, **plain}))
        for name, value in figures.items():
            self._writer.add_scalar(name, value, images)

    def preview(self, images: int, samples: NDArray[np.float32]) -> None:
        """Write a grid of samples [n, C, H, W] in [-1, 1]."""
        pixels = ((samples + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        self._run.replace(f"previews/{images:012d}.png", grid_png(pixels))

    def flush(self) -> None:
        """Bring everything taken so far to the store."""
        self._run.replace(f"{self._segment}/metrics.jsonl", "".join(f"{line}\n" for line in self._lines).encode())
        self._writer.flush()
        if self._temporary is not None:
            for path in self._folder.iterdir():
                self._run.upload(f"{self._segment}/tensorboard/{path.name}", path)

    def close(self) -> None:
        """Flush and let go."""
        self.flush()
        self._writer.close()
        if self._temporary is not None:
            self._temporary.cleanup()


def _free_segment(run: Store, images: int) -> str:
    taken = {entry.key.split("/")[1] for entry in run.list("log")}
    name, attempt = f"{images:012d}", 1
    while name in taken:
        attempt += 1
        name = f"{images:012d}-{attempt}"
    return f"log/{name}"


def _summary_writer(folder: Path) -> "SummaryWriter":
    from torch.utils.tensorboard import SummaryWriter

    folder.mkdir(parents=True, exist_ok=True)
    return SummaryWriter(str(folder))
