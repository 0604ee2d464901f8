"""The way of scans into a dataset: find, decode, resize, map, clean, split, write; the manifest comes last.

Two passes: the first decodes each file once and keeps a small image in parts beside the dataset (``parts``), so that an
ingest that was interrupted goes on; the second puts series in order, maps values, drops what is not wanted and writes
shards. What comes out depends on the scans and the recipe alone, not on the order of files, their names, the number of
processes or the machines that decoded them. A dataset that is there already is added to.
"""

import contextlib
import dataclasses
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import Intensity
from medgan_ray.dicom.transforms import PROJECTION_MODALITIES
from medgan_ray.ingest import archives, clean, deidentify, pages, parts, regions, series, sources, values, withdraw
from medgan_ray.ingest.bodies import Bodies
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.existing import Existing, read_existing
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Images, Part
from medgan_ray.ingest.plan import IngestResult, Plan, recipe_facts
from medgan_ray.ingest.records import Record, Rejections
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.split import SplitSettings
from medgan_ray.ingest.spool import Spool
from medgan_ray.store import Store, open_store

CHUNK_PIXELS = 1 << 18
"""Of images that are mapped at a time: more would only take memory."""
NOTES = 20
"""Series that a result describes, at most."""

__all__ = ["Decode", "IngestResult", "IngestSettings", "Progress", "ingest"]

Progress = Callable[[int, int], None]


class Decode(Protocol):
    """Decodes parts and writes them to a store; tells each number of files that are done."""

    def __call__(
        self,
        store: Store,
        todo: Sequence[Part],
        recipe: Recipe,
        key: SubjectKey,
        tell: Callable[[int], None] | None = None,
    ) -> None:
        """Decode and write."""


def ingest(
    source: list[str],
    dataset: str,
    recipe: Recipe,
    split: SplitSettings,
    progress: Progress | None = None,
    dry_run: bool = False,
    decode: Decode = parts.decode,
    key: SubjectKey | None = None,
) -> IngestResult:
    """Turn scans into a dataset, or add them to the one that is there, and return what became of them.

    Args:
        source: folders, files, archives, s3:// prefixes or DICOMweb services.
        dataset: where the dataset stands: a path or s3:// prefix.
        recipe: size of the dataset's images and settings.
        split: the shares of val and test.
        progress: called with the number of files done and of all.
        dry_run: only count; nothing is written.
        decode: what decodes the parts of the archive, here or elsewhere.
        key: hashes patients; by default that of this machine's user, who is told if it is fresh.

    Raises:
        InputError: if a source is missing or empty, a labels file is unusable, or nothing could be taken.
        UsageError: if the dataset was made with another recipe or key.
        StoreError: if a store fails, or another ingest finished first.
    """
    found = sources.find(source, recipe.settings.labels, dataset, recipe.settings.groups)
    store = open_store(dataset)
    existing, key = _existing(store, recipe, split, key)
    with contextlib.ExitStack() as stack:
        beside = open_store(stack.enter_context(tempfile.TemporaryDirectory())) if dry_run else store
        planned = parts.split(found, recipe, key)
        _decode(beside, planned, recipe, key, progress, decode)
        gone = withdraw.gone(store, key)
        images = stack.enter_context(contextlib.closing(Images(beside, planned, recipe.grid, gone)))
        stored = stack.enter_context(contextlib.closing(Spool(recipe.size, np.uint16)))
        pass_two = _Second(images, stored, recipe, Rejections([item.source.name for item in found]))
        if existing:
            pass_two.go_on(existing, store, gone)
        plan = pass_two.plan(split, existing)
        if plan is None:
            images.delete()
            raise pass_two.rejections.nothing(source)
        if dry_run:
            return dataclasses.replace(plan.result(dataset, ""), series=pass_two.notes)
        result = dataclasses.replace(plan.write(store, dataset, key), series=pass_two.notes)
        page = pages.after_ingest(store, result, plan.survey, images, pass_two.rejections, len(found))
        images.delete()
    return dataclasses.replace(result, report=page)


def _existing(
    store: Store, recipe: Recipe, split: SplitSettings, key: SubjectKey | None
) -> tuple[Existing | None, SubjectKey]:
    """Return the dataset that is added to, and the key; what fails here should not after hours of decoding."""
    existing = read_existing(store)
    if key is None:
        # None is made where it could match nobody.
        key = deidentify.subject_key(make=not (existing and existing.manifest.key_fingerprint))
    if existing:
        existing.check(recipe_facts(recipe, split), key, store.uri)
    return existing, key


