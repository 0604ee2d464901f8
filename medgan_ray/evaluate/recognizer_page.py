"""A recognizer's evaluation as pages: one without a real pixel, and a private one with scans it was wrong on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from medgan_ray.evaluate import sections
from medgan_ray.evaluate.recognition import CHAPTER, MEANINGS, OF_GROUP
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.inference.recognizer import NO_DEVICE
from medgan_ray.metrics.figure import Figure
from medgan_ray.report import Curve, Fact, Grid, Level, Page, Panel, Section, Series, Table, Text

FOOTER = f"Made by medgan-ray. {NO_DEVICE}"
PROBABILITIES = ("nll", "brier", "ece", "ece_debiased")
UNKNOWN = (
    "promise",
    "coverage",
    "over_promise",
    "set_size",
    "answered",
    "error_answered",
    "error",
    "error[answered=80%]",
    "error[answered=50%]",
    "aurc",
    "foreign",
)
COMPARED = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC, mean over classes",
    "auprc": "area under precision and recall, mean over classes",
}
GAINS = {"balanced_accuracy": "over_pixels", "auroc": "over_pixels_auroc"}

Row = list[str | int | float | None]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a page tells beside the evaluation itself."""

    name: str
    evaluation: Evaluation
    sets: Sequence[str]
    """Names of the label sets, the one that is judged first."""
    log: Sequence[Mapping[str, Any]]
    """Lines of the run's log."""
    wrong: Mapping[str, Sequence[Panel]]
    """By label set, the scans that it was surest of and wrong; for the private page alone."""
    foreign: Sequence[Panel] = field(default=())
    """Test scans that it took for foreign; for the private page alone."""
    lineage: Sequence[tuple[str, str]] = field(default=())
    recipe: Sequence[tuple[str, str]] = field(default=())


def published(told: Told) -> Page:
    """Return the report; it holds no scan."""
    evaluation = told.evaluation
    said = [evaluation.sentences.get(CHAPTER, ""), NO_DEVICE]
    found: list[Section] = [Text(title="What this comes to", paragraphs=[each for each in said if each])]
    found.append(sections.rules(evaluation.rules))
    for name in told.sets:
        found += _OfSet(told, name).sections()
    found += curves(told.log)
    found += [sections.pairs("Recipe", told.recipe), sections.pairs("Where it comes from", told.lineage)]
    return Page(
        title=f"Evaluation of {told.name}",
        headline=sections.headline(evaluation, NO_DEVICE),
        mark="good" if evaluation.verdict == "passed" else "bad",
        facts=_facts(evaluation.figures),
        sections=found,
        footer=FOOTER,
    )


def private(told: Told) -> Page:
    """Return the page with scans: those it was surest of and wrong, and those it took for foreign."""
    text = "It shows scans of the dataset as they are: whoever reads it has to be allowed to see them."
    found: list[Section] = [Text(title="Keep this page where the scans are", paragraphs=[text, NO_DEVICE])]
    for name, panels in told.wrong.items():
        title = "Wrong, and sure of it" + (f": {name}" if len(told.wrong) > 1 else "")
        if panels:
            note = "Test scans that are named wrongly, the surest first; what was said stands below each."
            found.append(Grid(title=title, panels=panels, note=note))
        else:
            found.append(Text(title=title, paragraphs=["No test scan is named wrongly."]))
    if told.foreign:
        note = "Test scans that were not answered because they are too unlike training scans, the most unlike first."
        found.append(Grid(title="Taken for foreign", panels=told.foreign, note=note))
    verdict = sections.headline(told.evaluation, NO_DEVICE)
    return Page(title=f"Worst cases of {told.name}", headline=verdict, sections=found, footer=FOOTER)


def curves(log: Sequence[Mapping[str, Any]]) -> list[Section]:
    """Return the curves of a run's log."""
    losses = sections.series(log, {"recognizer_loss": "training scans", "score": "val split, classes weighed alike"})
    if not any(each.x for each in losses):
        return []
    return [Curve(title="Cross-entropy while training", series=losses, x_label="images seen", y_label="nats")]


def shown(figure: Figure | None) -> str:
    """Return a figure with its interval, the reason why there is none, or nothing."""
    if figure is None:
        return ""
    if figure.value is None:
        return figure.not_applicable
    if figure.low is None or figure.high is None:
        return f"{figure.value:.3f}"
    return f"{figure.value:.3f} ({figure.low:.3f} to {figure.high:.3f})"


