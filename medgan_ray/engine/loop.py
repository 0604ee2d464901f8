"""The training loop: exact steps over a global batch that any number of ranks share.

What happens at a step is a pure function of what is on disk: the state, and how many images it has seen. A run that
dies goes on from its newest whole checkpoint and ends with the same weights.
"""

import dataclasses
import math
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgan_ray.artifacts import checkpoints, versions
from medgan_ray.artifacts.runs import BEST, RESULT, read_json, write_json
from medgan_ray.artifacts.tensors import weights_sha256
from medgan_ray.dataset.batches import Dataset
from medgan_ray.engine import guards, schedules
from medgan_ray.engine.ranks import Ranks
from medgan_ray.engine.record import Record
from medgan_ray.engine.state import State
from medgan_ray.engine.watch import Watch, preview_labels
from medgan_ray.errors import InputError
from medgan_ray.host import Host
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import Share, Task, TrainSettings

STOP_STEPS = 16
PREVIEWS = 24
_NONE: dict[str, Any] = {"figures": {}, "not_applicable": "the run is not complete"}


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run is to do.

    Attributes:
        images: images to see in all; rounded up to whole batches.
        batch: pairs in the global batch.
        seed: names order, noise, augmentation and first weights.
        augment: the augmentation's final probability.
        time_limit_s: stop at a checkpoint after this many seconds; 0: no limit.
        facts: what a model of this run is described by (see ``versions.Description``).
    """

    images: int
    batch: int
    seed: int
    train: TrainSettings
    augment: float
    time_limit_s: float
    facts: dict[str, Any]

    @property
    def total(self) -> int:
        """Images to see, in whole batches."""
        return math.ceil(self.images / self.batch) * self.batch

    def interval(self, chosen: int, share: int) -> int:
        """Return a number of images in whole batches: the one chosen, or this share of all."""
        return max(1, round((chosen or self.images / share) / self.batch)) * self.batch


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run ended: images seen, digest of the networks' tensors, figures or why there are none, completeness."""

    images: int
    weights_sha256: str
    figures: dict[str, float]
    not_applicable: str
    complete: bool


def run(task: Task, dataset: Dataset, plan: Plan, store: Store, host: Host) -> Outcome:
    """Train until all images are seen, the host wants to stop or the time is up; return how it ended.

    Raises:
        TrainingStopped: if a guard ends the run.
        InputError: if the dataset is corrupt.
    """
    return _Loop(task, dataset, plan, store, host).run()


