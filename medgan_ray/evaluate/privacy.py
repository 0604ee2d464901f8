"""The privacy audit: do generated scans repeat training scans, and do they tell who was trained on?

A generated scan is a copy if a training scan lies nearer to it than all but 0.1 % of real scans have any training scan
of another patient, and nearer than any held-out scan does: what resembles a patient never trained on is no memory.
Copies of training scans in disguise are planted among the generated ones. If they are not found, or copies of held-out
scans are taken for memorized ones, the audit is broken and gives no figure. docs/privacy.md says what it can't promise.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import InputError
from medgan_ray.evaluate.judged import Judged, Matches
from medgan_ray.evaluate.membership import Attack, attack
from medgan_ray.evaluate.nearby import Space, search
from medgan_ray.evaluate.sampled import FEWEST, Lineup, Population, by_patient, draw_lineup
from medgan_ray.metrics.figure import DRAWS, Figure, absent
from medgan_ray.metrics.neighbors import nearest_features, nearest_images

PAIRS = 16
"""Worst pairs that are returned."""
_ATTACK = ("", "_members", "_others")
_PIXELS = (
    *("canary", "canary_others", "copies", "ratio", "ratio_control", "nearer", "nearer_control"),
    *(f"membership_distance{end}" for end in _ATTACK),
)
_FEATURES = tuple(f"{name}_features" for name in _PIXELS)
_LOGIT = tuple(f"membership_logit{end}" for end in _ATTACK)
NAMES = (*_PIXELS, "distinct", *_FEATURES, *_LOGIT)
"""Figures of an audit, each always there."""

_MEANT = {
    "canary": "planted copies of training scans that the search found",
    "canary_others": "planted copies of held-out scans that it took for memorized ones",
    "copies": "generated scans that repeat a training scan",
    "ratio": "distance to the nearest training scan over that to the nearest held-out one, median",
    "ratio_control": "the same of held-out scans of other patients",
    "nearer": "generated scans that lie nearer to a training scan than to any held-out one",
    "nearer_control": "the same of held-out scans of other patients",
    "membership_distance": "attack: telling training scans by their distance to generated ones, area under the curve",
    "membership_distance_members": "its control: two halves of the training scans",
    "membership_distance_others": "its control: two halves of the held-out scans",
}
MEANINGS = {
    **{f"privacy.{name}": text for name, text in _MEANT.items()},
    **{f"privacy.{name}_features": f"{text}; in features" for name, text in _MEANT.items()},
    "privacy.membership_logit": "attack: telling them by the discriminator, which is never published",
    "privacy.membership_logit_members": "its control: two halves of the training scans",
    "privacy.membership_logit_others": "its control: two halves of the held-out scans",
    "privacy.distinct": "generated scans that are no other one's copy",
}

Images = NDArray[np.float32]
Scores = NDArray[np.float64]
Groups = NDArray[np.int64]
Extract = Callable[[Images], NDArray[np.float32]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """A generated scan and the training scan it may have been learned from, by position: for private pages alone."""

    generated: int
    trained: int
    distance: float
    held_out: int
    """The nearest held-out scan."""
    held_out_distance: float
    ratio: float
    """Of the distances; below 1 where the training scan is nearer."""
    copy: bool


@dataclasses.dataclass(frozen=True)
class Audit:
    """What was found. Where ``broken`` says why, everything is void: no figure but the canaries' is given."""

    figures: dict[str, Figure]
    """By ``NAMES``; those that can't be given say why."""
    broken: str = ""
    remarks: tuple[str, ...] = ()
    """What figures don't show by themselves, in sentences."""
    pixels: Matches | None = None
    """What is nearest to each generated scan; None where nothing was compared."""
    features: Matches | None = None
    pairs: tuple[Pair, ...] = ()
    """The worst by distance in pixels: copies first, then by ratio."""


