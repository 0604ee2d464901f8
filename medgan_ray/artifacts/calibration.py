"""What makes a recognizer's answers mean something: fitted to held-out scans when its training ends.

best/calibration.safetensors   tensors, and the facts as one JSON object in the metadata; names the weights it is of

It is measured on scans that the weights were not fitted to, and means nothing beside other weights. A published version
has it too, named in its ``commit.json``.
"""

import hashlib
import json
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from medgan_ray.artifacts import registry
from medgan_ray.config import Section
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store

FILE = "calibration.safetensors"
_KEY = "medgan"


class OfSet(Section):
    """The calibration of one label set."""

    name: str
    temperature: float
    least: float
    """From which probability on, all classes equally common, a class belongs to a scan's set."""
    scans: int
    """Of known class, that this was fitted to."""
    patients: int


class Calibration(Section):
    """The calibration of a recognizer's weights."""

    weights: str
    """SHA-256 of the weights' file."""
    coverage: float
    """Share of scans whose set is to hold the true class."""
    least_p: float
    """A scan that is less like known ones than this share of them is not answered."""
    sets: tuple[OfSet, ...]


def write(store: Store, facts: Calibration, tensors: dict[str, NDArray[np.float64]]) -> None:
    """Write a calibration beside its weights.

    Args:
        store: the folder of ``model.safetensors``.
        facts: what is plain.
        tensors: ``mean`` [D] and ``whitening`` [D, D] of ``metrics.anomaly.Cloud``, ``distances`` ascending [n].
    """
    told = {_KEY: canonical(facts.model_dump(mode="json")).decode()}
    whole = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
    store.replace(FILE, safetensors.numpy.save(whole, told))


def read(store: Store, weights: str) -> tuple[Calibration, dict[str, NDArray[Any]]] | None:
    """Return the calibration of these weights; None where there is none, or it is of others.

    Raises:
        InputError: if it is corrupt, or a version's is not the one that was published.
    """
    found = registry.at(store)
    if found is not None and FILE in found.hashes:
        return parsed(registry.read_file(found, FILE), weights, f"{store.uri}/{FILE}")
    data, _ = store.read_version(FILE)
    return None if data is None else parsed(data, weights, f"{store.uri}/{FILE}")


def sha256(store: Store) -> str:
    """Return the SHA-256 of the calibration in a folder; empty where there is none."""
    data, _ = store.read_version(FILE)
    return "" if data is None else hashlib.sha256(data).hexdigest()


def parsed(data: bytes, weights: str, where: str) -> tuple[Calibration, dict[str, NDArray[Any]]] | None:
    """Return what a calibration's file holds; None if it is of other weights than these.

    Raises:
        InputError: if it is corrupt, naming ``where``.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        told = json.loads(data[8 : 8 + size])["__metadata__"][_KEY]
        facts = Calibration.parse(json.loads(told), where=where)
        return (facts, safetensors.numpy.load(data)) if facts.weights == weights else None
    except (safetensors.SafetensorError, ValueError, KeyError, UsageError) as error:
        raise InputError("the calibration is corrupt", where, f"delete it and train again: {error}") from None
