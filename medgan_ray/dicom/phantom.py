"""Draws phantoms (CT head, CT body, MR head, chest X-ray; some with a lesion) and writes them as DICOM files.

A phantom is a pile of soft-edged ellipses with noise: enough anatomy that a network has something to learn, and no
patient. Everything is a function of (kind, seed, patient, slice).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from typing import Literal, get_args

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from medgan_ray import seeds
from medgan_ray.errors import UsageError, nearest

Kind = Literal["ct", "ct_body", "mr", "xray"]
KINDS: tuple[str, ...] = get_args(Kind)

FIELD_OF_VIEW_MM = {"ct": 240.0, "ct_body": 420.0, "mr": 240.0, "xray": 400.0}
SLICE_STEP_MM = 6.0

_STORAGE_CLASS = {
    "CT": "1.2.840.10008.5.1.4.1.1.2",
    "MR": "1.2.840.10008.5.1.4.1.1.4",
    "CR": "1.2.840.10008.5.1.4.1.1.1",
}
_MODALITY = {"ct": "CT", "ct_body": "CT", "mr": "MR", "xray": "CR"}
_BODY_PART = {"ct": "HEAD", "ct_body": "CHEST", "mr": "HEAD", "xray": "CHEST"}


@dataclass(frozen=True)
class Phantom:
    """One drawn slice: ``values`` [H, W] in HU for CT, else in stored units 0 to 4095."""

    values: NDArray[np.float32]
    kind: str
    patient: int
    slice: int
    lesion: bool

    @property
    def name(self) -> str:
        """A file name that is unique in the set."""
        return f"{self.kind}-{self.patient:04d}-{self.slice:03d}.dcm"

    @property
    def label(self) -> str:
        """``lesion`` or ``normal``."""
        return "lesion" if self.lesion else "normal"

    @property
    def patient_id(self) -> str:
        """The phantom patient's identifier."""
        return f"PHANTOM-{self.patient:04d}"


def draw(kind: str, patients: int, slices: int, size: int, seed: int) -> Iterator[Phantom]:
    """Yield ``patients * slices`` phantoms of ``size`` by ``size`` pixels; every other patient has a lesion.

    Raises:
        UsageError: for an unknown kind, or numbers out of range.
    """
    if kind not in KINDS:
        raise UsageError(f"unknown phantom kind {kind!r}", "kind", nearest(kind, KINDS))
    for name, value, low, high in (
        ("patients", patients, 1, 9999),
        ("slices", slices, 1, 999),
        ("size", size, 16, 1024),
    ):
        if not low <= value <= high:
            raise UsageError(f"{name}={value}", "phantom", f"give a number from {low} to {high}")
    for patient in range(patients):
        anatomy = seeds.generator("phantom", kind, seed, patient).random(16)
        for index in range(slices):
            noise = seeds.generator("phantom-noise", kind, seed, patient, index)
            height = (index + 0.5) / slices * 2 - 1
            # A sphere of a lesion would miss the outer slices: it is a column, so that each of them shows it.
            lesion = patient % 2 == 1
            values = _SCENES[kind](_Canvas(size, anatomy, height, lesion), noise)
            yield Phantom(values.astype(np.float32), kind, patient, index, lesion)


class _Canvas:
    """A pixel grid in [-1, 1] squared, with one patient's proportions."""

    def __init__(self, size: int, anatomy: NDArray[np.float64], height: float, lesion: bool) -> None:
        axis = (np.arange(size) + 0.5) / size * 2 - 1
        tilt = (anatomy[0] - 0.5) * 0.3
        y, x = axis[:, None], axis[None, :]
        self.x = np.cos(tilt) * x + np.sin(tilt) * y - (anatomy[1] - 0.5) * 0.12
        self.y = -np.sin(tilt) * x + np.cos(tilt) * y - (anatomy[2] - 0.5) * 0.12
        self.anatomy, self.height, self.lesion, self.size = anatomy, height, lesion, size

    def ellipse(self, cx: float, cy: float, rx: float, ry: float) -> NDArray[np.float64]:
        """Return coverage [H, W] from 0 to 1 with an edge one pixel wide."""
        radius = np.hypot((self.x - cx) / rx, (self.y - cy) / ry)
        coverage = np.clip((1 - radius) * min(rx, ry) * self.size / 2 + 0.5, 0, 1)
        return np.asarray(coverage, np.float64)

    def blob(self, reach_x: float, reach_y: float) -> NDArray[np.float64]:
        """Return a lesion's coverage: right or left, within the given reach of the middle."""
        side = 1 if self.anatomy[10] < 0.5 else -1
        cx = side * reach_x * (0.6 + 0.4 * self.anatomy[11])
        cy = reach_y * (self.anatomy[12] * 2 - 1)
        radius = 0.11 + 0.08 * self.anatomy[13]
        return self.ellipse(cx, cy, radius, radius * (0.8 + 0.4 * self.anatomy[14]))


