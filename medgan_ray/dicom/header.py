"""What a written image may carry of its source's header: gathered in the decoding process, hashed by the parent.

Bytes of a header are parsed in the decoding process alone. There the whole header goes through the profile of PS3.15
(``profile.deidentify``); of what that leaves, only the few attributes below are taken: numbers, and codes that are the
standard's own terms. No text passes, whatever it says, and the parent holds the reply against the same lists.

The key that hashes identifiers stays in the parent: a process that reads hostile bytes may be taken over, and whoever
has the key can test whether a patient is in a dataset. So the process applies the profile with a key of its own that
nobody keeps, and the UIDs and the patient's id travel apart and raw, as those in ``Facts`` do, to be hashed. The
process knows them anyhow: they are the file's.
"""

import dataclasses
import math
import secrets
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Self

from pydicom.dataset import Dataset

from medgan_ray.dicom.facts import Facts, frame_value, text
from medgan_ray.dicom.profile import deidentify

_NUMBERS = {
    "ImagePositionPatient": ("PlanePositionSequence", 3),
    "ImageOrientationPatient": ("PlaneOrientationSequence", 6),
    "PixelSpacing": ("PixelMeasuresSequence", 2),
    "SliceThickness": ("PixelMeasuresSequence", 1),
    "WindowCenter": ("FrameVOILUTSequence", 0),
    "WindowWidth": ("FrameVOILUTSequence", 0),
    "GantryDetectorTilt": ("", 1),
    "KVP": ("CTXRayDetailsSequence", 1),
    "AcquisitionNumber": ("", 1),
    "SeriesNumber": ("", 1),
    "InstanceNumber": ("", 1),
    "LossyImageCompressionRatio": ("", 0),
}
"""Keyword: the functional group that holds it in enhanced objects, and how many numbers it has (0: any)."""
_WHOLE = ("AcquisitionNumber", "SeriesNumber", "InstanceNumber")
MOST_NUMBERS = 8
"""Of one attribute; more windows than that are nobody's."""
LARGEST = 1e9
"""Of any number: one more and it would not fit into an Integer String."""

UNPAIRED_PARTS = frozenset((
    "ABDOMEN", "ABDOMENPELVIS", "AORTA", "BLADDER", "BRAIN", "CHEST", "CHESTABDOMEN", "CHESTABDPELVIS", "COLON",
    "CSPINE", "HEAD", "HEADNECK", "HEART", "LIVER", "LSPINE", "LSSPINE", "MEDIASTINUM", "NECK", "NECKCHEST",
    "NECKCHESTABDOMEN", "NECKCHESTABDPELV", "PANCREAS", "PELVIS", "PROSTATE", "SKULL", "SPINE", "SPLEEN", "SSPINE",
    "STERNUM", "STOMACH", "THYROID", "TLSPINE", "TSPINE", "UTERUS", "WHOLEBODY",
))  # fmt: skip
PAIRED_PARTS = frozenset((
    "ANKLE", "ARM", "BREAST", "CALF", "CLAVICLE", "EAR", "ELBOW", "EXTREMITY", "EYE", "FEMUR", "FINGER", "FOOT",
    "HAND", "HIP", "HUMERUS", "KIDNEY", "KNEE", "LEG", "LUNG", "ORBIT", "SHOULDER", "THIGH", "TOE", "WRIST",
))  # fmt: skip
"""Of the terms for Body Part Examined (0018,0015), PS3.16 Annex L."""
BOTH_SIDES = frozenset({"KIDNEY", "LUNG"})
"""Paired parts of which a slice through the body shows both, where its header names no side."""

_CODES: dict[str, tuple[str, frozenset[str]]] = {
    "BodyPartExamined": ("", UNPAIRED_PARTS | PAIRED_PARTS),
    "BurnedInAnnotation": ("", frozenset({"NO"})),
    "ImageLaterality": ("", frozenset("RLUB")),
    "Laterality": ("", frozenset("RL")),
    "LossyImageCompression": ("", frozenset({"00", "01"})),
    "LossyImageCompressionMethod": (
        "",
        frozenset({"ISO_10918_1", "ISO_14495_1", "ISO_15444_1", "ISO_15444_15", "ISO_13818_2", "ISO_14496_10"}),
    ),
    "PatientPosition": ("", frozenset(f"{first}{last}" for first in ("HF", "FF") for last in ("S", "P", "DR", "DL"))),
    "VOILUTFunction": ("FrameVOILUTSequence", frozenset({"LINEAR", "LINEAR_EXACT", "SIGMOID"})),
}
"""Keyword: its functional group, and the terms that pass."""

_METHODS = {
    "1.2.840.10008.1.2.4.50": "ISO_10918_1",
    "1.2.840.10008.1.2.4.51": "ISO_10918_1",
    "1.2.840.10008.1.2.4.81": "ISO_14495_1",
    "1.2.840.10008.1.2.4.91": "ISO_15444_1",
    "1.2.840.10008.1.2.4.203": "ISO_15444_15",
}
"""Transfer syntaxes whose pixels have lost something (JPEG's) or may have, by method (PS3.3 C.7.6.1.1.5.1)."""

_SHOWN = ("WindowCenter", "WindowWidth", "VOILUTFunction")


