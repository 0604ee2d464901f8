"""A search on Ray Tune: every trial is an ordinary run, and the same call goes on after any death.

    tune("heads", "search", "search_spaces/quick.yaml", {"seed": 0})

A trial of one worker trains in the trial's own process. One of several nests a trainer, which costs about ten seconds
more, and is never stopped early: Ray would keep the slots of a nested trainer whose trial it has killed. What decides
is in our own ledger and in the runs, so Ray's experiment state may be lost at any moment.
"""

import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_ray.config import Section, merge
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import MedganError, UsageError
from medgan_ray.host import Host, LocalHost
from medgan_ray.on_ray import session
from medgan_ray.on_ray.ledger import UNMEASURED, Ledger, Trial, judge
from medgan_ray.on_ray.settings import PlacedConfig
from medgan_ray.on_ray.space import Space, check_space, draw, nested, read_space
from medgan_ray.on_ray.train import absolute, most, placed, rank_config
from medgan_ray.on_ray.train import nested as train_nested
from medgan_ray.store import open_store
from medgan_ray.verbs.config import Config

if TYPE_CHECKING:
    from ray.tune import ResultGrid, TuneConfig

RESTARTS = 2
RUNGS = 7

_log = logging.getLogger("medgan_ray")


class TuneResult(Section):
    """How a search ended; ``trials`` stand best first."""

    search: str
    best: str
    score: float | None
    trials: tuple[dict[str, Any], ...]


def tune(
    dataset: str,
    runs: str,
    space: str | Mapping[str, Any],
    config: Mapping[str, Any] | Config | None = None,
    address: str | None = None,
    progress: Host | None = None,
) -> TuneResult:
    """Search for the best configuration; the same call goes on where a search stopped.

    Args:
        dataset: URI of a dataset.
        runs: URI of the search; each trial is a run below it.
        space: path of a YAML file, or what it would hold.
        config: what all trials share; its ``images`` goes before the space's.
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.
        progress: told of trials that end and of images seen over all trials.

    Raises:
        UsageError: for a wrong space or configuration, or if the search was begun with others.
        MedganError: what the trials refused, if all of them failed.
    """
    search = _Search(dataset, runs, space, config, progress or LocalHost())
    if search.left:
        with session.local(address, cpus=search.local_cpus, dashboard=search.workers > 1) as scratch:
            search.fit(scratch, None)
    return search.result()


def tune_search(
    dataset: str,
    runs: str,
    space: str | Mapping[str, Any],
    config: Mapping[str, Any] | Config | None = None,
    tune_config: "TuneConfig | None" = None,
) -> "ResultGrid":
    """Search as ``tune`` does and return Ray's ``ResultGrid``.

    Args:
        dataset: URI of a dataset.
        runs: URI of the search.
        space: path of a YAML file, or what it would hold.
        config: what all trials share.
        tune_config: Ray's own; its scheduler and limits go before the space's. Its searcher is not used: the
            configurations are the space's, so that a search can go on.

    Raises:
        UsageError: for a wrong space or configuration, or a searcher in ``tune_config``.
    """
    if tune_config is not None and tune_config.search_alg is not None:
        raise UsageError("a searcher of your own", "tune_config", "use ray.tune.Tuner(medgan_ray.trainable(...))")
    search = _Search(dataset, runs, space, config, LocalHost())
    with session.local(cpus=search.local_cpus, dashboard=search.workers > 1) as scratch:
        return search.fit(scratch, tune_config)


def trainable(
    dataset: str, runs: str, config: Mapping[str, Any] | Config | None = None
) -> Callable[[dict[str, Any]], None]:
    """Return a function trainable for a ``ray.tune.Tuner`` of one's own.

    It takes dotted keys (``load_space`` gives their distributions), trains the run ``runs/TRIAL`` and reports
    ``score``, ``images`` and the other figures at every checkpoint.
    """
    dataset, runs = absolute(dataset), absolute(runs)
    base = placed(config).model_dump(mode="json", exclude_unset=True)

    def run(values: dict[str, Any]) -> None:
        from ray import tune as ray_tune

        name = ray_tune.get_context().get_trial_name()
        _train(dataset, f"{runs}/{name}", placed(merge(base, nested(values))), "score", 0)

    return run


