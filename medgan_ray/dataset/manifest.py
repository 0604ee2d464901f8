"""The manifest: what a dataset is, in one immutable JSON file named by its SHA-256, and the pointer to the newest.

DATASET/dataset.json              {"manifest": sha256}: moved last, by compare and swap
DATASET/manifests/SHA256.json     everything else
"""

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from medgan_ray.config import Section, json_object
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.store import Store

FORMAT = "1.0"
POINTER = "dataset.json"
SPLITS = ("train", "val", "test")


class LabelSet(Section):
    """A column of labels: its name and the names of its classes, by code from 0."""

    name: str
    classes: tuple[str, ...]


class Intensity(Section):
    """The affine map from stored 0…65535 to the unit of the modality: ``low + stored / 65535 * (high - low)``."""

    unit: str
    """HU, grey or relative."""
    low: float
    high: float
    window: tuple[float, float]
    """Lower and upper end of the default display window, in the same unit."""

    def values(self, stored: NDArray[np.uint16]) -> NDArray[np.float32]:
        """Return stored 0…65535 as float32 in the unit."""
        return (self.low + stored * ((self.high - self.low) / 65535)).astype(np.float32)

    def display(self, stored: NDArray[np.uint16]) -> NDArray[np.uint8]:
        """Return stored 0…65535 as 8-bit pixels in the default window."""
        low, high = self.window
        shown = (self.values(stored) - low) * np.float32(255 / (high - low))
        return shown.round().clip(0, 255).astype(np.uint8)


class ShardEntry(Section):
    """A shard file: its SHA-256 (which is its name), split, number of samples and size."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    split: str
    samples: int = Field(gt=0)
    bytes: int = Field(gt=0)


class SplitEntry(Section):
    """How many samples and subjects a split holds."""

    samples: int
    subjects: int


class Group(Section):
    """Samples that have something in common: how many in each split, and of how many subjects that are known."""

    samples: dict[str, int]
    subjects: int


class Counts(Section):
    """What the samples are, counted once while they are written."""

    classes: dict[str, Group] = Field(default_factory=dict)
    """By class of the first label set; an empty name is those without one."""
    attributes: dict[str, dict[str, Group]] = Field(default_factory=dict)
    """By attribute and its value, in words; an empty value is those where it is unknown."""
    histogram: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    """Of each split: how many pixels have a stored value in each of equal steps from 0 to 65535."""
    ends: dict[str, tuple[int, int]] = Field(default_factory=dict)
    """Of each split: how many pixels have the lowest and the highest stored value."""
    without_subject: int = 0
    """Samples whose subject is unknown."""


class Synthetic(Section):
    """What made the scans of a dataset that holds generated ones alone."""

    model: str
    """Name of the model."""
    weights: str
    """SHA-256 of its weights file."""
    version: int | None
    """Its number in the registry; None if it came from a run."""
    verdict: str | None
    """What the release gate said of it; None if it came from a run."""
    forced: str | None
    """Why it was published against the gate; None if it was not."""
    label: str | None
    """The class asked for; None: classes as often as in the training scans, or ``classes``."""
    classes: tuple[str, ...] = ()
    """The classes asked for in turn; empty: see ``label``."""
    trained_on: str = ""
    """Content digest of the dataset that the model learned; empty where that is not known."""
    seed: int
    truncation: float | None


class Manifest(Section):
    """What a dataset is. The content digest covers recipe, values, labels and splits, and names nobody."""

    format: str = FORMAT
    modality: str
    size: tuple[int, int]
    """Height and width in pixels."""
    channels: int = 1
    intensity: Intensity
    labels: tuple[LabelSet, ...] = ()
    attributes: tuple[str, ...] = ()
    splits: dict[str, SplitEntry]
    shards: tuple[ShardEntry, ...]
    subjects: tuple[str, ...] = ()
    """Keyed hashes; a sample's ``subject`` is an index into them."""
    key_fingerprint: str = ""
    rejected: dict[str, int] = Field(default_factory=dict)
    """Files not taken: how many by reason code."""
    masked: int = 0
    """Samples in whose pixels text was blanked, as they were ingested."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    """Millimeters between rows and columns where the same everywhere."""
    counts: Counts | None = None
    """What the samples are; None in a dataset that was made before they were counted."""
    synthetic: Synthetic | None = None
    """What made them, where a model did; None: scans of patients."""
    content_digest: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes of the first label set; empty if there is none."""
        return self.labels[0].classes if self.labels else ()


def canonical(value: Any) -> bytes:
    """Return sorted, compact JSON: the same bytes for the same content."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def manifest_digest(manifest: Manifest) -> str:
    """Return the SHA-256 that names a manifest."""
    return hashlib.sha256(_data(manifest)).hexdigest()


def write_manifest(store: Store, manifest: Manifest, before: str = "") -> str:
    """Write the manifest under its digest, move the pointer to it and return the digest.

    Args:
        store: the dataset's.
        manifest: what the dataset is from now on.
        before: digest of the manifest that this one goes on from; empty for a new dataset.

    Raises:
        StoreError: if another writer has moved the pointer since.
    """
    digest = manifest_digest(manifest)
    store.create(f"manifests/{digest}.json", _data(manifest))
    found, version = store.read_version(POINTER)
    there = _pointed(found, store) if found else ""
    if there == digest:
        return digest
    if there != before or not store.swap(POINTER, canonical({"manifest": digest}), version):
        raise StoreError("another writer finished first", f"{store.uri}/{POINTER}", "run the same command again")
    return digest


def _data(manifest: Manifest) -> bytes:
    return canonical(manifest.model_dump(mode="json"))


def _pointed(pointer: bytes, store: Store) -> str:
    return str(json_object(pointer, f"{store.uri}/{POINTER}").get("manifest", ""))


def read_manifest(store: Store, digest: str | None = None) -> tuple[Manifest, str]:
    """Return the manifest with this digest (the newest without one) and its digest.

    Raises:
        InputError: if there is no dataset, or the manifest is corrupt.
    """
    if digest is None:
        data, _ = store.read_version(POINTER)
        if data is None:
            raise InputError("no dataset here", store.uri, "make one with 'medgan-ray ingest SOURCE DATASET'")
        digest = _pointed(data, store)
    key = f"manifests/{digest}.json"
    data = store.read(key)
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError("manifest does not match its name", f"{store.uri}/{key}", "restore it, or ingest again")
    values = json_object(data, key)
    if str(values.get("format", "")).split(".")[0] != FORMAT.split(".")[0]:
        raise InputError(f"manifest format {values.get('format')}", store.uri, f"this version reads {FORMAT}")
    try:
        return Manifest.parse(values, where=key), digest
    except UsageError as error:
        raise InputError("manifest is not valid", f"{store.uri}/{key}", str(error)) from None
