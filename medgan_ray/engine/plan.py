"""What a run is to do, and how it ended."""

import dataclasses
import functools
import math
from typing import Any

from medgan_ray.engine.controller import Rule
from medgan_ray.tasks.protocol import TrainSettings


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        images: images to see in all; rounded up to whole batches.
        batch: pairs in the global batch.
        seed: names order, noise, augmentation and first weights.
        augment: the augmentation's final probability.
        time_limit_s: stop at a checkpoint after this many seconds; 0: no limit.
        rule: how the augmentation adapts; None: it follows its schedule.
        facts: what a model of this run is described by (see ``versions.Description``).
    """

    images: int
    batch: int
    seed: int
    train: TrainSettings
    augment: float
    time_limit_s: float
    facts: dict[str, Any]
    rule: Rule | None = None

    @functools.cached_property
    def total(self) -> int:
        """Images to see, in whole batches."""
        return math.ceil(self.images / self.batch) * self.batch

    @functools.cached_property
    def log_interval(self) -> int:
        """Images between lines of the log, in whole batches."""
        return self._whole(self.train.log_images or self.images / 100)

    @functools.cached_property
    def checkpoint_interval(self) -> int:
        """Images between checkpoints, in whole batches."""
        return self._whole(self.train.checkpoint_images or self.images / 10)

    def logged(self, images: int) -> bool:
        """Say whether a line of the log is due at so many images."""
        return images % self.log_interval == 0 or images >= self.total

    def scheduled(self, images: int) -> bool:
        """Say whether the schedule makes a checkpoint at so many images."""
        return images % self.checkpoint_interval == 0 or images >= self.total

    def looks(self, images: int, interval: float) -> bool:
        """Say whether something that is looked at every ``interval`` images is due at so many."""
        return images % self._whole(interval) == 0

    def _whole(self, images: float) -> int:
        return max(1, round(images / self.batch)) * self.batch


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: images seen, digest of the networks' tensors, figures or why there are none, completeness."""

    images: int
    weights_sha256: str
    figures: dict[str, float]
    not_applicable: str
    complete: bool