def audit(
    generated: Images,
    trained: Population,
    held_out: Population,
    *,
    extract: Extract | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Audit:
    """Compare generated scans with those trained on and with those of patients never trained on.

    Args:
        generated: float32 [n, C, H, W] in [-1, 1], drawn as users would.
        trained: all scans that training saw.
        held_out: scans of patients of whom training saw none.
        extract: gives features float32 [n, F] of images; None: pixels alone.
        draws: bootstrap draws of an interval.
        seed: of all draws.

    Raises:
        InputError: for images of several shapes, or another number of subjects or logits than of scans.
    """
    lineup = draw_lineup(generated, trained, held_out, seed)
    if isinstance(lineup, str):
        return Audit({name: absent(lineup, len(generated)) for name in NAMES})
    if both := len(np.intersect1d(lineup.trained[lineup.trained >= 0], lineup.held_out)):
        return _void({}, f"{both} patients are both in training and held out", len(generated))
    pixels = Judged.of(lineup, search(Space(nearest_images, np.asarray), lineup, trained, held_out, seed))
    if pixels.broken:
        return _void(pixels.canaries, pixels.broken, len(generated))
    figures, attacks = _figures(pixels, draws, seed, "")
    figures["distinct"] = pixels.distinct()
    features = None
    if extract is not None:
        features = Judged.of(lineup, search(Space(nearest_features, extract), lineup, trained, held_out, seed))
        more, by_feature = _figures(features, draws, seed, "_features")
        figures, attacks = figures | more, attacks | by_feature
    attacks |= _by_logit(trained, held_out, draws, seed)
    for name, each in attacks.items():
        figures |= _attack_figures(name, each)
    figures = {name: absent(_why_not(name), len(generated)) for name in NAMES} | figures
    remarks = (*_about_attacks(attacks), *_about_patients(lineup))
    seen = features.matches if features is not None and not features.broken else None
    return Audit(figures, "", remarks, pixels.matches, seen, _worst(pixels.matches))


def _figures(judged: Judged, draws: int, seed: int, end: str) -> tuple[dict[str, Figure], dict[str, Attack]]:
    """Return figures and the attack of one space; features that don't tell copies give their canaries alone."""
    figures = judged.canaries
    if judged.broken:
        figures = {name: absent(judged.broken, len(judged.lineup.generated)) for name in _PIXELS} | figures
        return {f"{name}{end}": figure for name, figure in figures.items()}, {}
    figures |= {"copies": judged.copies(), **judged.comparison(draws, seed)}
    attacks = {f"membership_distance{end}": judged.attack(draws, seed)}
    return {f"{name}{end}": figure for name, figure in figures.items()}, attacks


def _by_logit(trained: Population, held_out: Population, draws: int, seed: int) -> dict[str, Attack]:
    """Return the attack by the discriminator's score on as many members as others; none where too few have one."""
    sides = [_with_logits(scans) for scans in (trained, held_out)]
    count = min(len(rows) for rows, _ in sides)
    if count < FEWEST:
        return {}
    (members, mine), (others, theirs) = (
        _drawn(scores, groups, count, side, seed) for side, (scores, groups) in enumerate(sides)
    )
    return {"membership_logit": attack(members, others, (mine, theirs), draws=draws, seed=seed, name="logit")}


def _with_logits(scans: Population) -> tuple[Scores, Groups]:
    """Return logits and patients of the scans that have one."""
    if scans.logits is None:
        return np.empty(0), np.empty(0, np.int64)
    if len(scans.logits) != len(scans.subjects):
        what = f"{len(scans.logits)} logits of {len(scans.subjects)} scans"
        raise InputError(what, "", "give one a scan, not a number where there is none")
    known = np.isfinite(scans.logits)
    return np.asarray(scans.logits, np.float64)[known], scans.groups[known]


def _drawn(scores: Scores, groups: Groups, count: int, side: int, seed: int) -> tuple[Scores, Groups]:
    rows = by_patient(groups, count, "logits", side, seed)
    return scores[rows], groups[rows]


def _attack_figures(name: str, found: Attack) -> dict[str, Figure]:
    stem, end = (name.removesuffix("_features"), "_features") if name.endswith("_features") else (name, "")
    figures = (found.figure, found.among_members, found.among_others)
    return {f"{stem}{part}{end}": figure for part, figure in zip(_ATTACK, figures, strict=True)}


def _why_not(name: str) -> str:
    return "no features were given" if name in _FEATURES else f"fewer than {FEWEST} scans of a side have a logit"


def _void(canaries: Mapping[str, Figure], why: str, n: int) -> Audit:
    return Audit({name: absent(f"the audit is broken: {why}", n) for name in NAMES} | dict(canaries), why)


def _about_attacks(attacks: Mapping[str, Attack]) -> list[str]:
    better = "does better than its control: who was trained on can be told."
    no_better = "does no better than its control, which proves nothing: another attack may."
    return [f"{name} {better if found.tells else no_better}" for name, found in attacks.items()]


def _about_patients(lineup: Lineup) -> list[str]:
    unknown = {"training": int((lineup.trained < 0).sum()), "held-out": int((lineup.held_out < 0).sum())}
    return [
        f"{count} {name} scans are of unknown patients: each counts as a patient, so intervals are too narrow and"
        " a patient may be on both sides."
        for name, count in unknown.items()
        if count
    ]


def _worst(matches: Matches) -> tuple[Pair, ...]:
    near, far = matches.trained, matches.held_out
    ratios = near.distance / np.maximum(far.distance, np.float32(1e-6))
    order = np.lexsort((ratios, ~matches.copies))[:PAIRS]
    return tuple(
        Pair(
            generated=row,
            trained=int(near.index[row]),
            distance=float(near.distance[row]),
            held_out=int(far.index[row]),
            held_out_distance=float(far.distance[row]),
            ratio=float(ratios[row]),
            copy=bool(matches.copies[row]),
        )
        for row in order.tolist()
    )
