"""Registry: immutable versions of a model, and a pointer to the one that is current.

    REGISTRY/NAME/claims/N.json       who writes version N, and how far it is: writing, sealed or void
    REGISTRY/NAME/versions/N/…        the files, then commit.json (SHA-256 of each file), written last
    REGISTRY/NAME/current.json        {"version": N, "history": [{"version", "time", "why"}, …]}

A number is claimed by a conditional put, so that no two publishers share one. Without ``commit.json`` there is no
version. A claim is sealed, with the hashes, before the commit: whoever sweeps either voids a claim that isn't sealed,
and its publisher takes another number, or commits one that is. A number that was ever claimed is never used again.
"""

import datetime
import hashlib
import json
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from medgan_ray.config import json_object
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.store import Store, open_store

CURRENT = "current.json"
COMMIT = "commit.json"
DESCRIPTION = "model.json"
VERSIONS, CLAIMS = "versions", "claims"
ATTEMPTS = 200
"""How often a number is claimed, or the pointer moved, before a publisher gives up; others win meanwhile."""
BASE_S, LONGEST_S = 0.02, 1.0

_ADDRESS = re.compile(r"^(?P<model>.*[^/@])@(?P<number>current|[1-9]\d*)/*$")
_FOLDER = re.compile(rf"/{VERSIONS}/([1-9]\d*)/*$")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,95}$")
_FILE = re.compile(rf"^{VERSIONS}/([1-9]\d*)/(.+)$")
_CLAIM = re.compile(rf"^{CLAIMS}/([1-9]\d*)\.json$")
_jitter = secrets.SystemRandom()


class Version(NamedTuple):
    """A committed version: the name of its model, its number, its folder and the SHA-256 of each file."""

    name: str
    number: int
    folder: Store
    hashes: dict[str, str]

    @property
    def address(self) -> str:
        """Return ``REGISTRY/NAME@N``."""
        return f"{self.folder.uri.rpartition(f'/{VERSIONS}/')[0]}@{self.number}"


class Contents(NamedTuple):
    """What a model's folder holds: committed numbers in their order, and keys that belong to none of them."""

    numbers: list[int]
    orphans: list[str]


def split(uri: str) -> tuple[str, int | None]:
    """Return the address of a model and the number that ``uri`` asks for; None is the current one.

    ``REGISTRY/NAME``, ``REGISTRY/NAME@current`` and ``REGISTRY/NAME@N`` are known.
    """
    found = _ADDRESS.match(uri)
    if not found:
        return uri.rstrip("/"), None
    return found["model"], None if found["number"] == "current" else int(found["number"])


def names_version(uri: str) -> bool:
    """Say whether ``uri`` can only be a version: it ends in @N or @current."""
    return _ADDRESS.match(uri) is not None


def open_model(uri: str) -> Store:
    """Return the folder of a model to publish into.

    Raises:
        UsageError: if ``uri`` names a version, has a name that can't be one, or holds something else.
    """
    name = uri.rstrip("/").rpartition("/")[2]
    if names_version(uri) or not _NAME.match(name):
        raise UsageError(f"{name!r} is no name for a model", uri, "give REGISTRY/NAME: letters, digits, . _ -")
    store = open_store(uri)
    for marker in ("run.json", "dataset.json", "search.json", DESCRIPTION):
        if store.exists(marker):
            raise UsageError("something else stands there", f"{store.uri}/{marker}", "publish to another place")
    return store


def is_whole(uri: str, committed: bool) -> bool:
    """Say whether a folder with a ``model.json`` is a model: one of a registry only if it has a ``commit.json``."""
    return committed or not _FOLDER.search(uri)


def find(uri: str) -> Version:
    """Return the version that an address names: ``@N``, or the current one.

    Raises:
        InputError: if there is none.
    """
    address, number = split(uri)
    model = open_store(address)
    if number is None:
        number = current(model)
    if not number:
        there = contents(model).numbers
        advice = f"medgan-ray promote {model.uri}@{there[-1]}" if there else "give a run, a search or a version"
        raise InputError("no version is current" if there else "no model here", uri, advice)
    return version(model, number)


