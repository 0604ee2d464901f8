"""Means of losses between two lines of the log, over steps and ranks, without a host synchronization in a step."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from medgan_ray.engine.ranks import Ranks


class Means:
    """Running sums of each named loss; a checkpoint takes them along, so that a run that died logs the same means."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._steps = 0

    def add(self, phase: str, losses: Mapping[str, Tensor]) -> None:
        """Take this rank's losses of a phase, each summed over its share and divided by the global batch."""
        for name, value in losses.items():
            key = f"{phase}_{name}"
            self._sums[key] = self._sums.get(key, 0) + value.detach().double()

    def step(self) -> None:
        """Count a step."""
        self._steps += 1

    def take(self, ranks: Ranks) -> dict[str, float]:
        """Return the means since the last call, and begin anew."""
        totals, steps = self._totals(ranks), max(1, self._steps)
        self._sums, self._steps = {}, 0
        return {name: total / steps for name, total in totals.items()}

    def save(self, ranks: Ranks) -> dict[str, Any]:
        """Return the sums over all ranks as plain numbers."""
        return {"steps": self._steps, "sums": self._totals(ranks)}

    def load(self, saved: Mapping[str, Any], rank: int) -> None:
        """Go on from what ``save`` returned: rank 0 holds it, so that it is counted once."""
        self._steps = int(saved.get("steps", 0))
        sums = saved.get("sums", {}) if rank == 0 else dict.fromkeys(saved.get("sums", {}), 0.0)
        self._sums = {name: torch.tensor(float(value), dtype=torch.float64) for name, value in sums.items()}

    def _totals(self, ranks: Ranks) -> dict[str, float]:
        names = sorted(self._sums)
        if not names:
            return {}
        device = self._sums[names[0]].device
        stacked = torch.stack([self._sums[name].to(device) for name in names])
        return dict(zip(names, ranks.sum([stacked])[0].tolist(), strict=True))