def _decode(
    store: Store, planned: list[Part], recipe: Recipe, key: SubjectKey, progress: Progress | None, decode: Decode
) -> None:
    """Decode what is not whole yet."""
    todo = parts.missing(store, planned)
    total = sum(len(part.found) for part in planned)
    done = total - sum(len(part.found) for part in todo)

    def tell(files: int) -> None:
        nonlocal done
        done += files
        if progress is not None:
            progress(done, total)

    tell(0)
    if todo:
        decode(store, todo, recipe, key, tell)
    archives.forget()


class _Second:
    """The second pass: from parts to a plan of the dataset."""

    def __init__(self, images: Images, stored: Spool, recipe: Recipe, rejections: Rejections) -> None:
        self._images, self._stored, self._recipe, self.rejections = images, stored, recipe, rejections
        self._records, self._settings = images.records, recipe.settings
        self.notes: list[dict[str, object]] = []
        for refused in images.refused:
            rejections.add(refused.reason, refused.item)
        self._candidates = list(range(len(self._records)))

    def go_on(self, existing: Existing, store: Store, gone: Callable[[str], bool]) -> None:
        """Read what the dataset holds, and leave out the scans of subjects that were withdrawn from it."""
        existing.read(store)
        left = []
        for position, record in enumerate(self._records):
            if gone(record.subject):
                self.rejections.add("withdrawn", record.item)  # by its file: nothing of the image is shown
            else:
                left.append(position)
        self._candidates = left

    def plan(self, split: SplitSettings, existing: Existing | None) -> Plan | None:
        """Return the plan of the dataset, or None if it would hold nothing."""
        kept = self._in_order(self._one_scale(existing))
        if existing:
            intensity = existing.manifest.intensity
        elif kept:
            intensity = values.intensity_map(self._records[kept[0]].scale[1], self._settings.window)
        else:
            return None
        self._bodies = Bodies(self._records, kept, self._recipe)
        kept = self._map(kept, intensity)
        if not kept and not existing:
            return None
        records = [self._bodies.record(position) for position in kept]
        plan = Plan(records, self._stored, self._recipe, split, intensity, self.rejections, existing)
        return plan if plan.samples else None

    def _one_scale(self, existing: Existing | None) -> list[int]:
        """Return the records of the dataset's modality, else of the commonest."""
        scales = {position: self._records[position].scale for position in self._candidates}
        counts = Counter(scales.values())
        if existing:
            chosen = (existing.manifest.modality, existing.manifest.intensity.unit)
        elif counts:
            chosen = min(counts, key=lambda scale: (-counts[scale], scale))
        else:
            return []
        for position, scale in scales.items():
            if scale != chosen:
                self.rejections.add("mixed_modality", self._records[position])
        return [position for position, scale in scales.items() if scale == chosen]

    def _in_order(self, kept: list[int]) -> list[int]:
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
        reasons = apart | {row: "not_wanted_slice" for row in order if row not in asked}
        if fatal:
            reasons |= dict.fromkeys(order, fatal[0])
        for row, reason in sorted(reasons.items()):
            for position in copies[records[row].digest]:
                self.rejections.add(reason, self._records[position])
        return [position for row in order if row not in reasons for position in copies[records[row].digest]]

    def _note(self, found: series.Geometry, record: Record) -> None:
        if len(self.notes) < NOTES:
            shown = {
                "series": record.series,
                "slices": len(found.order),
                "steps_mm": sorted(set(found.steps_mm))[:NOTES],
            }
            name = self.rejections.name(record.item)
            self.notes.append({**shown, "tilt_degrees": found.tilt_degrees, "flags": found.flags, "example": name})

    def _map(self, kept: list[int], intensity: Intensity) -> list[int]:
        """Write the 16-bit image of every kept record; return the records (in the order of ``stored``) still kept."""
        order: list[int] = []
        chunk = max(1, CHUNK_PIXELS // (self._recipe.grid[0] * self._recipe.grid[1]))
        for group in filter(None, self._groups(kept)):
            ends = self._range(group) if self._records[group[0]].unit == "relative" else None
            for start in range(0, len(group), chunk):
                some = group[start : start + chunk]
                images = self._cut(some)
                mapped = values.quantize(values.to_share(images, *ends) if ends else images, intensity)
                for position, image, contrast in zip(some, mapped, clean.contrast(mapped), strict=True):
                    if contrast < self._settings.min_contrast and "nearly_empty" not in self._settings.keep:
                        self.rejections.add("nearly_empty", self._records[position])
                    else:
                        self._stored.append(image)
                        order.append(position)
        return order

    def _range(self, group: list[int]) -> tuple[float, float]:
        """Return the values of a series that become black and white; of a long one, some images tell, by content."""
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
