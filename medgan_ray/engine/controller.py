"""The adaptive controller of augmentation: pure decisions on how far the discriminator has overfitted.

Two signals, both from the discriminator's logits of images that are not augmented:

    r_v = (E D(train) - E D(val)) / (E D(train) - E D(fake))     needs held-out scans; 0: no overfitting, 1: complete
    r_t = E sign D(train)                                        needs a loss that fixes the logits' level

r_v cancels a constant added to D and a factor, so it holds for the relativistic loss, which leaves D's level free, and
there r_t says nothing. r_t is for absolute losses (non-saturating, hinge). The probability of augmentation takes a step
towards the target that is as long as the images seen since the last one:

    p <- clip(p + sign(signal - target) * images / speed, 0, most)

Karras et al., "Training generative adversarial networks with limited data" (NeurIPS 2020), section 3, which defines
both signals and drives p by r_t; ``most`` keeps augmentations from leaking into the samples, which they do beyond 0.8.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike

RELATIVE_TARGET, SIGN_TARGET = 0.5, 0.6
"""Of r_v, chosen in a trial of one seed (``benchmarks/small_data.py``); of r_t, as Karras et al. have it."""
STEP = 0.05
FEWEST_HELD_OUT = 30
"""Held-out scans below which r_v would be noise."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the probability follows a signal.

    Attributes:
        signal: ``r_v``, or ``r_t`` under an absolute loss.
        target: the signal's value at which the probability stays.
        speed: images in which the probability moves by 1.
        most: the probability's upper bound.
    """

    signal: Literal["r_v", "r_t"]
    target: float
    speed: float
    most: float

    @property
    def interval(self) -> float:
        """Images between two looks, between which the probability moves by ``STEP``."""
        return self.speed * STEP


@dataclasses.dataclass(frozen=True)
class Control:
    """What the next decision depends on: the probability, and the images seen when it was last decided on."""

    probability: float = 0.0
    images: float = 0.0

    @classmethod
    def of(cls, facts: Mapping[str, float]) -> Self:
        """Return the state that ``facts`` wrote; a new one where there is none."""
        return cls(float(facts.get("probability", 0.0)), float(facts.get("images", 0.0)))

    def facts(self) -> dict[str, float]:
        """Return the state as plain numbers, for a checkpoint."""
        return dataclasses.asdict(self)


def held_out_gap(train: ArrayLike, val: ArrayLike, fake: ArrayLike) -> float:
    """Return r_v of three sets of logits [n]; NaN while D(train) leads D(fake) by less than the lead's standard error.

    The standard error is that of the difference of two means, sqrt(var(train) / n + var(fake) / m).
    """
    real, held, made = (np.asarray(logits, np.float64) for logits in (train, val, fake))
    if min(len(real), len(made)) < 2 or not len(held):
        return math.nan
    lead = real.mean() - made.mean()
    error = math.sqrt(real.var(ddof=1) / len(real) + made.var(ddof=1) / len(made))
    if not lead > error:  # a NaN among the logits ends here too
        return math.nan
    return float((real.mean() - held.mean()) / lead)


def sign_of_real(train: ArrayLike) -> float:
    """Return r_t of logits [n]; NaN if there are none."""
    real = np.asarray(train, np.float64)
    return float(np.sign(real).mean()) if len(real) else math.nan


def adapt(control: Control, signal: float, images: int, rule: Rule) -> Control:
    """Return the state after a look at ``images`` images seen.

    Args:
        control: the state before.
        signal: the one that the rule names; NaN leaves the probability as it is.
        images: images seen by now, no fewer than ``control.images``.
        rule: target, speed and upper bound.
    """
    if not math.isfinite(signal):
        return Control(control.probability, float(images))
    away = signal - rule.target
    step = math.copysign((images - control.images) / rule.speed, away) if away else 0.0
    return Control(min(rule.most, max(0.0, control.probability + step)), float(images))
