"""The whole configuration: top-level keys and the sections of the rooms below."""

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medgan_ray.artifacts.card import PublishSettings
from medgan_ray.config import Section, expand
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.evaluate.settings import EvaluateSettings
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.split import SplitSettings
from medgan_ray.models.augment import AugmentSettings
from medgan_ray.models.catalog import RECOGNIZERS, TRANSLATORS, ModelSettings, names
from medgan_ray.tasks.protocol import TrainSettings

FREE_WHEN_RESUMED = frozenset(
    {
        "images",
        "workers",
        "time_limit_s",
        "data.cache",
        "train.writers",
        "ingest",
        "split",
        "evaluate",
        "publish",
        "ray",
        "tune",
        "serve",
    }
)
"""What may differ when the same run goes on: it places or prolongs the run, and does not change what it computes."""
NETWORKS = {"recognize": "residual", "translate": "unet"}
"""The network of a task, where none is named."""


class Config(Section):
    """Every option of every verb that runs without Ray."""

    size: tuple[int, int] | None = None
    """Height and width in pixels; one number for square. Ingest's default is 64, training's the dataset's."""
    images: int = Field(default=75_000, gt=0)
    """Images to train on, in all."""
    batch: int = Field(default=32, ge=2)
    """Pairs of a real and a generated image in a step, over all workers."""
    seed: int = Field(default=0, ge=0)
    """Names first weights, order, noise and augmentation."""
    workers: int | tuple[int, int] = 1
    """Training processes, or the fewest and the most of an elastic run; more than one are placed by Ray."""
    time_limit_s: float = Field(default=0, ge=0)
    """Stop at a checkpoint after this many seconds; 0: no limit. Schedules never depend on it."""
    task: Literal["generate", "translate", "recognize", "encode"] = "generate"
    """What is trained: a generator of scans, a translator of one to another, a recognizer of their classes, or an
    encoder to a generator's latent space (train.init_from names the generator)."""
    ingest: IngestSettings = IngestSettings()
    split: SplitSettings = SplitSettings()
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    train: TrainSettings = TrainSettings()
    augment: AugmentSettings = AugmentSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    publish: PublishSettings = PublishSettings()

    @model_validator(mode="before")
    @classmethod
    def _network_of_the_task(cls, values: Any) -> Any:
        """Let the default network be one of the task's."""
        network = NETWORKS.get(str(values.get("task"))) if isinstance(values, Mapping) else None
        if not network:
            return values
        model = values.get("model", {})
        if not isinstance(model, Mapping) or "name" in model:
            return values
        return {**values, "model": {"name": network, **model}}

    @model_validator(mode="after")
    def _network_fits_the_task(self) -> Self:
        known = {"recognize": tuple(RECOGNIZERS), "translate": tuple(TRANSLATORS)}.get(self.task, names())
        if self.model.name not in known:
            raise ValueError(f"model.name={self.model.name} is no network for task={self.task}: {', '.join(known)}")
        return self

    @field_validator("size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) else value

    @field_validator("workers", mode="before")
    @classmethod
    def _pair(cls, value: Any) -> Any:
        ends = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
        if not all(type(end) is int for end in ends) or not 1 <= ends[0] <= ends[1]:
            raise ValueError("give a number of at least 1, or the fewest and the most: [1,8]")
        return tuple(value) if isinstance(value, list) else value

    @classmethod
    def of(cls, values: "Mapping[str, Any] | Config | None") -> "Config":
        """Return the configuration that nested or dotted keys describe.

        Raises:
            UsageError: for an unknown key or a value out of range.
        """
        if isinstance(values, Config):
            return values
        return cls.parse(expand(values or {}))
