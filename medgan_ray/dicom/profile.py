"""De-identifies a whole DICOM header by the Basic Application Level Confidentiality Profile (PS3.15 Annex E).

The table of attributes and actions (Table E.1-1) comes from the library dicom-anonymizer. Where a row leaves a choice
to the kind of object (such as X/Z), the action is taken that keeps every kind valid. Stricter than the table: private
and unknown attributes, names and free text that it does not list are removed, every UID of an instance is replaced,
and what repeats a removed identifier is emptied.
"""

import datetime
import functools
import importlib
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from pydicom import config
from pydicom.datadict import dictionary_has_tag, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import BaseTag
from pydicom.uid import UID, ExplicitVRLittleEndian

import medgan_ray
from medgan_ray.dicom.provenance import code

EDITION = "2026c"
"""Of PS3.15, whose Table E.1-1 is followed."""
METHOD = (f"DICOM PS3.15 {EDITION} Annex E, Basic Profile", "medgan-ray " + medgan_ray.__version__)
DEEPEST = 64
"""Sequences nested deeper are removed."""
SHIFT_DAYS = 3650
"""Dates that are kept move back by a patient's own number of days, from 1 to this."""

_ACTIONS = {
    "D_TAGS": "D",
    "Z_TAGS": "Z",
    "X_TAGS": "X",
    "U_TAGS": "U",
    "Z_D_TAGS": "Z/D",
    "X_Z_TAGS": "X/Z",
    "X_D_TAGS": "X/D",
    "X_Z_D_TAGS": "X/Z/D",
    "X_Z_U_STAR_TAGS": "X/Z/U*",
}
_RESOLVED = {"Z/D": "D", "X/Z": "Z", "X/D": "D", "X/Z/D": "D", "X/Z/U": "U", "X/Z/U*": "U"}
_REPEATING = (0x5000, 0x6000)
"""Curves and overlays, groups of the form 50xx and 60xx: drawn over the image, so removed whole."""
_DUMMIES: dict[str, Any] = {
    "AS": "000Y", "AT": 0, "DA": "19000101", "DS": "0", "DT": "19000101000000", "FD": 0.0, "FL": 0.0, "IS": "0",
    "OB": b"\0\0", "OD": bytes(8), "OF": bytes(4), "OL": bytes(4), "OV": bytes(8), "OW": b"\0\0", "SL": 0, "SS": 0,
    "SV": 0, "TM": "000000", "UL": 0, "UN": b"\0\0", "UR": "urn:removed", "US": 0, "UV": 0,
}  # fmt: skip
_FREE_TEXT = ("LT", "PN", "ST", "UC", "UT", "UR", "AE")
_SHORT_TEXT = ("CS", "LO", "SH", "UN")
_TEMPORAL = ("DA", "DT", "TM")
_DATE = re.compile(r"^(\d{8})(\d{0,6}(\.\d{1,6})?([+-]\d{4})?)$")
_TIME = re.compile(r"^\d{2,6}(\.\d{1,6})?$")
_CLASS_UIDS = ("ClassUID", "ClassesInStudy", "TransferSyntaxUID", "CodingSchemeUID", "ContextUID", "MappingResourceUID")
_TOKEN = re.compile(r"[^\W_]{4,}")
_IDENTIFYING = ("PatientID", "OtherPatientIDs", "AccessionNumber", "StudyID", "AdmissionID", "IssuerOfPatientID")


@functools.cache
def actions() -> dict[int, str]:
    """Return Table E.1-1 for the Basic Profile: each listed tag with its action as the standard writes it.

    Actions: D dummy value, Z empty or dummy, X remove, U replace the UID; K keep and C clean appear in options only.
    Overlays and curves (60xx, 50xx) are not in it: their groups are removed whole.
    """
    table = importlib.import_module(f"dicomanonymizer.dicom_anonymization_databases.dicomfields_{EDITION}")
    return {
        tag[0] << 16 | tag[1]: action
        for name, action in _ACTIONS.items()
        for tag in getattr(table, name)
        if len(tag) == 2  # longer ones are masks of repeating groups
    }


def resolve(action: str) -> str:
    """Return the one action that a combination comes down to, such that objects of every kind stay valid."""
    return _RESOLVED.get(action, action)


