"""What every written image says of itself: made by a model, which and from which seed; never used UIDs."""

import datetime
import uuid
from dataclasses import dataclass, field
from io import BytesIO
from typing import Self

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

import medgan_ray

MANUFACTURER = "medgan-ray"
DESCRIPTION_CHARACTERS = 1024
"""The limit of a Short Text."""


@dataclass(frozen=True)
class Provenance:
    """Which model made an image, from which seed, as which of the images, and the label and truncation asked for."""

    model: str
    model_digest: str
    seed: int
    index: int
    label: str | None = None
    truncation: float | None = None

    def describe(self) -> str:
        """Return it as one line of text."""
        label = f" label={self.label}" if self.label else ""
        truncation = "" if self.truncation is None else f" truncation={self.truncation:g}"
        line = f"model={self.model} weights_sha256={self.model_digest} seed={self.seed} index={self.index}"
        return f"{line}{label}{truncation}"[:DESCRIPTION_CHARACTERS]


@dataclass(frozen=True)
class SeriesIds:
    """What the images of one study and series share: UIDs, and when the study began (UTC).

    ``repeated``: an image of the series that is made again gets the UID it had; otherwise each gets a fresh one.
    """

    study: str
    series: str
    begun: datetime.datetime = field(default_factory=lambda: datetime.datetime.now(datetime.UTC))
    repeated: bool = False

    @classmethod
    def fresh(cls) -> Self:
        """Return UIDs that nobody has used, and the time."""
        return cls(fresh_uid(), fresh_uid())


def fresh_uid() -> str:
    """Return a UID that nobody has used: 2.25 and a random UUID (PS3.5 B.2)."""
    return f"2.25.{uuid.uuid4().int}"


def instance_uid(series: SeriesIds, index: int) -> str:
    """Return the UID of an image of a generated series; where images are repeated, by its number (RFC 9562, 5.5)."""
    if not series.repeated:
        return fresh_uid()
    return f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{series.series}.{index}').int}"


def new_object(sop_class: str, study: str, series: str, instance: str = "") -> Dataset:
    """Return a data set with an instance UID, a fresh one if none is given, and nothing else but what names it."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID, dataset.SOPInstanceUID = UID(sop_class), UID(instance or fresh_uid())
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = UID(study), UID(series)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    return dataset


def mark_synthetic(dataset: Dataset, provenance: Provenance) -> None:
    """Say that a model made it: Synthetic Data (0008,001C) and Contributing Equipment Sequence (0018,A001)."""
    dataset.SyntheticData = "YES"
    dataset.Manufacturer = dataset.ManufacturerModelName = MANUFACTURER
    dataset.SoftwareVersions = medgan_ray.__version__
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [code("109100", "Synthesizing Equipment")]
    equipment.Manufacturer = equipment.ManufacturerModelName = MANUFACTURER
    equipment.SoftwareVersions = medgan_ray.__version__
    equipment.ContributionDescription = provenance.describe()
    dataset.ContributingEquipmentSequence = [equipment]


def code(value: str, meaning: str) -> Dataset:
    """Return an item with a code of DICOM's own dictionary (PS3.16 Annex D)."""
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", meaning
    return item


def to_file(dataset: Dataset) -> bytes:
    """Return a data set as the bytes of a DICOM file, explicit VR little endian."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()
