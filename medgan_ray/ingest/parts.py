"""Decoded images in parts of the archive, kept beside the dataset until it is written.

DATASET/private/parts/KEY.f32     resized images, float32 [n, H, W]
DATASET/private/parts/KEY.json    their records, what was not taken, and a few thumbnails of that; written last: without
                                  it, the part is no part

A part's key covers its files and all that decides how they become images, so that an ingest that was interrupted goes
on with the parts that are whole, wherever they were decoded. Memory holds one image and one part's records at a time.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import canonical
from medgan_ray.dicom import sandbox
from medgan_ray.dicom.facts import Options
from medgan_ray.errors import InputError, StoreError
from medgan_ray.ingest import album, shrink
from medgan_ray.ingest.album import Album, Picture
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Left, Recipe, Taken, take
from medgan_ray.ingest.records import Record
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.sources import ATTRIBUTE, Found
from medgan_ray.store import Store

FOLDER = "private/parts"
PART_FILES = 512
FORMAT = 5


@dataclass(frozen=True)
class Part:
    """A run of files: where the first stands in the list of files found, the files, and the part's key."""

    first: int
    found: tuple[Found, ...]
    key: str


@dataclass(frozen=True)
class Refused:
    """A file or frame that was not taken."""

    item: int
    reason: str


def split(found: Sequence[Found], recipe: Recipe, key: SubjectKey, files: int = 0) -> list[Part]:
    """Return the parts that a list of files makes, of so many files each; 0: ``PART_FILES``."""
    files = files or PART_FILES
    fixed = {
        "format": FORMAT,
        "size": recipe.size,
        "settings": recipe.settings.model_dump(mode="json", exclude={"workers", "slices", "near_duplicates"}),
        "key": key.fingerprint,
    }
    parts = []
    for first in range(0, len(found), files):
        some = tuple(found[first : first + files])
        facts = [[item.source.name, _stamp(item), item.label, item.group, item.folder] for item in some]
        # Keyed, because it covers the files' names.
        parts.append(Part(first, some, key.hash(canonical({**fixed, "files": facts}).decode())))
    return parts


def missing(store: Store, parts: Iterable[Part]) -> list[Part]:
    """Return the parts that are not whole yet."""
    there = {entry.key for entry in store.list(FOLDER)}
    return [part for part in parts if f"{FOLDER}/{part.key}.json" not in there]


def decode(
    store: Store, todo: Sequence[Part], recipe: Recipe, key: SubjectKey, tell: Callable[[int], None] | None = None
) -> None:
    """Decode parts in disposable processes and write them; ``tell`` is called with each number of files done."""
    settings = recipe.settings
    outcomes = sandbox.decode(
        (item.source for part in todo for item in part.found),
        settings.workers or min(8, os.cpu_count() or 1),
        options=options(settings),
        limits=sandbox.Limits(settings.file_limit_s, settings.memory_mb << 20),
        step=shrink.step(recipe.size, settings),
    )
    with contextlib.closing(cast(Generator[sandbox.Outcome, None, None], outcomes)):
        for part in todo:
            with _Writer(store, part) as writer:
                for offset, found in enumerate(part.found):
                    for taken in take(offset, found, next(outcomes), recipe, key):
                        writer.add(taken)
                    if tell is not None:
                        tell(1)


