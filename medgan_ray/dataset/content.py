"""The content digest: names what a dataset holds (recipe, values, labels, splits) and nobody in it."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.manifest import Intensity, canonical


def image_digest(image: NDArray[np.uint16]) -> bytes:
    """Return the SHA-256 of an image's stored values, C order, little-endian."""
    return hashlib.sha256(np.ascontiguousarray(image, "<u2").data).digest()


class ContentDigest:
    """Collects samples in any order; the digest depends on what they are, not on when they came."""

    def __init__(self, recipe: Mapping[str, Any], modality: str, intensity: Intensity, classes: Sequence[str]) -> None:
        facts = {
            "recipe": recipe,
            "modality": modality,
            "intensity": intensity.model_dump(mode="json"),
            "classes": list(classes),
        }
        self._head = canonical(facts)
        self._samples: list[bytes] = []

    def add(self, images: NDArray[np.uint16], labels: Sequence[int], splits: Sequence[str]) -> None:
        """Take samples: images [n, C, H, W], the code of each label (-1 unknown), and each split."""
        self.add_digests([image_digest(image) for image in images], labels, splits)

    def add_digests(self, digests: Sequence[bytes], labels: Sequence[int], splits: Sequence[str]) -> None:
        """Take samples by the digests of their images."""
        for digest, label, split in zip(digests, labels, splits, strict=True):
            self._samples.append(digest + int(label).to_bytes(4, "little", signed=True) + split.encode() + b"\0")

    def hexdigest(self) -> str:
        """Return the digest as 64 hexadecimal digits."""
        total = hashlib.sha256(self._head)
        for sample in sorted(self._samples):
            total.update(sample)
        return total.hexdigest()
