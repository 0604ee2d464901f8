"""Generation in bulk: a recipe, its parts, and what is done of them; parts are made in any order, by anybody.

    OUT/generating/recipe.json          what is made; there while it isn't all there
    OUT/generating/parts/START.json     a part that is whole: written after its files

Each file is a function of (recipe, its place), and is moved to its name when it is whole. So a part that was cut off is
made again, the same, and none twice. While one chunk is encoded and written, the generator makes the next.
"""

import concurrent.futures
import datetime
import hashlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from medgan_ray.config import Section, json_object
from medgan_ray.dataset.manifest import (
    POINTER,
    LabelSet,
    Manifest,
    ShardEntry,
    SplitEntry,
    Synthetic,
    canonical,
    read_manifest,
    write_manifest,
)
from medgan_ray.dataset.shards import SHARD_BYTES, ShardWriter, shard_key
from medgan_ray.dicom.provenance import SeriesIds
from medgan_ray.errors import InputError, UsageError
from medgan_ray.inference.encode import SUFFIXES, Format, encode
from medgan_ray.inference.model import BATCH, Model
from medgan_ray.store import Store

PART, CHUNK = 1024, 256
"""Images of a part, and those that are made, encoded and written at a time (one npz)."""
MOST_OF_SHARD = 8192
FOLDER = "generating"
_RECIPE = f"{FOLDER}/recipe.json"
SPLIT = "train"
"""Generated scans are never held out: what is measured on them would say nothing."""

Form = Literal["png", "npz", "dicom", "dataset"]
FORMS: tuple[Form, ...] = ("dataset", "dicom", "npz", "png")
Tell = Callable[[int], None]


class Recipe(Section):
    """What is made. Two that differ can't share a folder."""

    weights: str
    n: int
    label: str | None
    seed: int
    form: Form
    truncation: float | None
    part: int
    """Images of a part; a shard holds one."""
    study: str
    series: str
    begun: str
    """UIDs and time of a DICOM series, which outlive an interruption."""
    classes: tuple[str, ...] = ()
    """Classes made in turn; empty: as ``label`` says."""

    def parts(self) -> Iterator["Part"]:
        """Yield the parts in order."""
        for start in range(0, self.n, self.part):
            yield Part(start, min(self.part, self.n - start))


class Part(NamedTuple):
    """The images from ``start`` on."""

    start: int
    images: int


class Made(Section):
    """A part that is whole: the SHA-256 of its files' bytes in order, and for a dataset its shard."""

    sha256: str
    shard: ShardEntry | None = None


class Make(Protocol):
    """Makes parts and says after each how many images are done; ``make_parts`` does it in this process."""

    def __call__(self, model: Model, store: Store, recipe: Recipe, todo: list[Part], tell: Tell) -> dict[int, Made]:
        """Return what was made, by where each part starts."""


