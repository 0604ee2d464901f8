"""Writes a translated series as CT or MR Image objects that lie where their source lies, marked synthetic.

The objects are of the source's own class, of the single-frame one if the source is enhanced (PS3.3 A.3 and A.4). They
are a new series of the source's study as it is de-identified: study, frame of reference and patient are keyed hashes,
the same for all series of a patient, so that what belongs together still does; series and instances are new. What was
acquired is not stated of what was made up: of acquisition parameters only KVP is kept, on which Hounsfield units rest.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.uid import UID
from pydicom.valuerep import DSfloat

from medgan_ray.dicom import profile
from medgan_ray.dicom.header import BOTH_SIDES, PAIRED_PARTS, SliceHeader
from medgan_ray.dicom.provenance import Provenance, code, fresh_uid, mark_synthetic, new_object, to_file
from medgan_ray.errors import InputError

_CT, _MR = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.4"
CLASSES = {_CT: _CT, f"{_CT}.1": _CT, f"{_CT}.2": _CT, _MR: _MR, f"{_MR}.1": _MR, f"{_MR}.4": _MR}
"""A source's class (single-frame, enhanced, legacy converted enhanced) and the one that is written."""

NO_DATE, NO_TIME = "19000101", "000000"
"""Dummies for the study's date and time, which the profile removes; the same for every series of a study."""
SERIES_OFFSET = 9000
"""Added to the source's series number."""
FEWEST_STEPS = 500
"""Values of MR that are no integers and span fewer units are written in finer steps than 1."""
UNEVEN = 1e-2
"""How far direction cosines may be from unit vectors at right angles."""

_GEOMETRY = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
_KEPT_NUMBERS = (*_GEOMETRY, "SliceThickness", "LossyImageCompressionRatio")
_KEPT_CODES = ("BodyPartExamined", "BurnedInAnnotation", "PatientPosition", "LossyImageCompressionMethod")


def translated_series(
    source: Sequence[SliceHeader],
    values: NDArray[np.float32],
    provenance: Provenance,
    key: profile.Key,
    series_uid: str | None = None,
) -> Iterator[bytes]:
    """Return the DICOM files of a translated series, one a slice, in the order of the source's slices.

    Instance numbers follow the positions along the slices' normal. Values are rounded to whole HU; to whole units for
    MR too, unless they span less than ``FEWEST_STEPS`` or more than 16 bits: then a rescale is written.

    Args:
        source: header of each slice or frame of one series, as the sandbox gives it.
        values: float32 [n, H, W] in the unit of the source (HU for CT), a slice for each header, of its size.
        provenance: what made them; ``index`` is that of the first.
        key: hashes the source's UIDs and patient id.
        series_uid: of the new series; a fresh one without.

    Raises:
        InputError: if the headers are not of one CT or MR series with its geometry, or the values don't fit them.
    """
    _check_source(source)
    _check_values(source, values)
    numbers = _instance_numbers(source)
    stored = _Stored.of(values, CLASSES[source[0].sop_class] == _CT)
    series = series_uid or fresh_uid()

    def write(index: int) -> bytes:
        header, made = source[index], dataclasses.replace(provenance, index=provenance.index + index)
        study = profile.keyed_uid(key, header.study)
        dataset = new_object(CLASSES[header.sop_class], study, series)
        _identify(dataset, header, key)
        dataset.InstanceNumber = numbers[index]
        _place(dataset, header, key)
        mark_synthetic(dataset, made)
        _derive(dataset, header, made, key)
        stored.set_pixels(dataset, values[index])
        _show(dataset, header)
        return to_file(dataset)

    return map(write, range(len(source)))


def _check_source(source: Sequence[SliceHeader]) -> None:
    if not source:
        raise InputError("no slices", "DICOM", "give a series")
    if len({(header.patient, header.study, header.series, header.sop_class) for header in source}) > 1:
        raise InputError("slices of several series", "DICOM", "give one series at a time")
    first = source[0]
    if first.sop_class not in CLASSES:
        raise InputError("the source is neither CT nor MR", "DICOM", "write Secondary Capture instead")
    if not first.study or not first.series or not all(header.instance for header in source):
        raise InputError(
            "the source lacks UIDs of study, series or instance", "DICOM", "write Secondary Capture instead"
        )
    for keyword in _GEOMETRY:
        if any(keyword not in header.numbers for header in source):
            raise InputError(f"the source has no {keyword}", "DICOM", "write Secondary Capture instead")
    for header in source:
        rows, columns = np.reshape(header.numbers["ImageOrientationPatient"], (2, 3))
        lengths = [float(np.linalg.norm(each)) for each in (rows, columns, np.cross(rows, columns))]
        if not np.allclose(lengths, 1, atol=UNEVEN) or min(header.numbers["PixelSpacing"]) <= 0:
            raise InputError("the source's geometry is none", "DICOM", "write Secondary Capture instead")


