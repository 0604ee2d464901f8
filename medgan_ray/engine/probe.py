"""What the discriminator makes of fixed sets of training, held-out and generated scans, none of them augmented.

The logits are gathered from the ranks in one order, so that every rank, in a world of any size, sums alike.
"""

import functools

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.dataset.batches import Dataset, Split
from medgan_ray.dataset.shards import Samples
from medgan_ray.engine.controller import FEWEST_HELD_OUT, Rule, held_out_gap, sign_of_real
from medgan_ray.engine.ranks import Ranks
from medgan_ray.tasks.protocol import Probed

IMAGES = 200
"""Scans of each kind, at most."""


class Probe:
    """This rank's part of the three sets."""

    def __init__(self, dataset: Dataset, ranks: Ranks) -> None:
        self._ranks, digest = ranks, dataset.manifest.content_digest
        self._train = _Part(dataset.split("train"), ranks, digest, "train")
        held_out = dataset.split("val")
        self._val = _Part(held_out, ranks, digest, "val") if len(held_out) >= FEWEST_HELD_OUT else None
        few = f"the val split holds {len(held_out)} scans, r_v needs {FEWEST_HELD_OUT}"
        self.not_applicable = "" if self._val else few
        """Why there is no r_v; empty where there is."""

    def rule(self, wanted: Rule | None) -> Rule | None:
        """Return the rule, or None where there are too few held-out scans for its signal."""
        return None if wanted and wanted.signal == "r_v" and self.not_applicable else wanted

    def signals(self, task: Probed) -> dict[str, float]:
        """Return ``r_t`` and, if it applies, ``r_v``, NaN where that says nothing. Every rank calls."""
        train = self._logits(task, self._train)
        signals = {"r_t": sign_of_real(train)}
        if self._val:
            fake = self._logits(task, self._train, generated=True)
            signals["r_v"] = held_out_gap(train, self._logits(task, self._val), fake)
        return signals

    def _logits(self, task: Probed, part: "_Part", generated: bool = False) -> NDArray[np.float32]:
        """Return all ranks' logits, image i in row i."""
        mine = task.probe(part.samples, part.positions if generated else None)
        return self._ranks.gather_rows(mine[:, None], part.total)[:, 0]


class _Part:
    """Scans drawn from a split at random, the same on every rank, and which of them are this rank's."""

    def __init__(self, split: Split, ranks: Ranks, digest: str, name: str) -> None:
        self.total = min(IMAGES, len(split))
        self.positions = ranks.positions(0, self.total)
        self._split, self._keys = split, (digest, "probe", name)

    @functools.cached_property
    def samples(self) -> Samples:
        """This rank's scans; read when first needed, so that a resumed run is soon at its steps."""
        chosen = np.sort(seeds.permutation(len(self._split), *self._keys)[: self.total])
        return self._split.take(chosen[self.positions])
