"""The private page of a dataset: thumbnails of some scans that were taken, by class and split, and of some left out."""

from collections.abc import Iterable

import numpy as np

from medgan_ray.dataset.manifest import SPLITS, Manifest
from medgan_ray.ingest import album
from medgan_ray.ingest.reasons import MEANINGS
from medgan_ray.ingest.report_page import FOOTER, Last
from medgan_ray.ingest.survey import CLASSES, Survey
from medgan_ray.report import Grid, Page, Panel, Section, Table, Text

COLUMNS = 4


def thumbnails(manifest: Manifest, survey: Survey, last: Last | None) -> Page:
    """Return the page of pictures: some of what was taken, by class and split, and of what was not, by reason."""
    first = Text(
        title="Keep this page where the scans are",
        paragraphs=["It shows pixels of real scans, chosen by their content. It is rewritten with every ingest."],
    )
    return Page(
        title="Thumbnails",
        headline="A few scans that were taken, and a few that were not.",
        sections=[first, *_taken(manifest, survey), *(_left_out(last, album.shape(manifest.size)) if last else ())],
        footer=FOOTER,
    )


def _taken(manifest: Manifest, survey: Survey) -> Iterable[Section]:
    names = dict(enumerate(manifest.classes[:CLASSES])) | {-1: "without a class"}
    for code, name in names.items():
        panels = []
        for split in SPLITS:
            stored = survey.pictures.get((split, code))
            if stored:
                shown = manifest.intensity.display(np.stack(stored).round().astype(np.uint16))
                panels.append(Panel(caption=split, images=shown, columns=COLUMNS))
        if panels:
            yield Grid(title=f"Taken: {name}" if manifest.classes else "Taken", panels=panels)
    if len(manifest.classes) > CLASSES:
        yield Text(title="More classes", paragraphs=[f"Shown are the first {CLASSES} of {len(manifest.classes)}."])


def _left_out(last: Last, size: tuple[int, int]) -> Iterable[Section]:
    rows: list[tuple[str, str, int, str]] = []
    panels = []
    for reason, count in sorted(last.rejected.items(), key=lambda item: (-item[1], item[0])):
        black = [np.zeros(size, np.uint8)] * min(count, album.REJECTED)
        pictures = black if album.hidden(reason) else last.pictures.get(reason)
        how = "blacked out" if album.hidden(reason) else f"{len(pictures):,}" if pictures else "no pixels"
        rows.append((reason, MEANINGS.get(reason, ""), count, how))
        if pictures:
            panels.append(Panel(caption=f"{reason} ({count:,})", images=np.stack(pictures), columns=COLUMNS))
    if not rows:
        return
    note = f"Of each reason up to {album.REJECTED} are shown; those that look the same count once."
    yield Table(title="Left out by the last ingest", columns=["reason", "meaning", "how many", "shown"], rows=rows)
    if panels:
        yield Grid(title="Pictures of what was left out", panels=panels, note=note)