class _Search:
    """One call of a search: what is left to do, and how it is placed."""

    def __init__(
        self,
        dataset: str,
        runs: str,
        space: str | Mapping[str, Any],
        config: Mapping[str, Any] | Config | None,
        host: Host,
    ) -> None:
        self.space = read_space(space) if isinstance(space, str) else check_space(Space.parse(space), "space")
        settings = placed(config)
        images = settings.images if "images" in settings.model_fields_set else self.space.images
        self.base = merge(settings.model_dump(mode="json", exclude_unset=True), {"images": images})
        self.config = placed(self.base)
        self.dataset, self.runs, self.host = absolute(dataset), absolute(runs), host
        self.workers = most(self.config.workers)
        opened = open_dataset(self.dataset, self.config.data)
        asked = {"dataset": self.dataset, "manifest": opened.sha256, "space": self.space.model_dump(mode="json")}
        self.ledger = Ledger.begin(open_store(self.runs), {**asked, "config": self.base})
        for number in range(self.space.trials):
            values = draw(self.space, self.config.seed, number)
            self.ledger.add(Trial(f"trial-{number:03d}", values))

    @property
    def left(self) -> bool:
        """Whether a trial has not ended."""
        return not all(trial.ended for trial in self.ledger.trials.values())

    @property
    def local_cpus(self) -> int:
        """CPU slots that a local instance needs at least."""
        return max(self.workers, os.cpu_count() or 1)

    def fit(self, scratch: Path, tune_config: "TuneConfig | None") -> "ResultGrid":
        """Run what is left; ended trials only repeat their reports, so that the scheduler knows them."""
        from ray import tune as ray_tune

        session.check_paths(self.dataset, self.runs, shared=self.config.ray.shared_paths)
        self.ledger.keep()
        trials = sorted(self.ledger.trials.values(), key=lambda trial: (not trial.ended, trial.name))
        chosen = [self._given(trial) for trial in trials]
        tuner = ray_tune.Tuner(
            ray_tune.with_resources(_trial, self._resources()),
            param_space={"trial": ray_tune.grid_search(chosen)},
            tune_config=self._tune_config(tune_config),
            run_config=ray_tune.RunConfig(
                name="search",
                storage_path=str(scratch),
                failure_config=ray_tune.FailureConfig(max_failures=RESTARTS),
                callbacks=[_follower(self.runs)],
                verbose=0,
            ),
        )
        _followed[self.runs] = self
        try:
            return tuner.fit()
        finally:
            del _followed[self.runs]

    def result(self) -> TuneResult:
        """Return the leaderboard.

        Raises:
            MedganError: if no trial came to a checkpoint.
        """
        ranked = self.ledger.ranked()
        best = ranked[0]
        if best.state == "failed" or not best.images:
            raise MedganError(f"no trial succeeded; {best.name}: {best.reason or best.state}", self.runs, "")
        rows = [
            {"name": t.name, "state": t.state, "score": t.score, "images": t.images, **t.values}
            | ({"reason": t.reason} if t.reason else {})
            for t in ranked
        ]
        return TuneResult(search=self.runs, best=f"{self.runs}/{best.name}", score=best.score, trials=tuple(rows))

    def taken(self, name: str, report: Mapping[str, Any]) -> None:
        """Take a report of a trial that Ray hands on."""
        judged = float(report.get("score", UNMEASURED))
        self.ledger.report(name, int(report["images"]), judged, str(report.get("refusal", "")))
        seen = sum(trial.images for trial in self.ledger.trials.values())
        self.host.progress(seen, self.config.images * len(self.ledger.trials), 0.0)

    def ended(self, name: str, reason: str = "") -> None:
        """Take the end of a trial: finished if its run saw all images, else stopped, or failed for a reason."""
        trial = self.ledger.trials[name]
        if trial.ended:
            return
        full = trial.images >= self.config.images
        self.ledger.end(name, "failed" if reason else "finished" if full else "stopped", reason)
        unsound = "not measured" if trial.judged >= UNMEASURED else "out of bounds"
        score = unsound if trial.score is None else f"{trial.score:.4g}"
        self.host.log(
            f"{name} {trial.state} at {trial.images} images: {self.space.metric} {score} {trial.reason}".strip()
        )

    def _given(self, trial: Trial) -> dict[str, Any]:
        config = placed(merge(self.base, nested(trial.values)))
        return {
            "name": trial.name,
            "dataset": self.dataset,
            "run": f"{self.runs}/{trial.name}",
            "config": config.model_dump(mode="json"),
            "metric": self.space.metric,
            "history": trial.history,
            "ended": trial.ended,
        }

    def _resources(self) -> dict[str, float]:
        if self.workers > 1:
            return {"CPU": 0, "memory": 1}  # the trainer's workers take the slots
        return {"CPU": self.config.ray.cpus_per_worker} | ({"GPU": gpus} if (gpus := self._gpus()) else {})

    def _gpus(self) -> float:
        import ray

        wanted = self.config.ray.gpus_per_worker
        available = ray.cluster_resources().get("GPU", 0)
        return (1.0 if available >= self.workers else 0.0) if wanted == "auto" else wanted

    def _tune_config(self, given: "TuneConfig | None") -> "TuneConfig":
        import ray
        from ray import tune as ray_tune
        from ray.tune.schedulers import ASHAScheduler, FIFOScheduler

        slots = int(ray.cluster_resources().get("CPU", 1) // (self.workers * self.config.ray.cpus_per_worker))
        if gpus := self._gpus():
            slots = min(slots, int(ray.cluster_resources().get("GPU", 0) // (self.workers * gpus)))
        concurrent = min(slots, self.config.tune.max_concurrent or slots) or 1
        total = self.config.images
        grace = max(1, total // RUNGS)
        asha = ASHAScheduler(time_attr="images", max_t=2 * total, grace_period=grace, reduction_factor=2)
        early = self.space.scheduler == "asha" and self.workers == 1
        if self.space.scheduler == "asha" and not early:
            self.host.log("trials of several workers are not stopped early")
        scheduler = asha if early else FIFOScheduler()
        if given is not None:
            scheduler = given.scheduler or scheduler
            concurrent = min(concurrent, given.max_concurrent_trials or concurrent)
        return ray_tune.TuneConfig(
            metric="score",
            mode="min",
            scheduler=scheduler,
            max_concurrent_trials=concurrent,
            time_budget_s=given.time_budget_s if given is not None else None,
            trial_name_creator=_name,
            trial_dirname_creator=_name,
        )


def _name(trial: Any) -> str:
    """Return our own name of one of Ray's trials."""
    return str(trial.config["trial"]["name"])


_followed: dict[str, _Search] = {}
"""Searches of this process by URI: Tune pickles its callbacks, and a search holds what can't be."""


def _follower(uri: str) -> Any:
    """Return a callback of Ray Tune that keeps the ledger of the search at ``uri`` in the driver."""
    from ray.tune import Callback

    class Follower(Callback):  # type: ignore[misc]
        def on_trial_result(self, *, trial: Any, result: dict[str, Any], **_: Any) -> None:
            _followed[uri].taken(_name(trial), result)

        def on_trial_complete(self, *, trial: Any, **_: Any) -> None:
            _followed[uri].ended(_name(trial))

        def on_trial_error(self, *, trial: Any, **_: Any) -> None:
            _followed[uri].ended(_name(trial), "its process died again and again")

    return Follower()


def _trial(config: dict[str, Any]) -> None:
    """Run one trial of ``tune``: repeat what it reported in an earlier life, then go on with its run."""
    given = config["trial"]
    for images, judged in given["history"]:
        _report({"images": images, "score": judged})
    if not given["ended"]:
        past = given["history"][-1][0] if given["history"] else 0
        _train(given["dataset"], given["run"], placed(given["config"]), given["metric"], past)


def _train(dataset: str, run: str, config: PlacedConfig, metric: str, past: int) -> None:
    """Train a trial's run and report; a refusal is reported too, and ends this trial alone."""
    try:
        if most(config.workers) > 1:
            last = _train_nested(dataset, run, config, metric)
        else:
            last = _train_here(dataset, run, config, metric, past)
    except MedganError as error:
        _report({"images": past, "score": UNMEASURED, "refusal": str(error)})
        return
    if last:
        _report(last)


def _train_here(dataset: str, run: str, config: PlacedConfig, metric: str, past: int) -> dict[str, Any]:
    from medgan_ray.verbs.train import train

    host = _TrialHost(metric, config.images)
    result = train(dataset, run, rank_config(config), host)
    return host.last or {"images": max(result.images, past), "score": _best_score(run)}


def _train_nested(dataset: str, run: str, config: PlacedConfig, metric: str) -> dict[str, Any]:
    from ray.tune.integration.ray_train import TuneReportCallback

    result = train_nested(dataset, run, config, metric, (TuneReportCallback(),))
    return {"images": result.images, "score": _best_score(run)}


def _best_score(run: str) -> float:
    from medgan_ray.artifacts.runs import BEST, read_json

    best = read_json(open_store(run), BEST) or {}
    return UNMEASURED if best.get("score") is None else float(best["score"])


def _report(report: dict[str, Any]) -> None:
    from ray import tune as ray_tune

    ray_tune.report(report)


class _TrialHost(LocalHost):
    """The surroundings of a trial that trains in its own process."""

    def __init__(self, metric: str, total: int) -> None:
        super().__init__()
        self._metric, self._total = metric, total
        self.last: dict[str, Any] = {}

    def report(self, images: int, figures: dict[str, float], checkpoint: str | None) -> None:
        """Report to Tune, which may end the trial here: its checkpoint is committed."""
        report = {**figures, "images": images, "score": judge(figures, self._metric)}
        if images >= self._total:
            self.last = report  # reported when the run is complete: Tune would end it before
        else:
            _report(report)