class Key(Protocol):
    """A secret that turns identifiers into hashes."""

    def hash(self, identity: str) -> str:
        """Return a keyed hash of an identifier as 64 hexadecimal digits."""
        ...


def deidentify(dataset: Dataset, key: Key, *, keep_dates: bool = False) -> Dataset:
    """Return a new data set without what identifies a person; pixels are as they were.

    UIDs and patient ids become keyed hashes, so that objects that belonged together still do. Text burned into pixels
    is not looked for.

    Args:
        dataset: what was read; it is not changed.
        key: makes the hashes.
        keep_dates: move dates back by a number of days that is the patient's own instead of removing them, and keep
            times of day; intervals stay as they were (option "Retain Longitudinal Temporal Information with Modified
            Dates").
    """
    with warnings.catch_warnings(), config.disable_value_validation():  # its warnings quote values
        warnings.simplefilter("ignore")
        patient = str(_value(dataset, "PatientID") or "").strip()
        work = _Work(key, _days(key, patient) if keep_dates else 0, frozenset(_tokens(dataset)))
        clean = work.dataset(dataset, 0)
    if patient:
        clean.PatientID = keyed_patient(key, patient)
    stamp(clean, keep_dates)
    clean.file_meta = _file_meta(dataset, clean)
    return clean


def keyed_uid(key: Key, uid: str) -> str:
    """Return what stands for a UID: 2.25 and 128 bits of its keyed hash; well-known ones and none stay as they are."""
    if not uid or UID(uid, config.IGNORE).type:  # such as a standard frame of reference
        return uid
    return f"2.25.{int(key.hash(f'uid:{uid}')[:32], 16)}"


def keyed_patient(key: Key, patient: str) -> str:
    """Return what stands for a Patient ID (0010,0020)."""
    return key.hash(f"patient:{patient}")


@dataclass(frozen=True)
class _Work:
    """One object's de-identification: the key, the days that dates move (0: none are kept), identifiers' words."""

    key: Key
    days: int
    tokens: frozenset[str]

    def dataset(self, source: Dataset, depth: int) -> Dataset:
        """Return a data set or an item of a sequence with every element dealt with."""
        clean = Dataset()
        for tag in source.keys():  # noqa: SIM118 - iterating the data set parses values, which may fail
            element = _element(source, tag)
            try:
                kept = self._element(element, depth) if element is not None else None
            except (TypeError, ValueError):  # a value that its representation doesn't allow: nobody can vouch for it
                continue
            if kept is not None:
                clean.add(kept)
        return clean

    def _element(self, element: DataElement, depth: int) -> DataElement | None:
        tag, vr = element.tag, element.VR
        if tag.is_private or tag.element == 0 or tag.group & 0xFF00 in _REPEATING or not dictionary_has_tag(tag):
            return None
        listed = actions().get(int(tag))
        action = resolve(listed) if listed else self._unlisted(element)
        if self.days and vr in _TEMPORAL and listed and tag.group != 0x0010 and element.value:
            return self._moved(element)
        if action == "X" or (vr == "SQ" and depth >= DEEPEST):
            return None
        if action == "Z":
            return _like(element, [] if vr == "SQ" else None)
        if action == "D":
            return _like(element, self._dummy(element))
        if vr == "SQ":
            return _like(element, [self.dataset(item, depth + 1) for item in element.value or ()])
        if action == "U":
            return _like(element, _each(element.value, self._uid))
        return _like(element, element.value)

    def _unlisted(self, element: DataElement) -> str:
        """Return what becomes of an attribute that the table does not list."""
        if element.VR in _FREE_TEXT:
            return "X"
        if element.VR == "UI":
            return "K" if keyword_for_tag(element.tag).endswith(_CLASS_UIDS) else "U"
        if element.VR in _SHORT_TEXT and self.tokens & set(_words(element.value)):
            return "Z"
        return "K"

    def _dummy(self, element: DataElement) -> Any:
        if element.VR == "UI":
            return _each(element.value, self._uid)
        return [Dataset()] if element.VR == "SQ" else _DUMMIES.get(element.VR, "REMOVED")

    def _uid(self, uid: str) -> str:
        return keyed_uid(self.key, uid)

    def _moved(self, element: DataElement) -> DataElement:
        """Return a date or time as it is kept; one that is not well formed is removed, as it could be anything."""
        moved = [self._moved_text(element.VR, str(text)) for text in _values(element.value)]
        return _like(element, moved if len(moved) > 1 else moved[0])

    def _moved_text(self, vr: str, text: str) -> str:
        if vr == "TM":
            return text if _TIME.match(text.strip()) else ""
        found = _DATE.match(text.strip())
        try:
            day = datetime.datetime.strptime(found[1], "%Y%m%d") if found else None
            moved = day - datetime.timedelta(self.days) if day else None
        except (ValueError, OverflowError):
            return ""
        return f"{moved:%Y%m%d}{found[2] if vr == 'DT' else ''}" if found and moved else ""


