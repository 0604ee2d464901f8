"""What is known of an image between decoding and writing; it names nobody: patients and series are keyed hashes."""

import dataclasses
import math
from collections import Counter
from typing import Any, Self

from medgan_ray.errors import InputError
from medgan_ray.ingest.album import REJECTED, Album

EXAMPLES = 5


_REPEATED = frozenset({"modality", "unit", "kind", "label", "subject", "series", "attributes", "orientation"})
_UNKNOWN = (math.nan, math.nan)


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """One image that was read.

    Attributes:
        item: position of its file in the list of files found.
        frame: which of the file's frames.
        modality: DICOM's code; OT for pictures.
        unit: of its values: HU, voi, grey or relative.
        kind: dicom or image.
        label: what a table, a header or the class folder of a picture calls it; empty if unknown.
        subject: keyed hash of the patient; empty if unknown.
        series: keyed hash of the series; empty for a file that is alone.
        attributes: codes of ``deidentify.ATTRIBUTES``.
        spacing: millimeters between rows and columns of the resized image; NaN where unknown.
        digest: of the resized image; decides between images at one place.
        place: ImagePositionPatient, millimeters; None if unknown.
        orientation: ImageOrientationPatient; None if unknown.
        box: around the body (``regions.Box``), where series are cropped to it; None if there is none.
        masked: whether text was blanked in its pixels.
    """

    item: int
    frame: int
    modality: str
    unit: str
    kind: str
    label: str
    subject: str
    series: str
    attributes: tuple[int, ...]
    spacing: tuple[float, float]
    digest: str
    place: tuple[float, ...] | None = None
    orientation: tuple[float, ...] | None = None
    box: tuple[float, float, float, float] | None = None
    masked: bool = False

    @property
    def together(self) -> str:
        """What names the images that are scaled and cropped alike: those of a series, else of a file."""
        return self.series or f"file {self.item}"

    @property
    def scale(self) -> tuple[str, str]:
        """What all records of a dataset have in common: modality, and unit of the dataset's intensity map."""
        return self.modality, "relative" if self.unit == "voi" else self.unit

    def to_json(self) -> dict[str, Any]:
        """Return plain data; an unknown spacing is null."""
        values = {name: getattr(self, name) for name in self.__slots__}
        values["spacing"] = self.spacing if math.isfinite(self.spacing[0]) else None
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any], item: int, shared: dict[Any, Any]) -> Self:
        """Return the record that ``to_json`` gave, as one of the file at ``item``.

        What many records have in common is kept once, in ``shared``: there may be millions.
        """
        known = {key: _tuple(value) for key, value in values.items()}
        for key in _REPEATED & known.keys():
            known[key] = shared.setdefault(known[key], known[key])
        spacing = known["spacing"] and shared.setdefault(known["spacing"], known["spacing"])
        return cls(**{**known, "spacing": spacing or _UNKNOWN, "item": item})


class Rejections:
    """What was not taken: counts, a few names, and a few records of images, by reason."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self.counts: Counter[str] = Counter()
        self.examples: dict[str, list[str]] = {}
        self.records: Album[str, Record] = Album(REJECTED)

    def add(self, reason: str, what: Record | int) -> None:
        """Note one more: an image, by its record, or a file that gave none, by its position."""
        reason = str(reason)
        self.counts[reason] += 1
        names = self.examples.setdefault(reason, [])
        if len(names) < EXAMPLES:
            names.append(self._names[what if isinstance(what, int) else what.item])
        if isinstance(what, Record):
            self.records.add(reason, what.digest, what)

    def name(self, item: int) -> str:
        """Return the name of a file, for the terminal."""
        return self._names[item]

    def nothing(self, sources: list[str]) -> InputError:
        """Return the error that nothing could be taken."""
        counted = ", ".join(f"{count} {reason}" for reason, count in self.counts.most_common())
        return InputError("nothing could be taken", ", ".join(sources), f"refused: {counted}")


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
