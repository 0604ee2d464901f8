"""Guards: pure decisions about a run's figures, before hours are wasted.

guard          looks at                                              decides
not_finite     losses and weights                                    rollback
runaway        losses beyond ``RUNAWAY``                             rollback
saturation     the discriminator tells all pairs apart, for long     warn
collapse       diversity against its own peak                        warn, then stop
memorization   generated scans nearer to training scans              warn
overfitting    held-out logits drift from training ones (r_v)        warn

A rollback goes back to the newest checkpoint of the schedule and on with half the learning rate; after
``train.most_rollbacks`` of them the run stops. What a decision depends on is in the figures and the tally, and the
tally is in the checkpoint: a run that dies on the way decides alike. A task that gives a guard no figure to look at is
none of its business: saturation, collapse, memorization and overfitting are those of a GAN.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Literal

RUNAWAY = 100.0
"""A mean logistic loss of 100 is a lead of 100 logits: no gradient is left in it for the other side."""
SATURATED = 0.01
"""Mean softplus(-lead) below which the discriminator tells all pairs apart with certainty."""
SATURATED_LINES = 5
COLLAPSE_WARN, COLLAPSE_STOP = 0.25, 0.1
"""Diversity as a share of its peak."""
MEMORIZATION = 0.2
OVERFITTING = 0.9
"""r_v beyond which held-out quality was getting worse in a trial on 100 images without augmentation; with augmentation
it still improved at 0.8 (``benchmarks/small_data.py``)."""
EPOCHS = 100
FEW_SCANS = 100
MOST_WARNINGS = 3
"""Times that one guard speaks; it goes on counting."""

Act = Literal["warn", "rollback", "stop"]
Tally = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a guard decides: the guard's name, what is to be done, why, and what a person can change."""

    guard: str
    act: Act
    why: str
    advice: str


def on_losses(
    losses: Mapping[str, float], tally: Tally, steadier: str = "lower train.lr"
) -> tuple[list[Decision], Tally]:
    """Judge the mean losses of one line of the log; return decisions and the new tally.

    Args:
        losses: by phase and name.
        tally: the guards' counts so far.
        steadier: what to change where losses run away.
    """
    tally = dict(tally)
    for name, value in losses.items():
        if not math.isfinite(value):
            why = f"{name} is {value}"
            return _told([Decision("not_finite", "rollback", why, steadier)], tally)
        if name.endswith(("_loss", "_adversarial")) and abs(value) > RUNAWAY:
            why = f"{name} is {value:.3g}"
            return _told([Decision("runaway", "rollback", why, steadier)], tally)
    certain = losses.get("discriminator_adversarial", 1.0) < SATURATED
    tally["saturated_lines"] = tally.get("saturated_lines", 0) + 1 if certain else 0
    if tally["saturated_lines"] < SATURATED_LINES:
        return [], tally
    tally["saturated_lines"] = 0
    why = f"the discriminator has told all pairs apart for {SATURATED_LINES} lines of the log"
    return _told([Decision("saturation", "warn", why, "raise train.gamma or lower model.discriminator_width")], tally)


def on_figures(figures: Mapping[str, float], tally: Tally) -> tuple[list[Decision], Tally]:
    """Judge the figures of a checkpoint; return decisions and the new tally."""
    tally, found = dict(tally), []
    if "diversity" in figures:
        found += _collapse(figures["diversity"], tally)
    if figures.get("memorization", 0.0) > MEMORIZATION:
        why = f"{figures['memorization']:.0%} more generated scans than unseen ones lie nearest to a training scan"
        found.append(Decision("memorization", "warn", why, "take more scans, fewer images or more augmentation"))
    if figures.get("r_v", 0.0) > OVERFITTING:
        why = f"r_v is {figures['r_v']:.2f}: the discriminator knows the training scans by heart"
        found.append(Decision("overfitting", "warn", why, "set augment.control=adaptive, or lower images"))
    return _told(found, tally)


def before(images: int, scans: int, augment: float) -> list[str]:
    """Return warnings about scans too few to learn to make more of them, each with the setting to change."""
    found = []
    if scans < FEW_SCANS:
        found.append(f"{scans} training scans are few: expect copies of them; ingest more, or set train.init_from")
    if images > EPOCHS * scans and augment < 0.1:
        found.append(
            f"images={images} shows each of {scans} training scans {images // max(1, scans)} times: "
            f"set augment.probability=0.3, or images={EPOCHS * scans // 2}"
        )
    return found


def _collapse(diversity: float, tally: Tally) -> list[Decision]:
    peak = tally["diversity_peak"] = max(diversity, tally.get("diversity_peak", 0.0))
    low = diversity < COLLAPSE_STOP * peak
    tally["collapsed"] = tally.get("collapsed", 0) + 1 if low else 0
    why = f"generated scans differ {diversity / max(peak, 1e-12):.0%} as much as at their best"
    if tally["collapsed"] >= 2:
        return [Decision("collapse", "stop", why, "raise train.gamma; the best checkpoint is kept")]
    return [Decision("collapse", "warn", why, "raise train.gamma")] if diversity < COLLAPSE_WARN * peak else []


def _told(decisions: list[Decision], tally: Tally) -> tuple[list[Decision], Tally]:
    """Count each guard's decisions, and let a guard that only warns speak a few times."""
    kept = []
    for decision in decisions:
        count = tally[f"guard_{decision.guard}"] = tally.get(f"guard_{decision.guard}", 0) + 1
        if decision.act != "warn" or count <= MOST_WARNINGS:
            kept.append(decision)
    return kept, tally