@dataclasses.dataclass(frozen=True)
class SliceHeader:
    """Of one frame of a source: what a written image may carry, and identifiers that are still to be hashed."""

    sop_class: str
    rows: int
    columns: int
    frame: int
    """1 for the first frame of a multi-frame object; 0 if the object is one image."""
    patient: str
    study: str
    series: str
    instance: str
    frame_of_reference: str
    numbers: Mapping[str, tuple[float, ...]]
    """By keyword; millimeters and degrees as the standard has them."""
    codes: Mapping[str, str]
    """By keyword."""

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the header that ``to_json`` gave, held against the lists of what may pass.

        Raises:
            ValueError, TypeError, KeyError: if anything else is in it; a process that was taken over may have sent it.
        """
        numbers = {name: tuple(map(float, value)) for name, value in values["numbers"].items()}
        codes = dict(values["codes"])
        counts = {"rows", "columns", "frame"}
        for field in dataclasses.fields(cls):
            kind = int if field.name in counts else dict if field.name in ("numbers", "codes") else str
            if type(values[field.name]) is not kind:
                raise TypeError(field.name)
        if any(not _fits(name, value) for name, value in numbers.items()):
            raise ValueError("numbers that do not fit")
        if any(value not in _CODES[name][1] for name, value in codes.items()):
            raise ValueError("codes that are not the standard's")
        return cls(**{**values, "numbers": numbers, "codes": codes})


class _Forgotten:
    """A key that nobody keeps."""

    def __init__(self) -> None:
        self._salt = secrets.token_bytes(16)

    def hash(self, identity: str) -> str:
        return sha256(self._salt + identity.encode("utf-8", "surrogateescape")).hexdigest()


def gather_slices(dataset: Dataset, facts: Facts, pixel_bytes: int) -> tuple[SliceHeader, ...]:
    """Return the header of each frame; called in the decoding process alone.

    Args:
        dataset: the whole header.
        facts: of the same file, ``frames`` as decoded.
        pixel_bytes: length of the pixel data as stored, from which a missing compression ratio is told.
    """
    clean = deidentify(dataset, _Forgotten())
    inverted = facts.photometric == "MONOCHROME1" or text(dataset, "PresentationLUTShape") == "INVERSE"
    left_out = _SHOWN if inverted else ()  # values are turned, their windows are not
    several = "NumberOfFrames" in dataset
    found = []
    for frame in range(facts.frames):
        numbers = {name: value for name in _NUMBERS if (value := _numbers(clean, frame, name)) is not None}
        codes = {name: term for name in _CODES if (term := _code(clean, frame, name))}
        _note_loss(numbers, codes, facts, pixel_bytes)
        header = SliceHeader(
            sop_class=facts.sop_class, rows=facts.rows, columns=facts.columns, frame=frame + 1 if several else 0,
            patient=facts.patient, study=facts.study, series=facts.series, instance=text(dataset, "SOPInstanceUID"),
            frame_of_reference=text(dataset, "FrameOfReferenceUID"),
            numbers={name: value for name, value in numbers.items() if name not in left_out},
            codes={name: value for name, value in codes.items() if name not in left_out},
        )  # fmt: skip
        found.append(header)
    return tuple(found)


def _note_loss(numbers: dict[str, tuple[float, ...]], codes: dict[str, str], facts: Facts, pixel_bytes: int) -> None:
    """Add what the transfer syntax says of lossy compression and the header doesn't."""
    method = _METHODS.get(facts.transfer_syntax)
    sure = method == "ISO_10918_1" or codes.get("LossyImageCompression") != "00"
    if method is None or not sure or not pixel_bytes:
        return
    plain = facts.rows * facts.columns * facts.frames * facts.samples * facts.bits / 8
    codes["LossyImageCompression"] = "01"
    codes.setdefault("LossyImageCompressionMethod", method)
    numbers.setdefault("LossyImageCompressionRatio", (round(plain / pixel_bytes, 2),))


def _fits(keyword: str, value: tuple[float, ...]) -> bool:
    """Say whether there are as many numbers as there should be, each of a size that can be meant."""
    count = _NUMBERS[keyword][1]
    right = len(value) == count if count else 1 <= len(value) <= MOST_NUMBERS
    whole = keyword not in _WHOLE or all(item == round(item) for item in value if math.isfinite(item))
    return right and whole and all(abs(item) < LARGEST for item in value)


def _listed(clean: Dataset, frame: int, group: str, keyword: str) -> list[Any]:
    """Return the values of an attribute for a frame; none where it is missing or broken."""
    try:
        value = frame_value(clean, frame, group, keyword)
    except Exception:  # pydicom parses values when they are asked for, and raises whatever that trips over
        return []
    if value is None:
        return []
    return list(value) if hasattr(value, "append") or isinstance(value, tuple) else [value]


def _numbers(clean: Dataset, frame: int, keyword: str) -> tuple[float, ...] | None:
    try:
        value = tuple(float(item) for item in _listed(clean, frame, _NUMBERS[keyword][0], keyword))
    except (TypeError, ValueError):
        return None
    return value if _fits(keyword, value) else None


def _code(clean: Dataset, frame: int, keyword: str) -> str:
    group, terms = _CODES[keyword]
    value = str(next(iter(_listed(clean, frame, group, keyword)), "")).strip().upper()
    return value if value in terms else ""