def _check_values(source: Sequence[SliceHeader], values: NDArray[np.float32]) -> None:
    if values.dtype != np.float32 or values.ndim != 3 or not np.isfinite(values).all():
        what = f"{values.dtype} values of {values.ndim} dimensions, finite or not"
        raise InputError(what, "DICOM", "give finite float32 [n, H, W]")
    if len(values) != len(source) or {(header.rows, header.columns) for header in source} != {values.shape[1:]}:
        sizes = f"{len(values)} slices of {values.shape[1]} x {values.shape[2]}"
        raise InputError(f"{sizes} for {len(source)} of the source", "DICOM", "give a slice of the same size for each")


def _instance_numbers(source: Sequence[SliceHeader]) -> list[int]:
    """Return 1 to n by the projection of ImagePositionPatient on the first slice's normal (PS3.3 C.7.6.2.1.1)."""
    cosines = np.asarray(source[0].numbers["ImageOrientationPatient"])
    normal = np.cross(cosines[:3], cosines[3:])
    places = np.asarray([header.numbers["ImagePositionPatient"] for header in source]) @ normal
    given = np.asarray([header.numbers.get("InstanceNumber", (0.0,))[0] for header in source])
    # Several slices at one place, such as echoes, stay in the order of the source; the last key counts first.
    order = np.lexsort((np.arange(len(source)), given, np.round(places, 3)))
    numbers = np.empty(len(source), np.int64)
    numbers[order] = np.arange(1, len(source) + 1)
    return [int(number) for number in numbers]


def _identify(dataset: Dataset, header: SliceHeader, key: profile.Key) -> None:
    """Set patient, study and series; of those who have no Patient ID, the study stands for it, as in a dataset."""
    patient = header.patient.strip()
    dataset.PatientID = profile.keyed_patient(key, patient) if patient else key.hash(f"study:{header.study.strip()}")
    # Type 2: must be there, may be empty.
    dataset.PatientName = dataset.PatientBirthDate = dataset.PatientSex = ""
    dataset.AccessionNumber = dataset.ReferringPhysicianName = ""
    dataset.StudyDate, dataset.StudyTime, dataset.StudyID = NO_DATE, NO_TIME, "1"
    dataset.SeriesNumber = SERIES_OFFSET + int(header.numbers.get("SeriesNumber", (1.0,))[0])
    profile.stamp(dataset)


def _place(dataset: Dataset, header: SliceHeader, key: profile.Key) -> None:
    """Set what lies where, as the source has it."""
    for keyword in _KEPT_NUMBERS:
        if keyword in header.numbers:
            setattr(dataset, keyword, _decimal(header.numbers[keyword]))
    for keyword in _KEPT_CODES:
        if keyword in header.codes:
            setattr(dataset, keyword, header.codes[keyword])
    if "SliceThickness" not in dataset:
        dataset.SliceThickness = None
    if "PatientPosition" not in dataset:
        dataset.PatientPosition = ""
    # Without one, slices of the same source still share a space.
    frame = header.frame_of_reference.strip() or f"{header.series}.frame"
    dataset.FrameOfReferenceUID, dataset.PositionReferenceIndicator = UID(profile.keyed_uid(key, frame)), ""
    _set_side(dataset, header.codes)


def _set_side(dataset: Dataset, codes: Mapping[str, str]) -> None:
    """Set the side as the source has it: of an unpaired or unknown part none, of a limb empty if it isn't said."""
    part = codes.get("BodyPartExamined")
    if "ImageLaterality" in codes:
        dataset.ImageLaterality = codes["ImageLaterality"]
    elif "Laterality" in codes:
        dataset.Laterality = codes["Laterality"]
    elif part in BOTH_SIDES:
        dataset.ImageLaterality = "B"
    elif part in PAIRED_PARTS:
        dataset.Laterality = ""
    else:
        dataset.ImageLaterality = "U"


