"""What the training loop needs of its surroundings, as small protocols, and the surroundings that need nothing.

``on_ray/`` brings a host that reports to Ray; tests bring hosts that stop, count or fail. A writer takes figures and
previews to wherever people look at them; ``engine/writers.py`` opens those that ``train.writers`` names.
"""

import importlib.metadata
import logging
from collections.abc import Mapping
from typing import Protocol

WRITERS = ("tensorboard", "mlflow", "wandb")
"""The writers that come with the package."""
WRITER_ENTRY_POINTS = "medgan_ray.writers"
"""Where a user's own package adds names: each loads as a function (run: Store, segment: str) to a Writer."""
_log = logging.getLogger("medgan_ray")


class Writer(Protocol):
    """Where figures and previews of one attempt at a run go; rank 0 alone has any."""

    def scalars(self, images: int, figures: Mapping[str, float]) -> None:
        """Take figures by name at ``images`` images seen; values may be infinite or NaN."""

    def image(self, name: str, images: int, png: bytes) -> None:
        """Take a picture, as the bytes of a PNG, at ``images`` images seen."""

    def flush(self) -> None:
        """Bring what was taken to where it stays."""

    def close(self) -> None:
        """Flush and let go: the attempt is over."""


class Host(Protocol):
    """The surroundings of one rank of a run."""

    rank: int
    world: int

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Take the figures at ``images`` images seen; ``checkpoint`` is the URI of what was just committed, if any.

        Every rank calls it equally often.
        """

    def progress(self, images: int, total: int, rate: float) -> None:
        """Take the state of the run: images seen, images to see, images per second."""

    def should_stop(self) -> bool:
        """Say whether the run should commit a checkpoint and stop."""

    def should_checkpoint(self) -> bool:
        """Say whether this rank may be taken away soon, so that a checkpoint should be committed; the run goes on."""

    def gauges(self, values: dict[str, float]) -> None:
        """Take what a monitor shows: the newest value of each name."""

    def log(self, text: str) -> None:
        """Take one line meant for a person."""


class LocalHost:
    """A single process without Ray; logs go to the standard logger."""

    def __init__(self, rank: int = 0, world: int = 1) -> None:
        self.rank, self.world = rank, world

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Log the figures."""
        if figures:
            self.log(f"{images} images: " + " ".join(f"{name} {value:.4g}" for name, value in figures.items()))

    def progress(self, images: int, total: int, rate: float) -> None:
        """Ignore it: a command line that shows progress brings its own host."""

    def should_stop(self) -> bool:
        """Never."""
        return False

    def should_checkpoint(self) -> bool:
        """Never."""
        return False

    def gauges(self, values: dict[str, float]) -> None:
        """Ignore them: nobody asks."""

    def log(self, text: str) -> None:
        """Pass the line to the logger ``medgan_ray``."""
        _log.info(text)


def writer_names() -> tuple[str, ...]:
    """Return the names that ``train.writers`` takes, sorted: our own and those of installed packages."""
    return tuple(sorted({*WRITERS, *importlib.metadata.entry_points(group=WRITER_ENTRY_POINTS).names}))
