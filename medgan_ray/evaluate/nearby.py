"""All searches of one privacy audit, in pixels or in features."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray import seeds
from medgan_ray.evaluate.sampled import Lineup, Population
from medgan_ray.metrics.neighbors import FREE, Chunks, Nearest, chunked

Images = NDArray[np.float32]
Features = NDArray[np.float32]
Groups = NDArray[np.int64]
Set = tuple[Images, Groups | None]
Search = Callable[[Any, Chunks, tuple[Groups, Groups] | None], Nearest]


@dataclasses.dataclass(frozen=True)
class Space:
    """Where distances are taken: images as they are, or what an extractor makes of them."""

    search: Search
    view: Callable[[Images], NDArray[np.float32]]

    def among(self, chunks: Chunks) -> Chunks:
        """Return the chunks of a set as this space sees them."""
        return lambda: (self.view(chunk) for chunk in chunks())

    def nearest(self, sets: Mapping[str, Set], among: Chunks, groups: Groups | None, seed: int) -> dict[str, Nearest]:
        """Return what is nearest to each query of several sets, which are searched for as one, shuffled.

        Args:
            sets: by name, queries in this space, and the groups in which they must not be found; None: anywhere.
            among: chunks in this space.
            groups: of what is searched; None where no query has any.
            seed: of the shuffle. Whatever goes wrong in a search befalls planted and other scans alike.
        """
        queries = np.concatenate([rows for rows, _ in sets.values()])
        ours = np.concatenate([np.full(len(rows), FREE) if own is None else own for rows, own in sets.values()])
        order = seeds.permutation(len(queries), "search", seed)
        found = self.search(queries[order], among, None if groups is None else (ours[order], groups))
        back = found[np.argsort(order)]
        ends = np.cumsum([len(rows) for rows, _ in sets.values()])
        return {name: back[end - len(sets[name][0]) : end] for name, end in zip(sets, ends.tolist(), strict=True)}


@dataclasses.dataclass(frozen=True)
class Found:
    """What lies nearest to what. Keys: generated, members, others; planted, planted_others: the canaries."""

    trained: dict[str, Nearest]
    """Among all training scans, of other patients for members."""
    held_out: dict[str, Nearest]
    """Among all held-out scans, of other patients for others; without members."""
    equal_members: dict[str, Nearest]
    """Among members as many as in ``equal_others``; generated, and as control the others before the cut."""
    equal_others: dict[str, Nearest]
    """Among the others from the cut on."""
    generated: dict[str, Nearest]
    """Among generated scans: members and others, and each generated scan among the rest."""


def search(space: Space, lineup: Lineup, trained: Population, held_out: Population, seed: int) -> Found:
    """Make all searches of an audit in one space."""
    members, others = lineup.members, lineup.others
    fake, mine, theirs = (space.view(images) for images in (lineup.generated, members.images, others.images))
    every: dict[str, Set] = {
        "generated": (fake, None),
        "planted": (space.view(members.plants), None),
        "planted_others": (space.view(others.plants), None),
        "others": (theirs, others.groups),
    }
    half: dict[str, Set] = {"generated": (fake, None), "others": (theirs[: lineup.cut], None)}
    equal = slice(lineup.cut, lineup.cut + lineup.equal)
    own = np.arange(len(fake))
    reals: dict[str, Set] = {"members": (mine, None), "others": (theirs, None), "generated": (fake, own)}
    return Found(
        trained=space.nearest(
            {**every, "members": (mine, members.groups)}, space.among(trained.images), lineup.trained, seed
        ),
        held_out=space.nearest(every, space.among(held_out.images), lineup.held_out, seed),
        equal_members=space.nearest(half, chunked(mine[: lineup.equal]), None, seed),
        equal_others=space.nearest(half, chunked(theirs[equal]), None, seed),
        generated=space.nearest(reals, chunked(fake), own, seed),
    )
