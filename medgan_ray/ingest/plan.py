"""What becomes of the images that are kept: labels, duplicates, splits, shards, manifest; and what ingest reports."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from pydantic import Field

from medgan_ray.config import Section
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
from medgan_ray.ingest import clean, deidentify
from medgan_ray.ingest.split import SplitSettings, assign
from medgan_ray.ingest.spool import Spool
from medgan_ray.store import Store, open_store

RECIPE_VERSION = 1
CHUNK = 256
EXAMPLES = 5


class IngestSettings(Section):
    """How scans become a dataset."""

    window: Literal["lung", "brain", "soft", "bone", "full"] = "soft"
    """CT: the range of Hounsfield units that the dataset holds; full is -1024 to 3071."""
    labels: str = "auto"
    """A CSV (file,label,patient), folders (class subfolders), none, or auto: labels.csv, else folders of pictures."""
    color: Literal["refuse", "luma"] = "refuse"
    """Color images are refused, or their brightness is taken."""
    secondary: bool = False
    """Take DICOM secondary captures (screen shots, scanned film, generated images)."""
    min_contrast: float = Field(0.012, ge=0, lt=1)
    """Least standard deviation of an image, as a share of the intensity map."""
    workers: int = Field(0, ge=0, le=256)
    """Decoding processes; 0: one a core, at most 8."""
    file_limit_s: float = Field(20.0, gt=0)
    """Seconds that decoding one file may take."""
    memory_mb: int = Field(1536, ge=512)
    """Address space of a decoding process, MiB."""


@dataclass(frozen=True)
class IngestResult:
    """What became of the scans; ``manifest`` is empty if they were only counted."""

    dataset: str
    manifest: str
    samples: int
    subjects: int
    splits: dict[str, int]
    rejected: dict[str, int]
    modality: str = ""
    classes: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)
    """A few names of what was not taken, by reason: for the terminal only, never kept."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Record:
    """One image in the spool, with what is known of it."""

    name: str
    modality: str
    unit: str
    kind: str
    label: str
    folder: str
    subject: str
    series: str
    attributes: tuple[int, ...]
    spacing: tuple[float, float]


