"""How good a task's model is on a split: by what the task's protocol says that the model does.

Images that a model makes are compared with held-out scans as a set (``watch``). Answers to scans are compared with what
is known of each: the scans are dealt out among the ranks and the answers gathered in one order, so that every rank, in
a world of any size, has the same figures.
"""

import functools
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

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


class Judge(Protocol):
    """Figures of a task's model, as it is when they are asked for, on one split."""

    @property
    def not_applicable(self) -> str:
        """Why there are no figures, as far as is known before they are asked for; empty where there are."""

    def figures(self) -> dict[str, float]:
        """Return the figures; empty where they would mean nothing. Every rank asks."""


def judge(task: Task, dataset: Dataset, split: str, train: TrainSettings, run: Store, ranks: Ranks) -> Judge:
    """Return the judge of a task on a split.

    Raises:
        TypeError: for a task that neither makes images nor gives answers.
    """
    if isinstance(task, Generates):
        return _Made(task, Watch(dataset, split, train, run, ranks))
    if isinstance(task, Answers):
        return _Answered(task, dataset.split(split), split, ranks)
    raise TypeError(f"{type(task).__name__} neither generates nor answers")


class _Made:
    """The images that a task makes, beside those of a split."""

    def __init__(self, task: Generates, watch: Watch) -> None:
        self._task, self._watch, self.not_applicable = task, watch, watch.not_applicable

    def figures(self) -> dict[str, float]:
        """Return the watch's figures."""
        return self._watch.figures(self._task)


class _Answered:
    """The answers to the scans of one split, at most ``MOST`` of them."""

    def __init__(self, task: Answers, split: Split, name: str, ranks: Ranks) -> None:
        self._task, self._split, self._name, self._ranks = task, split, name, ranks
        self.not_applicable = "" if len(split) else f"the {name} split holds no scans"

    def figures(self) -> dict[str, float]:
        """Return the task's figures."""
        if not self.not_applicable:
            self.not_applicable = self._refusal
        if self.not_applicable:
            return {}
        mine = self._chosen[self._ranks.positions(0, len(self._chosen))]
        # More ranks than scans: one that has none answers for one, which tells how long an answer is.
        starts = range(0, len(mine), READ) or [0]
        asked = mine if len(mine) else self._chosen[:1]
        parts = [self._task.answers(self._split.take(asked[start : start + READ])) for start in starts]
        answers = self._ranks.gather_rows(np.concatenate(parts)[: len(mine)], len(self._chosen))
        return self._task.figures(answers, self._known)

    @functools.cached_property
    def _chosen(self) -> NDArray[np.int64]:
        order = seeds.permutation(len(self._split), self._split.dataset.manifest.content_digest, "judge", self._name)
        return np.sort(order[:MOST])

    @functools.cached_property
    def _known(self) -> Samples:
        """What the answers are compared with; read when first needed, so that a resumed run is soon at its steps."""
        return self._split.known(self._chosen)

    @functools.cached_property
    def _refusal(self) -> str:
        few = self._task.not_applicable(self._known)
        return f"the {self._name} split {few}" if few else ""
