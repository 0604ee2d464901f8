"""What a dataset holds, counted while its samples pass by: classes, attributes, intensities, a few pictures.

Memory holds counts, the numbers of known subjects, and a bounded number of thumbnails.
"""

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.cache import cache_folder, fetch_shard
from medgan_ray.dataset.manifest import Counts, Group, Manifest
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.ingest import album, deidentify
from medgan_ray.ingest.album import Album

BINS = 64
ACCEPTED = 8
"""Pictures of each class and split, at most."""
CLASSES = 12
"""Classes of which there are pictures, at most: the first ones, and scans without a class."""
CHUNK = 256
_CLASS = "class"


class Survey:
    """Takes every sample of a dataset once, in any order."""

    def __init__(self) -> None:
        self._samples: dict[tuple[str, int], Counter[str]] = {}
        self._subjects: dict[tuple[str, int], set[int]] = {}
        self._bins: dict[str, NDArray[np.int64]] = {}
        self._ends: Counter[tuple[str, bool]] = Counter()
        self._without_subject = 0
        self.pictures: Album[tuple[str, int], NDArray[np.float64]] = Album(ACCEPTED)
        """By split and class (-1: none): thumbnails of the first channel, as stored values."""

    def add(self, samples: Samples, split: str) -> None:
        """Count samples of one split."""
        self._without_subject += int((samples.subject < 0).sum())
        for column, codes in _columns(samples):
            for code in np.unique(codes).tolist():
                chosen = codes == code
                self._samples.setdefault((column, code), Counter())[split] += int(chosen.sum())
                known = samples.subject[chosen & (samples.subject >= 0)]
                self._subjects.setdefault((column, code), set()).update(known.tolist())
        self._add_pixels(samples.image, split)
        labels = samples.label[:, 0] if samples.label.shape[1] else np.full(len(samples), -1)
        for image, code in zip(samples.image[:, 0], labels.tolist(), strict=True):
            key, kind = album.key_of(image), (split, code)
            if code < CLASSES and self.pictures.wants(kind, key):
                self.pictures.add(kind, key, album.thumbnail(image))

    def counts(self, classes: Sequence[str], attributes: Sequence[str]) -> Counts:
        """Return what was counted, in words; ``classes`` and ``attributes`` are the manifest's."""
        names = dict(enumerate(classes)) | {-1: ""}
        return Counts(
            classes={names[code]: self._group(_CLASS, code) for code in self._codes(_CLASS)} if classes else {},
            attributes={
                name: {deidentify.word(name, code): self._group(name, code) for code in self._codes(name)}
                for name in attributes
            },
            histogram={split: tuple(bins.tolist()) for split, bins in self._bins.items()},
            ends={split: (self._ends[split, False], self._ends[split, True]) for split in self._bins},
            without_subject=self._without_subject,
        )

    def _add_pixels(self, images: NDArray[np.uint16], split: str) -> None:
        bins = np.bincount((images >> 10).reshape(-1), minlength=BINS)
        self._bins[split] = self._bins.get(split, np.zeros(BINS, np.int64)) + bins
        self._ends[split, False] += int(np.count_nonzero(images == 0))
        self._ends[split, True] += int(np.count_nonzero(images == 65535))

    def _codes(self, column: str) -> list[int]:
        return sorted(code for name, code in self._samples if name == column)

    def _group(self, column: str, code: int) -> Group:
        return Group(samples=dict(self._samples[column, code]), subjects=len(self._subjects[column, code]))


def survey(dataset: Dataset) -> Survey:
    """Return the survey of a dataset that is there, by reading every sample once.

    Raises:
        InputError: if a shard is missing or altered.
    """
    found, folder = Survey(), cache_folder(dataset.settings)
    for entry in dataset.manifest.shards:
        samples = open_shard(fetch_shard(dataset.store, entry, folder))
        for start in range(0, len(samples), CHUNK):
            found.add(samples.rows(slice(start, start + CHUNK)), entry.split)
    return found


def counts(dataset: Dataset) -> Counts:
    """Return what the manifest says of its samples, or count them where it says nothing."""
    manifest: Manifest = dataset.manifest
    return manifest.counts or survey(dataset).counts(manifest.classes, manifest.attributes)


def _columns(samples: Samples) -> Iterator[tuple[str, NDArray[np.signedinteger]]]:
    if samples.label.shape[1]:
        yield _CLASS, samples.label[:, 0]
    for place, name in zip(range(samples.attribute.shape[1]), deidentify.ATTRIBUTES, strict=False):
        yield name, samples.attribute[:, place]