class Rejections:
    """What was not taken: counts, and a few names, by reason."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}

    def add(self, reason: str, name: str) -> None:
        """Note one more."""
        reason = str(reason)
        self.counts[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < EXAMPLES:
            names.append(name)

    def summary(self) -> str:
        """Return the counts in one phrase."""
        return "refused: " + ", ".join(f"{count} {reason}" for reason, count in self.counts.most_common())


class Plan:
    """Which sample goes where: made from everything that is kept, then written, split by split."""

    def __init__(
        self,
        chosen: list[Record],
        stored: Spool,
        settings: IngestSettings,
        split: SplitSettings,
        intensity: Intensity,
        rejections: Rejections,
    ) -> None:
        self._stored, self._intensity, self._rejections = stored, intensity, rejections
        self._size = stored.size
        names = [_label(record) for record in chosen]
        digests = [
            hashlib.sha256(image.data).digest()
            for start in range(0, len(stored), CHUNK)
            for image in stored.read(range(start, min(start + CHUNK, len(stored))))
        ]
        gone = clean.duplicates(digests, names, [_rank(record) for record in chosen])
        for position, reason in sorted(gone.items()):
            rejections.add(reason, chosen[position].name)
        # The canonical order: by content, so that neither names nor the order of files leave a trace.
        self._order = sorted(set(range(len(chosen))) - set(gone), key=lambda position: digests[position])
        self._records = [chosen[position] for position in self._order]
        self._digests = [digests[position] for position in self._order]
        self._classes = tuple(sorted({names[position] for position in self._order} - {""}))
        codes = {name: code for code, name in enumerate(self._classes)}
        self._labels = [codes.get(names[position], -1) for position in self._order]
        identities = [record.subject for record in self._records]
        self._splits = assign(identities, self._digests, split)
        self._identities = list(dict.fromkeys(name for name in identities if name))
        self._recipe = {
            "version": RECIPE_VERSION,
            "size": list(stored.size),
            "ingest": settings.model_dump(include={"window", "color", "secondary", "min_contrast"}),
            "split": split.model_dump(),
        }

    def write(self, dataset: str) -> IngestResult:
        """Write shards, then the manifest, then the pointer."""
        key = deidentify.subject_key() if self._identities else None
        store = open_store(dataset)
        shards = [entry for name in SPLITS for entry in self._write_split(store, name)]
        manifest = Manifest(
            modality=self._records[0].modality,
            size=self._size,
            intensity=self._intensity,
            labels=(LabelSet(name="class", classes=self._classes),) if self._classes else (),
            attributes=deidentify.ATTRIBUTES if self._has_attributes else (),
            splits={name: self._entry(name) for name in SPLITS},
            shards=tuple(shards),
            subjects=tuple(key.hash(name) for name in self._identities) if key else (),
            key_fingerprint=key.fingerprint if key else "",
            rejected=dict(sorted(self._rejections.counts.items())),
            recipe=self._recipe,
            spacing=self._uniform_spacing(),
            content_digest=self._content_digest(),
        )
        warnings = [key.warning] if key and key.warning else []
        return self.result(dataset, write_manifest(store, manifest), warnings)

    def result(self, dataset: str, manifest: str, warnings: list[str] | None = None) -> IngestResult:
        """Return what became of the scans."""
        counts = Counter(self._splits)
        labels = Counter(self._classes[code] if code >= 0 else "unknown" for code in self._labels)
        return IngestResult(
            dataset=dataset,
            manifest=manifest,
            samples=len(self._order),
            subjects=len(self._identities),
            splits={name: counts[name] for name in SPLITS},
            rejected=dict(sorted(self._rejections.counts.items())),
            modality=self._records[0].modality if self._records else "",
            classes=dict(sorted(labels.items())) if self._classes else {},
            examples=self._rejections.examples,
            warnings=warnings or [],
        )

    @property
    def samples(self) -> int:
        """How many images will be written."""
        return len(self._order)

    @property
    def _has_attributes(self) -> bool:
        return any(code >= 0 for record in self._records for code in record.attributes)

    def _write_split(self, store: Store, name: str) -> list[ShardEntry]:
        writer = ShardWriter(store, name, hashlib.sha256(canonical(self._recipe)).hexdigest())
        rows = [row for row, split in enumerate(self._splits) if split == name]
        for start in range(0, len(rows), CHUNK):
            writer.add(self._samples(rows[start : start + CHUNK]))
        return writer.close()

    def _samples(self, rows: list[int]) -> Samples:
        index = {name: code for code, name in enumerate(self._identities)}
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

    def _entry(self, name: str) -> SplitEntry:
        rows = [row for row, split in enumerate(self._splits) if split == name]
        subjects = {self._records[row].subject for row in rows} - {""}
        return SplitEntry(samples=len(rows), subjects=len(subjects))

    def _uniform_spacing(self) -> tuple[float, ...] | None:
        spacings = np.asarray([record.spacing for record in self._records])
        first = spacings[0]
        same = np.isfinite(first).all() and np.allclose(spacings, first, rtol=1e-3, atol=0)
        return tuple(float(value) for value in np.round(first, 6)) if same else None

    def _content_digest(self) -> str:
        """Return the digest of recipe, values, labels and splits."""
        total = hashlib.sha256(
            canonical(
                {
                    "recipe": self._recipe,
                    "modality": self._records[0].modality,
                    "intensity": self._intensity.model_dump(mode="json"),
                    "classes": self._classes,
                }
            )
        )
        for digest, label, split in zip(self._digests, self._labels, self._splits, strict=True):
            total.update(digest + label.to_bytes(4, "little", signed=True) + split.encode() + b"\0")
        return total.hexdigest()


def _label(record: Record) -> str:
    """Return a record's label: the table's, else the class folder of a picture (DICOM's folders are patients)."""
    return record.label or (record.folder if record.kind == "image" else "")


def _rank(record: Record) -> tuple[Any, ...]:
    """Return what decides between records of the same image, so that the order of files does not."""
    return not record.subject, record.subject, record.attributes, str(record.spacing)
