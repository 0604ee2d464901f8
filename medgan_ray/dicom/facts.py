"""Header facts of a scan: the allow-listed few, geometry for each frame, and what the header alone decides.

Identifiers (patient, study, series) leave a decoding process only to be hashed; nothing else of the header does.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Self

from pydicom.dataset import Dataset
from pydicom.tag import BaseTag, Tag

from medgan_ray.dicom.refusals import Refused

Triple = tuple[float, float, float]

MAX_PIXELS = 1 << 28
"""Samples a file may claim, all frames together."""

MAX_FRAMES = 1 << 16
"""In one file."""

FARTHEST_MM, NEAREST_MM, WIDEST_MM = 1e5, 1e-4, 1e3
"""No scanner's slices lie farther out, and no pixels closer together or farther apart."""
LENGTH_ERROR = 0.1
"""Of direction cosines, which some writers round."""

NOT_SCANS = (
    "1.2.840.10008.5.1.4.1.1.66",  # raw data, segmentation, surface
    "1.2.840.10008.5.1.4.1.1.481",  # radiotherapy: dose, structures, plans
    "1.2.840.10008.5.1.4.1.1.30",  # parametric map
    "1.2.840.10008.5.1.4.1.1.77.1",  # visible light, whole slide
    "1.2.840.10008.5.1.4.1.1.11",  # presentation states
    "1.2.840.10008.5.1.4.1.1.88",  # structured reports
    "1.2.840.10008.5.1.4.1.1.104",  # encapsulated documents
    "1.2.840.10008.5.1.4.1.1.9",  # waveforms
    "1.2.840.10008.5.1.4.1.1.91",  # microscopy annotations
)
NOT_SCAN_MODALITIES = ("SEG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SR", "PR", "KO", "ECG", "SM", "ANN", "M3D", "DOC")


SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"

LOCALIZERS = frozenset({"LOCALIZER", "SCOUT", "TOPOGRAM", "SURVIEW"})

