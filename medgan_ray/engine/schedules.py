"""Schedules as pure functions of images seen, never of the clock."""

import math

from medgan_ray.tasks.protocol import TrainSettings, Values


def cosine(first: float, final: float, images: float, span: float) -> float:
    """Return the half cosine from ``first`` at 0 to ``final`` at ``span`` images and beyond (R3GAN's schedule)."""
    if images >= span:
        return final
    return first + (final - first) * (1 - math.cos(math.pi * images / span)) / 2


def ema_beta(batch: int, half_life: float) -> float:
    """Return the decay of a moving average that forgets half in ``half_life`` images; 0 for a half-life of 0."""
    return float(0.5 ** (batch / max(half_life, 1e-8)))


def values(train: TrainSettings, augment: float, images: int, total: int, batch: int) -> Values:
    """Return the values of the step that begins when ``images`` of ``total`` have been seen.

    Raises:
        ValueError: for settings that ``tasks.presets.settled`` has not filled.
    """
    if train.gamma is None or train.gamma_final is None:
        raise ValueError("settle the training settings first")
    burn_in = train.burn_in * total
    return Values(
        lr=cosine(train.lr, train.lr_final, images, total),
        beta2=cosine(train.beta2, train.beta2_final, images, burn_in),
        gamma=cosine(train.gamma, train.gamma_final, images, burn_in),
        ema_beta=ema_beta(batch, train.ema_share * images),
        augment=cosine(0.0, augment, images, burn_in),
        progress=images / total,
    )
