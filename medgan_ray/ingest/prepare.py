"""Scans prepared for a model as its training scans were: the same decoding, values, geometry and cleaning, no dataset.

There are no splits, shards, labels, manifest or search for duplicates: every slice is wanted. Series are told by a key
that is drawn for the call and forgotten. Decoded images wait in files without a name, so that memory holds a chunk of
them, and nothing is left of a call that was ended.
"""

import contextlib
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan_ray.config import differences
from medgan_ray.dataset.manifest import Intensity
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import Outcome, Step
from medgan_ray.errors import InputError, UsageError
from medgan_ray.ingest import parts, pipeline, shrink, sources
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Left, Recipe, Taken, take
from medgan_ray.ingest.parts import Images, Refused
from medgan_ray.ingest.pipeline import Decode, Progress
from medgan_ray.ingest.plan import RECIPE_VERSION
from medgan_ray.ingest.records import Record, Rejections
from medgan_ray.ingest.second import Decoded, Scale, Second
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.sources import Found
from medgan_ray.ingest.spool import Nameless

CHUNK = 64
"""Samples that are handed over at a time."""
PART_FILES, MOST_PARTS = 64, 200
"""Files of a part, which one machine decodes at a stretch, as long as there are not too many parts."""
WHERE_IT_RUNS = frozenset({"workers", "file_limit_s", "memory_mb"})
"""Options of ``ingest`` that are the caller's own; the others are the model's."""
OF_DATASETS = frozenset({"labels", "groups", "slices", "near_duplicates", "allow_leakage"})
"""Options of ``ingest`` that matter to datasets alone."""


@dataclass(frozen=True)
class Target:
    """What a model takes: the recipe of its training scans, their modality and unit, and their intensity map."""

    recipe: Recipe
    scale: Scale
    intensity: Intensity

    @property
    def options(self) -> Options:
        """What a decoding process is to take."""
        return parts.options(self.recipe.settings)

    @property
    def step(self) -> Step:
        """What a decoding process makes of it."""
        return shrink.step(self.recipe.size, self.recipe.settings)


class Scan(NamedTuple):
    """A sample that was prepared.

    Attributes:
        name: of its file, for the terminal only.
        place: in its series, sorted along its normal, from 0; 0 for what has no series.
        record: what is known of it: frame, spacing in millimeters, position and orientation of a slice.
    """

    name: str
    place: int
    record: Record

    @property
    def rank(self) -> tuple[int, int]:
        """Orders scans as their files were found."""
        return self.record.item, self.record.frame


class Refusal(NamedTuple):
    """What was not taken: its file's name for the terminal, its frame (None: the whole file), and the reason's code."""

    name: str
    frame: int | None
    reason: str


Chunk = tuple[list[Scan], NDArray[np.uint16]]
"""Samples with their images, uint16 [n, 1, H, W] over the model's intensity map."""


def target(
    recipe: Mapping[str, Any],
    modality: str,
    intensity: Intensity,
    asked: IngestSettings | None = None,
    where: str = "",
) -> Target:
    """Return what a model takes.

    Args:
        recipe: of its dataset's manifest.
        modality: of its training scans.
        intensity: the map of its samples.
        asked: the caller's options: those that say where it runs count, others may not differ from the model's.
        where: the model, for errors.

    Raises:
        UsageError: if the recipe isn't known, or the caller asks for other values than the model's.
    """
    if "ingest" not in recipe or "size" not in recipe:
        what = "the model does not say how its training scans were prepared"
        raise UsageError(what, where, "train it on a dataset that 'medgan-ray ingest' made")
    if recipe.get("version") != RECIPE_VERSION:
        what = (
            f"its training scans were prepared by version {recipe.get('version')} of ingest, this is {RECIPE_VERSION}"
        )
        raise UsageError(what, where, "ingest them again, and train again")
    model = IngestSettings.parse(recipe["ingest"], where=where)
    asked = asked or IngestSettings()
    mine = {name: getattr(asked, name) for name in asked.model_fields_set}
    differ = differences(model.model_dump(include=set(mine)), mine, WHERE_IT_RUNS | OF_DATASETS)
    if differ:
        what = f"another ingest.{sorted(differ)[0]} than that of the model's training scans"
        raise UsageError(what, where, "leave it out: scans are prepared as those were")
    own = {name: getattr(asked, name) for name in WHERE_IT_RUNS}
    settings = model.model_copy(update={**own, "labels": "none", "groups": "auto"})
    height, width = recipe["size"]
    return Target(Recipe((height, width), settings), (modality, intensity.unit), intensity)


