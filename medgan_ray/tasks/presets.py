"""Training values that null stands for: a pure table over network, loss and size.

The penalty's weight grows with the size of the image: R3GAN takes 2 at 64 and 150 at 256 pixels, a factor of 8.7 with
each doubling of the side (Huang et al. 2024, their train.py); StyleGAN2-ADA's R1 grows with the number of pixels, a
factor of 4 (Karras et al. 2020, their train.py). The relativistic values at 64 pixels are those that HeadCT likes in
batches of 32; below they stay, and beyond they are extrapolated: search ``train.gamma`` first, over a quarter to four
times.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from medgan_ray.models.catalog import Shape
from medgan_ray.tasks.protocol import TrainSettings

SIDE = 64
"""The side in pixels up to which the table holds."""


class Gamma(NamedTuple):
    """Weight of the penalty at 64 pixels, at the start and after the burn-in; its growth as a larger side doubles."""

    first: float
    final: float
    growth: float


PENALTIES: Mapping[str, Gamma] = {
    "relativistic": Gamma(10.0, 2.0, math.sqrt(150 / 2)),
    "non_saturating": Gamma(1.0, 1.0, 4.0),
    "hinge": Gamma(1.0, 1.0, 4.0),
}


def settled(train: TrainSettings, shape: Shape) -> TrainSettings:
    """Return the settings with the values that null stands for."""
    table = PENALTIES[train.loss]
    factor = table.growth ** max(0.0, math.log2(math.sqrt(shape.height * shape.width) / SIDE))
    gammas = {"gamma": _rounded(table.first * factor), "gamma_final": _rounded(table.final * factor)}
    return train.model_copy(update={name: value for name, value in gammas.items() if getattr(train, name) is None})


def _rounded(value: float) -> float:
    """Return two significant digits, which is more than is known."""
    return float(f"{value:.2g}")
