"""A generator's evaluation as its two pages."""

from collections.abc import Mapping, Sequence

import numpy as np

from medgan_ray.artifacts.runs import WALK, read_log
from medgan_ray.engine.watch import to_stored
from medgan_ray.evaluate import accuracy, fidelity, page, pictures, privacy, report, sets, utility
from medgan_ray.evaluate.case import GeneratorCase
from medgan_ray.evaluate.chapter import Chapter
from medgan_ray.evaluate.page import Told
from medgan_ray.evaluate.privacy import Pair
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.evaluate.report import Pages
from medgan_ray.report import Panel


def pages(case: GeneratorCase, evaluation: Evaluation, found: Mapping[str, Chapter]) -> Pages:
    """Return the page that may be shown to anybody, and the one with real scans."""
    told = Told(
        name=case.model.name,
        evaluation=evaluation,
        meanings=fidelity.MEANINGS | accuracy.MEANINGS | privacy.MEANINGS | utility.MEANINGS,
        generated=pictures.generated(case.model),
        real=pictures.real(case.dataset, "real, held out"),
        pairs=_pairs(case, found["privacy"].pairs),
        log=read_log(case.run),
        walk=case.run.read(WALK) if case.run.exists(WALK) else b"",
        lineage=report.lineage(case),
        recipe=report.recipe(case, f"{case.asked['config']['train'].get('loss', 'relativistic')} loss"),
    )
    return Pages(page.published(told), page.private(told))


def _pairs(case: GeneratorCase, pairs: Sequence[Pair]) -> list[Panel]:
    split, drawn = case.dataset.split("train"), sets.drawn(case.dataset, "train", case.settings.neighbors)
    rows = np.array([pair.generated for pair in pairs], np.int64)
    fakes = to_stored(case.fake.images[rows])
    reals = split.take(drawn[[pair.trained for pair in pairs]]).image if pairs else fakes
    return pictures.pairs(fakes, reals, case.model.intensity)
