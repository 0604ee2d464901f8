"""A few small pictures of each kind, the same ones whatever the order of files or the number of processes.

They are pixels of real scans: they stand in ``private/`` only, and those with burned-in text are never made.
"""

import base64
import bisect
import hashlib
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgan_ray.ingest.geometry import resize

SIDE = 64
"""Pixels of a thumbnail's longer side, at most."""
REJECTED = 12
"""Pictures of each reason, at most."""
FLATNESS = 1e-6
"""Ranges below this share of the values are rounding."""
FLAT = 128
"""Grey of an image without any contrast, so that it is not taken for one that was blacked out."""
_HIDDEN = "burned_in"

Picture = NDArray[np.uint8]
Kind = TypeVar("Kind", bound=Hashable)
Value = TypeVar("Value")


class Album(Generic[Kind, Value]):
    """Keeps, of each kind, the ``most`` values with the smallest keys; equal keys count once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: dict[Kind, list[tuple[str, Value]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._kept.values()))

    def wants(self, kind: Kind, key: str) -> bool:
        """Say whether a value with this key would be kept."""
        there = [known for known, _ in self._kept.get(kind, [])]
        return key not in there and (len(there) < self._most or key < there[-1])

    def add(self, kind: Kind, key: str, value: Value) -> None:
        """Keep a value, if its key is small enough."""
        if self.wants(kind, key):
            kept = self._kept.setdefault(kind, [])
            bisect.insort(kept, (key, value), key=lambda item: item[0])
            del kept[self._most :]

    def items(self) -> Iterator[tuple[Kind, str, Value]]:
        """Yield kind, key and value of all that is kept, those of one kind by their keys."""
        for kind, kept in self._kept.items():
            for key, value in kept:
                yield kind, key, value

    def get(self, kind: Kind) -> list[Value]:
        """Return what is kept of a kind."""
        return [value for _, value in self._kept.get(kind, [])]


def pack(album: Album[str, tuple[Picture, str]]) -> dict[str, list[list[str]]]:
    """Return an album of pictures and whom they show as plain data: by kind, keys, pixels (base64) and subjects."""
    packed: dict[str, list[list[str]]] = {}
    for kind, key, (picture, subject) in album.items():
        packed.setdefault(kind, []).append([key, base64.b64encode(picture.tobytes()).decode("ascii"), subject])
    return packed


def unpack(
    packed: Mapping[str, Any], size: tuple[int, int], album: Album[str, Picture], gone: Callable[[str], bool]
) -> None:
    """Add to an album the pictures that ``pack`` gave, but for those of subjects that are ``gone``.

    Args:
        packed: what ``pack`` gave.
        size: of the dataset's images.
        album: takes the pictures.
        gone: says of a subject's keyed hash, or an empty text, whether nobody may see its pictures.
    """
    for kind, kept in packed.items():
        for key, text, subject in kept:
            if not gone(subject):
                album.add(kind, key, np.frombuffer(base64.b64decode(text), np.uint8).reshape(shape(size)))


def hidden(reason: str) -> bool:
    """Say whether what was refused for this reason is never shown: there may be a name in its pixels."""
    return reason.startswith(_HIDDEN)


def shape(size: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the thumbnails of a dataset whose images have ``size``."""
    share = min(1.0, SIDE / max(size))
    return max(1, round(size[0] * share)), max(1, round(size[1] * share))


def key_of(image: NDArray[Any]) -> str:
    """Return what stands for an image [H, W] when a few are chosen; it looks at every fourth pixel each way."""
    return hashlib.blake2b(np.ascontiguousarray(image[::4, ::4]).data, digest_size=8).hexdigest()


def thumbnail(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return an image [H, W] at the size of a thumbnail."""
    return resize(image.astype(np.float64), shape((image.shape[0], image.shape[1])))


def stretch(image: NDArray[Any]) -> Picture:
    """Return an image as 8 bits over its own range, from the 0.5th to the 99.5th percentile; flat ones are grey."""
    if not np.isfinite(image).all():  # from a decoding process, which is not trusted
        return np.full(image.shape, FLAT, np.uint8)
    for low, high in (np.percentile(image, (0.5, 99.5)), (image.min(), image.max())):
        if high - low > FLATNESS * max(abs(low), abs(high)):
            return np.asarray(((image - low) * (255 / (high - low))).clip(0, 255).round(), np.uint8)
    return np.full(image.shape, FLAT, np.uint8)


def refused(image: NDArray[Any], reason: str) -> Picture | None:
    """Return the thumbnail of an image [H, W] of the dataset's size that is not taken, or None if nobody may see it."""
    return None if hidden(reason) else stretch(thumbnail(image))
