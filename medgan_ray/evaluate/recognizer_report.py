"""A recognizer's evaluation as its two pages."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from medgan_ray.artifacts.runs import read_log
from medgan_ray.evaluate import recognizer_page, report
from medgan_ray.evaluate.answered import RecognizerCase, Said
from medgan_ray.evaluate.case import TEST
from medgan_ray.evaluate.chapter import Chapter
from medgan_ray.evaluate.recognizer_page import Told
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.evaluate.report import Pages
from medgan_ray.report import Panel

WORST = 8
"""Scans of a kind that a private page shows."""


def pages(case: RecognizerCase, evaluation: Evaluation, found: Mapping[str, Chapter]) -> Pages:
    """Return the page that may be shown to anybody, and the one with real scans."""
    told = Told(
        name=case.run.uri.rstrip("/").rpartition("/")[2],
        evaluation=evaluation,
        sets=[each.labels.name for each in case.said],
        log=read_log(case.run),
        wrong={each.labels.name: _wrong(case, each) for each in case.said},
        foreign=_foreign(case),
        lineage=[*report.lineage(case), ("calibration", evaluation.calibration or "none")],
        recipe=report.recipe(case, _how(case)),
    )
    return Pages(recognizer_page.published(told), recognizer_page.private(told))


def _how(case: RecognizerCase) -> str:
    width, train = case.card.model.get("recognizer_width"), case.asked["config"]["train"]
    begun = f", begun with {train['init_from']}" if train.get("init_from") else ""
    frozen = ", trunk frozen" if train.get("freeze_trunk") else ""
    return (f"{width} wide" if width else "as it comes") + begun + frozen


def _wrong(case: RecognizerCase, said: Said) -> list[Panel]:
    """Return the scans that are named wrongly, the surest first."""
    certainty, classes = said.balanced.max(1), said.labels.classes
    rows = np.flatnonzero(said.named != said.known)
    rows = rows[np.argsort(-certainty[rows], kind="stable")][:WORST]
    captions = [
        f"{said.index[row]}: said {classes[said.named[row]]} ({said.after[row, said.named[row]]:.0%}), "
        f"is {classes[said.known[row]]}" + ("" if said.answered[row] else "; not answered")
        for row in rows
    ]
    return _panels(case, said.index[rows], captions)


def _foreign(case: RecognizerCase) -> list[Panel]:
    """Return the scans that are taken for foreign, the most unlike first."""
    _, answers = case.seen
    if case.model.calibration is None:
        return []
    rows = np.flatnonzero(answers.foreign)
    rows = rows[np.argsort(answers.p[rows], kind="stable")][:WORST]
    return _panels(case, case.chosen[rows], [f"{case.chosen[row]}: p = {answers.p[row]:.3f}" for row in rows])


def _panels(case: RecognizerCase, index: NDArray[np.int64], captions: list[str]) -> list[Panel]:
    """Return a panel a test scan, each with a caption of its own."""
    if not len(index):
        return []
    pixels = case.dataset.manifest.intensity.display(case.dataset.split(TEST).take(index).image)
    return [Panel(caption=each, images=image[None], columns=1) for image, each in zip(pixels, captions, strict=True)]
