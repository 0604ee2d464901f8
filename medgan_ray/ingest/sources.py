"""Finds the scans of a source (folder, file, archive, s3:// prefix, DICOMweb service), their labels and patients.

Labels come from a CSV with the columns file, label and, if known, patient (or subject); else from class subfolders.
"""

import csv
import functools
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pydicom.datadict

from medgan_ray.dicom import web
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import Limits, Source
from medgan_ray.errors import InputError, UsageError
from medgan_ray.ingest import archives
from medgan_ray.store import Entry, Store, is_remote, open_store

TABLE = "labels.csv"
ATTRIBUTE = "attribute:"
TABLE_BYTES = 256 << 20
_GROUP_COLUMNS = ("patient", "subject", "group")


@dataclass(frozen=True, slots=True)
class Found:
    """A file to decode; the label and patient that a table gives it, and its first subfolder, each empty if unknown.

    ``stamp`` is another one when the file's bytes are; empty for a local file, whose status tells.
    """

    source: Source
    label: str = ""
    group: str = ""
    folder: str = ""
    stamp: str = ""


class _Item(NamedTuple):
    """A file to decode, by its key below the source (``archive.zip/inner/name``), and its first subfolder."""

    key: str
    source: Source
    folder: str
    stamp: str = ""

    @property
    def patient(self) -> str:
        """Its second subfolder."""
        parts = PurePosixPath(self.key).parts
        return parts[1] if len(parts) > 2 else ""


class _Row(NamedTuple):
    label: str
    group: str


@dataclass(frozen=True)
class _Table:
    rows: dict[str, _Row]
    has_labels: bool


def find(sources: list[str], labels: str = "auto", skip: str = "", groups: str = "auto") -> list[Found]:
    """Return the files below all sources, sorted by name.

    Args:
        sources: folders, files, zip or tar archives, s3:// prefixes, or DICOMweb services (``dicom.web``). Archives
            that stand in folders are opened too. Hidden files are left out.
        labels: a CSV that names files relative to their source; ``auto``: a source's own ``labels.csv``, else class
            subfolders; ``folders``: class subfolders; ``attribute:KEYWORD``: of the DICOM header; ``none``.
            Patients are read from ``labels.csv`` in any case.
        skip: a local folder to leave out (the dataset that is being made).
        groups: ``folders``: the first subfolder names the patient, the second if ``labels`` are ``folders``; no class
            is made of it then. ``attribute:KEYWORD``: of the DICOM header; ``auto``: ``labels.csv``.

    Raises:
        InputError: if a source is missing or empty, or a labels file can't be used (it is named).
    """
    for option, asked in (("ingest.labels", labels), ("ingest.groups", groups)):
        keyword = asked.removeprefix(ATTRIBUTE)
        if asked.startswith(ATTRIBUTE) and not pydicom.datadict.tag_for_keyword(keyword):
            fix = "give its keyword, such as BodyPartExamined"
            raise UsageError(f"no DICOM attribute is called {keyword!r}", option, fix)
    given = "" if labels.startswith(ATTRIBUTE) or labels in ("auto", "folders", "none") else labels
    found: list[Found] = []
    for uri in sources:
        items = _web_items(uri) if web.is_service(uri) else _items(uri, skip)
        table = _table(items, given)
        items = [item for item in items if item.key != TABLE]
        if not items:
            raise InputError("no files here", uri, "give a folder, archive or prefix that holds scans")
        if table and not any(item.key in table.rows for item in items):
            where = given or f"{uri}/{TABLE}"
            raise InputError("no row names a file of the source", where, "name files relative to the source")
        found += [_found(item, table, labels, groups) for item in items]
    return found


def _found(item: _Item, table: _Table | None, labels: str, groups: str) -> Found:
    label, group = table.rows.get(item.key, _Row("", "")) if table else _Row("", "")
    folder = item.folder
    if labels in ("folders", "none") or labels.startswith(ATTRIBUTE):
        label, folder = folder if labels == "folders" else "", ""
    elif groups == "folders" or (table and table.has_labels):
        folder = ""
    if groups == "folders":
        group = item.patient if labels == "folders" else item.folder
    return Found(item.source, label, group, folder, item.stamp)


def _web_items(uri: str) -> list[_Item]:
    return [_Item(key, source, "") for key, source in web.instances(uri)]


def _items(uri: str, skip: str) -> list[_Item]:
    """Return the files of a local or S3 source and the members of its archives, sorted."""
    store, files = _files(uri, skip)
    items: list[_Item] = []
    for key, size, version in files:
        name = f"{store.uri}/{key}"
        if archives.is_archive(name):
            alone = len(files) == 1 and (Path(uri.removeprefix("file://")).name == key)
            items += _members(name, "" if alone else key)
        elif store.is_local:
            items.append(_Item(key, Source(name, path=name), _first_folder(key)))
        else:
            fetch = functools.partial(_fetch, store, key, size)
            items.append(_Item(key, Source(name, fetch=fetch), _first_folder(key), version))
    return items


