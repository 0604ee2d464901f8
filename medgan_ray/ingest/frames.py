"""From what a decoding process made of a file to images with records, or reasons."""

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.sandbox import Outcome
from medgan_ray.ingest import album, deidentify
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.reasons import Reason
from medgan_ray.ingest.records import Record
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.sources import Found

Value = TypeVar("Value")

_BROKEN = Reason("decoder_crashed")
"""What a reply gets that is none."""


@dataclass(frozen=True)
class Recipe:
    """What decides how a frame becomes an image: size in pixels (height, width) and settings."""

    size: tuple[int, int]
    settings: IngestSettings

    @property
    def grid(self) -> tuple[int, int]:
        """Size of images as they are decoded."""
        return self.settings.grid(self.size)


@dataclass(frozen=True)
class Taken:
    """A frame that was taken, float32 [H, W] in the unit of its record."""

    record: Record
    image: NDArray[np.float32]


@dataclass(frozen=True)
class Left:
    """A file or frame that was not taken; ``picture`` is its thumbnail, None if it has none or nobody may see it.

    ``subject`` is the keyed hash of the patient, empty if unknown.
    """

    item: int
    reason: str
    picture: NDArray[np.uint8] | None = None
    subject: str = ""


def take(item: int, found: Found, outcome: Outcome, recipe: Recipe, key: SubjectKey) -> list[Taken | Left]:
    """Return what becomes of each frame of a file that went through ``shrink.step``."""
    facts, images = outcome.facts, outcome.values
    if facts is None or images is None:
        return [Left(item, outcome.refusal)]
    if images.dtype != np.float32 or images.shape != (len(outcome.notes), *recipe.grid):
        return [Left(item, _BROKEN)]
    record = _record(item, found, facts, key)
    noted = zip(images, outcome.notes, strict=True)
    return [_frame(record, facts, frame, image, note) for frame, (image, note) in enumerate(noted)]


def _frame(record: Record, facts: Facts, frame: int, image: NDArray[np.float32], note: Any) -> Taken | Left:
    """Return what becomes of a frame; the note comes from a process that met untrusted bytes."""
    try:
        reason, digest, (row_mm, column_mm) = note["reason"], bytes.fromhex(note["digest"]).hex(), note["spacing"]
        if reason:
            return Left(record.item, Reason(reason), album.refused(image, reason), record.subject)
        spacing = float(row_mm), float(column_mm)
        box = None if note["box"] is None else _box(*map(float, note["box"]))
    except (ValueError, TypeError, KeyError):
        return Left(record.item, _BROKEN)
    known = dataclasses.replace(
        record,
        frame=frame,
        spacing=spacing,
        digest=digest,
        box=box,
        masked=note.get("masked") is True,
        place=_of(facts.positions, frame),
        orientation=_of(facts.orientations, frame),
    )
    return Taken(known, image)


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
        # With the patient: some de-identified archives give all their patients one UID.
        series=key.hash(f"{facts.patient or found.group}/{facts.study}/{facts.series}") if facts.series else "",
        attributes=deidentify.attributes(facts),
        spacing=(float("nan"), float("nan")),
        digest="",
    )


def _box(top: float, bottom: float, left: float, right: float) -> tuple[float, float, float, float]:
    if not (0 <= top < bottom <= 1 and 0 <= left < right <= 1):
        raise ValueError("a box that is none")
    return top, bottom, left, right


def _of(values: tuple[Value, ...], frame: int) -> Value | None:
    return values[frame] if frame < len(values) else None
