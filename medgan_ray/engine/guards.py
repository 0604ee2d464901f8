"""Guards: pure decisions about a run's figures that end it before it wastes hours."""

import math
from collections.abc import Mapping

from medgan_ray.errors import TrainingStopped


def check_finite(losses: Mapping[str, float], images: int, run: str) -> None:
    """Stop a run whose losses are no longer numbers.

    Raises:
        TrainingStopped: if a loss is NaN or infinite.
    """
    for name, value in losses.items():
        if not math.isfinite(value):
            raise TrainingStopped(f"{name} is {value} at {images} images", run, "lower train.lr or raise train.gamma")
