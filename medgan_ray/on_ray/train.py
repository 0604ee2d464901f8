"""Training on Ray Train: the same per-rank function as without Ray, placed on workers.

    train("heads", "runs/1", {"workers": 2})                       # a local instance, or a cluster at RAY_ADDRESS
    GANTrainer("heads", "runs/1", scaling_config=ScalingConfig(num_workers=8, use_gpu=True)).fit()

A run's state is its own folder and nothing else: checkpoints are committed there by hash, and each start, whether after
a killed worker or a killed driver, goes on from the newest whole one. Ray's storage holds nothing that is needed.
"""

import contextlib
import dataclasses
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_ray.artifacts import checkpoints, runs
from medgan_ray.config import expand
from medgan_ray.errors import Interrupted, MedganError, ShardSkipped, UsageError
from medgan_ray.host import Host, LocalHost
from medgan_ray.on_ray import elastic, session, timeouts
from medgan_ray.on_ray.host import RayHost
from medgan_ray.on_ray.interrupt import interruptible
from medgan_ray.on_ray.settings import PlacedConfig
from medgan_ray.store import is_remote, open_store
from medgan_ray.verbs import first_synthetic
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.first_synthetic import Generate, generate_here
from medgan_ray.verbs.generate import GenerateResult, Wanted
from medgan_ray.verbs.train import TrainResult, begin, train_rank

if TYPE_CHECKING:
    import ray.train

    from medgan_ray.on_ray.board import Board

CONTROLLER_FAILURES = 3
"""How often placing the workers may fail, such as for want of room."""
ELASTIC_FAILURES = 100
"""The same for an elastic run, which tries again at once with what is left."""


def train(
    dataset: str,
    run: str,
    config: Mapping[str, Any] | Config | None = None,
    address: str | None = None,
    progress: Host | None = None,
) -> TrainResult:
    """Train on Ray workers; the same call goes on where a run stopped.

    Args:
        dataset: URI of a dataset.
        run: URI of the run, new or begun with the same configuration.
        config: the configuration, or what differs from its defaults; ``workers`` says how many, or [fewest, most].
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.
        progress: the driver's host; it is told what rank 0 reports, and asked whether to stop.

    Raises:
        MedganError: what a rank refused, or why the run could not be placed.
        Interrupted: on Ctrl-C, at once; on SIGTERM, after a checkpoint. Committed checkpoints are kept.
    """
    settings = placed(config)
    dataset, run = absolute(dataset), absolute(run)
    finished = begin(dataset, run, rank_config(settings), _generating(settings, address))
    if finished:
        return finished
    with session.local(address, cpus=max(most(settings.workers), os.cpu_count() or 1)) as scratch:
        session.check_paths(dataset, run, *first_synthetic.places(settings), shared=settings.ray.shared_paths)
        result = _fit(_Job(dataset, run, settings, scratch), scaling(settings), progress)
    found: TrainResult = result.return_value
    return found


