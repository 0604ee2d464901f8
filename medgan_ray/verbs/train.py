"""The verb ``train``: a dataset in, a run out; the same call goes on where it stopped.

    medgan-ray train heads run images=75000

``begin`` checks and records what is asked (cheap: it reads a manifest), ``train_rank`` does the work of one rank and
``train`` is both in this process. ``on_ray/`` calls ``begin`` once and ``train_rank`` on every worker.
"""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from medgan_ray import __version__
from medgan_ray.artifacts import checkpoints, runs, transfer
from medgan_ray.artifacts.tensors import weights_sha256
from medgan_ray.config import Section
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.engine import writers
from medgan_ray.errors import InputError, Interrupted, ShardSkipped, UsageError
from medgan_ray.host import Host, LocalHost
from medgan_ray.models import catalog
from medgan_ray.models.catalog import Shape
from medgan_ray.store import Store, open_store
from medgan_ray.tasks import presets
from medgan_ray.verbs.config import FREE_WHEN_RESUMED, Config

WALK = "previews/walk.gif"
WALK_WIDTH, WALK_SIDE, MOST_WALKERS = 256, 128, 4
"""Pixels of the whole picture across and of an image's longer side, and images in it, at most."""
WALK_FRAME_MS, WALK_BYTES = 80, 2_000_000

if TYPE_CHECKING:
    from medgan_ray.engine.controller import Rule
    from medgan_ray.tasks.generate import GenerateTask

_INIT = "init_weights"
_FREE = FREE_WHEN_RESUMED | {"dataset", "train.init_from"}
"""The same weights may stand elsewhere by now: what is compared is their digest."""


class TrainResult(Section):
    """What training gave; ``figures`` stand on the test split and are empty where there are too few scans."""

    run: str
    images: int
    seconds: float
    weights_sha256: str
    figures: dict[str, float]
    not_applicable: str = ""
    """Why there are no figures; empty where there are."""
    complete: bool = True


def train(
    dataset: str, run: str, config: Mapping[str, Any] | Config | None = None, host: Host | None = None
) -> TrainResult:
    """Train in this process, without Ray.

    Args:
        dataset: a dataset's URI.
        run: where the run is kept.
        config: options, nested or dotted.
        host: what is told of progress; asked whether to stop.

    Raises:
        UsageError: for a bad option, or if the run was begun with others.
        InputError: if the dataset is missing or corrupt.
        Interrupted: on SIGINT or SIGTERM, after a checkpoint.
    """
    finished = begin(dataset, run, config)
    if finished:
        return finished
    host = host or LocalHost()
    while True:
        try:
            return train_rank(dataset, run, config, host)
        except ShardSkipped as skipped:
            host.log(str(skipped))


def begin(dataset: str, run: str, config: Mapping[str, Any] | Config | None = None) -> TrainResult | None:
    """Check the request and write ``run.json``; return the result if the run is complete already."""
    options = Config.of(config)
    opened = open_dataset(dataset, options.data)
    _check(opened, options)
    options, store = _settled(options, opened), open_store(run)
    writers.check(options.train.writers, store)
    asked = options.model_dump(mode="json")
    asked["train"] |= _first_weights(store, opened, options)
    new = runs.begin(store, {"dataset": dataset, **asked}, opened.sha256, _FREE)
    done = None if new else runs.read_json(store, runs.RESULT)
    if not done or done["images"] < options.images:
        return None
    return TrainResult(run=run, seconds=0.0, **done)


def train_rank(dataset: str, run: str, config: Mapping[str, Any] | Config | None, host: Host) -> TrainResult:
    """Do one rank's share of a run that was begun; ranks find each other through torch.distributed.

    Raises:
        Interrupted: if the host wanted to stop before all images were seen, after a checkpoint.
    """
    from medgan_ray.engine import loop, processor
    from medgan_ray.engine.plan import Plan
    from medgan_ray.tasks.generate import GenerateTask

    processor.prepare()
    options, store = Config.of(config), open_store(run)
    opened = open_dataset(dataset, options.data, runs.read(store)["manifest"], store)
    options = _settled(options, opened)
    if host.rank == 0:
        host.log(_recipe(options))
    task = GenerateTask(opened.manifest, options.model, options.train, options.augment, options.seed)
    _start_from(task, store, host)
    plan = Plan(
        images=options.images,
        batch=options.batch,
        seed=options.seed,
        train=options.train,
        augment=options.augment.probability,
        rule=_rule(options),
        time_limit_s=options.time_limit_s,
        facts=_facts(opened, options),
    )
    started = time.monotonic()
    with _interruptible(host) as stoppable:
        outcome = loop.run(task, opened, plan, store, stoppable)
    if outcome.complete and host.rank == 0:
        _walk(run)
    if stoppable.interrupted and not outcome.complete:
        raise Interrupted(f"stopped at {outcome.images} images", run, "the same command goes on from here")
    return TrainResult(
        run=run,
        images=outcome.images,
        seconds=round(time.monotonic() - started, 3),
        weights_sha256=outcome.weights_sha256,
        figures=outcome.figures,
        not_applicable=outcome.not_applicable,
        complete=outcome.complete,
    )


