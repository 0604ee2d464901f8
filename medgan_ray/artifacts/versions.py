"""The published form of a model: weights and a description. A run's ``best/`` has it too.

model.safetensors         the averaged generator or recognizer; never a discriminator
model.json                what it is: see ``Description``; names the weights by SHA-256, written after them
calibration.safetensors   of a recognizer: see ``calibration``
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field
from torch import Tensor

from medgan_ray.artifacts.tensors import from_bytes, to_bytes
from medgan_ray.config import Section
from medgan_ray.dataset.manifest import Intensity, LabelSet, canonical
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store

WEIGHTS = "model.safetensors"
DESCRIPTION = "model.json"


class Release(Section):
    """What a published version adds: its number, how the gate judged it, and which run it is from."""

    name: str
    version: int
    published: str
    """When, UTC."""
    verdict: Literal["passed", "refused", "none"]
    """What the gate said of these weights; none: they were not evaluated."""
    failed: tuple[str, ...] = ()
    """Names of the rules that were not kept."""
    forced: str | None = None
    """Why it was published against the gate; None where the gate let it through."""
    evaluation: str = ""
    """SHA-256 of the evaluation."""
    run: str
    """The last part of the run's address."""
    run_sha256: str
    """SHA-256 of its ``run.json``."""
    license: str


class Description(Section):
    """What a model is and whence it comes."""

    format: str = "1.0"
    task: str = "generate"
    model: dict[str, Any]
    """The ``model`` section of the configuration that built it."""
    channels: int
    size: tuple[int, int]
    modality: str
    intensity: Intensity
    labels: tuple[LabelSet, ...] = ()
    class_counts: tuple[int, ...] = ()
    """Training scans of each class of the first label set."""
    spacing: tuple[float, ...] | None = None
    translation: dict[str, Any] = Field(default_factory=dict)
    """Of a translator ``given``, ``head``, ``noise_sd`` and ``dose`` of the ``train`` section."""
    recipe: dict[str, Any] = Field(default_factory=dict)
    """How ingest made samples of scans: see ``Manifest.recipe``."""
    weights: str
    """SHA-256 of the weights file."""
    content_digest: str
    manifest: str
    checkpoint: str
    images: int
    figures: dict[str, float] = Field(default_factory=dict)
    code_version: str
    release: Release | None = None
    """None in a run."""

    @property
    def version(self) -> str:
        """What names the weights in an answer: NAME@N, of a run the beginning of their SHA-256."""
        return f"{self.release.name}@{self.release.version}" if self.release else self.weights[:12]


def write_model(store: Store, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Description:
    """Write weights and description (``facts`` without ``weights``) into a folder; return the description."""
    data = to_bytes(tensors)
    description = Description.parse({**facts, "weights": hashlib.sha256(data).hexdigest()})
    store.replace(WEIGHTS, data)
    store.replace(DESCRIPTION, canonical(description.model_dump(mode="json")))
    return description


def read_model(store: Store) -> tuple[dict[str, Tensor], Description]:
    """Return weights and description of a model's folder.

    Raises:
        InputError: if a part is missing or the weights do not match the description.
    """
    try:
        description = Description.parse(json.loads(store.read(DESCRIPTION)), where=f"{store.uri}/{DESCRIPTION}")
    except (ValueError, UsageError) as error:
        raise InputError("model description is corrupt", store.uri, str(error)) from None
    data = store.read(WEIGHTS)
    if hashlib.sha256(data).hexdigest() != description.weights:
        raise InputError("weights do not match their SHA-256", f"{store.uri}/{WEIGHTS}", "train or publish again")
    return from_bytes(data, f"{store.uri}/{WEIGHTS}"), description
