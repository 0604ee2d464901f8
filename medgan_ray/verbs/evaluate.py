"""The verb ``evaluate``: how good, accurate, private and useful a run's generator is, or how far its recognizer can be
relied on; and what the gate says of it.

    medgan-ray evaluate run heads

Figures stand on the test split, which neither training nor the choice of the best checkpoint has seen; the privacy
audit holds all held-out patients against those trained on.
"""

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from medgan_ray import __version__
from medgan_ray.config import Section
from medgan_ray.evaluate.gate import Ruling, judge, read_rules
from medgan_ray.metrics.figure import Figure
from medgan_ray.verbs.config import Config

if TYPE_CHECKING:
    from medgan_ray.evaluate.chapter import Chapter

Progress = Callable[[int, int], None]


class EvaluateResult(Section):
    """What an evaluation found."""

    evaluation: str
    """SHA-256 of RUN/evaluations/SHA256.json."""
    verdict: str
    """passed or refused."""
    rules: tuple[Ruling, ...]
    figures: dict[str, Figure]
    report: str
    seconds: float


def evaluate_run(
    run: str, dataset: str, config: Mapping[str, Any] | Config | None = None, progress: Progress | None = None
) -> EvaluateResult:
    """Evaluate a run's best model, and write RUN/evaluations/, RUN/report.html and RUN/private/report.html.

    Args:
        run: a run of the task generate or recognize.
        dataset: the dataset that it was trained on; its test split is what figures stand on.
        config: options, nested or dotted; the section ``evaluate`` matters, and how the dataset is read.
        progress: told (chapters done, chapters).

    Raises:
        UsageError: for a bad option or rule.
        InputError: if run, dataset, test split or extractor are missing or corrupt.
    """
    from medgan_ray.evaluate import kinds, record, report

    began, options = time.monotonic(), Config.of(config)
    kind = kinds.of(run)
    rules = read_rules(options.evaluate.rules, kind.rules)
    case = kind.opens(run, dataset, options.evaluate, options.data)
    found: dict[str, Chapter] = {}
    for name, chapter in kind.chapters.items():
        found[name] = chapter(case)
        if progress:
            progress(len(found), len(kind.chapters))
    figures = {key: figure for each in found.values() for key, figure in each.figures.items()}
    verdict = judge(figures, rules)
    evaluation = record.Evaluation(
        verdict=verdict.word,
        rules=verdict.rules,
        figures=figures,
        sentences={name: each.sentence for name, each in found.items() if each.sentence},
        details={name: dict(each.details) for name, each in found.items() if each.details},
        model=case.card.weights,
        dataset=case.dataset.sha256,
        **case.means,
        settings=options.evaluate.model_dump(mode="json"),
        code_version=__version__,
    )
    digest = record.write(case.run, evaluation)
    page = report.write(case.run, kind.pages(case, evaluation, found))
    return EvaluateResult(
        evaluation=digest,
        verdict=verdict.word,
        rules=verdict.rules,
        figures=figures,
        report=page,
        seconds=round(time.monotonic() - began, 1),
    )
