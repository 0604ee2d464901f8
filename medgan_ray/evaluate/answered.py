"""What a recognizer says of the test scans: what its evaluation looks at."""

import dataclasses
import functools
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.artifacts import calibration
from medgan_ray.artifacts.versions import Description
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.dataset.manifest import LabelSet
from medgan_ray.dataset.shards import own_subjects
from medgan_ray.evaluate import baselines, sets
from medgan_ray.evaluate.baselines import Pixels
from medgan_ray.evaluate.case import TEST, Case
from medgan_ray.evaluate.settings import EvaluateSettings
from medgan_ray.inference.model import model_store
from medgan_ray.inference.recognizer import Answers, load_recognizer
from medgan_ray.metrics import calibrate
from medgan_ray.metrics.classify import Codes, Probabilities


@dataclasses.dataclass(frozen=True)
class Said:
    """What is said of the n test scans whose class is known in one label set; arrays share their first axis."""

    labels: LabelSet
    index: NDArray[np.int64]
    """Which scans of the test split they are."""
    known: Codes
    groups: NDArray[np.int64]
    """Whose scans they are; one of nobody known is somebody's of its own."""
    attributes: NDArray[np.int16]
    before: Probabilities
    """At the prevalence of training, at a temperature of 1, [n, K]."""
    after: Probabilities
    """The same, calibrated."""
    balanced: Probabilities
    """Calibrated, all classes equally common."""
    named: Codes
    held: NDArray[np.bool_]
    foreign: NDArray[np.bool_]
    pixels: Probabilities | None
    """What a linear model of raw pixels says, all classes equally common; None where there is none."""
    counts: tuple[int, ...]
    """Training scans of each class."""
    fitted: calibration.OfSet | None
    coverage: float
    """What share of scans the sets are meant to hold the true class in; NaN where nothing is calibrated."""

    @property
    def answered(self) -> NDArray[np.bool_]:
        """Where the set is one class, and the scan is not foreign."""
        return np.asarray((self.held.sum(1) == 1) & ~self.foreign)

    @property
    def promise(self) -> calibrate.Promise | None:
        """What the calibration promises; None where there is none."""
        return calibrate.promise(self.fitted.patients, self.coverage) if self.fitted else None


class RecognizerCase(Case):
    """A recognizer's. See ``Case``."""

    def __init__(self, run: str, dataset: str, settings: EvaluateSettings, data: DataSettings) -> None:
        super().__init__(run, dataset, settings, data)
        self.model = load_recognizer(run)

    @property
    def card(self) -> Description:
        """The recognizer's description."""
        return self.model.card

    @property
    def means(self) -> dict[str, Any]:
        """The calibration's SHA-256."""
        return {"calibration": calibration.sha256(model_store(self.run.uri)) if self.model.calibration else ""}

    @functools.cached_property
    def chosen(self) -> NDArray[np.int64]:
        """Which scans of the test split are judged."""
        return sets.drawn(self.dataset, TEST, self.settings.samples)

    @functools.cached_property
    def seen(self) -> tuple[NDArray[np.float32], Answers]:
        """The logits of the test scans at ``chosen``, and what is said of them."""
        logits, described = self.model.seen_of(self.dataset.split(TEST), self.chosen)
        return logits, self.model.said(logits, described)

    @functools.cached_property
    def pixels(self) -> dict[str, Pixels]:
        """Small scans of the splits that teach and choose a linear model, and the test scans at ``chosen``."""
        found = {name: baselines.pixels(self.dataset, name) for name in ("train", "val")}
        return {**found, TEST: baselines.pixels(self.dataset, TEST, self.settings.samples)}

    @functools.cached_property
    def said(self) -> tuple[Said, ...]:
        """What is said in each label set, of the scans whose class is known there."""
        return tuple(self._of_set(index) for index in range(len(self.model.sets)))

    def _of_set(self, index: int) -> Said:
        logits, answers = self.seen
        samples = self.dataset.split(TEST).known(self.chosen)
        labels, answer = self.model.sets[index], answers.sets[index]
        column = [each.name for each in self.dataset.manifest.labels].index(labels.name)
        rows = np.flatnonzero(samples.label[:, column] >= 0)
        part, fitted = self.model.parts(logits)[index][rows], self.model.calibration
        heat = fitted.sets[index].temperature if fitted else 1.0
        width, small = len(labels.classes), self.pixels
        linear = baselines.linear(small["train"], small["val"], small[TEST].values[rows], column, width)
        return Said(
            labels=labels,
            index=self.chosen[rows],
            known=samples.label[rows, column].astype(np.int64),
            groups=own_subjects(samples.subject)[rows],
            attributes=samples.attribute[rows],
            before=calibrate.probabilities(part, self.model.offsets()[index], 1.0),
            after=answer.probabilities[rows],
            balanced=calibrate.equally(part, heat),
            named=answer.named[rows],
            held=answer.held[rows],
            foreign=answers.foreign[rows],
            pixels=linear,
            counts=self.dataset.split("train").class_counts(width, column),
            fitted=fitted.sets[index] if fitted else None,
            coverage=fitted.coverage if fitted else float("nan"),
        )