def plan(
    model: Model,
    n: int,
    label: str | None,
    seed: int,
    form: str,
    truncation: float | None,
    classes: tuple[str, ...] = (),
) -> Recipe:
    """Return the recipe of a call; what can't be made is refused.

    ``classes`` are made in turn where no label is asked for.

    Raises:
        UsageError: for an unknown format or label, n < 1, a negative seed, or a truncation that the model has not.
    """
    kind = next((each for each in FORMS if each == form), None)
    if kind is None:
        raise UsageError(f"format {form!r}", "", f"known: {', '.join(FORMS)}")
    model.in_turn(classes).check(n, label, seed, truncation)
    part = PART
    if form == "dataset":
        each = 2 * model.card.channels * model.size[0] * model.size[1]
        part = max(BATCH, min(MOST_OF_SHARD, SHARD_BYTES // each) // BATCH * BATCH)
    series = SeriesIds.fresh()
    return Recipe(
        weights=model.card.weights,
        n=n,
        label=label,
        seed=seed,
        form=kind,
        truncation=truncation,
        part=part,
        study=series.study,
        series=series.series,
        begun=series.begun.isoformat(),
        classes=classes,
    )


def begin(model: Model, store: Store, recipe: Recipe) -> tuple[Recipe, dict[int, Made]]:
    """Begin, or go on with what was begun: return the recipe that counts, and the parts that are whole.

    Raises:
        UsageError: if something else was begun there, or another dataset is there.
    """
    if recipe.form == "dataset" and store.exists(POINTER):
        manifest, _ = read_manifest(store)
        if manifest.recipe != _told(model, recipe):
            advice = "generated scans never join others; give another OUT"
            raise UsageError("another dataset is there", store.uri, advice)
        starts = (part.start for part in recipe.parts())
        return recipe, {
            start: Made(sha256=shard.sha256, shard=shard) for start, shard in zip(starts, manifest.shards, strict=True)
        }
    data, _ = store.read_version(_RECIPE)
    if data is None:
        _remove(store)  # what is left of one that has ended
        store.create(_RECIPE, canonical(recipe.model_dump(mode="json")))
        return recipe, {}
    begun = Recipe.parse(json_object(data, f"{store.uri}/{_RECIPE}"), _RECIPE)
    fresh = {"study", "series", "begun"}
    if begun.model_dump(exclude=fresh) != recipe.model_dump(exclude=fresh):
        raise UsageError("another generation was begun there", store.uri, "give its arguments again, or another OUT")
    done = {}
    for entry in store.list(f"{FOLDER}/parts"):
        start = int(entry.key.rpartition("/")[2].removesuffix(".json"))
        done[start] = Made.parse(json_object(store.read(entry.key), entry.key), entry.key)
    return begun, done


def finish(store: Store) -> None:
    """Forget what was done: all is there."""
    store.delete(_RECIPE)  # first: parts without a recipe mean nothing
    _remove(store)


def _remove(store: Store) -> None:
    for entry in store.list(FOLDER):
        store.delete(entry.key)
    if store.is_local:  # and half-written files
        shutil.rmtree(store.path(FOLDER), ignore_errors=True)


def make_parts(model: Model, store: Store, recipe: Recipe, todo: list[Part], tell: Tell) -> dict[int, Made]:
    """Make parts one after another in this process; each is told of once it is whole."""
    return {part.start: make(model, store, recipe, part, tell) for part in todo}


def make(model: Model, store: Store, recipe: Recipe, part: Part, tell: Tell = lambda images: None) -> Made:
    """Make one part, and note it once it is whole; ``tell`` takes how many images came with each chunk.

    Raises:
        InputError: if the model is another one by now.
    """
    if model.card.weights != recipe.weights:
        raise InputError("the model has changed meanwhile", model.uri, "name a version, or give another OUT")
    model = model.in_turn(recipe.classes)
    sink = _Shard(model, store, recipe) if recipe.form == "dataset" else _Files(model, store, recipe, recipe.form)
    with concurrent.futures.ThreadPoolExecutor(1, "medgan-write") as writer:
        before: concurrent.futures.Future[None] | None = None
        for start in range(part.start, part.start + part.images, CHUNK):
            count = min(CHUNK, part.start + part.images - start)
            images = model.sample(count, recipe.label, recipe.seed, start, recipe.truncation)
            if before is not None:
                before.result()  # at most one chunk waits
            before = writer.submit(sink.take, start, images)
            tell(count)
        if before is not None:
            before.result()
    made = sink.close()
    store.replace(f"{FOLDER}/parts/{part.start:09d}.json", canonical(made.model_dump(mode="json")))
    return made


class _Files:
    """Writes images as files."""

    def __init__(self, model: Model, store: Store, recipe: Recipe, form: Format) -> None:
        self._model, self._store, self._recipe, self._form = model, store, recipe, form
        self._series = SeriesIds(
            recipe.study, recipe.series, datetime.datetime.fromisoformat(recipe.begun), repeated=True
        )
        self._digest = hashlib.sha256()

    def take(self, start: int, images: NDArray[np.uint16]) -> None:
        asked: dict[str, Any] = {name: getattr(self._recipe, name) for name in ("seed", "label", "truncation")}
        files = encode(self._model, images, self._form, start=start, series=self._series, **asked)
        self._store.replace_all(files, through=FOLDER)
        for _, data in files:
            self._digest.update(data)

    def close(self) -> Made:
        return Made(sha256=self._digest.hexdigest())


class _Shard:
    """Writes images as one shard."""

    def __init__(self, model: Model, store: Store, recipe: Recipe) -> None:
        self._model, self._recipe = model, recipe
        digest = hashlib.sha256(canonical(_told(model, recipe))).hexdigest()
        self._writer = ShardWriter(store, SPLIT, digest, shard_bytes=2**62)

    def take(self, start: int, images: NDArray[np.uint16]) -> None:
        self._writer.add(self._model.as_samples(images, self._recipe.label, self._recipe.seed, start))

    def close(self) -> Made:
        (shard,) = self._writer.close()
        return Made(sha256=shard.sha256, shard=shard)


def files_of(recipe: Recipe, done: dict[int, Made]) -> tuple[str, ...]:
    """Return the keys of what was made, in the order of the images."""
    if recipe.form == "dataset":
        return tuple(shard_key(each.shard.sha256) for _, each in sorted(done.items()) if each.shard)
    step = CHUNK if recipe.form == "npz" else 1
    return tuple(f"{index:06d}{SUFFIXES[recipe.form]}" for index in range(0, recipe.n, step))


def digest_of(done: dict[int, Made]) -> str:
    """Return the SHA-256 of a part's bytes; of several parts, that over the SHA-256 (hex) of each, in order."""
    digests = [made.sha256 for _, made in sorted(done.items())]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def write_dataset(model: Model, store: Store, recipe: Recipe, done: dict[int, Made]) -> str:
    """Write the manifest of generated scans, marked as such; return its SHA-256."""
    card, told = model.card, _told(model, recipe)
    shards = tuple(each.shard for _, each in sorted(done.items()) if each.shard)
    content = hashlib.sha256(canonical({"recipe": told, "shards": [shard.sha256 for shard in shards]}))
    manifest = Manifest(
        modality=card.modality,
        size=card.size,
        channels=card.channels,
        intensity=card.intensity,
        labels=tuple(LabelSet(name=each.name, classes=each.classes) for each in card.labels),
        splits={SPLIT: SplitEntry(samples=recipe.n, subjects=recipe.n)},
        shards=shards,
        recipe=told,
        spacing=card.spacing,
        synthetic=_origin(model, recipe),
        content_digest=content.hexdigest(),
    )
    return write_manifest(store, manifest)


def _origin(model: Model, recipe: Recipe) -> Synthetic:
    release = model.card.release
    return Synthetic(
        model=model.name,
        version=release.version if release else None,
        verdict=release.verdict if release else None,
        forced=release.forced if release else None,
        weights=recipe.weights,
        label=recipe.label,
        classes=recipe.classes,
        trained_on=model.card.content_digest,
        seed=recipe.seed,
        truncation=recipe.truncation,
    )


def _told(model: Model, recipe: Recipe) -> dict[str, Any]:
    """Return the recipe of a dataset: what its images are a function of."""
    asked = recipe.model_dump(mode="json", include={"weights", "n", "label", "seed", "truncation", "part"})
    turn = {"classes": list(recipe.classes)} if recipe.classes else {}
    return {"synthetic": {**asked, **turn}, "size": list(model.size)}
