"""How good a task's model is on a split: by what the task's protocol says that the model does.

Images that a model makes are compared with held-out scans as a set (``watch``). Answers to scans are compared with what
is known of each: the scans are dealt out among the ranks and the answers gathered in one order, so that every rank, in
a world of any size, has the same figures.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from medgan_ray import seeds
from medgan_ray.dataset.batches import Dataset, Split
from medgan_ray.dataset.shards import Samples
from medgan_ray.engine.ranks import Ranks
from medgan_ray.engine.watch import Watch
from medgan_ray.store import Store
from medgan_ray.tasks.protocol import Answers, Generates, Task, TrainSettings

MOST = 5_000
"""Scans of a split that answers are measured on, drawn at random where it holds more."""
READ = 500
"""Scans that are in memory at once."""


class Judge(NamedTuple):
    """Figures of a task's model as it is when they are asked for; every rank asks."""

    not_applicable: str
    """Why there are none; empty where there are."""
    figures: Callable[[], dict[str, float]]


def judge(task: Task, dataset: Dataset, split: str, train: TrainSettings, run: Store, ranks: Ranks) -> Judge:
    """Return the judge of a task on a split.

    Raises:
        TypeError: for a task that neither makes images nor gives answers.
    """
    if isinstance(task, Generates):
        watch = Watch(dataset, split, train, run, ranks)
        return Judge(watch.not_applicable, functools.partial(watch.figures, task))
    if isinstance(task, Answers):
        answered = _Answered(task, dataset.split(split), split, ranks)
        return Judge(answered.not_applicable, answered.figures)
    raise TypeError(f"{type(task).__name__} neither generates nor answers")


class _Answered:
    """The answers to the scans of one split, at most ``MOST`` of them."""

    def __init__(self, task: Answers, split: Split, name: str, ranks: Ranks) -> None:
        self._task, self._split, self._ranks = task, split, ranks
        chosen = seeds.permutation(len(split), split.dataset.manifest.content_digest, "judge", name)
        self._chosen = np.sort(chosen[:MOST])
        self._known = self._without_images()
        few = task.not_applicable(self._known) if self._known else "it holds no scans"
        self.not_applicable = f"the {name} split can't be judged: {few}" if few else ""

    def figures(self) -> dict[str, float]:
        """Return the task's figures; empty where they would mean nothing."""
        if self.not_applicable or self._known is None:
            return {}
        mine = self._chosen[self._ranks.positions(0, len(self._chosen))]
        parts = [
            self._task.answers(self._split.take(mine[start : start + READ])) for start in range(0, len(mine), READ)
        ]
        if not parts:  # more ranks than scans: as many columns as an answer has
            parts = [self._task.answers(self._split.take(self._chosen[:1]))[:0]]
        return self._task.figures(self._ranks.gather_rows(np.concatenate(parts), len(self._chosen)), self._known)

    def _without_images(self) -> Samples | None:
        parts = []
        for start in range(0, len(self._chosen), READ):
            taken = self._split.take(self._chosen[start : start + READ])
            parts.append(dataclasses.replace(taken, image=taken.image[:, :0], pair=None))
        return Samples.concatenate(parts) if parts else None
