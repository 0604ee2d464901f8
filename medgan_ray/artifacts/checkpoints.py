"""Checkpoints: all that training needs to go on, committed by a manifest of hashes.

    RUN/checkpoints/IMAGES-DIGEST/state.safetensors   networks and optimizers
    RUN/checkpoints/IMAGES-DIGEST/state.json          images seen, figures, plain facts of the loop
    RUN/checkpoints/IMAGES-DIGEST/commit.json         SHA-256 of each file, written last

Without ``commit.json`` there is no checkpoint; with one that does not match, the checkpoint is named and passed over.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from medgan_ray.artifacts.tensors import from_bytes, to_bytes
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError
from medgan_ray.store import Store

FOLDER = "checkpoints"
_NAME = re.compile(r"^(\d{12})-[0-9a-f]{12}$")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A committed checkpoint: its name, the images seen when it was made, tensors and plain facts."""

    name: str
    images: int
    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def commit(run: Store, images: int, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> str:
    """Write a checkpoint and return its name; the same state has the same name."""
    state = to_bytes(tensors)
    name = f"{images:012d}-{hashlib.sha256(state).hexdigest()[:12]}"
    files = {"state.safetensors": state, "state.json": canonical({"images": images, **facts})}
    for file, data in files.items():
        run.replace(f"{FOLDER}/{name}/{file}", data)
    hashes = {file: hashlib.sha256(data).hexdigest() for file, data in files.items()}
    run.replace(f"{FOLDER}/{name}/commit.json", canonical(hashes))
    return name


def names(run: Store) -> list[str]:
    """Return the names of committed checkpoints, oldest first."""
    found = (entry.key.split("/") for entry in run.list(FOLDER))
    return sorted(parts[1] for parts in found if parts[-1] == "commit.json" and _NAME.match(parts[1]))


def load(run: Store, name: str) -> Checkpoint:
    """Return the checkpoint with this name.

    Raises:
        InputError: if a file is missing or does not match its hash.
    """
    where = f"{run.uri}/{FOLDER}/{name}"
    try:
        hashes = json.loads(run.read(f"{FOLDER}/{name}/commit.json"))
        data = {file: run.read(f"{FOLDER}/{name}/{file}") for file in ("state.safetensors", "state.json")}
        for file, content in data.items():
            if hashlib.sha256(content).hexdigest() != hashes[file]:
                raise InputError(f"{file} does not match its SHA-256", where)
        facts = json.loads(data["state.json"])
        return Checkpoint(name, int(facts["images"]), from_bytes(data["state.safetensors"], where), facts)
    except (ValueError, KeyError, TypeError) as error:
        raise InputError("checkpoint is corrupt", where, str(error)) from None


def newest(
    run: Store, log: Callable[[str], None], wanted: Callable[[int], bool] = lambda images: True
) -> Checkpoint | None:
    """Return the newest checkpoint that is whole; those that are not are named through ``log`` and passed over.

    Args:
        run: the run's store.
        log: takes a line about each corrupt one.
        wanted: whether a checkpoint at so many images seen is looked for.
    """
    for name in reversed(names(run)):
        if not wanted(images_of(name)):
            continue
        try:
            return load(run, name)
        except InputError as error:
            log(f"checkpoint {name} is corrupt and passed over: {error.what}")
    return None


def images_of(name: str) -> int:
    """Return the images seen at the checkpoint with this name."""
    return int(name.split("-")[0])


@dataclasses.dataclass(frozen=True)
class Keep:
    """Which checkpoints stay beside the best and the newest.

    Attributes:
        last: so many of those that the schedule made.
        interval: the schedule makes one at each multiple of so many images.
        every: one at each multiple of so many images stays for good; 0: none does.
    """

    last: int
    interval: int
    every: int = 0


def prune(run: Store, keep: Keep, best: str | None) -> None:
    """Remove the checkpoints that need not stay, and what older attempts left uncommitted.

    The commit goes first, so that none is half there. One that an interruption made goes as soon as there is a newer.
    """
    committed = names(run)
    if not committed:
        return
    scheduled = [name for name in committed if images_of(name) % keep.interval == 0]
    stay = {committed[-1], *scheduled[-keep.last :], best}
    stay |= {name for name in committed if keep.every and images_of(name) % keep.every == 0}
    folders: dict[str, list[str]] = {}
    for entry in run.list(FOLDER):
        folders.setdefault(entry.key.split("/")[1], []).append(entry.key)
    for name, keys in folders.items():
        if _NAME.match(name) and name not in stay and images_of(name) <= images_of(committed[-1]):
            for key in sorted(keys, key=lambda key: not key.endswith("/commit.json")):
                run.delete(key)
