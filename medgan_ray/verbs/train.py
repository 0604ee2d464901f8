"""The verb ``train``: a dataset in, a run out; the same call goes on where it stopped.

    medgan-ray train heads run images=75000

``begin`` checks and records what is asked (cheap: it reads a manifest), ``train_rank`` does the work of one rank and
``train`` is both in this process. ``on_ray/`` calls ``begin`` once and ``train_rank`` on every worker.
"""

import time
from collections.abc import Mapping
from typing import Any

from medgan_ray import __version__
from medgan_ray.artifacts import runs
from medgan_ray.config import Section
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.dataset.manifest import LabelSet
from medgan_ray.engine import writers
from medgan_ray.errors import InputError, Interrupted, ShardSkipped, UsageError
from medgan_ray.host import Host, LocalHost
from medgan_ray.store import open_store
from medgan_ray.verbs import first_synthetic, first_weights, kinds
from medgan_ray.verbs.config import FREE_WHEN_RESUMED, Config
from medgan_ray.verbs.first_synthetic import Generate, generate_here
from medgan_ray.verbs.signals import interruptible

_OF_TRANSLATION = {"given", "head", "noise_sd", "dose"}
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


def begin(
    dataset: str,
    run: str,
    config: Mapping[str, Any] | Config | None = None,
    generate: Generate = generate_here,
) -> TrainResult | None:
    """Check the request and write ``run.json``; return the result if the run is complete already.

    ``generate`` makes the scans that are mixed in, where a model is named for them.
    """
    options = Config.of(config)
    opened = open_dataset(dataset, options.data)
    _check(opened, options)
    kind = kinds.of(options.task)
    kind.check(options, opened)
    options, store = kind.settled(options, opened.manifest), open_store(run)
    writers.check(options.train.writers, store)
    asked = options.model_dump(mode="json")
    asked["train"] |= first_weights.record(store, options, lambda: kind.build(options, opened))
    asked["train"] |= first_synthetic.record(store, options, opened, generate)
    defaults = Config.of({"task": options.task}).model_dump(mode="json")
    new = runs.begin(store, {"dataset": dataset, **asked}, opened.sha256, _FREE, defaults)
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

    options, store = Config.of(config), open_store(run)
    processor.prepare(exact=options.train.precision in ("float32", "float64"))
    opened = open_dataset(dataset, options.data, runs.read(store)["manifest"], store)
    opened = first_synthetic.mixed_in(opened, store, options, host)
    kind = kinds.of(options.task)
    options = kind.settled(options, opened.manifest)
    if host.rank == 0:
        host.log(kind.recipe(options))
    task = kind.build(options, opened)
    first_weights.take_over(task, store, host)
    plan = Plan(
        images=options.images,
        batch=options.batch,
        seed=options.seed,
        train=options.train,
        augment=options.augment.probability,
        rule=kind.rule(options),
        time_limit_s=options.time_limit_s,
        facts=_facts(opened, options),
    )
    started = time.monotonic()
    with interruptible(host) as stoppable:
        outcome = loop.run(task, opened, plan, store, stoppable)
    stopped_with_a_model = kind.whenever_it_ends and not stoppable.interrupted and store.exists(runs.BEST)
    if host.rank == 0 and (outcome.complete or stopped_with_a_model):
        kind.finish(run, opened, options)
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


def _check(dataset: Dataset, options: Config) -> None:
    if options.size and tuple(options.size) != tuple(dataset.manifest.size):
        height, width = dataset.manifest.size
        raise UsageError(f"size={list(options.size)}", dataset.store.uri, f"the dataset's is [{height},{width}]")
    if options.train.synthetic and options.task != "recognize":
        what = f"generated scans in the training of task={options.task}"
        raise UsageError(what, "train.synthetic", "only recognizers take them: set task=recognize")
    if not len(dataset.split("train")):
        raise InputError("no training scans", dataset.store.uri, "ingest more scans")


def _facts(dataset: Dataset, options: Config) -> dict[str, Any]:
    manifest = dataset.manifest
    labels = kinds.of(options.task).labels(options, manifest)
    return {
        "task": options.task,
        "model": options.model.model_dump(mode="json"),
        "channels": manifest.channels,
        "size": manifest.size,
        "modality": manifest.modality,
        "intensity": manifest.intensity,
        "labels": labels,
        "class_counts": _class_counts(dataset, labels),
        "spacing": manifest.spacing,
        "recipe": manifest.recipe,
        "translation": options.train.model_dump(include=_OF_TRANSLATION) if options.task == "translate" else {},
        "content_digest": manifest.content_digest,
        "manifest": dataset.sha256,
        "code_version": __version__,
    }


def _class_counts(dataset: Dataset, labels: tuple[LabelSet, ...]) -> tuple[int, ...]:
    """Return the training scans of each class of the first of these label sets."""
    if not labels:
        return ()
    return dataset.split("train").class_counts(len(labels[0].classes), dataset.manifest.labels.index(labels[0]))