def _blend(image: NDArray[np.float64], coverage: NDArray[np.float64], value: float) -> None:
    image += coverage * (value - image)


def _texture(size: int, draw: np.random.Generator) -> NDArray[np.float64]:
    """Return smooth unit-variance texture [size, size]."""
    coarse = draw.standard_normal((size // 4 + 2, size // 4 + 2))
    fine = np.kron(coarse, np.ones((4, 4)))
    for axis in (0, 1):
        fine = (fine + np.roll(fine, 1, axis) + np.roll(fine, 2, axis) + np.roll(fine, 3, axis)) / 2
    return np.asarray(fine[4 : size + 4, 4 : size + 4], np.float64)


def _head_parts(canvas: _Canvas) -> tuple[float, float, float]:
    """Return the head's half axes and the skull's thickness at this height."""
    a = canvas.anatomy
    shrink = np.sqrt(1 - 0.45 * canvas.height**2)
    return (0.62 + 0.08 * a[3]) * shrink, (0.78 + 0.08 * a[4]) * shrink, 0.05 + 0.02 * a[5]


def _head(canvas: _Canvas, values: Mapping[str, float]) -> NDArray[np.float64]:
    """Return a head in the given values of air, skin, skull, white, gray, fluid and lesion."""
    a = canvas.anatomy
    rx, ry, skull = _head_parts(canvas)
    image = np.full((canvas.size, canvas.size), float(values["air"]))
    _blend(image, canvas.ellipse(0, 0, rx, ry), values["skin"])
    _blend(image, canvas.ellipse(0, 0, rx - 0.03, ry - 0.03), values["skull"])
    inner_x, inner_y = rx - 0.03 - skull, ry - 0.03 - skull
    _blend(image, canvas.ellipse(0, 0, inner_x, inner_y), values["gray"])
    _blend(image, canvas.ellipse(0, 0, inner_x * 0.82, inner_y * 0.84), values["white"])
    wide = (0.07 + 0.06 * a[6]) * (1 - 0.6 * canvas.height**2)
    for side in (-1, 1):
        _blend(image, canvas.ellipse(side * (wide + 0.03), -0.16, wide, 0.2 + 0.08 * a[7]), values["fluid"])
        _blend(image, canvas.ellipse(side * (wide + 0.1), 0.22, wide * 0.8, 0.15), values["fluid"])
        _blend(image, canvas.ellipse(side * 0.22, 0.03, 0.09, 0.14), values["gray"])
    _blend(image, canvas.ellipse(0, -inner_y * 0.68, 0.012, inner_y * 0.3), values["gray"] * 1.3)
    if canvas.lesion:
        _blend(image, canvas.blob(0.3, 0.3), values["lesion"])
    return image


def _ct_head(canvas: _Canvas, noise: np.random.Generator) -> NDArray[np.float64]:
    tissue = {"air": -1000, "skin": 20, "skull": 950, "white": 28, "gray": 42, "fluid": 4, "lesion": 85}
    image = _head(canvas, tissue)
    return image + 1.5 * _texture(canvas.size, noise) + 4 * noise.standard_normal(image.shape)


def _mr_head(canvas: _Canvas, noise: np.random.Generator) -> NDArray[np.float64]:
    tissue = {"air": 20, "skin": 1500, "skull": 120, "white": 1100, "gray": 820, "fluid": 260, "lesion": 1700}
    image = _head(canvas, tissue)
    gain = 0.7 + 0.6 * canvas.anatomy[8]
    shading = 1 + 0.15 * (canvas.anatomy[9] - 0.5) * canvas.x
    real, imaginary = noise.standard_normal((2, *image.shape)) * 25
    image = image + 15 * _texture(canvas.size, noise)
    return np.asarray(np.hypot(image * shading * gain + real, imaginary))  # magnitude: Rician noise


def _ct_body(canvas: _Canvas, noise: np.random.Generator) -> NDArray[np.float64]:
    a = canvas.anatomy
    image = np.full((canvas.size, canvas.size), -1000.0)
    rx, ry = 0.82 + 0.08 * a[3], 0.58 + 0.08 * a[4]
    _blend(image, canvas.ellipse(0, 0, rx, ry), -90)
    _blend(image, canvas.ellipse(0, 0, rx - 0.06 - 0.04 * a[5], ry - 0.06 - 0.04 * a[5]), 50)
    lung = np.sqrt(1 - 0.6 * canvas.height**2)
    for side in (-1, 1):
        _blend(image, canvas.ellipse(side * 0.4, -0.02, (0.25 + 0.04 * a[6]) * lung, 0.38 * lung), -820)
    _blend(image, canvas.ellipse(0.08, -0.08, 0.2, 0.22), 45)
    _blend(image, canvas.ellipse(0, 0.38, 0.11, 0.1), 450)
    _blend(image, canvas.ellipse(-0.06, 0.2, 0.06, 0.06), 140)
    if canvas.lesion:
        _blend(image, canvas.blob(0.42, 0.2), 60)
    return image + 6 * _texture(canvas.size, noise) + 10 * noise.standard_normal(image.shape)


def _xray_chest(canvas: _Canvas, noise: np.random.Generator) -> NDArray[np.float64]:
    a = canvas.anatomy
    path = 0.9 * canvas.ellipse(0, 0.25, 0.85 + 0.08 * a[3], 1.1)
    for side in (-1, 1):
        path -= 0.55 * canvas.ellipse(side * 0.38, 0.0, 0.26 + 0.03 * a[4], 0.55 + 0.05 * a[5])
        for rib in range(7):
            arc = canvas.y - (-0.5 + 0.16 * rib + 0.25 * (np.abs(canvas.x) - 0.4) ** 2 * (1 + a[6]))
            path += 0.06 * np.exp(-((arc / 0.025) ** 2)) * (side * canvas.x > 0.1) * (np.abs(canvas.x) < 0.7)
    path += 0.3 * canvas.ellipse(0.1, 0.3, 0.26 + 0.06 * a[7], 0.28)
    path += 0.25 * canvas.ellipse(0, 0.1, 0.08, 1.0)
    if canvas.lesion:
        path += 0.22 * canvas.blob(0.4, 0.3)
    image = 300 + 2600 * path + 35 * _texture(canvas.size, noise) + 30 * noise.standard_normal(path.shape)
    return image


_SCENES = {"ct": _ct_head, "ct_body": _ct_body, "mr": _mr_head, "xray": _xray_chest}


def to_dicom(phantom: Phantom, seed: int) -> Dataset:
    """Return a phantom as a DICOM data set of its modality's own image class, marked synthetic."""
    modality = _MODALITY[phantom.kind]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UID(_STORAGE_CLASS[modality])
    dataset.SOPInstanceUID = _uid(phantom, seed, "instance", phantom.slice)
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.StudyInstanceUID = _uid(phantom, seed, "study", 0)
    dataset.SeriesInstanceUID = _uid(phantom, seed, "series", phantom.slice if phantom.kind == "xray" else 0)
    dataset.Modality = modality
    dataset.BodyPartExamined = _BODY_PART[phantom.kind]
    dataset.ImageType = ["ORIGINAL", "PRIMARY"] if modality == "CR" else ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PatientID = phantom.patient_id
    dataset.PatientName = f"Phantom^{phantom.patient:04d}"
    dataset.PatientSex = "FM"[phantom.patient % 2]
    dataset.PatientAge = f"{20 + phantom.patient * 7 % 60:03d}Y"
    dataset.PatientBirthDate = ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = "20240101", "000000", "1"
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.Manufacturer = "medgan-ray phantom"
    dataset.SyntheticData = "YES"
    dataset.SeriesNumber, dataset.InstanceNumber = 1, phantom.slice + 1
    _place(dataset, phantom, modality, seed)
    _set_pixels(dataset, phantom, modality)
    return dataset


def _uid(phantom: Phantom, seed: int, level: str, index: int) -> UID:
    return UID(f"2.25.{seeds.key('phantom-uid', phantom.kind, seed, phantom.patient, level, index)}")


def _place(dataset: Dataset, phantom: Phantom, modality: str, seed: int) -> None:
    field_of_view = FIELD_OF_VIEW_MM[phantom.kind]
    spacing = round(field_of_view / len(phantom.values), 6)
    if modality == "CR":
        dataset.ImagerPixelSpacing = [spacing, spacing]
        dataset.ViewPosition = "PA"
        dataset.PatientOrientation = ["L", "F"]
        return
    dataset.PixelSpacing = [spacing, spacing]
    dataset.SliceThickness = SLICE_STEP_MM
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    corner = round(-field_of_view / 2, 3)
    dataset.ImagePositionPatient = [corner, corner, round(phantom.slice * SLICE_STEP_MM, 3)]
    dataset.FrameOfReferenceUID = _uid(phantom, seed, "frame", 0)
    dataset.PositionReferenceIndicator = ""
    dataset.PatientPosition = "HFS"
    if modality == "CT":
        dataset.KVP, dataset.AcquisitionNumber = 120, 1
    else:
        dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
        dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime = "2D", 10, 500
        dataset.EchoTrainLength = 1


def _set_pixels(dataset: Dataset, phantom: Phantom, modality: str) -> None:
    stored = np.rint(phantom.values + (1024 if modality == "CT" else 0)).clip(0, 4095).astype("<u2")
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0
    if modality == "CT":
        dataset.RescaleIntercept, dataset.RescaleSlope, dataset.RescaleType = -1024, 1, "HU"
    elif modality == "CR":
        dataset.WindowCenter, dataset.WindowWidth = 1500, 3000
    dataset.PixelData = stored.tobytes()


def encode(phantom: Phantom, seed: int) -> bytes:
    """Return a phantom as the bytes of a DICOM file."""
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, to_dicom(phantom, seed), enforce_file_format=True)
    return buffer.getvalue()
