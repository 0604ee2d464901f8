"""Prometheus gauges of a run through Ray's own metrics: what the loop measures, one gauge a figure.

Ray exports them on every node, at the port that its service discovery file names, as ``ray_medgan_NAME`` with the
labels ``run`` and ``rank`` beside Ray's own. docs/cluster.md lists them.
"""

import functools
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ray.util.metrics import Gauge

PREFIX = "medgan_"
DESCRIPTIONS = {
    "images": "Images seen.",
    "images_per_s": "Images seen in a second, over all workers.",
    "images_since_checkpoint": "Images seen since the newest checkpoint was taken.",
    "rate_factor": "What guards have made of the learning rate; 1 if nothing.",
    "score": "Score of the newest checkpoint; lower is better.",
    "workers": "Workers of the group.",
}
"""Gauges whose names are promised; losses and figures stand under their own names beside them."""
LABELS = ("run", "rank")


def put(values: Mapping[str, float], run: str, rank: int) -> None:
    """Set gauges; what isn't finite is left as it was. Names are made of letters, digits and underscores."""
    for name, value in values.items():
        if math.isfinite(value):
            _gauge(re.sub(r"\W", "_", name, flags=re.ASCII)).set(float(value), {"run": run, "rank": str(rank)})


@functools.cache
def _gauge(name: str) -> "Gauge":
    from ray.util.metrics import Gauge

    return Gauge(PREFIX + name, description=DESCRIPTIONS.get(name, "A loss or figure."), tag_keys=LABELS)
