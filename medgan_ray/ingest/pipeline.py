"""The way of scans into a dataset: find, decode, resize, map, clean, split, write; the manifest comes last.

Two passes: the first decodes each file once and keeps a small image in a temporary file; the second maps values, drops
what is not wanted and writes shards. What comes out depends on the scans and the recipe alone, not on the order of
files, their names or the number of processes.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import POINTER, Intensity
from medgan_ray.dicom import sandbox
from medgan_ray.dicom.facts import Facts, Options
from medgan_ray.dicom.transforms import PROJECTION_MODALITIES
from medgan_ray.errors import InputError
from medgan_ray.ingest import clean, deidentify, geometry, sources, values
from medgan_ray.ingest.plan import IngestResult, IngestSettings, Plan, Record, Rejections
from medgan_ray.ingest.split import SplitSettings
from medgan_ray.ingest.spool import Spool
from medgan_ray.store import open_store

CHUNK = 256

__all__ = ["IngestResult", "IngestSettings", "Progress", "ingest"]

Progress = Callable[[int, int], None]


def ingest(
    source: list[str],
    dataset: str,
    size: tuple[int, int],
    settings: IngestSettings,
    split: SplitSettings,
    progress: Progress | None = None,
    dry_run: bool = False,
) -> IngestResult:
    """Turn scans into a dataset and return what became of them.

    Args:
        source: folders, files or s3:// prefixes.
        dataset: where the dataset stands: a path or s3:// prefix.
        size: height and width of the dataset's images, pixels.
        settings: the recipe.
        split: the shares of val and test.
        progress: called with the number of files done and of all.
        dry_run: only count; nothing is written.

    Raises:
        InputError: if a source is missing or empty, a labels file is unusable, or nothing could be taken.
        StoreError: if a store fails.
    """
    found = sources.find(source, settings.labels, skip=dataset)
    # A bucket that is missing or closed should not show after hours of decoding.
    open_store(dataset).exists(POINTER)
    rejections, spool = Rejections(), Spool(size, np.float32)
    stored = Spool(size, np.uint16)
    try:
        records = _decode(found, size, settings, rejections, spool, progress)
        kept = _majority(records, rejections)
        if kept:
            intensity = values.intensity_map(_scale_of(records[kept[0]])[1], settings.window)
            kept = _map(records, kept, spool, stored, intensity, settings, rejections)
        if not kept:
            raise InputError("nothing could be taken", ", ".join(source), rejections.summary())
        plan = Plan([records[position] for position in kept], stored, settings, split, intensity, rejections)
        if not plan.samples:
            raise InputError("nothing could be taken", ", ".join(source), rejections.summary())
        return plan.result(dataset, "") if dry_run else plan.write(dataset)
    finally:
        spool.close()
        stored.close()


def _decode(
    found: list[sources.Found],
    size: tuple[int, int],
    settings: IngestSettings,
    rejections: Rejections,
    spool: Spool,
    progress: Progress | None,
) -> list[Record]:
    """Decode every file once; return a record for each image that went into the spool."""
    records: list[Record] = []
    limits = sandbox.Limits(settings.file_limit_s, settings.memory_mb << 20)
    options = Options(luma=settings.color == "luma", secondary=settings.secondary)
    workers = settings.workers or min(8, os.cpu_count() or 1)
    outcomes = sandbox.decode((item.source for item in found), workers, options=options, limits=limits)
    for done, (item, outcome) in enumerate(zip(found, outcomes, strict=True), start=1):
        if outcome.facts is None or outcome.values is None:
            rejections.add(outcome.refusal, item.source.name)
        else:
            for frame, image in enumerate(outcome.values):
                record = _take(item, outcome.facts, frame, image, size, rejections, spool)
                records += [record] if record else []
        if progress is not None:
            progress(done, len(found))
    return records


def _take(
    item: sources.Found,
    facts: Facts,
    frame: int,
    image: NDArray[np.float32],
    size: tuple[int, int],
    rejections: Rejections,
    spool: Spool,
) -> Record | None:
    """Crop and resize one frame into the spool; return its record, or None if it is refused."""
    spacing = facts.spacings[frame] if frame < len(facts.spacings) else None
    part = geometry.crop(image.shape[0], image.shape[1], size, spacing)
    reason = clean.frame_reason(image, part, size)
    if reason is not None:
        rejections.add(reason, item.source.name)
        return None
    scale = 255 / 65535 if facts.unit == "grey" and facts.bits == 16 else 1.0
    spool.append(geometry.resize(image[part].astype(np.float64) * scale, size))
    return Record(
        name=item.source.name,
        modality=facts.modality,
        unit=facts.unit,
        kind=facts.kind,
        label=item.label,
        folder=item.folder,
        subject=deidentify.identity(facts, item.group),
        series=f"{facts.study}/{facts.series}" if facts.series else item.source.name,
        attributes=deidentify.attributes(facts),
        spacing=geometry.spacing_after(spacing, part, size),
    )


def _scale_of(record: Record) -> tuple[str, str]:
    """Return what all records of a dataset have in common."""
    return record.modality, "relative" if record.unit == "voi" else record.unit


def _majority(records: list[Record], rejections: Rejections) -> list[int]:
    """Return the positions of the records of the commonest modality."""
    counts = Counter(map(_scale_of, records))
    if not counts:
        return []
    chosen = min(counts, key=lambda scale: (-counts[scale], scale))
    for record in records:
        if _scale_of(record) != chosen:
            rejections.add("mixed_modality", record.name)
    return [position for position, record in enumerate(records) if _scale_of(record) == chosen]


def _map(
    records: list[Record],
    kept: list[int],
    spool: Spool,
    stored: Spool,
    intensity: Intensity,
    settings: IngestSettings,
    rejections: Rejections,
) -> list[int]:
    """Write the 16-bit image of every kept record; return the records (now in the order of ``stored``) still kept."""
    order: list[int] = []
    for group in _groups(records, kept):
        images = spool.read(group)
        unit = records[group[0]].unit
        if unit == "relative":
            projection = len(group) == 1 and records[group[0]].modality in PROJECTION_MODALITIES
            images = values.to_share(images, *(values.image_range if projection else values.body_range)(images))
        mapped = values.quantize(images, intensity)
        for position, image, contrast in zip(group, mapped, clean.contrast(mapped), strict=True):
            if contrast < settings.min_contrast:
                rejections.add("nearly_empty", records[position].name)
            else:
                stored.append(image)
                order.append(position)
    return order


def _groups(records: list[Record], kept: list[int]) -> Iterator[list[int]]:
    """Yield positions that share one intensity scale: a series where the modality has no unit, else any few."""
    series: dict[str, list[int]] = {}
    fixed: list[int] = []
    for position in kept:
        record = records[position]
        if record.unit != "relative":
            fixed.append(position)
        elif record.modality in PROJECTION_MODALITIES:
            yield [position]
        else:
            series.setdefault(record.series, []).append(position)
    yield from series.values()
    for start in range(0, len(fixed), CHUNK):
        yield fixed[start : start + CHUNK]
