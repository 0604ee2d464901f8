"""What ``train`` asks about each task: what it refuses, what null stands for, how it is built, what ends it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from medgan_ray.artifacts.runs import WALK
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import LabelSet, Manifest
from medgan_ray.errors import UsageError
from medgan_ray.models import catalog, lite0
from medgan_ray.models.catalog import Shape
from medgan_ray.store import open_store
from medgan_ray.tasks import presets
from medgan_ray.tasks.protocol import Task
from medgan_ray.verbs.config import Config

if TYPE_CHECKING:
    from medgan_ray.engine.controller import Rule

WALK_WIDTH, WALK_SIDE, MOST_WALKERS = 256, 128, 4
"""Pixels of the whole picture across and of an image's longer side, and images in it, at most."""
WALK_FRAME_MS, WALK_BYTES = 80, 2_000_000


class Kind(Protocol):
    """One task, as training asks about it.

    Attributes:
        whenever_it_ends: whether ``finish`` also belongs to a run that stops before all images are seen.
    """

    whenever_it_ends: bool

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse options that this task can't follow on this dataset, by a UsageError."""

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Return the options with what null stands for at the dataset's size, which is what a run records."""

    def recipe(self, options: Config) -> str:
        """Return what is trained and how, in a line."""

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Return the task, its weights drawn from the seed."""

    def rule(self, options: Config) -> "Rule | None":
        """Return how the augmentation adapts; None where it follows its schedule."""

    def labels(self, options: Config, manifest: Manifest) -> tuple[LabelSet, ...]:
        """Return the label sets that the model knows."""

    def finish(self, run: str, dataset: Dataset, options: Config) -> None:
        """Add to a run what shows its model, or what makes its answers mean something."""


def of(task: str) -> Kind:
    """Return what training asks about a task of this name."""
    return _KINDS[task]


class Generating:
    """Generators: adaptive augmentation, and a walk through the best one's latent space."""

    whenever_it_ends = False

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse to freeze layers that nothing has trained."""
        if options.train.freeze_discriminator and not options.train.init_from:
            advice = "set train.init_from"
            raise UsageError("frozen layers that nothing has trained", "train.freeze_discriminator", advice)

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Fill in widths and weights of the penalty."""
        shape = Shape(manifest.channels, *manifest.size)
        model, train = catalog.settled(options.model, shape), presets.settled(options.train, shape)
        return options.model_copy(update={"model": model, "train": train})

    def recipe(self, options: Config) -> str:
        """Tell networks, widths, loss and penalty."""
        model, train = options.model, options.train
        widths = f"{model.generator_width}/{model.discriminator_width} wide, " if model.generator_width else ""
        return f"{model.name}, {widths}{train.loss} loss, gamma {train.gamma:g} to {train.gamma_final:g}"

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Build generator and discriminator."""
        from medgan_ray.tasks.generate import GenerateTask

        return GenerateTask(dataset.manifest, options.model, options.train, options.augment, options.seed)

    def rule(self, options: Config) -> "Rule | None":
        """Follow r_v, or r_t under losses that fix the logits' level."""
        from medgan_ray.engine.controller import RELATIVE_TARGET, SIGN_TARGET, Rule

        augment, relative = options.augment, options.train.loss == "relativistic"
        if augment.control == "schedule":
            return None
        target = augment.target if augment.target is not None else RELATIVE_TARGET if relative else SIGN_TARGET
        return Rule("r_v" if relative else "r_t", target, augment.speed_images, augment.probability)

    def labels(self, options: Config, manifest: Manifest) -> tuple[LabelSet, ...]:
        """Return all."""
        return manifest.labels

    def finish(self, run: str, dataset: Dataset, options: Config) -> None:
        """Draw a walk through the best model's latent space: as many walkers as make a small GIF."""
        from medgan_ray.inference.model import load_model
        from medgan_ray.inference.walk import walk
        from medgan_ray.report.figures import animated_gif, shrunk

        model = load_model(run)
        walkers = max(1, min(MOST_WALKERS, WALK_WIDTH // min(WALK_SIDE, model.size[1])))
        frames = model.intensity.display(walk(model, walkers))
        open_store(run).replace(WALK, animated_gif(shrunk(frames, WALK_SIDE), walkers, WALK_FRAME_MS, WALK_BYTES))


class _Scheduled:
    """What tasks share that have no discriminator which could steer the augmentation: it follows its schedule."""

    whenever_it_ends = False
    model = ""
    unread: ClassVar[Mapping[str, str]] = {}
    """Options of ``train`` that mean nothing here, and what would be wrong with each."""

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse what only other tasks can."""
        if options.augment.control == "adaptive":
            what = f"adaptive augmentation of {self.model}"
            raise UsageError(what, "augment.control", "set augment.control=schedule")
        for name, what in self.unread.items():
            if getattr(options.train, name):
                raise UsageError(what, f"train.{name}", "leave it out")

    def rule(self, options: Config) -> "Rule | None":
        """Follow the schedule."""
        return None

    def finish(self, run: str, dataset: Dataset, options: Config) -> None:
        """Add nothing."""


class Recognizing(_Scheduled):
    """Recognizers of the classes of one or several label sets: calibrated when they end."""

    whenever_it_ends = True
    model = "a recognizer"

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse a dataset with fewer than two classes to learn, and what only generators can."""
        where, advice = dataset.store.uri, "a recognizer learns 2 at least: see ingest.labels"
        if not dataset.manifest.labels:
            raise UsageError("training scans of 0 classes", where, advice)
        for each, counts in zip(self.labels(options, dataset.manifest), _counts(options, dataset), strict=True):
            present = sum(count > 0 for count in counts)
            if present < 2:
                raise UsageError(f"training scans of {present} classes of {each.name!r}", where, advice)
        super().check(options, dataset)
        train = options.train
        if train.freeze_discriminator:
            raise UsageError(
                "a recognizer has no discriminator", "train.freeze_discriminator", "see train.freeze_trunk"
            )
        if train.freeze_trunk and not train.init_from and options.model.name != lite0.NAME:
            raise UsageError("a frozen trunk that nothing has trained", "train.freeze_trunk", "set train.init_from")

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Fill in the network's width; a recognizer has no penalty."""
        train = options.train.model_copy(update={"gamma": 0.0, "gamma_final": 0.0})
        return options.model_copy(update={"model": catalog.settled_recognizer(options.model), "train": train})

    def recipe(self, options: Config) -> str:
        """Tell network and width."""
        width = f", {options.model.recognizer_width} wide" if options.model.recognizer_width else ""
        return f"{options.model.name}{width}{', trunk frozen' if options.train.freeze_trunk else ''}"

    def labels(self, options: Config, manifest: Manifest) -> tuple[LabelSet, ...]:
        """Return those that are learned."""
        from medgan_ray.tasks.recognize import targets

        return targets(manifest, options.train)

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Build the recognizer."""
        from medgan_ray.tasks.recognize import RecognizeTask

        model, train, augment = options.model, options.train, options.augment
        counts = _counts(options, dataset)
        return RecognizeTask(dataset.manifest, model, train, augment, options.seed, counts)

    def finish(self, run: str, dataset: Dataset, options: Config) -> None:
        """Calibrate the best recognizer on the val split."""
        from medgan_ray.inference.calibrating import calibrate_run

        calibrate_run(run, dataset, options.train.coverage)


class Translating(_Scheduled):
    """Translators of one image to another."""

    model = "a translator"
    unread: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("init_from", "freeze_discriminator", "freeze_trunk"), "a translator starts afresh"
    )

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse what only other tasks can, and images with noise as what is wanted."""
        super().check(options, dataset)
        if options.augment.noise:
            raise UsageError("noise that a translator would have to make", "augment.noise", "see train.given=noise")
        if options.train.given == "pair" and len(dataset.split("train")) and not _pairs(dataset):
            raise UsageError("the dataset holds no pairs", "train.given", "ingest pairs, or set it to down2, noise, …")

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Fill in the network's width and the weight of the penalty."""
        shape = Shape(manifest.channels, *manifest.size)
        train = presets.settled(options.train, shape)
        return options.model_copy(update={"model": catalog.settled_translator(options.model), "train": train})

    def recipe(self, options: Config) -> str:
        """Tell network, width, and what is made of what."""
        train = options.train
        return f"{options.model.name}, {options.model.generator_width} wide, given {train.given}, {train.head}"

    def labels(self, options: Config, manifest: Manifest) -> tuple[LabelSet, ...]:
        """Return none: a translator looks at pixels alone."""
        return ()

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Build the translator."""
        from medgan_ray.tasks.translate import TranslateTask

        return TranslateTask(dataset.manifest, options.model, options.train, options.augment, options.seed)


class Encoding(_Scheduled):
    """Encoders to the latent space of a generator that is there already."""

    model = "an encoder"
    unread: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("freeze_discriminator", "freeze_trunk"), "the generator stays as it is anyway"
    )

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse to encode for no generator, and what only other tasks can."""
        if not options.train.init_from:
            raise UsageError("no generator to encode for", "train.init_from", "give a run or version of task=generate")
        super().check(options, dataset)

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Fill in widths; an encoder has no penalty."""
        model = catalog.settled(options.model, Shape(manifest.channels, *manifest.size))
        train = options.train.model_copy(update={"gamma": 0.0, "gamma_final": 0.0})
        return options.model_copy(update={"model": model, "train": train})

    def recipe(self, options: Config) -> str:
        """Tell the generator's network."""
        return f"an encoder for {options.model.name}, {options.model.generator_width} wide"

    def labels(self, options: Config, manifest: Manifest) -> tuple[LabelSet, ...]:
        """Return all: they are the generator's condition."""
        return manifest.labels

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Build the encoder, and the generator that it is for."""
        from medgan_ray.tasks.encode_scans import EncodeTask

        return EncodeTask(dataset.manifest, options.model, options.train, options.augment, options.seed)


def _pairs(dataset: Dataset) -> bool:
    return dataset.split("train").take(np.zeros(1, np.int64)).pair is not None


def _counts(options: Config, dataset: Dataset) -> list[tuple[int, ...]]:
    """Return the training scans of each class of each set that is learned, as often as an epoch sees them."""
    manifest, split = dataset.manifest, dataset.split("train")
    found = []
    for each in Recognizing().labels(options, manifest):
        column = manifest.labels.index(each)
        counts = split.class_counts(len(each.classes), column)
        balanced = options.data.balance == "classes" and column == 0
        found.append(tuple(min(count, 1) for count in counts) if balanced else counts)
    return found


_KINDS: dict[str, Kind] = {
    "generate": Generating(),
    "translate": Translating(),
    "recognize": Recognizing(),
    "encode": Encoding(),
}
