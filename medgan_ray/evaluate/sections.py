"""What the pages of all tasks' evaluations have in common: the verdict, the gate's rules, rows of figures, curves."""

from collections.abc import Mapping, Sequence
from typing import Any

from medgan_ray.evaluate.gate import Ruling
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.metrics.figure import Figure
from medgan_ray.report import Series, Table


def headline(evaluation: Evaluation, advice: str) -> str:
    """Return the verdict in a sentence, with the rules that are broken, and advice."""
    failed = [ruling for ruling in evaluation.rules if not ruling.passed]
    if not failed:
        return f"Passed: all {len(evaluation.rules)} rules of the gate are kept. {advice}"
    named = "; ".join(f"{ruling.name} ({ruling.note})" for ruling in failed)
    return f"Refused: {len(failed)} of {len(evaluation.rules)} rules are broken: {named}. {advice}"


def rules(rulings: Sequence[Ruling]) -> Table:
    """Return the gate's rules, the broken ones first."""
    rows = [
        [ruling.name, "kept" if ruling.passed else "BROKEN", ruling.value, ruling.limit, ruling.note]
        for ruling in sorted(rulings, key=lambda ruling: ruling.passed)
    ]
    return Table(title="The gate", columns=["rule", "", "measured", "limit", "what that means"], rows=rows)


def meaning(name: str, meanings: Mapping[str, str]) -> str:
    """Return what a figure says, with what stands in brackets behind it."""
    plain, bracket, rest = name.partition("[")
    return f"{meanings.get(plain, plain)}{f' [{rest}' if bracket else ''}"


def pairs(title: str, told: Sequence[tuple[str, str]]) -> Table:
    """Return a table of two columns without a head."""
    return Table(title=title, columns=["", ""], rows=[list(pair) for pair in told])


def between(figure: Figure) -> str:
    """Return the ends of a figure's interval; empty where it has none."""
    return "" if figure.low is None or figure.high is None else f"{figure.low:.3g} to {figure.high:.3g}"


def share(figure: Figure | None) -> str:
    """Return a share in percent and of how many; empty without one."""
    return f"{figure.value:.1%} of {figure.n:,}" if figure and figure.value is not None else ""


def plain(figure: Figure | None) -> str:
    """Return a figure with three decimals; empty without one."""
    return f"{figure.value:.3f}" if figure and figure.value is not None else ""


def series(log: Sequence[Mapping[str, Any]], names: Mapping[str, str]) -> list[Series]:
    """Return figures of a run's log over the images seen, by what they are called there and here."""
    found = []
    for name, shown in names.items():
        points = [(line["images"], float(line[name])) for line in log if name in line]
        found.append(Series(name=shown, x=[x for x, _ in points], y=[y for _, y in points]))
    return found
