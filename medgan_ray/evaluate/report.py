"""An evaluation's pages beside the run: RUN/report.html without a real pixel, RUN/private/report.html with some."""

from typing import NamedTuple

from medgan_ray.evaluate.case import Case
from medgan_ray.report import Page, render
from medgan_ray.store import Store

PUBLISHED, PRIVATE = "report.html", "private/report.html"


class Pages(NamedTuple):
    """The page that may be shown to anybody, and the one that shows real scans."""

    published: Page
    private: Page


def write(run: Store, pages: Pages) -> str:
    """Write both pages; return the address of the one that may be shown to anybody."""
    run.replace(PUBLISHED, render(pages.published).encode())
    run.replace(PRIVATE, render(pages.private).encode())
    return f"{run.uri}/{PUBLISHED}"


def lineage(case: Case) -> list[tuple[str, str]]:
    """Return whence a model comes: name and digest of each step."""
    card = case.card
    return [
        ("dataset, content", card.content_digest),
        ("manifest", card.manifest),
        ("checkpoint", card.checkpoint),
        ("weights", card.weights),
    ]


def recipe(case: Case, how: str) -> list[tuple[str, str]]:
    """Return how a model was made, in words: ``how`` is what only its task knows."""
    manifest, card, config = case.dataset.manifest, case.card, case.asked["config"]
    splits = ", ".join(f"{entry.samples:,} {name}" for name, entry in manifest.splits.items())
    return [
        ("scans", f"{manifest.modality}, {manifest.size[0]}×{manifest.size[1]}, {splits}"),
        ("network", f"{card.model['name']}, {how}"),
        ("images seen", f"{card.images:,} of {config['images']:,} in batches of {config['batch']}"),
        ("seed", str(config["seed"])),
        ("code", card.code_version),
    ]
