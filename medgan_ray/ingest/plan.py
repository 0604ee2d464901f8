"""What becomes of the images that are kept: labels, duplicates, splits, shards, manifest; and what ingest reports."""

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.content import ContentDigest, image_digest
from medgan_ray.dataset.manifest import (
    SPLITS,
    Intensity,
    LabelSet,
    Manifest,
    ShardEntry,
    SplitEntry,
    canonical,
    write_manifest,
)
from medgan_ray.dataset.shards import Samples, ShardWriter
from medgan_ray.errors import InputError
from medgan_ray.ingest import clean, deidentify, groups, near
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.existing import Existing
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.reasons import Reason
from medgan_ray.ingest.records import Record, Rejections
from medgan_ray.ingest.split import SplitSettings, assign
from medgan_ray.ingest.spool import Spool
from medgan_ray.ingest.survey import Survey
from medgan_ray.store import Store

RECIPE_VERSION = 3
CHUNK = 256


@dataclass(frozen=True)
class IngestResult:
    """What became of the scans; ``manifest`` is empty if they were only counted."""

    dataset: str
    manifest: str
    samples: int
    subjects: int
    splits: dict[str, int]
    rejected: dict[str, int]
    added: int = 0
    """Samples that the dataset did not hold before."""
    masked: int = 0
    """Of these, those in which text was blanked."""
    modality: str = ""
    classes: dict[str, int] = field(default_factory=dict)
    series: list[dict[str, Any]] = field(default_factory=list)
    """Series whose slices are uneven or tilted: steps in millimeters, tilt in degrees, and a name for the terminal."""
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few names of what was not taken, by reason: for the terminal only, never kept."""
    report: str = ""
    """Where a page tells of all this; empty if they were only counted."""
    warnings: list[str] = field(default_factory=list)


def recipe_facts(recipe: Recipe, split: SplitSettings) -> dict[str, Any]:
    """Return what decides which samples a dataset holds, as the manifest keeps it."""
    left_out = {"labels", "workers", "file_limit_s", "memory_mb", "allow_leakage"}
    return {
        "version": RECIPE_VERSION,
        "size": list(recipe.size),
        "ingest": recipe.settings.model_dump(mode="json", exclude=left_out),
        "split": split.model_dump(mode="json"),
    }


class Plan:
    """Which sample goes where: made from everything that is kept, then written, split by split."""

    def __init__(
        self,
        records: list[Record],
        stored: Spool,
        recipe: Recipe,
        split: SplitSettings,
        intensity: Intensity,
        rejections: Rejections,
        existing: Existing | None,
    ) -> None:
        self._stored, self._intensity, self._rejections, self._existing = stored, intensity, rejections, existing
        self._recipe, self._settings = recipe_facts(recipe, split), recipe.settings
        self.survey = existing.survey if existing else Survey()
        """What the samples are that were there, and those that ``write`` has written."""
        digests: list[bytes] = []
        self._blank: set[bytes] = set()
        for start in range(0, len(stored), CHUNK):
            for image in stored.read(range(start, min(start + CHUNK, len(stored)))):
                digests.append(image_digest(image))
                if image.min() == image.max():
                    self._blank.add(digests[-1])
        kept = self._distinct(records, digests)
        self._set_order(records, digests, kept)
        self._set_classes()
        self._set_splits(split)

    def write(self, store: Store, dataset: str, key: SubjectKey) -> IngestResult:
        """Write shards, then the manifest, then the pointer; nothing if all samples are there already."""
        before = self._existing
        if before and not self._order:
            return self.result(dataset, before.sha256)
        names = self._subject_names()
        shards = [entry for name in SPLITS for entry in self._write_split(store, name, names)]
        rejected = self._rejections.counts + Counter(before.manifest.rejected if before else {})
        attributes = deidentify.ATTRIBUTES if self._has_attributes else ()
        manifest = Manifest(
            modality=self._modality,
            size=self._stored.size,
            intensity=self._intensity,
            labels=(LabelSet(name="class", classes=self._classes),) if self._classes else (),
            attributes=attributes,
            splits=self._split_entries(),
            shards=(*(before.manifest.shards if before else ()), *shards),
            subjects=tuple(names),
            key_fingerprint=key.fingerprint if names else "",
            rejected=dict(sorted(rejected.items())),
            recipe=self._recipe,
            masked=self._masked + (before.manifest.masked if before else 0),
            spacing=self._uniform_spacing(),
            counts=self.survey.counts(self._classes, attributes),
            content_digest=self._content_digest(),
        )
        warning = key.keep() if names else ""  # before anything names patients by it
        sha256 = write_manifest(store, manifest, before.sha256 if before else "")
        return dataclasses.replace(self.result(dataset, sha256), warnings=[warning] if warning else [])

    def result(self, dataset: str, sha256: str) -> IngestResult:
        """Return what became of the scans."""
        before = self._existing
        splits = Counter(self._splits + (before.splits if before else []))
        codes = self._labels + (before.labels if before else [])
        classes = Counter(self._classes[code] if code >= 0 else "unknown" for code in codes)
        return IngestResult(
            dataset=dataset,
            manifest=sha256,
            samples=splits.total(),
            subjects=deidentify.count_subjects(self._subject_names()),
            splits={name: splits[name] for name in SPLITS},
            rejected=dict(sorted(self._rejections.counts.items())),
            added=len(self._order),
            masked=self._masked,
            modality=self._modality,
            classes=dict(sorted(classes.items())) if self._classes else {},
            examples=self._rejections.examples,
        )

    @property
    def samples(self) -> int:
        """How many samples the dataset will hold."""
        return len(self._order) + (len(self._existing.digests) if self._existing else 0)

    @property
    def _masked(self) -> int:
        return sum(record.masked for record in self._records)

    def _distinct(self, records: list[Record], digests: list[bytes]) -> list[int]:
        """Return the positions of images that are no copies of each other, nor of what the dataset holds."""
        gone = clean.duplicates(digests, [record.label for record in records], [_rank(record) for record in records])
        if "duplicate" in self._settings.keep:
            gone = {position: reason for position, reason in gone.items() if reason != "duplicate"}
        there = set(self._existing.digests) if self._existing else set()
        gone |= {position: Reason("duplicate") for position, digest in enumerate(digests) if digest in there}
        for position, reason in sorted(gone.items()):
            self._rejections.add(reason, records[position])
        return [position for position in range(len(records)) if position not in gone]

    def _set_order(self, records: list[Record], digests: list[bytes], kept: list[int]) -> None:
        """Order by content, so that neither names nor the order of files leave a trace; group what stays together."""
        order = sorted(kept, key=lambda position: digests[position])
        copies: list[tuple[int, ...]] = []
        if "duplicate" in self._settings.keep:  # else no two are equal
            order.sort(key=lambda position: (digests[position], records[position].label, _rank(records[position])))
            copies = _copies([digests[position] for position in order], self._blank)
        before = self._existing
        subjects = [records[position].subject for position in order] + (before.subjects if before else [])
        near_sets = self._near_sets(order, subjects) if self._settings.near_duplicates == "group" else []
        names = groups.together(subjects, [*near_sets, *copies], self._copied(records, digests))
        there = groups.split_by(names[len(order) :], before.splits) if before else {}
        self._fixed = {name: next(iter(splits)) for name, splits in there.items() if len(splits) == 1}
        torn = {name for name, splits in there.items() if len(splits) > 1}
        self._check_leakage(bool(torn))
        rows = [row for row in range(len(order)) if names[row] not in torn]
        for row in sorted(set(range(len(order))) - set(rows)):
            self._rejections.add("near_duplicate", records[order[row]])
        self._order = [order[row] for row in rows]
        self._groups = [names[row] for row in rows]
        self._records = [records[position] for position in self._order]
        self._digests = [digests[position] for position in self._order]

    def _copied(self, records: list[Record], digests: list[bytes]) -> list[set[str]]:
        """Return sets of subjects that have an image in common: one patient under several names, or mixed up."""
        first: dict[bytes, str] = {}
        people: dict[bytes, set[str]] = {}
        before = self._existing
        known = zip(before.digests, before.subjects, strict=True) if before else ()
        new = ((digest, record.subject) for digest, record in zip(digests, records, strict=True))
        for digest, subject in (*known, *new):
            if subject and digest not in self._blank and first.setdefault(digest, subject) != subject:
                people.setdefault(digest, {first[digest]}).add(subject)
        return list(people.values())

    def _near_sets(self, order: list[int], subjects: list[str]) -> list[tuple[int, ...]]:
        """Return sets of rows that are almost the same image, among samples whose patient is unknown."""
        before = self._existing
        unknown = [row for row, subject in enumerate(subjects) if not subject]
        if not unknown or unknown[0] >= len(order):
            return []

        def read(places: Sequence[int]) -> NDArray[np.uint16]:
            rows = [unknown[place] for place in places]  # ascending: new ones come first
            images = [self._stored.read([order[row] for row in rows if row < len(order)])]
            if before:
                images.append(before.images([row - len(order) for row in rows if row >= len(order)]))
            return np.concatenate(images)

        return [tuple(unknown[place] for place in some) for some in near.near_sets(len(unknown), read)]

    def _check_leakage(self, torn: bool) -> None:
        if torn and not self._settings.allow_leakage:
            fix = "make the dataset anew, or go on with ingest.allow_leakage=true"
            raise InputError("a patient or a group of near-duplicates stands in two splits already", "dataset", fix)

    def _set_classes(self) -> None:
        """Number the classes by name; new ones after those that shards hold already."""
        known = self._existing.manifest.classes if self._existing else ()
        new = sorted({record.label for record in self._records} - {"", *known})
        if self._existing and not known:
            new = []  # its shards have no column for labels
        self._classes = (*known, *new)
        codes = {name: code for code, name in enumerate(self._classes)}
        self._labels = [codes.get(record.label, -1) for record in self._records]

    def _set_splits(self, split: SplitSettings) -> None:
        there = Counter(self._existing.splits if self._existing else [])
        self._splits = assign(self._groups, self._digests, split, there, self._fixed)

    @property
    def _modality(self) -> str:
        return self._existing.manifest.modality if self._existing else self._records[0].modality

    @property
    def _has_attributes(self) -> bool:
        if self._existing:
            return bool(self._existing.manifest.attributes)
        return any(code >= 0 for record in self._records for code in record.attributes)

    def _subject_names(self) -> list[str]:
        """Return the hashes that samples index; new ones after those that shards hold already."""
        known = self._existing.manifest.subjects if self._existing else ()
        return list(dict.fromkeys([*known, *(record.subject for record in self._records if record.subject)]))

    def _write_split(self, store: Store, name: str, subjects: list[str]) -> list[ShardEntry]:
        writer = ShardWriter(store, name, hashlib.sha256(canonical(self._recipe)).hexdigest())
        index = {subject: code for code, subject in enumerate(subjects)}
        rows = [row for row, split in enumerate(self._splits) if split == name]
        for start in range(0, len(rows), CHUNK):
            samples = self._samples(rows[start : start + CHUNK], index)
            writer.add(samples)
            self.survey.add(samples, name)
        return writer.close()

    def _samples(self, rows: list[int], index: dict[str, int]) -> Samples:
        records = [self._records[row] for row in rows]
        labels = [[self._labels[row]] for row in rows] if self._classes else np.empty((len(rows), 0))
        attributes = [record.attributes for record in records] if self._has_attributes else np.empty((len(rows), 0))
        return Samples(
            image=self._stored.read([self._order[row] for row in rows])[:, None],
            label=np.asarray(labels, np.int32),
            subject=np.asarray([index.get(record.subject, -1) for record in records], np.int32),
            attribute=np.asarray(attributes, np.int16),
            spacing=np.asarray([record.spacing for record in records], np.float32),
        )

    def _split_entries(self) -> dict[str, SplitEntry]:
        before = self._existing
        splits = self._splits + (before.splits if before else [])
        subjects = [record.subject for record in self._records] + (before.subjects if before else [])
        entries = {}
        for name in SPLITS:
            members = [subject for subject, split in zip(subjects, splits, strict=True) if split == name]
            entries[name] = SplitEntry(samples=len(members), subjects=len(set(members) - {""}))
        return entries

    def _uniform_spacing(self) -> tuple[float, ...] | None:
        spacings = np.asarray([record.spacing for record in self._records])
        there = self._existing.manifest.spacing if self._existing else tuple(spacings[0])
        if there is None:
            return None
        first = np.asarray(there)
        same = np.isfinite(first).all() and np.allclose(spacings, first, rtol=1e-3, atol=0)
        return tuple(float(value) for value in np.round(first, 6)) if same else None

    def _content_digest(self) -> str:
        before = self._existing
        digest = ContentDigest(self._recipe, self._modality, self._intensity, self._classes)
        if before:
            digest.add_digests(before.digests, before.labels, before.splits)
        digest.add_digests(self._digests, self._labels, self._splits)
        return digest.hexdigest()


def _copies(digests: Sequence[bytes], blank: set[bytes]) -> list[tuple[int, ...]]:
    """Return sets of rows that are the same image, if it shows anything."""
    same: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        if digest not in blank:
            same.setdefault(digest, []).append(row)
    return [tuple(rows) for rows in same.values() if len(rows) > 1]


def _rank(record: Record) -> tuple[Any, ...]:
    """Return what decides between records of the same image, so that the order of files does not."""
    return not record.subject, record.attributes, str(record.spacing), str(record.place), record.subject
