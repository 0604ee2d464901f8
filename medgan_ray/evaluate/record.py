"""What an evaluation leaves behind: RUN/evaluations/SHA256.json, and the pointer to the newest."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from medgan_ray.artifacts.runs import read_json, write_json
from medgan_ray.config import Section
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError, UsageError
from medgan_ray.evaluate.gate import Ruling
from medgan_ray.metrics.figure import Figure
from medgan_ray.store import Store

FOLDER = "evaluations"
NEWEST = "evaluation.json"
"""{"evaluation": sha256}, moved once the evaluation is there."""


class Evaluation(Section):
    """Everything that was measured, and what the gate made of it."""

    format: str = "1.0"
    verdict: Literal["passed", "refused"]
    rules: tuple[Ruling, ...]
    figures: dict[str, Figure]
    sentences: dict[str, str] = Field(default_factory=dict)
    """What the figures of a chapter come to, in words."""
    model: str
    """SHA-256 of the weights that were judged."""
    dataset: str
    """SHA-256 of the manifest that they were trained and judged on."""
    extractor: dict[str, str] = Field(default_factory=dict)
    """Name and digest of what turns images into features; empty where nothing does."""
    calibration: str = ""
    """SHA-256 of the calibration that a recognizer was judged with; empty where there is none."""
    details: dict[str, Any] = Field(default_factory=dict)
    """What is no single figure: curves and counts, as plain JSON, by chapter."""
    settings: dict[str, Any]
    code_version: str


def write(run: Store, evaluation: Evaluation) -> str:
    """Write an evaluation and point to it; return its SHA-256."""
    data = canonical(evaluation.model_dump(mode="json"))
    digest = hashlib.sha256(data).hexdigest()
    run.create(f"{FOLDER}/{digest}.json", data)
    write_json(run, NEWEST, {"evaluation": digest})
    return digest


def read(run: Store, digest: str) -> Evaluation:
    """Return an evaluation.

    Raises:
        InputError: if there is none, or it is not what its name says.
    """
    key = f"{FOLDER}/{digest}.json"
    data = run.read(key)
    if hashlib.sha256(data).hexdigest() != digest:
        raise InputError("an evaluation does not match its SHA-256", f"{run.uri}/{key}", "evaluate the run again")
    try:
        values: Mapping[str, Any] = json.loads(data)
        return Evaluation.parse(values, f"{run.uri}/{key}")
    except (ValueError, UsageError) as error:
        raise InputError("an evaluation is corrupt", f"{run.uri}/{key}", str(error)) from None


def newest(run: Store) -> Evaluation | None:
    """Return the newest evaluation of a run; None if there is none.

    Raises:
        InputError: if it is corrupt.
    """
    pointer = read_json(run, NEWEST)
    return read(run, str(pointer.get("evaluation"))) if pointer else None
