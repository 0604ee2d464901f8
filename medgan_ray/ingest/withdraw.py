"""Takes subjects out of a dataset: shards that hold them are rewritten, a new manifest no longer names them.

DATASET/withdrawals/SHA256.json   which manifests held subjects that were withdrawn, and their marks

A mark is a keyed hash of the subject's keyed hash: it tells the next ingest into the dataset whom to leave out.

A withdrawn subject's place in the manifest's list stays, without the hash, so that other shards need no change.
"""

import functools
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from medgan_ray.config import json_object
from medgan_ray.dataset.cache import DataSettings, cache_folder, fetch_shard
from medgan_ray.dataset.content import ContentDigest
from medgan_ray.dataset.manifest import (
    Manifest,
    ShardEntry,
    SplitEntry,
    canonical,
    manifest_digest,
    read_manifest,
    write_manifest,
)
from medgan_ray.dataset.shards import Samples, ShardWriter, open_shard, shard_key
from medgan_ray.errors import InputError
from medgan_ray.ingest import pages
from medgan_ray.ingest.deidentify import WITHDRAWN, SubjectKey, check_key, identities, subject_key
from medgan_ray.ingest.survey import Survey
from medgan_ray.store import Store, open_store

MANIFESTS = "manifests"
WITHDRAWALS = "withdrawals"
CHUNK = 256
PRIVATE = "private"


@dataclass(frozen=True)
class WithdrawResult:
    """What was taken out. Counts only: who it was is never said."""

    dataset: str
    manifest: str
    """The dataset's newest manifest from now on."""
    subjects: int
    """Subjects that the newest manifest held, and no longer does."""
    samples: int
    """Samples removed."""
    unknown: int
    """Ids given that no manifest of this dataset knows."""
    shards_rewritten: int
    shards_deleted: int = 0
    manifests_deleted: int = 0
    warnings: list[str] = field(default_factory=list)


def withdraw(dataset: str, ids: Sequence[str], purge: bool = False) -> WithdrawResult:
    """Make a manifest without the subjects that ``ids`` name, and rewrite the shards that hold them.

    Args:
        dataset: a path or s3:// prefix.
        ids: patient ids as in the DICOM headers, groups as in labels.csv, or a study's or series' UID.
        purge: delete the manifests that know these subjects and the shards that only those name, this machine's cached
            copies, the report and thumbnails. Without it they stay readable.

    Raises:
        InputError: if none of the ids is known, or the dataset is missing or corrupt.
        UsageError: if the key is missing or not the one that the dataset was made with.
        StoreError: if a store fails, or another writer finished first; the same call then goes on.
    """
    store = open_store(dataset)
    manifest, sha256 = read_manifest(store)
    if not manifest.key_fingerprint:
        raise InputError("no patient of this dataset is known", dataset, "remove their scans and ingest anew")
    key = subject_key(make=False)
    check_key(key, manifest.key_fingerprint, dataset)
    given = [{key.hash(form) for form in identities(known)} for known in dict.fromkeys(ids)]
    hashes = set().union(*given)
    everything = manifests(store)
    doomed = {digest: old for digest, old in everything.items() if hashes & set(old.subjects)}
    known = {name for old in doomed.values() for name in old.subjects}
    unknown = sum(not forms & known for forms in given)
    gone = hashes & set(manifest.subjects)
    if not gone and not (purge and doomed):
        raise InputError(f"none of the {len(given)} ids is in this dataset", dataset, "give ids as the scans have them")
    # Before the pointer moves: an ingest that goes on from the new manifest must find it.
    _record(store, doomed, {key.mark(form) for forms in given if forms & known for form in forms})
    after, newest, rewritten = _take_out(store, manifest, sha256, gone) if gone else (manifest, sha256, 0)
    shards = _purge(store, doomed, {**everything, newest: after}) if purge else 0
    return WithdrawResult(
        dataset=dataset,
        manifest=newest,
        subjects=len(gone),
        samples=_samples(manifest) - _samples(after),
        unknown=unknown,
        shards_rewritten=rewritten,
        shards_deleted=shards,
        manifests_deleted=len(doomed) if purge else 0,
        warnings=[_warning(purge)],
    )


def manifests(store: Store) -> dict[str, Manifest]:
    """Return every manifest of a dataset by its digest."""
    keys = [entry.key for entry in store.list(MANIFESTS) if entry.key.endswith(".json")]
    digests = [key.rpartition("/")[2].removesuffix(".json") for key in keys]
    return {digest: read_manifest(store, digest)[0] for digest in digests}


def withdrawn(store: Store) -> set[str]:
    """Return the digests of manifests, also deleted ones, that held subjects withdrawn since."""
    newest = set(read_manifest(store)[0].subjects)
    # Not only by the records: a crash may have come before one was written.
    found = {digest for digest, old in manifests(store).items() if set(old.subjects) - newest}
    return found.union(*(record.get("manifests", ()) for record in _records(store)))


def _take_out(store: Store, manifest: Manifest, sha256: str, gone: set[str]) -> tuple[Manifest, str, int]:
    """Make the manifest without subjects the newest; return it, its digest, and how many shards were affected."""
    after, rewritten, survey = _without(store, manifest, gone)
    # First: no crash may leave pages that show the subjects.
    pages.write(store, after, manifest_digest(after), survey)
    return after, write_manifest(store, after, sha256), rewritten


