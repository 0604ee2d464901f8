"""What ``train`` asks about each task: what it refuses, what null stands for, how it is built, what ends it."""

from typing import TYPE_CHECKING, Protocol

from medgan_ray.artifacts.runs import WALK
from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.errors import UsageError
from medgan_ray.models import catalog
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
    """One task, as training asks about it."""

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

    def finish(self, run: str) -> None:
        """Add to a complete run what shows its model."""


def of(task: str) -> Kind:
    """Return what training asks about a task of this name."""
    return _KINDS[task]


class Generating:
    """Generators: adaptive augmentation, and a walk through the best one's latent space."""

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

    def finish(self, run: str) -> None:
        """Draw a walk through the best model's latent space: as many walkers as make a small GIF."""
        from medgan_ray.inference.model import load_model
        from medgan_ray.inference.walk import walk
        from medgan_ray.report.figures import animated_gif, shrunk

        model = load_model(run)
        walkers = max(1, min(MOST_WALKERS, WALK_WIDTH // min(WALK_SIDE, model.size[1])))
        frames = model.intensity.display(walk(model, walkers))
        open_store(run).replace(WALK, animated_gif(shrunk(frames, WALK_SIDE), walkers, WALK_FRAME_MS, WALK_BYTES))


class Recognizing:
    """Recognizers of the classes of the first label set."""

    def check(self, options: Config, dataset: Dataset) -> None:
        """Refuse a dataset with fewer than two classes to learn, and what only generators can."""
        counts = dataset.split("train").class_counts(len(dataset.manifest.classes))
        if sum(count > 0 for count in counts) < 2:
            what = f"training scans of {sum(count > 0 for count in counts)} classes"
            raise UsageError(what, dataset.store.uri, "a recognizer learns 2 at least: see ingest.labels")
        if options.augment.control == "adaptive":
            raise UsageError("adaptive augmentation of a recognizer", "augment.control", "set augment.control=schedule")
        for name in ("init_from", "freeze_discriminator"):
            if getattr(options.train, name):
                raise UsageError("a recognizer starts afresh", f"train.{name}", "leave it out")

    def settled(self, options: Config, manifest: Manifest) -> Config:
        """Fill in the network's width; a recognizer has no penalty."""
        train = options.train.model_copy(update={"gamma": 0.0, "gamma_final": 0.0})
        return options.model_copy(update={"model": catalog.settled_recognizer(options.model), "train": train})

    def recipe(self, options: Config) -> str:
        """Tell network and width."""
        return f"{options.model.name}, {options.model.recognizer_width} wide"

    def build(self, options: Config, dataset: Dataset) -> Task:
        """Build the recognizer."""
        from medgan_ray.tasks.recognize import RecognizeTask

        counts = dataset.split("train").class_counts(len(dataset.manifest.classes))
        if options.data.balance == "classes":
            counts = (1,) * len(counts)
        model, train, augment = options.model, options.train, options.augment
        return RecognizeTask(dataset.manifest, model, train, augment, options.seed, counts)

    def rule(self, options: Config) -> "Rule | None":
        """Follow the schedule."""
        return None

    def finish(self, run: str) -> None:
        """Add nothing."""


_KINDS: dict[str, Kind] = {"generate": Generating(), "recognize": Recognizing()}