def _like(element: DataElement, value: Any) -> DataElement:
    """Return an element with another value; encapsulated pixels stay marked as such."""
    undefined = element.is_undefined_length
    return DataElement(element.tag, element.VR, value, None, undefined, validation_mode=config.IGNORE)


def _element(source: Dataset, tag: BaseTag) -> DataElement | None:
    try:
        element = source[tag]
        _ = element.value
        return element
    except Exception:  # pydicom parses values when they are asked for, and raises whatever that trips over
        return None


def _value(source: Dataset, keyword: str) -> Any:
    element = _element(source, BaseTag(tag_for_keyword(keyword) or 0))
    return element.value if element is not None else None


def _values(value: Any) -> list[Any]:
    return list(value) if hasattr(value, "append") or isinstance(value, (list, tuple)) else [value]


def _each(value: Any, change: Callable[[str], str]) -> Any:
    changed = [change(str(item)) for item in _values(value) if item is not None]
    return changed if len(changed) != 1 else changed[0]


def _words(value: Any) -> Iterator[str]:
    for item in _values(value):
        text = item.decode("latin-1") if isinstance(item, bytes) else str(item or "")
        yield from (word.casefold() for word in _TOKEN.findall(text))


def _tokens(source: Dataset, depth: int = 0) -> Iterator[str]:
    """Yield the words of names and identifiers, so that other attributes that repeat them are found."""
    for tag in source.keys():  # noqa: SIM118
        element = _element(source, tag)
        if element is None:
            continue
        if element.VR == "SQ" and depth < DEEPEST:
            for item in element.value or ():
                yield from _tokens(item, depth + 1)
        elif element.VR == "PN" or keyword_for_tag(tag) in _IDENTIFYING:
            yield from _words(element.value)


def _days(key: Key, patient: str) -> int:
    return 1 + int(key.hash(f"dates:{patient}")[:16], 16) % SHIFT_DAYS


def stamp(clean: Dataset, keep_dates: bool = False) -> None:
    """Say what was done: (0012,0062), (0012,0063), (0012,0064), (0028,0303)."""
    codes = [("113100", "Basic Application Confidentiality Profile")]
    if "LongitudinalTemporalInformationModified" in clean:
        del clean.LongitudinalTemporalInformationModified
    if keep_dates:
        codes.append(("113107", "Retain Longitudinal Temporal Information Modified Dates Option"))
        clean.LongitudinalTemporalInformationModified = "MODIFIED"
    clean.PatientIdentityRemoved = "YES"
    clean.DeidentificationMethod = list(METHOD)
    clean.DeidentificationMethodCodeSequence = [code(value, meaning) for value, meaning in codes]


def _file_meta(source: Dataset, clean: Dataset) -> FileMetaDataset:
    """Return a fresh file header: the old one may hold titles of machines and private data."""
    meta = FileMetaDataset()
    old = getattr(source, "file_meta", None)
    meta.TransferSyntaxUID = getattr(old, "TransferSyntaxUID", None) or ExplicitVRLittleEndian
    if "SOPClassUID" in clean:
        meta.MediaStorageSOPClassUID = clean.SOPClassUID
    if "SOPInstanceUID" in clean:
        meta.MediaStorageSOPInstanceUID = clean.SOPInstanceUID
    return meta
