"""Membership inference: how well an attacker's score tells training scans from scans of patients never trained on.

Sources: attack by the discriminator's score, Hayes et al., "LOGAN", PoPETs 2019; by the distance to the nearest
generated scan, Chen et al., "GAN-Leaks", CCS 2020.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.metrics.classify import auroc
from medgan_ray.metrics.figure import DRAWS, Figure, absent, interval

HALVES = 50
"""How often patients of one side are split into halves for the control."""

Scores = NDArray[np.floating]
Groups = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Attack:
    """How well a score tells members from others, beside the same attack where there is nothing to tell."""

    figure: Figure
    """Area under the ROC curve with its interval by patient; the floor is the larger of the two controls' values."""
    among_members: Figure
    """The same between two halves of the members, by patient: |area - 0.5| + 0.5, median and 95 % range of splits."""
    among_others: Figure
    """The same between two halves of the others."""

    @property
    def tells(self) -> bool:
        """Whether the attack does better than chance, and better than its controls do at most."""
        figure, controls = self.figure, (self.among_members, self.among_others)
        found = figure.value is not None and figure.low is not None and figure.low > 0.5
        return found and all((figure.value or 0.0) > (control.high or 1.0) for control in controls)


def attack(
    members: Scores, others: Scores, groups: tuple[Groups, Groups], *, draws: int = DRAWS, seed: int = 0, name: str = ""
) -> Attack:
    """Return how well scores tell members (higher) from others.

    Args:
        members: score of each training scan [n].
        others: score of each scan of patients never trained on [m].
        groups: the patient of each member and of each of the others; no patient is in both.
        draws: bootstrap draws of whole patients.
        seed: names the draws, together with ``name``.
        name: what the attack is called.

    Raises:
        InputError: if a side is empty.
    """
    scores = np.concatenate([members, others])
    is_member = np.arange(len(scores)) < len(members)
    mine, theirs = (np.unique(side, return_inverse=True)[1] for side in groups)
    patients = np.concatenate([mine, theirs + len(mine)])

    def statistic(rows: NDArray[np.int64]) -> float:
        return auroc(scores[rows], is_member[rows])

    low, high = interval(statistic, patients, draws=draws, seed=seed, name=name)
    controls = [
        _control(side, group, name, seed, number)
        for number, (side, group) in enumerate(zip((members, others), groups, strict=True))
    ]
    floor = max(control.value or 0.5 for control in controls)
    value = auroc(scores, is_member)
    return Attack(Figure(value=value, low=low, high=high, floor=floor, n=len(scores)), *controls)


def _control(scores: Scores, groups: Groups, name: str, seed: int, side: int) -> Figure:
    _, patients = np.unique(groups, return_inverse=True)
    count = int(patients.max()) + 1
    if count < 2:
        return absent("scans of one patient can't be halved by patient", len(scores))
    areas = []
    for split in range(HALVES):
        half = seeds.permutation(count, "halves", name, seed, side, split)[: count // 2]
        chosen = np.isin(patients, half)
        areas.append(abs(auroc(scores, chosen) - 0.5) + 0.5)
    low, middle, high = np.nanpercentile(areas, [2.5, 50, 97.5])
    return Figure(value=float(middle), low=float(low), high=float(high), n=len(scores))