def _walk(run: str) -> None:
    """Draw a walk through the best model's latent space: as many walkers as make a small GIF."""
    from medgan_ray.inference.model import load_model
    from medgan_ray.inference.walk import walk
    from medgan_ray.report.figures import animated_gif, shrunk

    model = load_model(run)
    walkers = max(1, min(MOST_WALKERS, WALK_WIDTH // min(WALK_SIDE, model.size[1])))
    frames = model.intensity.display(walk(model, walkers))
    open_store(run).replace(WALK, animated_gif(shrunk(frames, WALK_SIDE), walkers, WALK_FRAME_MS, WALK_BYTES))


def _check(dataset: Dataset, options: Config) -> None:
    if options.size and tuple(options.size) != tuple(dataset.manifest.size):
        height, width = dataset.manifest.size
        raise UsageError(f"size={list(options.size)}", dataset.store.uri, f"the dataset's is [{height},{width}]")
    if options.train.freeze_discriminator and not options.train.init_from:
        raise UsageError("frozen layers that nothing has trained", "train.freeze_discriminator", "set train.init_from")
    if not len(dataset.split("train")):
        raise InputError("no training scans", dataset.store.uri, "ingest more scans")


def _settled(options: Config, dataset: Dataset) -> Config:
    """Return the options with what null stands for at the dataset's size, which is what a run records."""
    shape = Shape(dataset.manifest.channels, *dataset.manifest.size)
    model, train = catalog.settled(options.model, shape), presets.settled(options.train, shape)
    return options.model_copy(update={"model": model, "train": train})


def _recipe(options: Config) -> str:
    model, train = options.model, options.train
    widths = f"{model.generator_width}/{model.discriminator_width} wide, " if model.generator_width else ""
    return f"{model.name}, {widths}{train.loss} loss, gamma {train.gamma:g} to {train.gamma_final:g}"


def _rule(options: Config) -> "Rule | None":
    """Return how the augmentation adapts: by r_v, or by r_t under losses that fix the logits' level."""
    from medgan_ray.engine.controller import RELATIVE_TARGET, SIGN_TARGET, Rule

    augment, relative = options.augment, options.train.loss == "relativistic"
    if augment.control == "schedule":
        return None
    target = augment.target if augment.target is not None else RELATIVE_TARGET if relative else SIGN_TARGET
    return Rule("r_v" if relative else "r_t", target, augment.speed_images, augment.probability)


def _first_weights(run: Store, dataset: Dataset, options: Config) -> dict[str, str]:
    """Return the SHA-256 of the weights to start from, as ``run.json`` records it; a new run gets its copy of them.

    Raises:
        UsageError: if they fit these networks nowhere.
        InputError: if there are none, or they are corrupt.
    """
    uri = options.train.init_from
    if not uri:
        return {}
    there = runs.read_json(run, runs.RUN)
    if there and there["config"]["train"].get("init_from") == uri:
        return {_INIT: there["config"]["train"][_INIT]}  # what became of the other run no longer matters

    from medgan_ray.tasks.generate import GenerateTask

    donor = transfer.read(uri)
    if donor.model != options.model.name:
        raise UsageError(f"weights of {donor.model!r} for {options.model.name!r}", uri, f"set model.name={donor.model}")
    task = GenerateTask(dataset.manifest, options.model, options.train, options.augment, options.seed)
    transfer.fit(task.networks, donor.tensors, task.frozen)
    return {_INIT: weights_sha256(donor.tensors) if there else transfer.keep(run, donor)}


def _start_from(task: "GenerateTask", run: Store, host: Host) -> None:
    """Give every rank the run's first weights; a checkpoint, if there is one, comes over them.

    Whether there is one is not asked here: rank 0 may write the first while another rank has yet to come this far.
    """
    digest = runs.read(run)["config"]["train"].get(_INIT)
    if not digest:
        return
    fresh = transfer.fit(task.networks, transfer.kept(run, digest), task.frozen)
    if host.rank == 0 and not checkpoints.names(run):
        host.log(f"starts from weights {digest[:12]}; afresh: {', '.join(fresh) or 'nothing'}")


def _facts(dataset: Dataset, options: Config) -> dict[str, Any]:
    manifest = dataset.manifest
    return {
        "task": options.task,
        "model": options.model.model_dump(mode="json"),
        "channels": manifest.channels,
        "size": manifest.size,
        "modality": manifest.modality,
        "intensity": manifest.intensity,
        "labels": manifest.labels,
        "class_counts": dataset.split("train").class_counts(len(manifest.classes)),
        "spacing": manifest.spacing,
        "content_digest": manifest.content_digest,
        "manifest": dataset.sha256,
        "code_version": __version__,
    }


class _Interruptible:
    """A host that also stops when a signal has come."""

    def __init__(self, host: Host) -> None:
        self._host, self.interrupted = host, False
        self.rank, self.world = host.rank, host.world
        self.report, self.progress, self.log = host.report, host.progress, host.log
        self.should_checkpoint, self.gauges = host.should_checkpoint, host.gauges

    def should_stop(self) -> bool:
        return self.interrupted or self._host.should_stop()

    def interrupt(self, *_: object) -> None:
        self.interrupted = True


@contextlib.contextmanager
def _interruptible(host: Host) -> Iterator[_Interruptible]:
    """Turn SIGINT and SIGTERM into a stop at the next checkpoint; a second one has its usual effect."""
    stoppable = _Interruptible(host)
    if threading.current_thread() is not threading.main_thread():
        yield stoppable
        return

    old = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        stoppable.interrupt()
        signal.signal(number, old[number])

    for number in old:
        signal.signal(number, handle)
    try:
        yield stoppable
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
