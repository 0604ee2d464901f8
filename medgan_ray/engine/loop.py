"""The training loop: exact steps over a global batch that any number of ranks share.

What happens at a step is a pure function of what is on disk: the state, and how many images it has seen. A run that
dies goes on from its newest whole checkpoint and ends with the same weights.
"""

import contextlib
import dataclasses
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgan_ray.artifacts import checkpoints, versions
from medgan_ray.artifacts.runs import RESULT, read_json, write_json
from medgan_ray.artifacts.tensors import weights_sha256
from medgan_ray.dataset.batches import Dataset
from medgan_ray.engine import controller, guards, keeper, schedules
from medgan_ray.engine.controller import Control, Rule
from medgan_ray.engine.guards import Decision
from medgan_ray.engine.judge import Judge, judge
from medgan_ray.engine.means import Means
from medgan_ray.engine.plan import Outcome, Plan
from medgan_ray.engine.probe import Probe
from medgan_ray.engine.ranks import Ranks
from medgan_ray.engine.record import Record
from medgan_ray.engine.state import State
from medgan_ray.engine.watch import preview_labels
from medgan_ray.errors import StoreError, TrainingStopped
from medgan_ray.host import Host
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import PUBLISHED, Generates, Probed, Share, Task, Values

LOOK_STEPS = 16
LOOK_S = 5.0
PREVIEWS = 24
CONTROL, SIGNALS = "control", "signals"
"""Of the facts: the controller's state, and what it saw last."""
ROLLBACK_RATE = 0.5
_NONE: dict[str, Any] = {"figures": {}, "not_applicable": "the run is not complete"}


def run(task: Task, dataset: Dataset, plan: Plan, store: Store, host: Host) -> Outcome:
    """Train until all images are seen, the host wants to stop or the time is up; return how it ended.

    Raises:
        TrainingStopped: if a guard ends the run.
        InputError: if the dataset is corrupt.
        StoreError: if checkpoints can't be written.
    """
    loop = _Loop(task, dataset, plan, store, host)
    try:
        return loop.run()
    finally:
        loop.close()


