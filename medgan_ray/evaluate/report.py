"""An evaluation's pages beside the run: RUN/report.html without a real pixel, RUN/private/report.html with some."""

from collections.abc import Sequence

import numpy as np

from medgan_ray.artifacts.runs import WALK, read_log
from medgan_ray.engine.watch import to_stored
from medgan_ray.evaluate import accuracy, fidelity, page, pictures, privacy, sets, utility
from medgan_ray.evaluate.case import Case
from medgan_ray.evaluate.page import Told
from medgan_ray.evaluate.privacy import Pair
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.report import Panel, render

PUBLISHED, PRIVATE = "report.html", "private/report.html"


def write(case: Case, evaluation: Evaluation, pairs: Sequence[Pair]) -> str:
    """Write both pages; return the address of the one that may be shown to anybody."""
    told = Told(
        name=case.model.name,
        evaluation=evaluation,
        meanings=fidelity.MEANINGS | accuracy.MEANINGS | privacy.MEANINGS | utility.MEANINGS,
        generated=pictures.generated(case.model),
        real=pictures.real(case.dataset, "real, held out"),
        pairs=_pairs(case, pairs),
        log=read_log(case.run),
        walk=case.run.read(WALK) if case.run.exists(WALK) else b"",
        lineage=_lineage(case),
        recipe=_recipe(case),
    )
    case.run.replace(PUBLISHED, render(page.published(told)).encode())
    case.run.replace(PRIVATE, render(page.private(told)).encode())
    return f"{case.run.uri}/{PUBLISHED}"


def _pairs(case: Case, pairs: Sequence[Pair]) -> list[Panel]:
    split, drawn = case.dataset.split("train"), sets.drawn(case.dataset, "train", case.settings.neighbors)
    rows = np.array([pair.generated for pair in pairs], np.int64)
    fakes = to_stored(case.fake.images[rows])
    reals = split.take(drawn[[pair.trained for pair in pairs]]).image if pairs else fakes
    return pictures.pairs(fakes, reals, case.model.intensity)


def _lineage(case: Case) -> list[tuple[str, str]]:
    card = case.model.card
    return [
        ("dataset, content", card.content_digest),
        ("manifest", card.manifest),
        ("checkpoint", card.checkpoint),
        ("weights", card.weights),
    ]


def _recipe(case: Case) -> list[tuple[str, str]]:
    manifest, card, config = case.dataset.manifest, case.model.card, case.asked["config"]
    splits = ", ".join(f"{entry.samples:,} {name}" for name, entry in manifest.splits.items())
    return [
        ("scans", f"{manifest.modality}, {manifest.size[0]}×{manifest.size[1]}, {splits}"),
        ("network", f"{card.model['name']}, {config['train'].get('loss', 'relativistic')} loss"),
        ("images seen", f"{card.images:,} of {config['images']:,} in batches of {config['batch']}"),
        ("seed", str(config["seed"])),
        ("code", card.code_version),
    ]
