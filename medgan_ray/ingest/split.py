"""Splits by patient: whole subjects go to train, val or test, by their content and never by the order of files."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

from pydantic import Field, model_validator

from medgan_ray.config import Section
from medgan_ray.dataset.manifest import SPLITS

OVERSHOOT = 1.25
"""How far a subject may carry a split over its share."""


class SplitSettings(Section):
    """How samples are divided."""

    val: float = Field(0.15, ge=0, lt=1)
    """Share of the samples by which checkpoints and trials are compared."""
    test: float = Field(0.15, ge=0, lt=1)
    """Share of the samples that stay aside for what is reported."""
    seed: int = 0
    """Another seed divides otherwise."""

    @model_validator(mode="after")
    def _leaves_training(self) -> "SplitSettings":
        if self.val + self.test >= 1:
            raise ValueError("val and test leave nothing to train on")
        return self


def assign(
    subjects: Sequence[str],
    digests: Sequence[bytes],
    settings: SplitSettings,
    there: Mapping[str, int] | None = None,
    fixed: Mapping[str, str] | None = None,
) -> list[str]:
    """Return each sample's split.

    Args:
        subjects: who each sample is of (a patient, or a group that stays together); an empty text is one of its own.
        digests: each sample's content digest.
        settings: the shares wanted.
        there: how many samples each split holds already.
        fixed: subjects whose split is decided already.

    With three subjects or more every split that is asked for gets at least one. Shares are met as nearly as whole
    subjects allow: one that would carry a split far over its share is passed over for the next.
    """
    groups: dict[str, list[int]] = {}
    for position, subject in enumerate(subjects):
        groups.setdefault(f"s{subject}" if subject else f"d{digests[position].hex()}", []).append(position)
    fixed, filled = fixed or {}, Counter(there or {})
    splits = [fixed.get(subject, "train") if subject else "train" for subject in subjects]
    for subject in fixed:
        filled[fixed[subject]] += len(groups.pop(f"s{subject}", ()))
    waiting = sorted(groups.values(), key=lambda group: _key(sorted(digests[i] for i in group), settings.seed))
    shares = {"val": settings.val, "test": settings.test}
    asked = [name for name in SPLITS if shares.get(name, 0) > 0]
    total = len(subjects) + sum((there or {}).values())
    for place, name in enumerate(asked):
        # One subject is left for training, and one for each split that is still to come.
        most = len(waiting) - (0 if filled["train"] else len(asked) - place)
        for group in _pick(waiting, shares[name] * total - filled[name], most, filled[name] > 0):
            waiting.remove(group)
            for position in group:
                splits[position] = name
    return splits


def _pick(waiting: list[list[int]], target: float, most: int, satisfied: bool) -> list[list[int]]:
    """Return at most ``most`` groups that together come near ``target`` samples; one at least, unless satisfied."""
    if most < 1:
        return []
    picked: list[list[int]] = []
    filled = 0
    for group in waiting:
        if len(picked) < most and filled < target and filled + len(group) <= target * OVERSHOOT:
            picked.append(group)
            filled += len(group)
    return picked if picked or satisfied else [min(waiting, key=len)]


def _key(digests: list[bytes], seed: int) -> bytes:
    return hashlib.blake2b(b"".join(digests), digest_size=16, key=str(seed).encode()).digest()