class Prepared:
    """Scans of one source, prepared chunk by chunk.

    Attributes:
        refusals: what was not taken; whole once ``chunks`` has ended.
        total: images that were decoded; some may still be refused.
    """

    def __init__(self, images: Decoded, target: Target, names: Sequence[str]) -> None:
        self._rejections = _Noted(names)
        self.refusals = self._rejections.all
        self._target, self._records, self._names = target, images.records, names
        self._second = Second(images, target.recipe, self._rejections, every=True)
        self.total = len(images.records)

    def chunks(self, most: int = CHUNK) -> Iterator[Chunk]:
        """Yield all samples, at most so many at a time: those of a series together, files in no particular order."""
        kept = self._second.in_order(self._second.of_scale(self._target.scale))
        scans: list[Scan] = []
        waiting: list[NDArray[np.uint16]] = []
        for positions, images in self._second.mapped(kept, self._target.intensity):
            for position, image in zip(positions, images, strict=True):
                scans.append(self._scan(position))
                waiting.append(image)
                if len(scans) == most:
                    yield scans, np.stack(waiting)[:, None]
                    scans, waiting = [], []
        if scans:
            yield scans, np.stack(waiting)[:, None]

    @property
    def counts(self) -> dict[str, int]:
        """How much was not taken, by reason."""
        return dict(sorted(self._rejections.counts.items()))

    def nothing(self, source: list[str]) -> InputError:
        """Return the error that nothing could be taken."""
        return self._rejections.nothing(source)

    def _scan(self, position: int) -> Scan:
        record = self._second.record(position)
        return Scan(self._names[record.item], self._second.places.get(position, 0), record)


@contextlib.contextmanager
def prepare(
    source: list[str], target: Target, progress: Progress | None = None, decode: Decode = parts.decode
) -> Iterator[Prepared]:
    """Decode the scans of a source; what is yielded is of use while the block runs.

    Args:
        source: folders, files, archives, s3:// prefixes or DICOMweb services.
        target: what the model takes.
        progress: called with the number of files done and of all.
        decode: what decodes the files, part by part, into the store that it is given.

    Raises:
        InputError: if a source is missing or empty.
        StoreError: if a store fails.
    """
    settings = target.recipe.settings
    found = sources.find(source, settings.labels, groups=settings.groups)
    key = _key()
    planned = parts.split(found, target.recipe, key, max(PART_FILES, -(-len(found) // MOST_PARTS)))
    with contextlib.closing(Nameless()) as beside:
        pipeline.decode_missing(beside, planned, target.recipe, key, progress, decode)
        images = Images(beside, planned, target.recipe.grid, lambda subject: False)
        yield Prepared(images, target, [item.source.name for item in found])


def prepare_one(outcome: Outcome, target: Target, name: str) -> Prepared:
    """Return the frames of one scan that a decoding process made with the target's ``options`` and ``step``."""
    frames = take(0, Found(outcome.source), outcome, target.recipe, _key())
    return Prepared(_Held(frames, target.recipe.grid), target, [name])


def _key() -> SubjectKey:
    """Return a key that nobody keeps."""
    return SubjectKey(secrets.token_bytes(32))


class _Held:
    """Decoded frames in memory."""

    def __init__(self, frames: Sequence[Taken | Left], size: tuple[int, int]) -> None:
        taken = [each for each in frames if isinstance(each, Taken)]
        self._images, self._size = [each.image for each in taken], size
        self.records = [each.record for each in taken]
        self.refused = [Refused(each.item, str(each.reason)) for each in frames if isinstance(each, Left)]

    def read(self, positions: Sequence[int]) -> NDArray[np.float32]:
        """Return images [n, *size] at the given positions."""
        images = [self._images[position] for position in positions]
        return np.stack(images) if images else np.empty((0, *self._size), np.float32)


class _Noted(Rejections):
    """All that was not taken, one by one."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(list(names))
        self.all: list[Refusal] = []

    def add(self, reason: str, what: Record | int) -> None:
        """Note one more."""
        super().add(reason, what)
        item, frame = (what, None) if isinstance(what, int) else (what.item, what.frame)
        self.all.append(Refusal(self.name(item), frame, str(reason)))
