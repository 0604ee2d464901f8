"""Writes the two pages of a dataset after an ingest or a withdrawal.

DATASET/report.html               its facts; no pixels, no names of files or people
DATASET/private/thumbnails.html   a few scans that were taken and left out; those with burned-in text are black
"""

import numpy as np

from medgan_ray import report
from medgan_ray.dataset.manifest import Intensity, Manifest, read_manifest
from medgan_ray.ingest import album, values
from medgan_ray.ingest.album import Album, Picture
from medgan_ray.ingest.facts import dataset_facts
from medgan_ray.ingest.parts import Images
from medgan_ray.ingest.plan import IngestResult
from medgan_ray.ingest.records import Record, Rejections
from medgan_ray.ingest.report_page import Last, page
from medgan_ray.ingest.survey import Survey
from medgan_ray.ingest.thumbnails import thumbnails
from medgan_ray.store import Store

REPORT = "report.html"
THUMBNAILS = "private/thumbnails.html"


def after_ingest(
    store: Store, result: IngestResult, survey: Survey, images: Images, rejections: Rejections, files: int
) -> str:
    """Write the pages, or leave them as they are if nothing was added; return the address of the report.

    Args:
        store: the dataset's.
        result: what became of the scans.
        survey: of all samples of the dataset.
        images: those that were read.
        rejections: what was not taken.
        files: how many were found.
    """
    if result.added or not _told(store, result.manifest):
        manifest, sha256 = read_manifest(store, result.manifest)
        pictures = _pictures(rejections, images, manifest.intensity)
        write(store, manifest, sha256, survey, Last(files, result.added, result.rejected, result.series, pictures))
    return f"{store.uri}/{REPORT}"


def write(store: Store, manifest: Manifest, sha256: str, survey: Survey, last: Last | None = None) -> None:
    """Write both pages; without ``last`` nothing is shown of what was left out but the counts."""
    found = dataset_facts(manifest, sha256, survey.counts(manifest.classes, manifest.attributes))
    store.replace(THUMBNAILS, report.render(thumbnails(manifest, survey, last)).encode())
    store.replace(REPORT, report.render(page(found, last)).encode())


def _told(store: Store, sha256: str) -> bool:
    """Say whether the pages of a manifest are there."""
    return store.exists(THUMBNAILS) and store.exists(REPORT) and sha256.encode() in store.read(REPORT)


def _pictures(rejections: Rejections, images: Images, intensity: Intensity) -> Album[str, Picture]:
    """Return thumbnails of what an ingest did not take, by reason: refused as it was read, or looked at later.

    Where the unit is the dataset's, the image is shown as the dataset would; else over its own range.
    """
    found = images.pictures
    places = {(record.item, record.frame): place for place, record in enumerate(images.records)}
    for reason, key, record in rejections.records.items():
        if not album.hidden(reason) and found.wants(reason, key):
            found.add(reason, key, _picture(images, places[record.item, record.frame], record, intensity))
    return found


def _picture(images: Images, place: int, record: Record, intensity: Intensity) -> Picture:
    (image,) = images.read([place])
    if record.unit == intensity.unit != "relative":
        shown = intensity.display(values.quantize(image, intensity))
        return album.thumbnail(shown).round().astype(np.uint8)
    return album.stretch(album.thumbnail(image))
