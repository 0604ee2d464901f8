"""What the demo tells in the end: a report without real pixels, a private page with them, and a summary in words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from medgan_ray import report
from medgan_ray.artifacts.runs import read_log
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.evaluate import pictures
from medgan_ray.evaluate.page import curves
from medgan_ray.ingest.pipeline import IngestResult
from medgan_ray.report import Fact, Grid, Page, Panel, Section, Table, Text
from medgan_ray.store import open_store
from medgan_ray.verbs.train import TrainResult

ENOUGH = 100
"""Scans below which the figures of a split are not taken."""
MEANINGS = {
    "whole_ratio": "whole images: distance to real scans, over the distance between two sets of real scans",
    "patches_ratio": "texture: the same on patches of 7×7 pixels",
    "power": "fine detail: power of high frequencies, over that of real scans",
    "lattice": "checkerboard: regular patterns, over those of real scans",
    "score": "score: the mean of the two distances; decides which checkpoint is kept",
}
CAUTION = (
    "Generated scans are synthetic. The evaluation searched them for copies of training scans; no search proves that "
    "there are none, so treat models and generated scans as you treat the scans they learned from."
)


@dataclass(frozen=True)
class Chapter:
    """A step that was taken: what it did, in a sentence, and how long it took."""

    name: str
    text: str
    seconds: float


@dataclass(frozen=True)
class Search:
    """What a search found: one line a trial (best first), and how many were stopped early."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]
    stopped_early: int


@dataclass(frozen=True)
class Answer:
    """What the service answered: its address, the number of scans asked for at once, and how long that took."""

    url: str
    images: int
    wait_s: float


@dataclass(frozen=True)
class Story:
    """What happened, from the scans on."""

    out: Path
    phantoms: bool
    dataset: str
    run: str
    chapters: Sequence[Chapter]
    ingested: IngestResult
    trained: TrainResult
    search: Search | None


def write(story: Story) -> Path:
    """Write OUT/report.html and OUT/private/comparison.html; return the first one's path."""
    from medgan_ray.inference.model import load_model

    dataset, model = open_dataset(story.dataset), load_model(story.run)
    generated = pictures.generated(model)
    store = open_store(str(story.out))
    store.replace("report.html", report.render(_report(story, generated)).encode())
    real = pictures.real(dataset, "phantoms" if story.phantoms else "real scans")
    store.replace("private/comparison.html", report.render(_comparison(story, real, generated)).encode())
    return story.out / "report.html"


def summary(story: Story, path: Path, seconds: float) -> list[str]:
    """Return what happened, in lines that a newcomer understands."""
    lines = ["", f"The whole way in {_minutes(seconds)}:", ""]
    lines += [f"  {number}. {chapter.text}" for number, chapter in enumerate(story.chapters, 1)]
    lines += ["", f"How good is it? {_verdict(story)}", ""]
    lines += [
        "Look at:",
        f"  {path}  generated scans and curves; holds no real pixels",
        f"  {story.out / 'private' / 'comparison.html'}  real scans beside generated ones: keep it where the scans are",
        "",
        f"Next, with your own scans: medgan-ray demo {story.out}-mine --scans FOLDER"
        if story.phantoms
        else "Next, step by step:",
        "  medgan-ray ingest FOLDER dataset && medgan-ray train dataset run && medgan-ray generate run out -n 16",
        "",
        CAUTION,
    ]
    return lines


def _report(story: Story, generated: Sequence[Panel]) -> Page:
    trained, found = story.trained, story.ingested
    facts = [
        Fact(name="Scans", value=f"{found.samples:,}"),
        Fact(name="Patients", value=f"{found.subjects:,}" if found.subjects else "unknown"),
        Fact(name="Images seen in training", value=f"{trained.images:,}"),
        Fact(name="Distance to real scans (1: as good)", value=_ratio(story.trained.figures)),
    ]
    steps = Table(
        title="What was done",
        columns=["step", "what happened", "seconds"],
        rows=[[chapter.name, chapter.text, round(chapter.seconds, 1)] for chapter in story.chapters],
    )
    sections: list[Section] = [steps, Grid(title="Generated scans", panels=generated, note=CAUTION)]
    sections += [_figures(story), *curves(read_log(open_store(story.run)))]
    if story.search is not None:
        sections.append(Table(title="Search", columns=story.search.columns, rows=story.search.rows))
    return Page(title="medgan-ray demo", headline=_verdict(story), facts=facts, sections=sections)


def _comparison(story: Story, real: Sequence[Panel], generated: Sequence[Panel]) -> Page:
    kind = "phantoms" if story.phantoms else "real scans"
    sections: list[Section] = [
        Text(title="Keep this page where the scans are", paragraphs=[f"It shows {kind} of the dataset as they are."])
    ]
    sections += [
        Grid(title=there.caption, panels=[here, replace(there, caption="generated")])
        for here, there in zip(real, generated, strict=True)
        if len(here.images)
    ]
    return Page(title="Real and generated", headline=f"Held-out {kind} on the left.", sections=sections)


def _figures(story: Story) -> Section:
    figures = story.trained.figures
    if not figures:
        return Text(title="Figures", paragraphs=[_verdict(story)])
    return Table(
        title="Figures on scans that training never saw",
        columns=["figure", "value", "as good as real"],
        rows=[[meaning, figures[name], 1.0] for name, meaning in MEANINGS.items() if name in figures],
        note=f"n = {min(500, _held_out(story))} generated and as many real scans.",
    )


def _verdict(story: Story) -> str:
    figures = story.trained.figures
    if not figures:
        return (
            f"That can't be measured here: it takes at least {ENOUGH} scans for learning and {ENOUGH} held out, and "
            f"{_held_out(story)} are held out. Judge by the pictures, or bring more scans."
        )
    distance = _ratio(figures)
    return (
        f"By sliced Wasserstein distance the generated scans are {distance} times as far from held-out scans as two "
        "sets of real scans are from each other; 1.0 would be as good as real. A longer run (images=75000) gets closer."
    )


def _held_out(story: Story) -> int:
    return story.ingested.splits.get("test", 0)


def _ratio(figures: Mapping[str, float]) -> str:
    value = figures.get("whole_ratio", math.nan)
    return f"{value:.2f}" if math.isfinite(value) else "not measured"


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} minutes"
