"""The second pass over decoded images: one scale, series in order, parts that show a body, 16-bit values, contrast.

What comes out depends on the images and the recipe alone. ``pipeline`` makes a dataset of it, ``prepare`` what a model
takes.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import Intensity
from medgan_ray.dicom.transforms import PROJECTION_MODALITIES
from medgan_ray.ingest import clean, regions, series, values
from medgan_ray.ingest.bodies import Bodies
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Refused
from medgan_ray.ingest.records import Record, Rejections

CHUNK_PIXELS = 1 << 18
"""Of images that are mapped at a time: more would only take memory."""
NOTES = 20
"""Series that a result describes, at most."""

Scale = tuple[str, str]
"""Modality, and unit of the intensity map."""


class Decoded(Protocol):
    """Images of the first pass: their records, what was refused, and a way to read them."""

    records: list[Record]
    refused: list[Refused]

    def read(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Return images [n, *grid] at the given positions."""


class Second:
    """The second pass, step by step: ``of_scale``, ``in_order``, ``mapped``.

    Args:
        images: what the first pass made.
        recipe: the dataset's.
        rejections: takes what falls out on the way.
        every: keep the slices that the recipe doesn't ask for, too; they are scaled and cropped as those that it does.
    """

    def __init__(self, images: Decoded, recipe: Recipe, rejections: Rejections, every: bool = False) -> None:
        self._images, self._recipe, self.rejections, self._every = images, recipe, rejections, every
        self._records, self._settings = images.records, recipe.settings
        self.notes: list[dict[str, object]] = []
        """Series that are uneven or tilted."""
        self.places: dict[int, int] = {}
        """By position: the place of a slice in the order of its series, from 0."""
        for refused in images.refused:
            rejections.add(refused.reason, refused.item)
        self._candidates = list(range(len(self._records)))
        self._aside: set[int] = set()

    def leave_out(self, gone: Callable[[str], bool]) -> None:
        """Leave out the scans of subjects that were withdrawn."""
        left = []
        for position, record in enumerate(self._records):
            if gone(record.subject):
                self.rejections.add("withdrawn", record.item)  # by its file: nothing of the image is shown
            else:
                left.append(position)
        self._candidates = left

    def scale(self) -> Scale | None:
        """Return the commonest modality and unit; None where there is no image."""
        counts = Counter(self._records[position].scale for position in self._candidates)
        return min(counts, key=lambda scale: (-counts[scale], scale)) if counts else None

    def of_scale(self, chosen: Scale | None) -> list[int]:
        """Return the positions of what has this scale; the rest is rejected."""
        kept = []
        for position in self._candidates:
            if self._records[position].scale == chosen:
                kept.append(position)
            else:
                self.rejections.add("mixed_modality", self._records[position])
        return kept

    def in_order(self, kept: list[int]) -> list[int]:
        """Put series in order; drop slices that are out of it or not asked for."""
        chosen: list[int] = []
        together: dict[str, list[int]] = {}
        for position in kept:
            record = self._records[position]
            if record.series and record.modality not in PROJECTION_MODALITIES:
                together.setdefault(record.series, []).append(position)
            else:
                chosen.append(position)
        for _, members in sorted(together.items()):
            chosen += self._ordered(members)
        return sorted(chosen)

    def mapped(self, kept: list[int], intensity: Intensity) -> Iterator[tuple[list[int], NDArray[np.uint16]]]:
        """Yield positions and their 16-bit images [n, *size], a chunk at a time; images without contrast fall out."""
        measured = [position for position in kept if position not in self._aside]
        self._bodies = Bodies(self._records, measured, self._recipe)
        chunk = max(1, CHUNK_PIXELS // (self._recipe.grid[0] * self._recipe.grid[1]))
        for group in filter(None, self._groups(kept)):
            ends = self._range(group) if self._records[group[0]].unit == "relative" else None
            for start in range(0, len(group), chunk):
                some = group[start : start + chunk]
                images = self._cut(some)
                mapped = values.quantize(values.to_share(images, *ends) if ends else images, intensity)
                rich = self._rich(some, mapped)
                yield [position for position, there in zip(some, rich, strict=True) if there], mapped[rich]

    def record(self, position: int) -> Record:
        """Return a record as it is after ``mapped``: a part that is cut out has pixels of another size."""
        return self._bodies.record(position)

    def _rich(self, positions: list[int], mapped: NDArray[np.uint16]) -> NDArray[np.bool_]:
        """Return which images have contrast enough, [n]; the others are rejected."""
        if "nearly_empty" in self._settings.keep:
            return np.ones(len(positions), bool)
        rich = clean.contrast(mapped) >= self._settings.min_contrast
        for row in np.flatnonzero(~rich).tolist():
            self.rejections.add("nearly_empty", self._records[positions[row]])
        return rich

    def _ordered(self, everyone: list[int]) -> list[int]:
        """Return a series' slices in order; exact copies of a slice share its fate, and are looked at later."""
        copies: dict[str, list[int]] = {}
        for position in everyone:
            copies.setdefault(self._records[position].digest, []).append(position)
        members = [some[0] for some in copies.values()]
        records = [self._records[position] for position in members]
        keep = self._settings.keep
        found = series.examine(
            [record.place for record in records],
            [record.orientation for record in records],
            [(record.digest, record.frame) for record in records],
        )
        if found.flags:
            self._note(found, records[0])
        fatal = [flag for flag in found.flags if flag not in keep]
        apart = {row: reason for row, reason in found.apart.items() if reason not in keep}
        order = [*found.order, *(row for row in found.apart if row not in apart)]
        asked = set(series.wanted(self._settings.slices, order, len(found.steps_mm)))
        unasked = [row for row in order if row not in asked]
        reasons = apart | ({} if self._every else dict.fromkeys(unasked, "not_wanted_slice"))
        if fatal:
            reasons |= dict.fromkeys(order, fatal[0])
        for row, reason in sorted(reasons.items()):
            for position in copies[records[row].digest]:
                self.rejections.add(reason, self._records[position])
        self._aside |= {position for row in unasked for position in copies[records[row].digest]}
        left = [row for row in order if row not in reasons]
        self.places |= {position: place for place, row in enumerate(left) for position in copies[records[row].digest]}
        return [position for row in left for position in copies[records[row].digest]]

    def _note(self, found: series.Geometry, record: Record) -> None:
        if len(self.notes) < NOTES:
            shown = {
                "series": record.series,
                "slices": len(found.order),
                "steps_mm": sorted(set(found.steps_mm))[:NOTES],
            }
            name = self.rejections.name(record.item)
            self.notes.append({**shown, "tilt_degrees": found.tilt_degrees, "flags": found.flags, "example": name})

    def _range(self, group: list[int]) -> tuple[float, float]:
        """Return the values of a series that become black and white; of a long one, some images tell, by content."""
        group = [position for position in group if position not in self._aside]
        most = max(1, values.RANGE_BYTES // (4 * self._recipe.grid[0] * self._recipe.grid[1]))
        if len(group) > most:
            group = sorted(group, key=lambda position: (self._records[position].digest, position))[:most]
        record = self._records[group[0]]
        in_body = record.modality == "MR" or record.kind == "volume"
        images = self._cut(group)
        if self._settings.crop == "none" and record.modality in PROJECTION_MODALITIES:
            images = images[:, *regions.field(images[0])]  # an exposure has a scale of its own
        return (values.body_range if in_body else values.image_range)(images)

    def _cut(self, positions: list[int]) -> NDArray[np.float32]:
        return self._bodies.cut(positions, self._images.read(positions))

    def _groups(self, kept: list[int]) -> Iterator[list[int]]:
        """Yield positions that share one intensity scale: a series where the modality has no unit, else all."""
        together: dict[str, list[int]] = {}
        fixed: list[int] = []
        for position in kept:
            record = self._records[position]
            if record.unit != "relative":
                fixed.append(position)
            elif record.modality in PROJECTION_MODALITIES:
                yield [position]
            else:
                together.setdefault(record.together, []).append(position)
        yield from together.values()
        yield fixed