class _OfSet:
    """What is told of one label set."""

    def __init__(self, told: Told, name: str) -> None:
        self._first, self._name = name == told.sets[0], name
        self._about = f" ({name})" if len(told.sets) > 1 else ""
        self._details: Mapping[str, Any] = told.evaluation.details.get(CHAPTER, {}).get(name, {})
        named = {self._plain(key): figure for key, figure in told.evaluation.figures.items()}
        self._figures = {key: figure for key, figure in named.items() if key}

    def sections(self) -> list[Section]:
        """Return tables and curves; where there are too few scans, the reason alone."""
        whole = self._figures.get("accuracy")
        if whole is None or whole.value is None:
            why = whole.not_applicable if whole else "nothing was measured"
            return [Text(title=f"Label set {self._name}", paragraphs=[why])]
        found: list[Section] = [self._compared(), self._classes(), self._confusion(), self._probabilities()]
        return [*found, self._reliability(), self._unknown(), self._risk(), *self._groups()]

    def _plain(self, key: str) -> str:
        """Return a figure's name without chapter and label set; empty if it is another set's."""
        plain, bracket, rest = key.removeprefix(f"{CHAPTER}.").partition("[")
        mine, _, others = rest.removesuffix("]").partition(", ")
        if not mine.startswith("set="):
            return f"{plain}{bracket}{rest}" if self._first else ""
        if self._first or mine != f"set={self._name}":
            return ""
        return f"{plain}[{others}]" if others else plain

    def _compared(self) -> Table:
        rows: list[Row] = []
        for name, words in COMPARED.items():
            cells = [self._cell(each) for each in (name, f"pixels.{name}", f"majority.{name}", GAINS.get(name, ""))]
            rows.append([words, *cells])
        columns = ["", "this recognizer", "raw pixels", "commonest class", "gain over raw pixels"]
        note = (
            f"On {self._figures['accuracy'].n:,} test scans; in parentheses 95 % intervals, of draws of patients. "
            "Raw pixels: a linear model of 24x24 of them, its penalty chosen on the val split."
        )
        return Table(title=f"How well it names test scans{self._about}", columns=columns, rows=rows, note=note)

    def _classes(self) -> Table:
        rows: list[Row] = []
        for name in self._details.get("classes", ()):
            sensitivity = self._figures.get(f"sensitivity[class={name}]")
            cells = [self._cell(f"{each}[class={name}]") for each in ("sensitivity", "specificity", "coverage")]
            rows.append([name, sensitivity.n if sensitivity else 0, *cells])
        columns = ["class", "test scans", "sensitivity", "specificity", "the set holds it"]
        return Table(title=f"Class by class{self._about}", columns=columns, rows=rows)

    def _confusion(self) -> Table:
        classes, counts = self._details.get("classes", []), self._details.get("confusion", [])
        rows: list[Row] = [[name, *of_class] for name, of_class in zip(classes, counts, strict=True)]
        columns = ["truly, named:", *classes]
        return Table(title=f"What is taken for what{self._about}", columns=columns, rows=rows)

    def _probabilities(self) -> Table:
        rows: list[Row] = [[MEANINGS[name], self._cell(f"{name}_before"), self._cell(name)] for name in PROBABILITIES]
        title = f"Do its probabilities mean what they say{self._about}"
        return Table(title=title, columns=["", "before calibration", "after"], rows=rows)

    def _reliability(self) -> Curve:
        bins = self._details.get("reliability", {})
        lines = [
            Series(
                name=f"{when} calibration",
                x=[each["confidence"] for each in bins.get(when, ())],
                y=[each["accuracy"] for each in bins.get(when, ())],
            )
            for when in ("after", "before")
        ]
        lines.append(Series(name="as it should be", x=[0.0, 1.0], y=[0.0, 1.0]))
        return Curve(
            title=f"Reliability{self._about}",
            series=lines,
            x_label="how sure it is",
            y_label="how often it is right",
            note="Each point is as many test scans; below the diagonal it is surer than it is right.",
        )

    def _unknown(self) -> Table:
        rows: list[Row] = []
        for name in (each for each in UNKNOWN if each in self._figures):
            figure = self._figures[name]
            ends = sections.between(figure)
            rows.append([sections.meaning(name, MEANINGS), figure.value, ends, figure.n, figure.not_applicable])
        columns = ["", "value", "95 % interval", "n", ""]
        return Table(title=f"What it does not know, and says so{self._about}", columns=columns, rows=rows)

    def _risk(self) -> Curve:
        points = self._details.get("risk", [])
        answered, errors = ([each[name] for each in points] for name in ("answered", "error"))
        return Curve(
            title=f"Error where only the surest scans are answered{self._about}",
            series=[Series(name="this recognizer", x=answered, y=errors)],
            levels=[Level(name="all answered", value=self._figures["error"].value or 0.0)],
            x_label="share of scans answered",
            y_label="share of those named wrongly",
        )

    def _groups(self) -> list[Section]:
        """Return the table of subgroups, where the dataset knows any."""
        brackets = [name.partition("[")[2].removesuffix("]") for name in self._figures if name.startswith("accuracy[")]
        if not brackets:
            return []
        rows: list[Row] = []
        for group in brackets:
            whole = self._figures[f"accuracy[{group}]"]
            cells = [self._cell(f"{name}[{group}]") for name in OF_GROUP]
            small = [whole.not_applicable, *[""] * (len(OF_GROUP) - 1)]
            rows.append([group, whole.n, *(cells if whole.value is not None else small)])
        columns = ["group", "test scans", *(COMPARED.get(name, name) for name in OF_GROUP)]
        return [Table(title=f"Group by group{self._about}", columns=columns, rows=rows)]

    def _cell(self, name: str) -> str:
        return shown(self._figures.get(name))


def _facts(figures: Mapping[str, Figure]) -> list[Fact]:
    found = {
        "Balanced accuracy": sections.plain(figures.get(f"{CHAPTER}.balanced_accuracy")),
        "AUROC": sections.plain(figures.get(f"{CHAPTER}.auroc")),
        "Gain over raw pixels": sections.plain(figures.get(f"{CHAPTER}.over_pixels")),
        "Calibration error": sections.plain(figures.get(f"{CHAPTER}.ece_debiased")),
        "Sets that hold the true class": sections.share(figures.get(f"{CHAPTER}.coverage")),
        "Answered": sections.share(figures.get(f"{CHAPTER}.answered")),
        "Wrong where answered": sections.share(figures.get(f"{CHAPTER}.error_answered")),
    }
    return [Fact(name=name, value=value) for name, value in found.items() if value]
