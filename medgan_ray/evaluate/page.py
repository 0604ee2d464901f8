"""A generator's evaluation as pages: one without a real pixel, and a private one, real scans beside generated ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgan_ray.evaluate import sections
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.metrics.figure import Figure
from medgan_ray.report import Curve, Fact, Grid, Level, Motion, Page, Panel, Section, Table, Text

CHAPTERS = {
    "fidelity": "How good: generated scans beside held-out real ones",
    "classes": "How accurate: is what was asked for recognized",
    "values": "How plausible: do values lie where the modality's do",
    "privacy": "How private: do generated scans repeat patients",
    "utility": "How useful: recognizers trained with and without generated scans",
}
ADVICE = "Generated scans are synthetic: for research, not for diagnosis. This is not a medical device."


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a page tells beside the evaluation itself."""

    name: str
    evaluation: Evaluation
    meanings: Mapping[str, str]
    """What a figure says, by its name without what stands in brackets."""
    generated: Sequence[Panel]
    real: Sequence[Panel]
    """Held-out scans of the same kinds; for the private page alone."""
    pairs: Sequence[Panel]
    """The generated scans nearest to training scans, and these; for the private page alone."""
    log: Sequence[Mapping[str, Any]]
    """Lines of the run's log."""
    walk: bytes = b""
    """An animated GIF; empty if there is none."""
    lineage: Sequence[tuple[str, str]] = field(default=())
    recipe: Sequence[tuple[str, str]] = field(default=())


def published(told: Told) -> Page:
    """Return the report; it holds no real scan."""
    evaluation = told.evaluation
    found: list[Section] = [sections.rules(evaluation.rules)]
    found.append(Grid(title="Generated scans", panels=told.generated, note="By class, not selected."))
    for chapter, title in CHAPTERS.items():
        found += _chapter(chapter, title, told)
    found += curves(told.log)
    if told.walk:
        found.append(
            Motion(title="A walk through the latent space", gif=told.walk, caption="From one scan to another.")
        )
    found += [sections.pairs("Recipe", told.recipe), sections.pairs("Where it comes from", told.lineage)]
    return Page(
        title=f"Evaluation of {told.name}",
        headline=sections.headline(evaluation, ADVICE),
        mark="good" if evaluation.verdict == "passed" else "bad",
        facts=_facts(evaluation),
        sections=found,
    )


def private(told: Told) -> Page:
    """Return the page with real scans: the nearest neighbors, and real scans beside generated ones."""
    text = "It shows scans of the dataset as they are: whoever reads it has to be allowed to see them."
    found: list[Section] = [Text(title="Keep this page where the scans are", paragraphs=[text])]
    if told.pairs:
        note = "Each generated scan stands above the training scan that is nearest to it, the nearest pair first."
        found.append(Grid(title="Nearest neighbors", panels=told.pairs, note=note))
    for real, generated in zip(told.real, told.generated, strict=False):
        panels = [Panel(caption="real, held out", images=real.images, columns=real.columns), generated]
        found.append(Grid(title=generated.caption or "Real and generated", panels=panels))
    verdict = sections.headline(told.evaluation, ADVICE)
    return Page(title=f"Real and generated: {told.name}", headline=verdict, sections=found)


def curves(log: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Return the curves of a run's log."""
    ratios = sections.series(log, {"whole_ratio": "whole images", "patches_ratio": "patches"})
    losses = sections.series(log, {"generator_loss": "generator", "discriminator_loss": "discriminator"})
    found: list[Section] = []
    if any(series.x for series in ratios):
        found.append(
            Curve(
                title="Distance to real scans while training",
                series=ratios,
                levels=[Level(name="two sets of real scans", value=1.0)],
                x_label="images seen",
                y_label="ratio",
            )
        )
    if any(series.x for series in losses):
        found.append(Curve(title="Losses", series=losses, x_label="images seen", y_label="loss"))
    return found


def _facts(evaluation: Evaluation) -> list[Fact]:
    shown = {
        "Distance to real scans (1: as good)": _over_floor(evaluation.figures.get("fidelity.whole")),
        "Texture (1: as good)": _over_floor(evaluation.figures.get("fidelity.patches")),
        "Copies of training scans": sections.share(evaluation.figures.get("privacy.copies")),
        "Membership attack (0.5: blind)": sections.plain(evaluation.figures.get("privacy.membership_distance")),
        "Gain from generated scans": sections.plain(evaluation.figures.get("utility.gain")),
    }
    return [Fact(name=name, value=value) for name, value in shown.items() if value]


def _chapter(chapter: str, title: str, told: Told) -> list[Section]:
    figures = {name: each for name, each in told.evaluation.figures.items() if name.startswith(f"{chapter}.")}
    sentence = told.evaluation.sentences.get(chapter, "")
    if not figures:
        return [Text(title=title, paragraphs=[sentence])] if sentence else []
    ordered = sorted(figures.items(), key=_whole_first)
    rows = [_row(sections.meaning(name, told.meanings), figure) for name, figure in ordered]
    columns = ["figure", "value", "95 % interval", "two sets of real scans", "n", ""]
    return [Table(title=title, columns=columns, rows=rows, note=sentence)]


def _whole_first(item: tuple[str, Figure]) -> tuple[bool, str]:
    return "[" in item[0], item[0]


def _row(meaning: str, figure: Figure) -> list[str | int | float | None]:
    return [meaning, figure.value, sections.between(figure), figure.floor, figure.n, figure.not_applicable]


def _over_floor(figure: Figure | None) -> str:
    return f"{figure.value / figure.floor:.2f}" if figure and figure.value is not None and figure.floor else ""