def folder(uri: str) -> Store | None:
    """Return the folder whose ``model.json`` an address means, a version's or its own; None if it is neither.

    Raises:
        InputError: if it is the address of a version that is not there, or is damaged.
    """
    store = open_store(uri)
    if not names_version(uri):
        if store.exists(DESCRIPTION):
            return store if is_whole(uri, store.exists(COMMIT)) else None
        if not store.exists(CURRENT):
            return None
    found = find(uri)
    read_file(found, DESCRIPTION)
    return found.folder


def pinned(uri: str) -> str:
    """Return the address with the number of the version that is current now; any other address as it is."""
    moving = names_version(uri) or open_store(uri).exists(CURRENT)
    return find(uri).address if moving else uri


def version(model: Store, number: int) -> Version:
    """Return a committed version of a model; InputError if there is none of this number, or it is corrupt."""
    found = at(model.child(VERSIONS, str(number)))
    if found is None:
        raise InputError(f"no version {number}", model.uri, "see 'medgan-ray inspect' for those that are there")
    return found


def at(folder: Store) -> Version | None:
    """Return the committed version whose folder this is; None if it is none, InputError if it is corrupt."""
    place = _FOLDER.search(folder.uri)
    data, _ = folder.read_version(COMMIT)
    if data is None or place is None:
        return None
    hashes = json_object(data, f"{folder.uri}/{COMMIT}")
    name = folder.uri[: place.start()].rpartition("/")[2]
    return Version(name, int(place[1]), folder, {file: str(hashes[file]) for file in hashes})


def verify(found: Version) -> int:
    """Read every file of a version and compare it with its SHA-256; return how many there are.

    Raises:
        InputError: naming the first that is missing or altered.
    """
    for name, digest in found.hashes.items():
        read_file(found, name, digest)
    return len(found.hashes)


def read_file(found: Version, name: str, digest: str | None = None) -> bytes:
    """Return a file of a version; InputError if it is missing or does not match its SHA-256."""
    data = found.folder.read(name)
    if hashlib.sha256(data).hexdigest() != (digest or found.hashes.get(name)):
        raise InputError(f"{name} does not match its SHA-256", found.folder.uri, "promote another version")
    return data


def current(model: Store) -> int:
    """Return the number of the current version, 0 if none is; InputError if the pointer is corrupt."""
    return int(pointer(model)["version"])


def pointer(model: Store) -> dict[str, Any]:
    """Return what ``current.json`` holds: ``version`` (0: none) and ``history``, oldest first."""
    return _pointer(model)[0]


def contents(model: Store) -> Contents:
    """Return the committed numbers of a model, and what a crash left over."""
    keys = (entry.key for entry in model.list(VERSIONS))
    files = {key: int(found[1]) for key in keys if (found := _FILE.match(key))}
    numbers = {number for key, number in files.items() if key == f"{VERSIONS}/{number}/{COMMIT}"}
    return Contents(sorted(numbers), [key for key, number in files.items() if number not in numbers])


def publish(model: Store, files_of: Callable[[int, str], Mapping[str, bytes]], why: str = "published") -> Version:
    """Write a new version and make it current, unless a newer one has been; return it.

    Args:
        model: the model's folder, from ``open_model``.
        files_of: gives the files by name, for a number and the time.
        why: goes into the history.

    Raises:
        StoreError: if the store fails, or others win every race.
    """
    for attempt in range(ATTEMPTS):
        number, now = _next(model), _now()
        claim = {"token": secrets.token_hex(16), "time": now}
        if not model.create(f"{CLAIMS}/{number}.json", canonical({**claim, "state": "writing"})):
            _pause(attempt)
            continue
        hashes = _write(model, number, files_of(number, now), claim)
        if hashes is not None:
            _move(model, {"version": number, "time": now, "why": why}, only_newer=True)
            return version(model, number)
    raise StoreError("other publishers won every race", model.uri, "publish again")