def _without(store: Store, manifest: Manifest, gone: set[str]) -> tuple[Manifest, int, Survey]:
    """Return the manifest without subjects, how many shards were affected, what is left; new shards are written."""
    codes = np.flatnonzero([name in gone for name in manifest.subjects])
    classes = manifest.classes
    content = ContentDigest(manifest.recipe, manifest.modality, manifest.intensity, classes)
    entries: list[ShardEntry] = []
    people: dict[str, set[int]] = {name: set() for name in manifest.splits}
    affected = 0
    survey = Survey()
    folder = cache_folder(DataSettings())
    for entry in manifest.shards:
        samples = open_shard(fetch_shard(store, entry, folder))
        kept = np.flatnonzero(~np.isin(samples.subject, codes))
        whole = len(kept) == len(samples)
        affected += not whole
        entries += [entry] if whole else _rewritten(store, manifest, entry, samples, kept)
        people.setdefault(entry.split, set()).update(samples.subject[kept].tolist())
        for start in range(0, len(kept), CHUNK):
            some = samples.rows(kept[start : start + CHUNK])
            labels = some.label[:, 0].tolist() if some.label.shape[1] else [-1] * len(some)
            content.add(some.image, labels, [entry.split] * len(some))
            survey.add(some, entry.split)
    splits = {
        name: SplitEntry(
            samples=sum(entry.samples for entry in entries if entry.split == name),
            subjects=sum(code >= 0 for code in members),
        )
        for name, members in people.items()
    }
    changes = {
        "shards": tuple(entries),
        "splits": splits,
        "subjects": tuple(
            f"{WITHDRAWN}{code}" if name in gone else name for code, name in enumerate(manifest.subjects)
        ),
        "content_digest": content.hexdigest(),
        "counts": survey.counts(classes, manifest.attributes),
    }
    return manifest.model_copy(update=changes), affected, survey


def _rewritten(
    store: Store,
    manifest: Manifest,
    entry: ShardEntry,
    samples: Samples,
    kept: "np.ndarray[tuple[int], np.dtype[np.intp]]",
) -> list[ShardEntry]:
    writer = ShardWriter(store, entry.split, hashlib.sha256(canonical(manifest.recipe)).hexdigest())
    for start in range(0, len(kept), CHUNK):
        writer.add(samples.rows(kept[start : start + CHUNK]))
    return writer.close()


def gone(store: Store, key: SubjectKey) -> Callable[[str], bool]:
    """Return what says of a subject's keyed hash (or an empty text: nobody) whether it was withdrawn from a dataset."""
    known = marks(store)
    return functools.cache(lambda subject: bool(known and subject) and key.mark(subject) in known)


def marks(store: Store) -> set[str]:
    """Return the marks (``SubjectKey.mark``) of all that were withdrawn, in every form that their ids may take."""
    return {mark for record in _records(store) for mark in record.get("subjects", ())}


def _records(store: Store) -> Iterator[dict[str, Any]]:
    for entry in store.list(WITHDRAWALS):
        yield json_object(store.read(entry.key), f"{store.uri}/{entry.key}")


def _record(store: Store, held: Iterable[str], subjects: set[str]) -> None:
    """Keep which manifests held withdrawn subjects (a run that was trained with one knows its digest), and marks."""
    data = canonical({"manifests": sorted(held), "subjects": sorted(subjects)})
    store.create(f"{WITHDRAWALS}/{hashlib.sha256(data).hexdigest()}.json", data)


def _purge(store: Store, doomed: dict[str, Manifest], everything: dict[str, Manifest]) -> int:
    """Delete manifests and what only they name; return how many shards went."""
    stay = {entry.sha256 for digest, each in everything.items() if digest not in doomed for entry in each.shards}
    go = {entry.sha256 for each in doomed.values() for entry in each.shards} - stay
    cached = cache_folder(DataSettings())
    for digest in sorted(go):
        store.delete(shard_key(digest))
        (cached / shard_key(digest)).unlink(missing_ok=True)
    for entry in store.list(PRIVATE):
        store.delete(entry.key)
    store.delete(pages.REPORT)
    # Last: a purge that is interrupted finds them, and goes on, when it is asked for again.
    for digest in doomed:
        store.delete(f"{MANIFESTS}/{digest}.json")
    return len(go)


def _samples(manifest: Manifest) -> int:
    return sum(entry.samples for entry in manifest.shards)


def _warning(purge: bool) -> str:
    if purge:
        return (
            "the report and private/ went too; what is not in the dataset is yours to see to: backups, versions in a "
            "bucket, caches of other machines, the scans themselves, and runs and models trained with them (inspect "
            "DATASET --runs names them)"
        )
    return (
        "older manifests, their shards and parts of an unfinished ingest still hold the withdrawn scans: --purge "
        "deletes them; the report and the thumbnails were made anew, without thumbnails of what was left out; "
        "later ingests into this dataset leave the subjects out, but not those into another"
    )