class _Loop:
    """One attempt at a run, on one rank."""

    def __init__(self, task: Task, dataset: Dataset, plan: Plan, store: Store, host: Host) -> None:
        self.task, self.dataset, self.plan, self.store, self.host = task, dataset, plan, store, host
        self.ranks, self.state, self.means = Ranks(), State(task), Means()
        split = dataset.split("train")
        self.data = {phase: (split, split.order(plan.seed, phase)) for phase in task.phases}
        found = keeper.newest(store, plan.facts, host.log) if self.ranks.rank == 0 else None
        self.images = self.taken = self._go_on_from(found, "resumed from")
        self.record: Record | None = None
        self.keeper: keeper.Keeper | None = None
        if self.ranks.rank == 0:
            self.record, self.keeper = self._writers()
        self.judge = self._judge("val")
        self.probe = Probe(dataset, self.ranks) if isinstance(task, Probed) else None
        self.rule = self.probe.rule(plan.rule) if self.probe else None
        if self.ranks.rank == 0:
            self._warn(len(split))
        self.unreported: tuple[int, dict[str, float]] | None = None
        self.began = time.monotonic()
        self.logged, self.pace = (self.began, self.images), _Pace()

    def run(self) -> Outcome:
        plan = self.plan
        if not self.images:
            self._checkpoint({}, judged=False)  # where a guard goes back to that has nothing newer
        while self.images < plan.total:
            self._step()
            if self.rule and plan.looks(self.images, self.rule.interval):
                self._adapt(self.rule)
            if plan.logged(self.images) and self._obey(self._log()):
                continue
            if plan.scheduled(self.images) and self._obey(self._measured_checkpoint()):
                continue
            if self.pace.due() and self._look():
                break
        self._settle(last=True)
        return self._finish()

    def close(self) -> None:
        """Let what is being written come to its end, the last lines of the log with it."""
        if self.keeper:
            self.keeper.close()
        if self.record:
            with contextlib.suppress(StoreError):  # what ended the attempt says more
                self.record.flush()

    def _judge(self, split: str) -> Judge:
        return judge(self.task, self.dataset, split, self.plan.train, self.store, self.ranks)

    def _warn(self, scans: int) -> None:
        """Tell what can't be measured or followed, and once whether the scans are few."""
        plan, begins = self.plan, not self.images and isinstance(self.task, Generates)
        small = guards.before(plan.images, scans, plan.augment) if begins else []
        why = self.probe.not_applicable if self.probe else "nothing measures what it would follow"
        kept = "" if self.rule == plan.rule else f"augmentation follows the schedule: {why}"
        self.unmeasured = self.judge.not_applicable
        for text in filter(None, (self.unmeasured, kept, *small)):
            self.host.log(text)

    def _writers(self) -> tuple[Record, keeper.Keeper]:
        train = self.plan.train
        record = Record(self.store, self.images, train.writers, self.host.log)
        keep = checkpoints.Keep(train.keep_checkpoints, self.plan.checkpoint_interval, train.keep_every)
        return record, keeper.Keeper(self.store, record, keep, self.plan.facts, self.host.log)

    def _go_on_from(self, found: checkpoints.Checkpoint | None, how: str) -> int:
        """Take over the checkpoint that rank 0 has found, on every rank; return the images it has seen."""
        name = self.ranks.share_text(found.name if found else "")
        if not name:
            return 0
        checkpoint = found or checkpoints.load(self.store, name)
        loop = checkpoint.facts.get("loop", {})
        self.state.load(checkpoint.tensors, loop.get("state", {}), name)
        self.means.load(loop.get("means", {}), self.ranks.rank)
        if self.ranks.rank == 0:
            self.host.log(f"{how} checkpoint {name} at {checkpoint.images} images")
        return checkpoint.images

    def _step(self) -> None:
        plan = self.plan
        values = self._values()
        positions = self.ranks.positions(self.images, plan.batch)
        for phase in self.task.phases:
            split, order = self.data[phase]
            indices = order.indices(self.images, plan.batch)[positions - self.images]
            share = Share(positions, split.take(indices), plan.batch, self.images // plan.batch)
            self.state.step(phase, self.ranks.sum(self._gradients(phase, share, values)), values)
        self.means.step()
        self.task.after_step(values)
        self.images += plan.batch

    def _values(self) -> Values:
        """Return the values of the step to come."""
        plan = self.plan
        values = schedules.values(plan.train, plan.augment, self.images, plan.total, plan.batch)
        return dataclasses.replace(values, augment=self._control().probability) if self.rule else values

    def _control(self) -> Control:
        return Control.of(self.state.facts.get(CONTROL, {}))

    def _adapt(self, rule: Rule) -> None:
        """Have the augmentation follow what the discriminator makes of training and of held-out scans."""
        signals = self._signals()
        control = controller.adapt(self._control(), signals.get(rule.signal, math.nan), self.images, rule)
        self.state.facts = {**self.state.facts, CONTROL: control.facts(), SIGNALS: _finite(signals)}

    def _signals(self) -> dict[str, float]:
        """Return what the discriminator makes of scans; nothing where the task has none."""
        return self.probe.signals(self.task) if self.probe and isinstance(self.task, Probed) else {}

    def _augmentation(self) -> dict[str, float]:
        """Return the chance of augmentation and the signals at the last look, if there was one."""
        return {"augment_p": self._values().augment, **self.state.facts.get(SIGNALS, {})}

    def _gradients(self, phase: str, share: Share, values: Values) -> list[Tensor]:
        """Return this rank's part of the gradients, added up over micro-batches."""
        parameters = list(self.state.parameters(phase).values())
        total: list[Tensor] = []
        for part in share.parts(self.plan.train.micro_batch):
            losses = self.task.losses(phase, part, values)
            grown = torch.autograd.grad(losses["loss"], parameters, allow_unused=True, materialize_grads=True)
            total = list(torch._foreach_add(total, grown)) if total else list(grown)
            self.means.add(phase, losses)
        return total or [torch.zeros_like(parameter) for parameter in parameters]

    def _log(self) -> Sequence[Decision]:
        """Write a line of the log; return what the guards decide."""
        losses = self.means.take(self.ranks)
        decisions, tally = guards.on_losses(losses, self.state.facts["tally"], self.task.steadier)
        self.state.facts = {**self.state.facts, "tally": tally}
        (since, images), now = self.logged, time.monotonic()
        rate = (self.images - images) / max(1e-9, now - since)
        self.logged = now, self.images
        self.host.progress(self.images, self.plan.total, rate)
        if self.record:
            line = {**losses, "images_per_s": rate, "rate_factor": self.state.facts["rate"], **self._augmentation()}
            self.record.add(self.images, line)
            self.host.gauges({**line, "images": self.images, "images_since_checkpoint": self.images - self.taken})
        return decisions

    def _look(self) -> bool:
        """Agree with all ranks on what their hosts wish; say whether to stop. A checkpoint then is committed."""
        limit, host = self.plan.time_limit_s, self.host
        late = limit > 0 and time.monotonic() - self.began > limit
        written = self.unreported is not None and (self.keeper is None or self.keeper.idle)
        mine = [host.should_stop(), late, host.should_checkpoint(), not written, self.pace.step_s]
        *wishes, step_s = self.ranks.most([float(wish) for wish in mine])
        stop, late, checkpoint, writing = map(bool, wishes)
        self.pace.renew(step_s)
        if self.unreported and not writing:
            self._settle()
        if (stop or late or checkpoint) and self.images != self.taken and not self.plan.scheduled(self.images):
            if not self.state.finite():
                return stop or late
            figures = self._figures() if late else {}
            self._checkpoint(figures, judged=late)
        return stop or late

    def _measured_checkpoint(self) -> Sequence[Decision]:
        """Measure and commit, unless the weights are beyond use; return what the guards decide."""
        if not self.state.finite():
            return [Decision("not_finite", "rollback", "a weight is no number", self.task.steadier)]
        began = time.monotonic()
        self.state.facts = {**self.state.facts, SIGNALS: _finite(self._signals())}
        figures = self._figures()
        decisions, tally = guards.on_figures({**figures, **self._augmentation()}, self.state.facts["tally"])
        self.state.facts = {**self.state.facts, "tally": tally}
        self._checkpoint(figures, judged=True)
        since, images = self.logged
        self.logged = since + time.monotonic() - began, images  # the speed is that of the steps
        return decisions

    def _checkpoint(self, figures: dict[str, float], judged: bool) -> None:
        """Have a checkpoint of this moment written while training goes on; every rank calls."""
        self._settle()
        means = self.means.save(self.ranks)
        if self.keeper and self.record:
            loop = {"state": self.state.facts, "means": means}
            preview = None
            if judged:
                self.record.add(self.images, {**figures, **self._augmentation()})
                preview = self._preview()
            tensors = self.state.snapshot()
            self.keeper.submit(keeper.Snapshot(self.images, tensors, loop, figures, judged, preview))
        if judged:
            self.unreported = self.images, figures
        self.taken = self.images

    def _preview(self) -> NDArray[np.float32] | None:
        if not isinstance(self.task, Generates):
            return None
        return self.task.sample(np.arange(PREVIEWS), preview_labels(self.dataset.manifest, PREVIEWS))

    def _figures(self) -> dict[str, float]:
        """Measure on the held-out split; say once why that can't be done, if it only shows now."""
        figures = self.judge.figures()
        if self.record and not figures and self.judge.not_applicable != self.unmeasured:
            self.unmeasured = self.judge.not_applicable
            self.host.log(self.unmeasured)
        return figures

    def _settle(self, last: bool = False) -> None:
        """Wait for the checkpoint that is being written, and report it; every rank calls."""
        uri = self.keeper.wait(last) if self.keeper else ""
        if self.unreported:
            (images, figures), self.unreported = self.unreported, None
            self.host.report(images, figures, uri or None)

    def _obey(self, decisions: Sequence[Decision]) -> bool:
        """Do what the guards decided; say whether the run went back.

        Raises:
            TrainingStopped: if one says so, or there were too many rollbacks.
        """
        for decision in decisions:
            why = f"{decision.why} at {self.images} images"
            done = int(self.state.facts["rollbacks"])
            if decision.act == "stop" or (decision.act == "rollback" and done >= self.plan.train.most_rollbacks):
                self._settle(last=True)
                times = f", after {done} rollbacks" if done else ""
                raise TrainingStopped(why + times, self.store.uri, decision.advice)
            if self.ranks.rank == 0:
                self.host.log(f"guard {decision.guard}: {why}: {decision.advice}")
            if decision.act == "rollback":
                self._roll_back(done + 1)
                return True
        return False

    def _roll_back(self, rollbacks: int) -> None:
        """Go back to the newest checkpoint of the schedule, at a lower learning rate."""
        self._settle()
        before, found = self.state.facts, None
        if self.ranks.rank == 0:
            found = checkpoints.newest(self.store, self.host.log, self.plan.scheduled)
        self.images = self.taken = self._go_on_from(found, "went back to")
        rate = before["rate"] * ROLLBACK_RATE
        self.state.facts = {**self.state.facts, "tally": before["tally"], "rollbacks": rollbacks, "rate": rate}
        self.logged = time.monotonic(), self.images

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
        self.ranks.share_text("")  # rank 0 comes here when the best model is written
        tensors, _ = versions.read_model(self.store.child("best"))
        self.task.networks[PUBLISHED].load_state_dict(tensors)
        last = self._judge("test")
        return {"figures": _finite(last.figures()), "not_applicable": last.not_applicable}


def _finite(figures: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in figures.items() if math.isfinite(value)}


class _Pace:
    """When the ranks next agree on what to do: every 16 steps, sooner where these would take long."""

    def __init__(self) -> None:
        self._steps, self._until, self._since = 0, LOOK_STEPS, time.monotonic()

    def due(self) -> bool:
        """Count a step; say whether it is time."""
        self._steps += 1
        return self._steps >= self._until

    @property
    def step_s(self) -> float:
        """Seconds a step took of late, on this rank."""
        return (time.monotonic() - self._since) / max(1, self._steps)

    def renew(self, step_s: float) -> None:
        """Begin to count anew; the slowest rank says how long a step takes."""
        self._steps, self._since = 0, time.monotonic()
        self._until = min(LOOK_STEPS, max(1, int(LOOK_S / max(step_s, 1e-9))))