def promote(model: Store, number: int, why: str = "promoted") -> dict[str, Any]:
    """Make a version current, also an older one; return the pointer.

    Raises:
        InputError: if there is no such version, or it is damaged.
        StoreError: if the store fails.
    """
    verify(version(model, number))
    if current(model) != number:
        _move(model, {"version": number, "time": _now(), "why": why}, only_newer=False)
    return pointer(model)


def sweep(model: Store) -> list[str]:
    """Remove what crashed publishers left; return the keys. A version that lacks its commit alone is committed."""
    swept = []
    for key in contents(model).orphans:
        if _void(model, int(key.split("/")[1])):
            model.delete(key)
            swept.append(key)
    return swept


def _void(model: Store, number: int) -> bool:
    """Take a claim back, so that it can't be committed any more; say whether that is so. A sealed one is committed."""
    key = f"{CLAIMS}/{number}.json"
    data, seen = model.read_version(key)
    claim = json_object(data, f"{model.uri}/{key}") if data is not None else {}
    hashes = claim.get("files")
    if claim.get("state") == "sealed" and isinstance(hashes, dict):
        found = Version("", number, model.child(VERSIONS, str(number)), hashes)
        if not found.folder.exists(COMMIT):
            verify(found)
            found.folder.create(COMMIT, canonical(hashes))
        return False
    return claim.get("state") == "void" or model.swap(key, canonical({**claim, "state": "void"}), seen)


def _write(model: Store, number: int, files: Mapping[str, bytes], claim: dict[str, Any]) -> dict[str, str] | None:
    """Write and commit a version that this process has claimed; None if the claim was taken back."""
    folder, key = f"{VERSIONS}/{number}", f"{CLAIMS}/{number}.json"
    for name, data in files.items():
        if not model.create(f"{folder}/{name}", data):
            return None  # something stands there that no claim tells of
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}
    found, seen = model.read_version(key)
    mine = found is not None and json.loads(found) == {**claim, "state": "writing"}
    if not mine or not model.swap(key, canonical({**claim, "state": "sealed", "files": hashes}), seen):
        for name in files:  # swept meanwhile: the number will never be used again
            model.delete(f"{folder}/{name}")
        return None
    model.create(f"{folder}/{COMMIT}", canonical(hashes))
    return hashes


def _next(model: Store) -> int:
    """Return the first number above all that were ever claimed or written."""
    keys = [entry.key for entry in model.list()]
    return max((int(found[1]) for key in keys if (found := _CLAIM.match(key) or _FILE.match(key))), default=0) + 1


def _move(model: Store, entry: dict[str, Any], only_newer: bool) -> None:
    """Move the pointer by compare and swap; ``only_newer``: never to a number below one that has been current."""
    for attempt in range(ATTEMPTS):
        old, seen = _pointer(model)
        history = old["history"]
        newest = max((int(each["version"]) for each in history), default=0)
        if entry in history or (only_newer and newest >= entry["version"]):
            return
        moved = {"version": entry["version"], "history": [*history, entry]}
        if model.swap(CURRENT, canonical(moved), seen):
            return
        _pause(attempt)
    advice = f"medgan-ray promote {model.uri}@{entry['version']}"
    raise StoreError("other writers won every race for the pointer", f"{model.uri}/{CURRENT}", advice)


def _pointer(model: Store) -> tuple[dict[str, Any], str | None]:
    data, seen = model.read_version(CURRENT)
    if data is None:
        return {"version": 0, "history": []}, seen
    found = json_object(data, f"{model.uri}/{CURRENT}")
    history = found.get("history")
    whole = isinstance(history, list) and all(isinstance(each, dict) and "version" in each for each in history)
    if not whole or type(found.get("version")) is not int:
        raise InputError("the pointer is corrupt", f"{model.uri}/{CURRENT}", "restore it")
    return found, seen


def _pause(attempt: int) -> None:
    time.sleep(_jitter.uniform(0, min(LONGEST_S, BASE_S * 2 ** min(attempt, 10))))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="microseconds")
