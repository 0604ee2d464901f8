"""Random numbers as pure functions of (what, seed, position): nothing depends on who draws them.

Counter-based draws (Philox; Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) keyed by a hash.
Values of a position are rows of a block that covers ``BLOCK`` positions, so a batch costs one or two draws, and the
same position has the same values in a batch of any size on any rank.
"""

import functools
import hashlib
from typing import Literal

import numpy as np
from numpy.typing import NDArray

BLOCK = 256


def key(*parts: str | int) -> int:
    """Return a 128-bit key for the given words and numbers (BLAKE2b of their unambiguous spelling)."""
    text = "\0".join(f"{type(part).__name__}:{part}" for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=16).digest(), "little")


def generator(*parts: str | int) -> np.random.Generator:
    """Return a NumPy generator whose stream depends on ``parts`` alone."""
    return np.random.Generator(np.random.Philox(key=key(*parts)))


def permutation(n: int, *parts: str | int) -> NDArray[np.int64]:
    """Return a permutation of ``range(n)`` that depends on ``parts`` alone."""
    return generator(*parts).permutation(n)


def normal(positions: NDArray[np.int64], width: int, *parts: str | int) -> NDArray[np.float32]:
    """Return standard normal values [len(positions), width], row i a function of (parts, positions[i])."""
    return _rows(positions, width, "normal", parts)


def normal_images(positions: NDArray[np.int64], shape: tuple[int, ...], *parts: str | int) -> NDArray[np.float32]:
    """Return standard normal values [len(positions), *shape], row i a function of (parts, positions[i]).

    Each row has a stream of its own: a block for many positions, as ``normal`` keeps them, would take gigabytes.
    """
    rows = np.empty((len(positions), *shape), np.float32)
    for row, position in zip(rows, positions.tolist(), strict=True):
        generator(*parts, position).standard_normal(dtype=np.float32, out=row)
    return rows


def uniform(positions: NDArray[np.int64], width: int, *parts: str | int) -> NDArray[np.float32]:
    """Return values in [0, 1), [len(positions), width], row i a function of (parts, positions[i])."""
    return _rows(positions, width, "uniform", parts)


def number(positions: NDArray[np.int64], below: int | NDArray[np.int64], *parts: str | int) -> NDArray[np.int64]:
    """Return whole numbers from 0 to ``below`` - 1, int64 [len(positions)], each a function of (parts, position).

    Twice 24 bits: one draw in float32 tells no more than 16 million apart.
    """
    drawn = uniform(positions, 2, *parts).astype(np.float64)
    found: NDArray[np.int64] = ((drawn[:, 0] + drawn[:, 1] / 2**24) * below).astype(np.int64)
    return np.clip(found, 0, np.maximum(np.asarray(below) - 1, 0))


def _rows(
    positions: NDArray[np.int64], width: int, law: Literal["normal", "uniform"], parts: tuple[str | int, ...]
) -> NDArray[np.float32]:
    rows = np.empty((len(positions), width), np.float32)
    blocks = positions // BLOCK
    for block in np.unique(blocks):
        mine = blocks == block
        rows[mine] = _block(int(block), width, law, parts)[positions[mine] - block * BLOCK]
    return rows


@functools.lru_cache(maxsize=16)
def _block(
    block: int, width: int, law: Literal["normal", "uniform"], parts: tuple[str | int, ...]
) -> NDArray[np.float32]:
    draw = generator(*parts, law, width, block)
    shape = (BLOCK, width)
    values = draw.standard_normal(shape, np.float32) if law == "normal" else draw.random(shape, np.float32)
    values.setflags(write=False)
    return values
