"""The release gate: rules over an evaluation's figures, in YAML. It fails closed.

    copies: {figure: privacy.copies, at_most: 0.005, why: generated scans repeat training scans}

A figure that nobody computed is refused whatever its rule says; one that does not apply (``not_applicable``) passes
only where its rule says ``absent: pass``; no rules at all are an error.
"""

import math
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Literal

import pydantic

from medgan_ray.config import Section, parse_yaml, read_yaml
from medgan_ray.errors import UsageError
from medgan_ray.metrics.figure import Figure

DEFAULT, RECOGNIZERS = "rules.yaml", "rules-recognize.yaml"


class Rule(Section):
    """What one figure has to be."""

    figure: str
    """Name of the figure."""
    at_most: float | None = None
    """Upper limit; with ``over_floor`` in multiples of the figure's real-to-real floor."""
    at_least: float | None = None
    """Lower limit, likewise."""
    over_floor: bool = False
    """Whether limits are multiples of the floor."""
    end: Literal["value", "low", "high"] = "value"
    """What is compared: the figure, or an end of its 95 % interval."""
    absent: Literal["refuse", "pass"] = "refuse"
    """What a figure that does not apply comes to."""
    why: str
    """What it means to fail, in a few words."""

    @pydantic.model_validator(mode="after")
    def _limited(self) -> "Rule":
        if self.at_most is None and self.at_least is None:
            raise ValueError("give at_most, at_least or both")
        return self


class Ruling(Section):
    """How one rule came out."""

    name: str
    figure: str
    value: float | None
    """What was compared; a multiple of the floor where the rule is about that. None: there was nothing to compare."""
    limit: str
    passed: bool
    note: str
    """Why it failed, or why it passed without a value; empty if it simply passed."""


class Verdict(Section):
    """What the gate says."""

    passed: bool
    rules: tuple[Ruling, ...]

    @property
    def word(self) -> str:
        """The verdict in a word: passed or refused."""
        return "passed" if self.passed else "refused"

    @property
    def failed(self) -> tuple[Ruling, ...]:
        """The rules that were not kept."""
        return tuple(ruling for ruling in self.rules if not ruling.passed)


def read_rules(path: str = "", default: str = DEFAULT) -> dict[str, Rule]:
    """Return the rules of a YAML file by name; those that come with the package (``default``) if ``path`` is empty.

    Raises:
        InputError: if the file is missing.
        UsageError: if it is not a mapping of names to rules, or holds none.
    """
    where = path or default
    if path:
        values = read_yaml(path)
    else:
        values = parse_yaml(resources.files("medgan_ray.evaluate").joinpath(default).read_text("utf-8"), default)
    if not values:
        raise UsageError("no rules", where, "a gate without rules would let everything pass")
    for name, value in values.items():
        if not isinstance(value, Mapping):
            raise UsageError(f"rule {name!r} is not a mapping", where, "write figure, limits and why")
    return {name: Rule.parse(value, f"{where}: {name}") for name, value in values.items()}


def judge(figures: Mapping[str, Figure], rules: Mapping[str, Rule]) -> Verdict:
    """Hold an evaluation's figures against the rules.

    Raises:
        UsageError: if there are no rules.
    """
    if not rules:
        raise UsageError("no rules", "", "a gate without rules would let everything pass")
    rulings = [_ruling(name, rule, figures.get(rule.figure)) for name, rule in rules.items()]
    return Verdict(passed=all(ruling.passed for ruling in rulings), rules=tuple(rulings))


def sentences(failed: Sequence[Ruling]) -> str:
    """Return the failed rules in one line."""
    return "; ".join(f"{ruling.name}: {ruling.note}" for ruling in failed)


def _ruling(name: str, rule: Rule, figure: Figure | None) -> Ruling:
    value, passed, note = None, False, ""
    if figure is None:
        note = "this figure was not computed"
    elif figure.not_applicable:
        passed, note = rule.absent == "pass", figure.not_applicable
    else:
        value = _compared(rule, figure)
        passed = value is not None and _within(rule, value)
        if not passed:
            note = rule.why if value is not None else "the figure holds no number to compare"
    return Ruling(name=name, figure=rule.figure, value=value, limit=_limit(rule), passed=passed, note=note)


def _compared(rule: Rule, figure: Figure) -> float | None:
    found: float | None = getattr(figure, rule.end)
    if found is None or not math.isfinite(found):
        return None
    if not rule.over_floor:
        return found
    return found / figure.floor if figure.floor and figure.floor > 0 else None


def _within(rule: Rule, value: float) -> bool:
    low = -math.inf if rule.at_least is None else rule.at_least
    high = math.inf if rule.at_most is None else rule.at_most
    return low <= value <= high


def _limit(rule: Rule) -> str:
    limits = {"at least": rule.at_least, "at most": rule.at_most}
    ends = [f"{word} {limit:g}" for word, limit in limits.items() if limit is not None]
    return " and ".join(ends) + (" × floor" if rule.over_floor else "")