class _Loop:
    """One attempt at a run, on one rank."""

    def __init__(self, task: Task, dataset: Dataset, plan: Plan, store: Store, host: Host) -> None:
        self.task, self.dataset, self.plan, self.store, self.host = task, dataset, plan, store, host
        self.ranks = Ranks()
        self.state = State(task)
        split = dataset.split("train")
        self.data = {phase: (split, split.order(plan.seed, phase)) for phase in task.phases}
        self.images = self._resume()
        self.record = Record(store, self.images) if self.ranks.rank == 0 else None
        self.watch = Watch(dataset, "val", plan.train, store, self.ranks)
        if self.watch.not_applicable and self.ranks.rank == 0:
            host.log(self.watch.not_applicable)
        self.sums: dict[str, Tensor] = {}
        self.summed_steps = 0
        self.began, self.began_images = time.monotonic(), self.images

    def run(self) -> Outcome:
        plan = self.plan
        log_every = plan.interval(plan.train.log_images, 100)
        checkpoint_every = plan.interval(plan.train.checkpoint_images, 10)
        committed = self.images
        while self.images < plan.total:
            self._step()
            if self.images % log_every == 0 or self.images >= plan.total:
                self._log()
            stop = self.images // plan.batch % STOP_STEPS == 0 and self._should_stop()
            if stop or self.images % checkpoint_every == 0 or self.images >= plan.total:
                self._checkpoint()
                committed = self.images
            if stop:
                break
        if committed != self.images:
            self._checkpoint()
        return self._finish()

    def _resume(self) -> int:
        """Load the newest whole checkpoint, the same one on every rank; return the images it has seen."""
        found = self._newest() if self.ranks.rank == 0 else None
        name = self.ranks.share_text(found.name if found else "")
        if not name:
            return 0
        checkpoint = found or checkpoints.load(self.store, name)
        self.state.load(checkpoint.tensors, name)
        if self.ranks.rank == 0:
            self.host.log(f"resumed from checkpoint {name} at {checkpoint.images} images")
        return checkpoint.images

    def _newest(self) -> checkpoints.Checkpoint | None:
        """Return the newest whole checkpoint, after mending what a crash has left half written in ``best/``."""
        best = read_json(self.store, BEST)
        if best:
            try:
                versions.read_model(self.store.child("best"))
            except InputError as error:
                self.host.log(f"best model is written again: {error.what}")
                self._mend_best(str(best["checkpoint"]))
        return checkpoints.newest(self.store, self.host.log)

    def _mend_best(self, name: str) -> None:
        """Write the best model again from its checkpoint; without that, the next checkpoint becomes the best."""
        try:
            found = checkpoints.load(self.store, name)
        except InputError:
            self.store.delete(BEST)
            return
        prefix = "networks/average/"
        weights = {key[len(prefix) :]: value for key, value in found.tensors.items() if key.startswith(prefix)}
        self._write_best(name, found.images, weights, found.facts["figures"])

    def _step(self) -> None:
        plan = self.plan
        values = schedules.values(plan.train, plan.augment, self.images, plan.total, plan.batch)
        positions = self.ranks.positions(self.images, plan.batch)
        for phase in self.task.phases:
            split, order = self.data[phase]
            indices = order.indices(self.images, plan.batch)[positions - self.images]
            share = Share(positions, split.take(indices), plan.batch, self.images // plan.batch)
            losses = self.task.losses(phase, share, values)
            parameters = list(self.task.trained(phase).parameters())
            gradients = torch.autograd.grad(losses["loss"], parameters, allow_unused=True, materialize_grads=True)
            self.state.step(phase, self.ranks.sum(gradients), values)
            for name, value in losses.items():
                key = f"{phase}_{name}"
                self.sums[key] = self.sums.get(key, 0) + value.detach()
        self.summed_steps += 1
        self.task.after_step(values)
        self.images += plan.batch

    def _log(self) -> None:
        names = sorted(self.sums)
        totals = self.ranks.sum([torch.stack([self.sums[name].double() for name in names])])[0].tolist()
        losses = {name: total / self.summed_steps for name, total in zip(names, totals, strict=True)}
        self.sums, self.summed_steps = {}, 0
        guards.check_finite(losses, self.images, self.store.uri)
        rate = (self.images - self.began_images) / max(1e-9, time.monotonic() - self.began)
        self.host.progress(self.images, self.plan.total, rate)
        if self.record:
            self.record.add(self.images, {**losses, "images_per_s": rate})

    def _should_stop(self) -> bool:
        limit = self.plan.time_limit_s
        late = limit > 0 and time.monotonic() - self.began > limit
        return self.ranks.any(late or self.host.should_stop())

    def _checkpoint(self) -> None:
        """Measure, commit, keep the best; every rank takes part in measuring, rank 0 writes."""
        figures = self.watch.figures(self.task)
        name = ""
        if self.record:
            plain = {key: value for key, value in figures.items() if math.isfinite(value)}
            name = checkpoints.commit(self.store, self.images, self.state.tensors(), {"figures": plain})
            best = self._keep_if_best(name, figures)
            checkpoints.prune(self.store, self.plan.train.keep_checkpoints, best)
            self.record.add(self.images, figures)
            labels = preview_labels(self.dataset.manifest, PREVIEWS)
            self.record.preview(self.images, self.task.sample(np.arange(PREVIEWS), labels))
            self.record.flush()
        self.host.report(self.images, figures, f"{self.store.uri}/{checkpoints.FOLDER}/{name}" if name else None)

    def _keep_if_best(self, name: str, figures: Mapping[str, float]) -> str:
        """Make this checkpoint the best if its score is no worse, or if nothing can be measured."""
        old = read_json(self.store, BEST)
        score = figures.get("score", math.inf)
        if old and old["score"] is not None and float(old["score"]) < score:
            return str(old["checkpoint"])
        weights = self.task.networks["average"].state_dict()
        self._write_best(
            name, self.images, weights, {key: each for key, each in figures.items() if math.isfinite(each)}
        )
        kept = score if math.isfinite(score) else None
        write_json(self.store, BEST, {"checkpoint": name, "score": kept, "images": self.images})
        return name

    def _write_best(self, name: str, images: int, weights: Mapping[str, Tensor], figures: Mapping[str, float]) -> None:
        facts = {**self.plan.facts, "checkpoint": name, "images": images, "figures": figures}
        versions.write_model(self.store.child("best"), weights, facts)

    def _finish(self) -> Outcome:
        """Measure the best model on the test split if the run is complete."""
        complete = self.images >= self.plan.total
        digest = weights_sha256(self.state.weights())
        done = read_json(self.store, RESULT) if complete else None
        if not done or done["images"] != self.images:
            done = {"images": self.images, "weights_sha256": digest, **(self._test_figures() if complete else _NONE)}
        if self.record:
            if complete:
                write_json(self.store, RESULT, done)
            self.record.close()
        return Outcome(self.images, digest, done["figures"], done["not_applicable"], complete)

    def _test_figures(self) -> dict[str, Any]:
        tensors, _ = versions.read_model(self.store.child("best"))
        self.task.networks["average"].load_state_dict(tensors)
        watch = Watch(self.dataset, "test", self.plan.train, self.store, self.ranks)
        found = {name: value for name, value in watch.figures(self.task).items() if math.isfinite(value)}
        return {"figures": found, "not_applicable": watch.not_applicable}
