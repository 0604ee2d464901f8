"""What one evaluation looks at, read when it is first needed and kept: a run, its model, its dataset, features."""

import dataclasses
import functools
from typing import Any

import numpy as np

from medgan_ray.artifacts import runs
from medgan_ray.artifacts.versions import Description
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.errors import InputError
from medgan_ray.evaluate import sets
from medgan_ray.evaluate.features import Extractor, open_extractor
from medgan_ray.evaluate.fidelity import Featured
from medgan_ray.evaluate.own import NAME, Own, own
from medgan_ray.evaluate.settings import EvaluateSettings
from medgan_ray.inference.model import load_model
from medgan_ray.store import open_store

TEST = "test"
HELD_OUT = ("val", TEST)
"""What figures stand on, and what the privacy audit holds against the training scans."""


class Case:
    """One run's best model before the scans that it learned from and those that it never saw.

    Raises:
        InputError: if run, dataset or its splits are missing, or corrupt.
        UsageError: if the run trained a model of another task.
    """

    def __init__(self, run: str, dataset: str, settings: EvaluateSettings, data: DataSettings) -> None:
        self.run, self.settings = open_store(run), settings
        self.asked = runs.read(self.run)
        self.dataset = open_dataset(dataset, data, self.asked["manifest"])
        for name in ("train", TEST):
            if not len(self.dataset.split(name)):
                raise InputError(f"the {name} split is empty", dataset, "ingest with a larger share for it")

    @property
    def card(self) -> Description:
        """The model's description."""
        raise NotImplementedError

    @property
    def means(self) -> dict[str, Any]:
        """What it was judged with, as ``record.Evaluation`` has it."""
        raise NotImplementedError


class GeneratorCase(Case):
    """A generator's. See ``Case``."""

    def __init__(self, run: str, dataset: str, settings: EvaluateSettings, data: DataSettings) -> None:
        super().__init__(run, dataset, settings, data)
        self.model = load_model(run)

    @property
    def card(self) -> Description:
        """The generator's description."""
        return self.model.card

    @property
    def means(self) -> dict[str, Any]:
        """The extractor's name and digest."""
        return {"extractor": {"name": self.extractor.name, "digest": self.extractor.digest}}

    @functools.cached_property
    def extractor(self) -> Extractor:
        """What turns images into features."""
        return open_extractor(self.settings.extractor, {NAME: lambda: self.own})

    @functools.cached_property
    def own(self) -> Own:
        """The classifier of the real training scans, kept in the run."""
        return own(self.dataset, self.run)

    @functools.cached_property
    def real(self) -> Featured:
        """Scans that nothing was fitted to and nothing was chosen by."""
        return sets.real(self.dataset, TEST, self.settings.samples, self.extractor)

    @functools.cached_property
    def fake(self) -> Featured:
        """Generated scans with the labels that were asked for."""
        return sets.generated(self.model, self.settings.samples, self.extractor)

    @functools.cached_property
    def pool(self) -> Featured:
        """All real scans that are looked at: what floors are drawn from."""
        trained = sets.real(self.dataset, "train", self.settings.samples, self.extractor)
        fields = [field.name for field in dataclasses.fields(Featured) if field.name != "texture"]
        return Featured(*(np.concatenate([getattr(self.real, name), getattr(trained, name)]) for name in fields))
