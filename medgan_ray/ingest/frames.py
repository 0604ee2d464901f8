"""From a decoded frame to an image of the dataset's size with a record, or a reason."""

import dataclasses
import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.sandbox import Outcome
from medgan_ray.ingest import clean, deidentify, geometry
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.records import Record
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.sources import Found

Value = TypeVar("Value")


@dataclass(frozen=True)
class Recipe:
    """What decides how a frame becomes an image: size in pixels (height, width) and settings."""

    size: tuple[int, int]
    settings: IngestSettings


@dataclass(frozen=True)
class Taken:
    """A frame that was taken, float32 [H, W] in the unit of its record."""

    record: Record
    image: NDArray[np.float32]


@dataclass(frozen=True)
class Left:
    """A file or frame that was not taken."""

    item: int
    reason: str


def take(item: int, found: Found, outcome: Outcome, recipe: Recipe, key: SubjectKey) -> list[Taken | Left]:
    """Return what becomes of each frame of a file."""
    if outcome.facts is None or outcome.values is None:
        return [Left(item, outcome.refusal)]
    facts = outcome.facts
    record = _record(item, found, facts, key)
    return [_frame(record, facts, frame, image, recipe) for frame, image in enumerate(outcome.values)]


def _frame(record: Record, facts: Facts, frame: int, image: NDArray[np.float32], recipe: Recipe) -> Taken | Left:
    spacing = _of(facts.spacings, frame)
    part = geometry.crop(image.shape[0], image.shape[1], recipe.size, spacing)
    reason = clean.frame_reason(image, part, recipe.size)
    if reason is not None and reason not in recipe.settings.keep:
        return Left(record.item, reason)
    scale = 255 / 65535 if facts.unit == "grey" and facts.bits == 16 else 1.0
    resized = geometry.resize(image[part].astype(np.float64) * scale, recipe.size)
    small = np.ascontiguousarray(resized, np.float32)
    known = dataclasses.replace(
        record,
        frame=frame,
        spacing=geometry.spacing_after(spacing, part, recipe.size),
        digest=hashlib.blake2b(small.data, digest_size=8).hexdigest(),
        place=_of(facts.positions, frame),
        orientation=_of(facts.orientations, frame),
    )
    return Taken(known, small)


def _record(item: int, found: Found, facts: Facts, key: SubjectKey) -> Record:
    identity = deidentify.identity(facts, found.group)
    folder = found.folder if facts.kind == "image" else ""  # DICOM's folders are patients, not classes
    return Record(
        item=item,
        frame=0,
        modality=facts.modality,
        unit=facts.unit,
        kind=facts.kind,
        label=found.label or facts.label or folder,
        subject=key.hash(identity) if identity else "",
        series=key.hash(f"{facts.study}/{facts.series}") if facts.series else "",
        attributes=deidentify.attributes(facts),
        spacing=(float("nan"), float("nan")),
        digest="",
    )


def _of(values: tuple[Value, ...], frame: int) -> Value | None:
    return values[frame] if frame < len(values) else None