def _derive(dataset: Dataset, header: SliceHeader, provenance: Provenance, key: profile.Key) -> None:
    """Say what it was made from, and state of the acquisition what its class demands."""
    computed_tomography = dataset.SOPClassUID == _CT
    dataset.Modality = "CT" if computed_tomography else "MR"
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL" if computed_tomography else "OTHER"]
    dataset.SeriesDescription = f"Synthetic: translated by {provenance.model}"[:64]
    dataset.DerivationDescription = f"Translated by a model: {provenance.describe()}"[:1024]
    reference = Dataset()
    reference.ReferencedSOPClassUID = UID(header.sop_class)
    reference.ReferencedSOPInstanceUID = UID(profile.keyed_uid(key, header.instance))
    if header.frame:
        reference.ReferencedFrameNumber = header.frame
    reference.SpatialLocationsPreserved = "YES"
    purpose = code("121322", "Source image for image processing operation")
    reference.PurposeOfReferenceCodeSequence = [purpose]
    dataset.SourceImageSequence = [reference]
    dataset.LossyImageCompression = header.codes.get("LossyImageCompression", "00")
    dataset.AcquisitionNumber = (
        int(header.numbers["AcquisitionNumber"][0]) if "AcquisitionNumber" in header.numbers else None
    )
    if computed_tomography:
        dataset.KVP = _decimal(header.numbers["KVP"]) if "KVP" in header.numbers else None
        if "GantryDetectorTilt" in header.numbers:
            dataset.GantryDetectorTilt = _decimal(header.numbers["GantryDetectorTilt"])
    else:
        dataset.ScanningSequence, dataset.SequenceVariant = "RM", "NONE"
        dataset.ScanOptions = dataset.MRAcquisitionType = ""
        dataset.EchoTime = dataset.RepetitionTime = dataset.EchoTrainLength = None


def _show(dataset: Dataset, header: SliceHeader) -> None:
    """Keep the source's display windows: values are in the same unit."""
    centers, widths = (header.numbers.get(name, ()) for name in ("WindowCenter", "WindowWidth"))
    if centers and len(centers) == len(widths) and min(widths) >= 1:  # LINEAR allows no narrower one
        dataset.WindowCenter, dataset.WindowWidth = _decimal(centers), _decimal(widths)
        if "VOILUTFunction" in header.codes:
            dataset.VOILUTFunction = header.codes["VOILUTFunction"]


@dataclasses.dataclass(frozen=True)
class _Stored:
    """How the values of a series are stored: ``value = intercept + slope * stored``, 16 bits."""

    slope: float
    intercept: float
    signed: bool
    rescaled: bool
    hounsfield: bool

    @classmethod
    def of(cls, values: NDArray[np.float32], hounsfield: bool) -> "_Stored":
        """Return the form for a series, or refuse what 16 bits can't hold."""
        low, high = float(values.min()), float(values.max())
        whole = high - low >= FEWEST_STEPS or hounsfield or not np.any(values % 1)
        if whole and low > -32768.5 and high < (32767.5 if low < 0 or hounsfield else 65535.5):
            return cls(1.0, 0.0, low < 0 or hounsfield, hounsfield, hounsfield)
        if hounsfield:
            raise InputError(f"values from {low:g} to {high:g}", "DICOM", "Hounsfield units fit into 16 bits")
        return cls(_as_written((high - low or 1.0) / 65535), _as_written(low), False, True, False)

    def set_pixels(self, dataset: Dataset, values: NDArray[np.float32]) -> None:
        """Set the pixels of one slice."""
        kind = np.dtype("<i2" if self.signed else "<u2")
        limits = np.iinfo(kind)
        stored = np.rint((values.astype(np.float64) - self.intercept) / self.slope).clip(limits.min, limits.max)
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.Rows, dataset.Columns = values.shape
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = int(self.signed)
        if self.rescaled:
            dataset.RescaleSlope = DSfloat(self.slope, auto_format=True)
            dataset.RescaleIntercept = DSfloat(self.intercept, auto_format=True)
            dataset.RescaleType = "HU" if self.hounsfield else "US"
        dataset.PixelData = stored.astype(kind).tobytes()


def _as_written(number: float) -> float:
    """Return a number as a Decimal String holds it."""
    return float(str(DSfloat(number, auto_format=True)))


def _decimal(numbers: tuple[float, ...]) -> DSfloat | list[DSfloat]:
    """Return numbers as Decimal Strings of at most 16 characters."""
    written = [DSfloat(number, auto_format=True) for number in numbers]
    return written if len(written) > 1 else written[0]