DERIVED_KINDS = frozenset(
    {
        *("MIP", "MAX_IP", "MAXIP", "MIN_IP", "MINIP", "PROJECTION IMAGE"),  # projections
        *("VOLUME_RENDER", "VOLUME RENDERING", "SURFACE_RENDER", "VRT", "SSD"),  # renderings
        *("SCREEN SAVE", "SCREENSHOT", "SCREEN CAPTURE"),  # of a screen
        *("PERFUSION", "RCBF", "RCBV", "CBF", "CBV", "MTT", "TTP", "TMAX", "ADC", "FA"),  # calculated maps
    }
)
"""What an image is that shows no slice or view as it was taken, by the values of Image Type (0008,0008) from the third
on, or by Volume Based Calculation Technique (0008,9207). DERIVED alone says little: archives give it to reformats,
resampled and recompressed originals, which are taken."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What reading takes.

    Attributes:
        luma: take the brightness of color images instead of refusing them.
        secondary: take secondary captures (screen shots, scanned film, generated images).
        burned_in: take scans whose header says that text is burned in.
        derived: take projections, renderings, screen images and calculated maps; see ``DERIVED_KINDS``.
        localizers: take scouts and localizers.
        label_attribute: keyword of the attribute whose value is taken as the label; empty: none.
        group_attribute: keyword of the attribute whose value tells what stays together; empty: none.
        inspect: only look: hash the stored values of every file that has pixels, and note what ingest would refuse.
        headers: also hand over what a written image may carry of the header; see ``header.SliceHeader``.
        volumes: take NIfTI and NPZ.
        max_pixels: samples that DICOM or a picture may claim, all frames together.
    """

    luma: bool = False
    secondary: bool = False
    derived: bool = False
    burned_in: bool = False
    localizers: bool = False
    inspect: bool = False
    label_attribute: str = ""
    group_attribute: str = ""
    headers: bool = False
    volumes: bool = True
    max_pixels: int = MAX_PIXELS


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known of a scan; each of the per-frame tuples is empty or has one entry a frame."""

    kind: str = "dicom"
    """``dicom`` or ``image``."""
    modality: str = ""
    sop_class: str = ""
    transfer_syntax: str = ""
    photometric: str = ""
    rows: int = 0
    columns: int = 0
    frames: int = 1
    samples: int = 1
    bits: int = 0
    """BitsAllocated (0028,0100)."""
    image_type: tuple[str, ...] = ()
    unit: str = ""
    """Of the values: HU, SUV, voi (0 to 1, the display's), grey (0 to 255, or 65535 if ``bits`` is 16), or relative
    (the modality has no unit)."""
    patient: str = ""
    study: str = ""
    series: str = ""
    sex: str = ""
    age_years: int = -1
    maker: str = ""
    view: str = ""
    label: str = ""
    """The value of the attribute that was asked for as the label."""
    group: str = ""
    """The value of the attribute that was asked for as what stays together."""
    positions: tuple[Triple | None, ...] = ()
    """ImagePositionPatient (0020,0032), millimeters."""
    orientations: tuple[tuple[float, ...] | None, ...] = ()
    """ImageOrientationPatient (0020,0037): direction cosines of rows, then columns."""
    spacings: tuple[tuple[float, float] | None, ...] = ()
    """Millimeters between rows, then between columns."""
    field: tuple[int, ...] = ()
    """Of a projection, counted from 1: first and last row, first and last column that were exposed; empty if unknown.
    From the rectangular Shutter (0018,1602) to (0018,1608), else Collimator (0018,1702) to (0018,1708)."""
    burned_in: bool = False
    """Whether Burned In Annotation (0028,0301) says so."""
    tilt_degrees: float | None = None
    """GantryDetectorTilt (0018,1120), if the header has it."""
    stored_sha256: str = ""
    """Of the stored values; only when looking, else empty."""
    verdict: str = ""
    """Empty if ingest takes it, else the code of the refusal."""

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some facts changed."""
        return dataclasses.replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return dict(vars(self))

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the facts that ``to_json`` gave."""
        return cls(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def gather(dataset: Dataset) -> Facts:
    """Return the facts that a data set's header holds.

    Raises:
        Refused: ``broken_header`` where a value that pixels depend on is not a number.
    """
    frames = _integer(dataset, "NumberOfFrames", 1) or 1
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    return Facts(
        modality=text(dataset, "Modality"),
        sop_class=text(dataset, "SOPClassUID"),
        transfer_syntax=syntax,
        photometric=text(dataset, "PhotometricInterpretation"),
        rows=_integer(dataset, "Rows", 0),
        columns=_integer(dataset, "Columns", 0),
        frames=frames,
        samples=_integer(dataset, "SamplesPerPixel", 1),
        bits=_integer(dataset, "BitsAllocated", 0),
        image_type=tuple(part.strip().upper() for part in text(dataset, "ImageType").split("\\")),
        patient=text(dataset, "PatientID"),
        study=text(dataset, "StudyInstanceUID"),
        series=text(dataset, "SeriesInstanceUID"),
        sex=text(dataset, "PatientSex"),
        age_years=_age_years(text(dataset, "PatientAge")),
        maker=text(dataset, "Manufacturer"),
        view=text(dataset, "ViewPosition"),
        positions=_each(dataset, frames, "PlanePositionSequence", ("ImagePositionPatient",), place),
        orientations=_each(dataset, frames, "PlaneOrientationSequence", ("ImageOrientationPatient",), directions),
        spacings=_each(dataset, frames, "PixelMeasuresSequence", ("PixelSpacing", "ImagerPixelSpacing"), spacing),
        field=_field(dataset),
        burned_in=text(dataset, "BurnedInAnnotation").upper() == "YES",
        tilt_degrees=(numbers([text(dataset, "GantryDetectorTilt")], 1) or (None,))[0],
    )


def header_verdict(dataset: Dataset, facts: Facts, options: Options) -> str:
    """Return the code by which the header alone refuses a scan, or an empty text."""
    if not any(tag_of(name) in dataset for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        return "no_pixels"
    if facts.sop_class.startswith(NOT_SCANS) or facts.modality in NOT_SCAN_MODALITIES:
        return "not_a_scan"
    if not LOCALIZERS.isdisjoint(facts.image_type) and not options.localizers:
        return "localizer"
    if not options.derived:
        technique = text(dataset, "VolumeBasedCalculationTechnique").upper()
        if not DERIVED_KINDS.isdisjoint((*facts.image_type[2:], technique)):
            return "derived"
    if facts.sop_class.startswith(SECONDARY_CAPTURE) and not options.secondary:
        return "secondary_capture"
    if facts.burned_in and not options.burned_in:
        return "burned_in"
    if (facts.samples > 1 or facts.photometric == "PALETTE COLOR") and not options.luma:
        return "color"
    return ""


def value_of(dataset: Dataset, keyword: str) -> Any:
    """Return what ``dataset.get(keyword)`` does, in half the time: an element that is missing costs next to nothing."""
    tag = tag_of(keyword)
    return dataset[tag].value if tag in dataset else None


@functools.cache
def tag_of(keyword: str) -> BaseTag:
    """Return the tag of a DICOM keyword."""
    return Tag(keyword)


def frame_value(dataset: Dataset, frame: int, group: str, keyword: str) -> Any:
    """Return an attribute for a frame: from its own functional group, else the shared one, else the top level."""
    per_frame = value_of(dataset, "PerFrameFunctionalGroupsSequence") or []
    shared = value_of(dataset, "SharedFunctionalGroupsSequence") or []
    for holder in (per_frame[frame] if frame < len(per_frame) else None, shared[0] if len(shared) else None):
        items = value_of(holder, group) if holder is not None else None
        if items and tag_of(keyword) in items[0]:
            return value_of(items[0], keyword)
    return value_of(dataset, keyword)


def text(dataset: Dataset, keyword: str) -> str:
    """Return an attribute as text, empty if it is missing or broken."""
    try:
        value = value_of(dataset, keyword)
    except Exception:  # pydicom parses values when they are asked for, and raises whatever that trips over
        return ""
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, (list, tuple)) or hasattr(value, "append") else str(value)


def numbers(value: Any, count: int) -> tuple[float, ...] | None:
    """Return ``count`` finite numbers, or None."""
    try:
        result = tuple(float(item) for item in value)
    except (TypeError, ValueError):
        return None
    return result if len(result) == count and all(map(math.isfinite, result)) else None


def place(value: Any) -> tuple[float, ...] | None:
    """Return a position in millimeters; None for what is none: what reckons with it must not overflow."""
    found = numbers(value, 3)
    return found if found and max(map(abs, found)) <= FARTHEST_MM else None


def directions(value: Any) -> tuple[float, ...] | None:
    """Return the direction cosines of rows and columns, each of length 1; None for what is none."""
    found = numbers(value, 6)
    lengths = (math.hypot(*found[:3]), math.hypot(*found[3:])) if found else (0.0,)
    return found if all(abs(length - 1) <= LENGTH_ERROR for length in lengths) else None


def spacing(value: Any) -> tuple[float, ...] | None:
    """Return millimeters between rows and columns; None for what is none."""
    found = numbers(value, 2)
    return found if found and min(found) >= NEAREST_MM and max(found) <= WIDEST_MM else None


Sound = Callable[[Any], tuple[float, ...] | None]


def _each(dataset: Dataset, frames: int, group: str, keywords: tuple[str, ...], sound: Sound) -> tuple[Any, ...]:
    """Return a value for each frame; empty if no frame has one."""
    frames = min(max(frames, 0), MAX_FRAMES)
    listed = _lenient(dataset, 0, "", "PerFrameFunctionalGroupsSequence")
    own = min(frames, len(listed) if hasattr(listed, "append") else 0)
    # Frames without a group of their own have what all share.
    found = [_first_of(dataset, frame, group, keywords, sound) for frame in range(own + (own < frames))]
    found += found[-1:] * (frames - len(found))
    return tuple(found) if any(value is not None for value in found) else ()


def _first_of(
    dataset: Dataset, frame: int, group: str, keywords: tuple[str, ...], sound: Sound
) -> tuple[float, ...] | None:
    values = (sound(_lenient(dataset, frame, group, keyword)) for keyword in keywords)
    return next((value for value in values if value is not None), None)


def _lenient(dataset: Dataset, frame: int, group: str, keyword: str) -> Any:
    try:
        return frame_value(dataset, frame, group, keyword)
    except Exception:  # a broken value of geometry is a missing one
        return None


def _field(dataset: Dataset) -> tuple[int, ...]:
    for kind in ("Shutter", "Collimator"):
        if "RECTANGULAR" in text(dataset, f"{kind}Shape").upper():
            edges = [
                f"{kind}{edge}Edge" for edge in ("UpperHorizontal", "LowerHorizontal", "LeftVertical", "RightVertical")
            ]
            found = numbers([text(dataset, edge) for edge in edges], 4)
            if found and found[0] < found[1] and found[2] < found[3]:
                return tuple(map(int, found))
    return ()


def _integer(dataset: Dataset, keyword: str, default: int) -> int:
    try:
        value = value_of(dataset, keyword)
        return default if value is None or value == "" else int(value)
    except Exception as error:  # pydicom parses values when they are asked for, and raises whatever that trips over
        raise Refused("broken_header", f"{keyword}: {error}") from None


def _age_years(age: str) -> int:
    """Return whole years for an Age String such as ``036Y`` or ``018M``; -1 if there is none."""
    days = {"D": 1.0, "W": 7.0, "M": 30.4375, "Y": 365.25}
    if len(age) == 4 and age[:3].isdigit() and age[3] in days:
        return int(int(age[:3]) * days[age[3]] / 365.25)
    return -1