class GANTrainer:
    """Ray's way to start a training: ``GANTrainer(...).fit()`` returns a ``ray.train.Result``.

    Args:
        dataset: URI of a dataset.
        run: URI of the run; it stands for ``RunConfig(name, storage_path)``.
        config: the configuration, or what differs from its defaults.
        scaling_config: Ray's own; by default what ``workers`` and ``ray.*`` of the configuration say.
        run_config: Ray's own; its callbacks and failure policy are used.

    Raises:
        UsageError: for a wrong configuration, or a ``run_config`` that names another place than ``run``.
    """

    def __init__(
        self,
        dataset: str,
        run: str,
        config: Mapping[str, Any] | Config | None = None,
        scaling_config: "ray.train.ScalingConfig | None" = None,
        run_config: "ray.train.RunConfig | None" = None,
    ) -> None:
        self.dataset, self.run = absolute(dataset), absolute(run)
        self.config = placed(config)
        self.scaling_config, self.run_config = scaling_config, run_config
        if run_config is not None:
            _check_place(self.run, run_config)

    def fit(self) -> "ray.train.Result":
        """Train, and return Ray's result.

        ``checkpoint`` stands on the run's best checkpoint, which isn't copied; ``metrics`` are the last figures.
        """
        workers = self.scaling_config.num_workers if self.scaling_config is not None else self.config.workers
        generate = generate_here if workers == 0 else _generating(self.config, None)
        finished = begin(self.dataset, self.run, rank_config(self.config), generate)
        if finished or workers == 0:
            return self._fit_here(finished)
        with session.local(cpus=max(most(workers), os.cpu_count() or 1)) as scratch:
            paths = (self.dataset, self.run, *first_synthetic.places(self.config))
            session.check_paths(*paths, shared=self.config.ray.shared_paths)
            job = _Job(self.dataset, self.run, self.config, scratch, self.run_config)
            result = _fit(job, self.scaling_config or scaling(self.config), None)
        return self._registered(result)

    def _fit_here(self, finished: TrainResult | None) -> "ray.train.Result":
        """Train in this process, as Ray's ``num_workers=0`` asks, unless there is nothing left to do."""
        before = session.prepare(session.on_loopback())
        from ray.train import Result

        try:
            value = finished or train_rank(self.dataset, self.run, rank_config(self.config), LocalHost())
            empty = Result(metrics=None, checkpoint=None, error=None, path=self.run, return_value=value)
            return self._registered(empty)
        finally:
            session.restore(before)

    def _registered(self, result: "ray.train.Result") -> "ray.train.Result":
        from ray.train import Checkpoint

        value: TrainResult = result.return_value
        run = open_store(self.run)
        best = runs.read_json(run, runs.BEST)
        where = f"{self.run}/{checkpoints.FOLDER}/{best['checkpoint']}" if best else None
        found: ray.train.Result = dataclasses.replace(
            result,
            metrics={**value.figures, "images": value.images},
            checkpoint=Checkpoint(where) if where else None,
            path=self.run,
        )
        return found


@dataclasses.dataclass(frozen=True)
class _Job:
    """What is to be trained, and where Ray may write beside it."""

    dataset: str
    run: str
    config: PlacedConfig
    scratch: Path
    run_config: Any = None
    callbacks: tuple[Any, ...] = ()
    metric: str = "score"


def nested(dataset: str, run: str, config: PlacedConfig, metric: str, callbacks: tuple[Any, ...]) -> TrainResult:
    """Train on several workers from within a Ray worker, as a trial of a search does."""
    finished = begin(dataset, run, rank_config(config))
    if finished:
        return finished
    with session.local() as scratch:
        job = _Job(dataset, run, config, scratch, callbacks=callbacks, metric=metric)
        found: TrainResult = _fit(job, scaling(config), None).return_value
    return found


def _generating(settings: PlacedConfig, address: str | None) -> Generate:
    """Return what makes the scans that are mixed in, as Ray tasks: nothing heavy runs in the driver."""

    def generate(model: str, out: str, wanted: Wanted) -> GenerateResult:
        from medgan_ray.on_ray.chores import Place, generate_scans

        place = Place(address, settings.ray.shared_paths)
        config = settings.model_dump(mode="json", exclude_unset=True)
        return generate_scans(model, out, place=place, config=config, **dict(wanted))

    return generate


def placed(config: Mapping[str, Any] | Config | None) -> PlacedConfig:
    """Return the whole configuration for one that a caller gave in any form."""
    if isinstance(config, PlacedConfig):
        return config
    given = config.model_dump(exclude_unset=True) if isinstance(config, Config) else config
    return PlacedConfig.parse(expand(given or {}))


def rank_config(config: PlacedConfig) -> dict[str, Any]:
    """Return what a rank needs: the configuration without what only says where it runs."""
    return config.model_dump(mode="json", include=set(Config.model_fields))


def absolute(uri: str) -> str:
    """Return ``uri`` such that it means the same in a worker's folder."""
    return uri if is_remote(uri) else open_store(uri).uri


def most(workers: int | tuple[int, int]) -> int:
    """Return the largest number of workers that Ray's ``num_workers`` (a number, or least and most) asks for."""
    return workers if isinstance(workers, int) else max(workers)


