"""A chapter of an evaluation: figures by name, what they come to in words, and what is no single figure."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from medgan_ray.evaluate.privacy import Pair
from medgan_ray.metrics.figure import Figure


@dataclasses.dataclass(frozen=True)
class Chapter:
    """What one chapter found."""

    figures: Mapping[str, Figure]
    """By their whole names, such as privacy.copies."""
    sentence: str = ""
    pairs: tuple[Pair, ...] = ()
    """The generated scans nearest to training scans; ``trained`` counts within ``sets.drawn``. For private pages."""
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Curves and counts, as plain JSON."""