def _fetch(store: Store, key: str, size: int) -> bytes:
    """Return an object of a store, if it is not too large and still there."""
    most = Limits().file_bytes
    if size > most:
        raise Refused("too_large", f"{size} bytes")
    try:
        return store.read_range(key, 0, most)
    except InputError:
        raise Refused("unreadable", "no longer there") from None


def _members(archive: str, key: str) -> list[_Item]:
    """Return the members of an archive; ``key`` is empty if it is the source itself."""
    items = []
    for inner, source, stamp in archives.members(archive):
        if not _hidden(inner):
            around = PurePosixPath(key).parent / inner
            items.append(
                _Item("/".join(part for part in (key, inner) if part), source, _first_folder(str(around)), stamp)
            )
    return sorted(items, key=lambda item: item.key)


def _first_folder(key: str) -> str:
    first, slash, _ = key.removeprefix("./").partition("/")
    return sys.intern(first) if slash else ""  # one text for all files of a folder


def _files(uri: str, skip: str) -> tuple[Store, list[Entry]]:
    """Return the store and files of a source, hidden files and ``skip`` left out."""
    if not is_remote(uri):
        path = Path(uri.removeprefix("file://")).expanduser()
        if path.is_file():
            return open_store(str(path.parent)), [Entry(path.name, 0)]
        if not path.is_dir():
            raise InputError("no such source", uri, "check the path")
    store = open_store(uri)
    files = store.list()
    if not files and is_remote(uri):
        parent, _, name = store.uri.rpartition("/")
        if parent.count("/") > 2 and open_store(parent).exists(name):
            return open_store(parent), [open_store(parent).entry(name)]
    inside = _below(store, skip)
    return store, [file for file in files if not _hidden(file.key) and not (inside and file.key.startswith(inside))]


def _below(store: Store, skip: str) -> str:
    if not skip or not store.is_local or is_remote(skip):
        return ""
    root, other = Path(store.uri).resolve(), Path(skip).expanduser().resolve()
    return f"{other.relative_to(root)}/" if other != root and other.is_relative_to(root) else ""


def _hidden(key: str) -> bool:
    return any((part.startswith(".") and part != ".") or part == "__MACOSX" for part in key.split("/"))


def _table(items: list[_Item], labels: str) -> _Table | None:
    if labels:
        if is_remote(labels):
            parent, _, name = labels.rpartition("/")
            return _parse(open_store(parent).read(name), labels)
        return _parse(_read(Path(labels).expanduser(), labels), labels)
    source = next((item.source for item in items if item.key == TABLE), None)
    if source is None:
        return None
    if source.path is not None:
        return _parse(_read(Path(source.path), source.path), source.name)
    try:
        return _parse(source.fetch() if source.fetch else b"", source.name)
    except Refused as refusal:
        raise InputError("cannot read the labels", source.name, refusal.detail) from None


def _read(path: Path, where: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError("cannot read the labels", where, error.strerror or str(error)) from None


def _parse(data: bytes, where: str) -> _Table:
    if len(data) > TABLE_BYTES:
        raise InputError("the labels file is too large", where, "give a CSV with the columns file, label, patient")
    try:
        text = data.decode("utf-8-sig")
        reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        columns = [name.strip().lower() for name in reader.fieldnames or []]
        reader.fieldnames = columns
        rows = dict(_rows(reader, columns, where))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError("the labels file is not a CSV", where, str(error)) from None
    if not rows:
        raise InputError("the labels file has no rows", where, "write one line a file: file,label,patient")
    return _Table(rows, "label" in columns)


def _rows(reader: "csv.DictReader[str]", columns: list[str], where: str) -> Iterator[tuple[str, _Row]]:
    if "file" not in columns:
        raise InputError("the labels file has no column 'file'", where, "its columns are file, label and patient")
    group = next((name for name in _GROUP_COLUMNS if name in columns), "")
    if "label" not in columns and not group:
        raise InputError("the labels file has no column 'label'", where, "its columns are file, label and patient")
    seen: dict[str, _Row] = {}
    for line, cells in enumerate(reader, start=2):
        name = str(PurePosixPath((cells["file"] or "").strip()))
        row = _Row((cells.get("label") or "").strip(), (cells.get(group) or "").strip() if group else "")
        if seen.setdefault(name, row) != row:
            raise InputError(f"line {line} names a file again, otherwise", where, "one line a file")
        yield name, row
