"""The way of scans into a dataset: find, decode, resize, map, clean, split, write; the manifest comes last.

Two passes: the first decodes each file once and keeps a small image in parts beside the dataset (``parts``), so that an
ingest that was interrupted goes on; the second puts series in order, maps values, drops what is not wanted and writes
shards. What comes out depends on the scans and the recipe alone, not on the order of files, their names, the number of
processes or the machines that decoded them. A dataset that is there already is added to.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from medgan_ray.ingest import archives, deidentify, pages, parts, sources, values, withdraw
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.existing import Existing, read_existing
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Images, Part
from medgan_ray.ingest.plan import IngestResult, Plan, recipe_facts
from medgan_ray.ingest.records import Record, Rejections
from medgan_ray.ingest.second import Second
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.split import SplitSettings
from medgan_ray.ingest.spool import Spool
from medgan_ray.store import Store, open_store

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
    found, store = sources.find(source, recipe.settings.labels, dataset, recipe.settings.groups), open_store(dataset)
    existing, key = _existing(store, recipe, split, key)
    planned = parts.split(found, recipe, key)
    with contextlib.ExitStack() as stack:
        beside = open_store(stack.enter_context(tempfile.TemporaryDirectory())) if dry_run else store
        decode_missing(beside, planned, recipe, key, progress, decode)
        gone = withdraw.gone(store, key)
        images = stack.enter_context(contextlib.closing(Images(beside, planned, recipe.grid, gone)))
        stored = stack.enter_context(contextlib.closing(Spool(recipe.size, np.uint16)))
        second = Second(images, recipe, rejections := Rejections([item.source.name for item in found]))
        if existing:
            existing.read(store)
            second.leave_out(gone)
        plan = _planned(second, stored, recipe, split, existing)
        if plan is None:
            images.delete()
            raise rejections.nothing(source)
        if dry_run:
            return dataclasses.replace(plan.result(dataset, ""), series=second.notes)
        result = dataclasses.replace(plan.write(store, dataset, key), series=second.notes)
        page = pages.after_ingest(store, result, plan.survey, images, rejections, len(found))
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


def decode_missing(
    store: Store, planned: list[Part], recipe: Recipe, key: SubjectKey, progress: Progress | None, decode: Decode
) -> None:
    """Decode the parts that are not whole yet; ``progress`` is told the files that are done, and all."""
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


def _planned(
    second: Second, stored: Spool, recipe: Recipe, split: SplitSettings, existing: Existing | None
) -> Plan | None:
    """Fill ``stored`` and return the plan of the dataset, or None if it would hold nothing."""
    before = existing.manifest if existing else None
    scale = (before.modality, before.intensity.unit) if before else second.scale()
    kept = second.in_order(second.of_scale(scale))
    if before:
        intensity = before.intensity
    elif kept and scale:
        intensity = values.intensity_map(scale[1], recipe.settings.window)
    else:
        return None
    records: list[Record] = []
    for positions, images in second.mapped(kept, intensity):
        records += map(second.record, positions)
        for image in images:
            stored.append(image)
    if not records and not existing:
        return None
    plan = Plan(records, stored, recipe, split, intensity, second.rejections, existing)
    return plan if plan.samples else None
