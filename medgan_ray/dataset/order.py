"""Which sample is seen at position p: a pure function of (content digest, seed, p), whoever asks.

Epoch e's order is a permutation of the shards, cut into spans of ``span_shards``; samples are permuted within a span.
So an epoch sees each sample once (or as often as its class asks for), and only one span's shards are touched at a time.
Positions that fall to a shard left out are refilled from the same span's others, each by a draw of its own.
"""

import functools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds


class Order:
    """The endless order over a split's samples.

    Args:
        shard_samples: samples in each shard, in the order of the manifest.
        keys: what the order depends on: content digest, seed and the name of the stream.
        span_shards: shards shuffled together.
        times: how often an epoch sees each sample, int [samples]; None: once.
        left_out: shards whose samples are never seen; not all of them.
        entered: is told the shards of a span when its positions are first asked for, and those of the next one.
        instead: returns what stands in for sample indices at their positions; both int64 [n].
    """

    def __init__(
        self,
        shard_samples: list[int],
        keys: tuple[str | int, ...],
        span_shards: int,
        times: NDArray[np.int64] | None = None,
        left_out: frozenset[int] = frozenset(),
        entered: Callable[[frozenset[int], frozenset[int]], None] | None = None,
        instead: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]] | None = None,
    ) -> None:
        self._starts = np.concatenate([[0], np.cumsum(shard_samples, dtype=np.int64)])
        self._times = times
        seen = self._starts if times is None else np.concatenate([[0], np.cumsum(times)])[self._starts]
        self._sizes = np.diff(seen)
        """Positions of an epoch that each shard takes."""
        self.length = int(self._sizes.sum())
        """Positions of an epoch."""
        self._keys, self._span_shards = keys, span_shards
        self._left_out, self._entered, self._now = left_out, entered, (-1, -1)
        self._instead = instead
        self._span = functools.lru_cache(maxsize=4)(self._permuted_span)
        self._spans = functools.lru_cache(maxsize=2)(self._spans_of)

    def indices(self, start: int, count: int) -> NDArray[np.int64]:
        """Return the sample indices at positions ``start`` to ``start + count``, int64 [count]."""
        parts: list[NDArray[np.int64]] = []
        position = start
        while position < start + count:
            epoch, within = divmod(position, self.length)
            ends = self._spans(epoch)[1]
            span = int(np.searchsorted(ends, within, side="right"))
            self._enter(epoch, span)
            offset = within - (int(ends[span - 1]) if span else 0)
            taken = self._span(epoch, span)[offset : offset + start + count - position]
            parts.append(taken)
            position += len(taken)
        found = np.concatenate(parts) if parts else np.empty(0, np.int64)
        return self._instead(found, np.arange(start, start + count)) if self._instead else found

    def _enter(self, epoch: int, span: int) -> None:
        if self._entered is None or self._now == (epoch, span):
            return
        self._now = (epoch, span)
        spans = self._spans(epoch)[0]
        after = spans[span + 1] if span + 1 < len(spans) else self._spans(epoch + 1)[0][0]
        now, ahead = (frozenset(shards.tolist()) - self._left_out for shards in (spans[span], after))
        self._entered(now, ahead)

    def _spans_of(self, epoch: int) -> tuple[list[NDArray[np.int64]], NDArray[np.int64]]:
        shards = seeds.permutation(len(self._sizes), *self._keys, "shards", epoch)
        spans = [shards[first : first + self._span_shards] for first in range(0, len(shards), self._span_shards)]
        return spans, np.cumsum([self._sizes[span].sum() for span in spans])

    def _permuted_span(self, epoch: int, span: int) -> NDArray[np.int64]:
        shards = self._spans(epoch)[0][span]
        members = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in shards])
        if self._times is not None:
            members = np.repeat(members, self._times[members])
        members = members[seeds.permutation(len(members), *self._keys, "samples", epoch, span)]
        if self._left_out.isdisjoint(shards.tolist()):
            return members
        return self._refilled(members, epoch, span)

    def _refilled(self, members: NDArray[np.int64], epoch: int, span: int) -> NDArray[np.int64]:
        """Return a span's members, those of shards left out replaced by draws from its others, or from all others."""
        left_out = list(self._left_out)
        bad = np.isin(np.searchsorted(self._starts, members, side="right") - 1, left_out)
        good = members[~bad]
        if not len(good):
            kept = np.setdiff1d(np.arange(len(self._sizes)), left_out)
            good = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in kept])
        drawn = seeds.generator(*self._keys, "refill", epoch, span).integers(0, len(good), len(members))
        # One draw a position: which others are refilled doesn't change it.
        return np.where(bad, good[drawn], members)
