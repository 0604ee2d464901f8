"""Which images are worth having: contrast, size, exact duplicates, contradicting labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.ingest.reasons import Reason


def frame_reason(
    values: NDArray[np.float32], part: tuple[slice, slice], size: tuple[int, int], max_aspect: float
) -> Reason | None:
    """Return why a frame as it was read [H, W] is not taken, or None.

    Args:
        values: the frame.
        part: what of it has the shape of the dataset's images.
        size: of the dataset's images.
        max_aspect: how many times longer than that part a frame may be, either way.
    """
    if values.min() == values.max():
        return Reason("constant")
    sides = [axis.stop - axis.start for axis in part]
    if any(whole > max_aspect * side + 1 for whole, side in zip(values.shape, sides, strict=True)):
        return Reason("odd_aspect")
    if any(2 * side < wanted for side, wanted in zip(sides, size, strict=True)):
        return Reason("too_small")
    return None


def contrast(images: NDArray[np.uint16]) -> NDArray[np.float64]:
    """Return each image's standard deviation as a share of the intensity map's range, for [n, H, W]."""
    return np.asarray(images.reshape(len(images), -1).std(axis=1, dtype=np.float64) / 65535)


def duplicates(digests: Sequence[bytes], labels: Sequence[str], ranks: Sequence[tuple[Any, ...]]) -> dict[int, Reason]:
    """Return the positions of images that go because others have the same pixels.

    One of a set of equal images stays: which one depends on label and rank, not on the order of files. If they stand
    under different labels, none does.
    """
    same: dict[bytes, list[int]] = {}
    for position, digest in enumerate(digests):
        same.setdefault(digest, []).append(position)
    gone: dict[int, Reason] = {}
    for positions in same.values():
        named = {labels[position] for position in positions} - {""}
        if len(named) > 1:
            gone |= dict.fromkeys(positions, Reason("label_conflict"))
            continue
        kept = min(positions, key=lambda position: (not labels[position], ranks[position]))
        gone |= {position: Reason("duplicate") for position in positions if position != kept}
    return gone