def scaling(config: PlacedConfig) -> "ray.train.ScalingConfig":
    """Return Ray's scaling for ``workers``, ``ray.cpus_per_worker`` and ``ray.gpus_per_worker``."""
    import ray
    from ray.train import ScalingConfig

    workers, gpus = config.workers, config.ray.gpus_per_worker
    if gpus == "auto":
        fewest = workers if isinstance(workers, int) else min(workers)
        gpus = 1.0 if ray.cluster_resources().get("GPU", 0) >= fewest else 0.0
    return ScalingConfig(
        num_workers=workers,
        use_gpu=gpus > 0,
        resources_per_worker={"CPU": config.ray.cpus_per_worker} | ({"GPU": gpus} if gpus else {}),
        elastic_resize_monitor_interval_s=config.ray.elastic_resize_monitor_interval_s,
    )


def _fit(job: _Job, scaling_config: "ray.train.ScalingConfig", host: Host | None) -> "ray.train.Result":
    from ray.train import FailureConfig, RunConfig
    from ray.train.torch import TorchTrainer

    from medgan_ray.on_ray.backend import ProcessGroupConfig
    from medgan_ray.on_ray.board import Board
    from medgan_ray.on_ray.notices import Notices

    board = Board(uuid.uuid4().hex)
    own, limits = job.run_config or RunConfig(), job.config.ray
    resizes = isinstance(scaling_config.num_workers, tuple)
    placing = ELASTIC_FAILURES if resizes else CONTROLLER_FAILURES
    failures = FailureConfig(max_failures=limits.max_failures, controller_failure_limit=placing)
    trainer = TorchTrainer(
        _on_rank,
        train_loop_config={
            "dataset": job.dataset,
            "run": job.run,
            "config": rank_config(job.config),
            "board": board.name,
            "metric": job.metric,
        },
        torch_config=ProcessGroupConfig(timeout_s=limits.collective_timeout_s),
        scaling_config=scaling_config,
        run_config=RunConfig(
            name=board.name,  # a new name for each attempt: Ray would go on with an old run of the same name
            storage_path=str(job.scratch),
            failure_config=failures if own.failure_config == FailureConfig() else own.failure_config,
            callbacks=[Notices(board.name), *(own.callbacks or []), *job.callbacks],
        ),
    )
    surroundings = (timeouts.applied(limits, resizes), elastic.fresh_resources(resizes), board.relayed(host))
    with contextlib.ExitStack() as stack, _refusals(board):
        for each in surroundings:
            stack.enter_context(each)
        result, asked = interruptible(trainer.fit, lambda: board.put("stop", True))
    seen: TrainResult = result.return_value
    if asked and not seen.complete:
        raise Interrupted(f"stopped at {seen.images} images", job.run, "the same command goes on from here")
    return result


@contextlib.contextmanager
def _refusals(board: "Board") -> Iterator[None]:
    """Raise what a rank refused as it was, and anything else as one line."""
    from ray.exceptions import RayError
    from ray.train import TrainingFailedError

    try:
        yield
    except (TrainingFailedError, RayError) as error:
        refusal = board.refusal()
        if refusal is not None:
            raise refusal from None
        raise MedganError(_first_cause(error), "training on Ray", "see --debug for all of it") from error
    refusal = board.refusal()
    if refusal is not None:
        raise refusal


def _first_cause(error: BaseException) -> str:
    failures = getattr(error, "worker_failures", None)
    cause = next(iter(failures.values())) if failures else error
    lines = [line for line in str(cause).splitlines() if line.strip()]
    return lines[-1].strip() if lines else type(cause).__name__


def _on_rank(config: dict[str, Any]) -> TrainResult | None:
    """Train on one rank; a refusal ends the run, any other failure is Ray's to try again."""
    from medgan_ray.on_ray.board import Board

    board = Board(config["board"])
    if board.refusal() is not None:
        return None
    host = RayHost(board, config["metric"], config["run"])
    try:
        return train_rank(config["dataset"], config["run"], config["config"], host)
    except ShardSkipped as skipped:
        host.log(str(skipped))  # Ray starts the group again, which then leaves the shard out
        raise
    except MedganError as error:
        board.fail(error)
        raise


def _check_place(run: str, run_config: "ray.train.RunConfig") -> None:
    from ray.train import RunConfig

    if run_config.storage_path == RunConfig().storage_path and run_config.name is None:
        return
    place = f"{str(run_config.storage_path).rstrip('/')}/{run_config.name or ''}".rstrip("/")
    if absolute(place) != run:
        raise UsageError("run and run_config name two places", f"{run}, {place}", "give run alone")
