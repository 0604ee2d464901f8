"""What a run writes for people to look at: metrics.jsonl, previews and whatever ``train.writers`` names.

RUN/log/IMAGES/metrics.jsonl       a line at each log interval and each checkpoint; one segment an attempt
RUN/log/IMAGES/tensorboard/        the same, and the previews, for TensorBoard
RUN/previews/IMAGES.png            samples of the averaged generator with fixed noise
"""

import json
import math
import threading
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from medgan_ray.engine import writers
from medgan_ray.report.figures import grid_png
from medgan_ray.store import Store


class Record:
    """The log of one attempt; rank 0 alone writes it. Any thread may call any method at any time but ``close``.

    Args:
        run: the run's store.
        images: images seen when the attempt begins.
        names: the writers to open, see ``host.writer_names``.
        log: told in a line when a tracker fails.
    """

    def __init__(
        self,
        run: Store,
        images: int,
        names: Sequence[str] = ("tensorboard",),
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._run = run
        self._segment = _free_segment(run, images)
        self._lines: list[str] = []
        self._closed = False
        self._taking = threading.Lock()
        """Held for moments: figures are taken while another thread flushes to a slow store."""
        self._flushing = threading.Lock()
        """Held while a flush is under way, so that an older one never ends up on top of a newer one."""
        self._writers = writers.opened(names, run, self._segment, log)

    def add(self, images: int, figures: dict[str, float]) -> None:
        """Take figures at ``images`` images seen."""
        plain = {name: value if math.isfinite(value) else str(value) for name, value in figures.items()}
        with self._taking:
            self._lines.append(json.dumps({"images": images, **plain}))
            for writer in self._writers:
                writer.scalars(images, figures)

    def preview(self, images: int, samples: NDArray[np.float32]) -> None:
        """Write a grid of samples [n, C, H, W] in [-1, 1]."""
        pixels = ((samples + 1) * 127.5).round().clip(0, 255).astype(np.uint8)
        png = grid_png(pixels)
        self._run.replace(f"previews/{images:012d}.png", png)
        with self._taking:
            for writer in self._writers:
                writer.image("preview", images, png)

    def flush(self) -> None:
        """Bring everything taken so far to the store; after ``close`` there is nothing left to bring."""
        with self._flushing:
            if self._closed:
                return
            with self._taking:
                lines = "".join(f"{line}\n" for line in self._lines)
            self._run.replace(f"{self._segment}/metrics.jsonl", lines.encode())
            for writer in self._writers:
                writer.flush()

    def close(self) -> None:
        """Flush and let go; once is enough."""
        if self._closed:
            return
        self.flush()
        self._closed = True
        for writer in self._writers:
            writer.close()


def _free_segment(run: Store, images: int) -> str:
    taken = {entry.key.split("/")[1] for entry in run.list("log")}
    name, attempt = f"{images:012d}", 1
    while name in taken:
        attempt += 1
        name = f"{images:012d}-{attempt}"
    return f"log/{name}"
