"""A search's own record, from which it goes on after any death: what was asked, how each trial stands, who leads.

RUNS/search.json        dataset, configuration and space; written once
RUNS/leaderboard.json   every trial with its state, score, images, configuration and history, best first
RUNS/best.json          {"run": name, "score": …}: what ``serve RUNS`` opens
RUNS/TRIAL/             an ordinary run
"""

import dataclasses
import json
import math
import threading
from collections.abc import Mapping
from typing import Any

from medgan_ray.artifacts import runs
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import UsageError
from medgan_ray.store import Store

SEARCH = "search.json"
LEADERBOARD = "leaderboard.json"
ENDED = ("finished", "stopped", "failed")
OUT_OF_BOUNDS = 1e3
"""Added to the mean of the ratios where the score is infinite: such trials compare, and lose to any sound one."""
UNMEASURED = 1e9
"""Stands for figures that can't be measured."""


def judge(figures: Mapping[str, float], metric: str) -> float:
    """Return the finite number by which a scheduler compares trials; lower is better."""
    found = figures.get(metric, math.inf)
    if math.isfinite(found):
        return found
    ratios = [figures[name] for name in ("whole_ratio", "patches_ratio") if math.isfinite(figures.get(name, math.inf))]
    return OUT_OF_BOUNDS + sum(ratios) / len(ratios) if ratios else UNMEASURED


@dataclasses.dataclass
class Trial:
    """How a trial stands. ``history`` holds [images, judged figure] of each report."""

    name: str
    values: dict[str, Any]
    state: str = "waiting"
    judged: float = UNMEASURED
    images: int = 0
    history: list[list[Any]] = dataclasses.field(default_factory=list)
    reason: str = ""

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do for it."""
        return self.state in ENDED

    @property
    def score(self) -> float | None:
        """Its best figure; None if that never was within bounds, or can't be measured."""
        return self.judged if self.judged < OUT_OF_BOUNDS else None

    def take(self, images: int, judged: float) -> None:
        """Take a report; one that was taken before changes nothing."""
        if images > self.images:
            self.state, self.images = "running", images
            self.history.append([images, judged])
            self.judged = min(self.judged, judged)


class Ledger:
    """All trials of a search, kept in its folder at every change."""

    def __init__(self, store: Store, trials: list[Trial]) -> None:
        self.store = store
        self.trials = {trial.name: trial for trial in trials}
        self._lock = threading.Lock()

    @classmethod
    def begin(cls, store: Store, asked: dict[str, Any]) -> "Ledger":
        """Write ``search.json``, or check that the one that is there asks for the same; read how its trials stand.

        Raises:
            UsageError: if the search was begun with another space, configuration or dataset.
        """
        store.create(SEARCH, canonical(asked))
        kept = runs.read_json(store, SEARCH) or {}
        wanted = json.loads(canonical(asked))
        for key in ("dataset", "manifest", "space", "config"):
            mine, theirs = _settled(kept.get(key)), _settled(wanted.get(key))
            if mine != theirs:
                raise UsageError(f"this search was begun with another {key}", store.uri, "give the search another name")
        board = runs.read_json(store, LEADERBOARD) or {"trials": []}
        return cls(store, [Trial(**{k: v for k, v in trial.items() if k != "score"}) for trial in board["trials"]])

    def add(self, trial: Trial) -> Trial:
        """Return the trial of this name, as it stands if it is known."""
        return self.trials.setdefault(trial.name, trial)

    def report(self, name: str, images: int, judged: float, reason: str = "") -> None:
        """Take a trial's report and keep it."""
        with self._lock:
            trial = self.trials[name]
            trial.take(images, judged)
            if reason:
                trial.state, trial.reason = "failed", reason
            self.keep()

    def end(self, name: str, state: str, reason: str = "") -> None:
        """Take the end of a trial, unless it had ended before, and keep it."""
        with self._lock:
            trial = self.trials[name]
            if not trial.ended:
                trial.state, trial.reason = state, reason
            self.keep()

    def ranked(self) -> list[Trial]:
        """Return the trials, best first: by score, then by images seen, failed ones last."""

        def place(trial: Trial) -> tuple[Any, ...]:
            return trial.state == "failed", trial.judged, -trial.images, trial.name

        return sorted(self.trials.values(), key=place)

    def keep(self) -> None:
        """Write the leaderboard, and the winner so far."""
        ranked = self.ranked()
        rows = [{"score": trial.score, **dataclasses.asdict(trial)} for trial in ranked]
        runs.write_json(self.store, LEADERBOARD, {"trials": rows})
        leader = ranked[0] if ranked else None
        if leader and leader.images and leader.state != "failed":
            runs.write_json(self.store, runs.BEST, {"run": leader.name, "score": leader.score})


def _settled(value: Any) -> Any:
    """Return what must be the same when a search goes on: all but how many trials there are and how they are placed."""
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if key not in ("trials", "ray", "tune", "serve")}
    if isinstance(kept.get("data"), dict):
        kept["data"] = {key: each for key, each in kept["data"].items() if key != "cache"}
    return kept