class Images:
    """Records and images of all parts, by position; read from files, so that memory does not grow with them."""

    def __init__(self, store: Store, parts: Sequence[Part], size: tuple[int, int], gone: Callable[[str], bool]) -> None:
        self._store, self._parts, self._size = store, parts, size
        self._folder = None if store.is_local else tempfile.TemporaryDirectory(prefix="medgan-parts-")
        self.records: list[Record] = []
        self.refused: list[Refused] = []
        self.pictures: Album[str, Picture] = Album(album.REJECTED)
        """Thumbnails of what was refused as it was read, by reason; none of subjects that are ``gone``."""
        self._starts: list[int] = []
        shared: dict[Any, Any] = {}
        for part in parts:
            self._starts.append(len(self.records))
            with _there(store):
                values = json.loads(store.read(f"{FOLDER}/{part.key}.json"))
            found = (Record.from_json(each, part.first + each["item"], shared) for each in values["records"])
            self.records += found
            self.refused += [Refused(part.first + each["item"], each["reason"]) for each in values["refused"]]
            album.unpack(values["pictures"], size, self.pictures, gone)

    def read(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Return images [n, *size] at the given positions."""
        images = np.empty((len(positions), *self._size), np.float32)
        places = np.searchsorted(self._starts, positions, "right") - 1
        for place in np.unique(places).tolist():
            with _there(self._store), self._path(place).open("rb") as file:
                for row in np.flatnonzero(places == place).tolist():
                    file.seek((positions[row] - self._starts[place]) * images[0].nbytes)
                    file.readinto(images[row].data)
        return images

    def delete(self) -> None:
        """Remove the parts from the store."""
        for part in self._parts:
            for suffix in ("json", "f32"):
                self._store.delete(f"{FOLDER}/{part.key}.{suffix}")

    def close(self) -> None:
        """Remove what was downloaded."""
        if self._folder:
            self._folder.cleanup()

    def _path(self, place: int) -> Path:
        key = f"{FOLDER}/{self._parts[place].key}.f32"
        if self._folder is None:
            return self._store.path(key)
        path = Path(self._folder.name) / f"{place}"
        if not path.exists():
            self._store.download(key, path)
        return path


@contextlib.contextmanager
def _there(store: Store) -> Iterator[None]:
    """Say what it means that a part that was whole is gone: whoever ingests the same scans has the same parts."""
    try:
        yield
    except (InputError, FileNotFoundError):
        what = "another ingest of these scans finished first"
        raise StoreError(what, f"{store.uri}/{FOLDER}", "run the same command again") from None


class _Writer:
    """Write one part: images as they come, the records last."""

    def __init__(self, store: Store, part: Part) -> None:
        self._store, self._part = store, part
        # Has no name: real pixels must not outlive an interrupted run outside the store.
        self._file = tempfile.TemporaryFile(prefix="medgan-part-")  # noqa: SIM115 - closed by __exit__
        self._records: list[dict[str, Any]] = []
        self._refused: list[dict[str, Any]] = []
        self._pictures: Album[str, tuple[Picture, str]] = Album(album.REJECTED)

    def __enter__(self) -> "_Writer":
        return self

    def add(self, frame: Taken | Left) -> None:
        if isinstance(frame, Taken):
            self._file.write(np.ascontiguousarray(frame.image).data)
            self._records.append(frame.record.to_json())
            return
        self._refused.append({"item": frame.item, "reason": str(frame.reason)})
        if frame.picture is not None:
            self._pictures.add(str(frame.reason), album.key_of(frame.picture), (frame.picture, frame.subject))

    def __exit__(self, kind: object, *_: object) -> None:
        with self._file:
            if kind is None:
                self._file.flush()
                self._store.upload(f"{FOLDER}/{self._part.key}.f32", Path(f"/dev/fd/{self._file.fileno()}"))
                pictures = album.pack(self._pictures)
                values = {"records": self._records, "refused": self._refused, "pictures": pictures}
                self._store.create(f"{FOLDER}/{self._part.key}.json", canonical(values))


def options(settings: IngestSettings) -> Options:
    """Return what a decoding process is to take."""
    keywords = [
        asked.removeprefix(ATTRIBUTE) if asked.startswith(ATTRIBUTE) else ""
        for asked in (settings.labels, settings.groups)
    ]
    return Options(
        luma=settings.color == "luma",
        secondary=settings.secondary,
        derived=settings.derived,
        burned_in=settings.text != "refuse",
        localizers="localizer" in settings.keep,
        label_attribute=keywords[0],
        group_attribute=keywords[1],
    )


def _stamp(found: Found) -> list[int | str]:
    """Return what changes when a file does, as far as it can be known without reading it."""
    if found.source.path is None:
        return [found.stamp]
    try:
        status = Path(found.source.path).stat()
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns]
