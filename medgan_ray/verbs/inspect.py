"""The verb ``inspect``: say what a scan, dataset, run, search or model is; draw it, verify it, sweep its orphans.

medgan-ray inspect heads --grid heads.png
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgan_ray.artifacts import checkpoints, registry, runs
from medgan_ray.artifacts.versions import DESCRIPTION, read_model
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.dataset.cache import cache_folder, fetch_shard
from medgan_ray.dataset.manifest import POINTER, read_manifest
from medgan_ray.dataset.shards import shard_key
from medgan_ray.dicom.facts import Facts, Options
from medgan_ray.dicom.sandbox import Source, decode_one
from medgan_ray.errors import InputError, UsageError
from medgan_ray.ingest.facts import dataset_facts
from medgan_ray.ingest.report_page import page
from medgan_ray.ingest.survey import counts
from medgan_ray.ingest.withdraw import manifests, withdrawn
from medgan_ray.report import Page
from medgan_ray.store import Store, open_store

GRID = 48
_IDENTIFIERS = ("patient", "study", "series", "group")
_SHARD = re.compile(r"^shards/([0-9a-f]{64})\.safetensors$")


def inspect(
    uri: str, grid: str | None = None, verify: bool = False, sweep: bool = False, among: Sequence[str] = ()
) -> dict[str, Any]:
    """Return the facts about an artifact or a file; ``kind`` says what it is.

    Args:
        uri: a file, or the address of a dataset, run, search or model.
        grid: where to write a picture of scans (dataset) or samples (run, search, model).
        verify: read everything and compare it with its digests; ``verified`` counts the files.
        sweep: remove what no manifest or commit names; ``swept`` lists it.
        among: runs, searches, models or folders of them; ``runs`` lists those that were trained with this dataset.

    Raises:
        InputError: if there is nothing known, or it is corrupt.
    """
    store = open_store(uri)
    if store.is_local and store.path().is_file():
        if grid or verify or sweep or among:
            raise UsageError("a file has no grid, digests, orphans or runs", uri, "drop the option")
        return _file(store.path())
    if registry.names_version(uri):
        store = registry.find(uri).folder
    for marker, facts in _KINDS.items():
        if store.exists(marker):
            if among and marker != POINTER:
                raise UsageError("only a dataset has runs that were trained with it", uri, "give the dataset first")
            found = facts(store, verify, sweep)
            if among:
                found["runs"] = trained_with(store, among)
            if grid:
                _draw(found["kind"], uri, grid)
            return found
    if registry.contents(store) != ([], []):
        return _registered(store, verify, sweep)  # nothing of it is current yet
    raise InputError("nothing known here", uri, "give a scan, a dataset, a run, a search or a model")


def told(found: Mapping[str, Any]) -> Page | None:
    """Return what ``inspect`` found as a page to read, or None where it is but a few figures."""
    return page(found, exact=True) if found["kind"] == "dataset" else None


def trained_with(dataset: Store, among: Sequence[str]) -> list[dict[str, Any]]:
    """Return the runs and models that were trained with any manifest of a dataset, also one deleted since.

    Each is {"uri", "kind": "run" or "model", "manifest", "withdrawn"}; ``withdrawn`` says whether that manifest held
    subjects that have been withdrawn since.

    Raises:
        InputError: if there is neither run nor model at or below one of the addresses, or one is corrupt.
    """
    gone = withdrawn(dataset)
    known = gone | set(manifests(dataset))
    found: dict[str, dict[str, Any]] = {}
    for uri in among:
        there = list(_trained(open_store(uri)))
        if not there:
            raise InputError("neither a run nor a model here", uri, "give runs, searches, models or folders of them")
        for address, kind, manifest in there:
            if manifest in known:
                found[address] = {"uri": address, "kind": kind, "manifest": manifest, "withdrawn": manifest in gone}
    return list(found.values())


def _trained(store: Store) -> Iterator[tuple[str, str, str]]:
    """Yield address, kind and manifest of the runs and models at and below a store."""
    keys = {entry.key for entry in store.list()}
    for key in sorted(keys):
        folder, _, name = key.rpartition("/")
        if name == DESCRIPTION and f"{folder.rpartition('/')[0]}/{runs.RUN}".lstrip("/") in keys:
            continue  # the best model of a run, which is told of itself
        if not registry.is_whole(f"{store.uri}/{folder}", f"{folder}/{registry.COMMIT}" in keys):
            continue  # never published
        if name in (runs.RUN, DESCRIPTION):
            facts = runs.read_json(store, key) or {}
            yield (
                f"{store.uri}/{folder}".rstrip("/"),
                "run" if name == runs.RUN else "model",
                str(facts.get("manifest")),
            )


def _file(path: Path) -> dict[str, Any]:
    """Return a scan's facts without what identifies a person; ``verdict`` is "taken" or a reason code."""
    outcome = decode_one(Source(str(path), path=str(path)), Options(inspect=True))
    facts = outcome.facts or Facts(verdict=outcome.refusal)
    shown = {key: value for key, value in facts.to_json().items() if key not in _IDENTIFIERS and value not in ("", ())}
    return {**shown, "verdict": outcome.refusal or facts.verdict or "taken", "detail": outcome.detail}


def _dataset(store: Store, verify: bool, sweep: bool) -> dict[str, Any]:
    dataset = open_dataset(store.uri)
    facts = dataset_facts(dataset.manifest, dataset.sha256, counts(dataset))
    if dataset.manifest.synthetic:
        facts["synthetic"] = dataset.manifest.synthetic.model_dump()
    if verify:
        folder = cache_folder(dataset.settings)
        facts["verified"] = sum(fetch_shard(store, entry, folder) is not None for entry in dataset.manifest.shards)
    if sweep:
        facts["swept"] = _sweep_shards(store)
    return facts


def _sweep_shards(store: Store) -> list[str]:
    """Remove shards that no manifest of this dataset names; every manifest counts, also older ones."""
    named: set[str] = set()
    entries = [entry.key for entry in store.list()]
    for key in entries:
        if key.startswith("manifests/"):
            manifest, _ = read_manifest(store, key.removeprefix("manifests/").removesuffix(".json"))
            named |= {shard_key(entry.sha256) for entry in manifest.shards}
    orphans = [key for key in entries if _SHARD.match(key) and key not in named]
    for key in orphans:
        store.delete(key)
    return orphans


def _run(store: Store, verify: bool, sweep: bool) -> dict[str, Any]:
    asked = runs.read(store)
    committed = checkpoints.names(store)
    facts: dict[str, Any] = {
        "kind": "run",
        "manifest": asked["manifest"],
        "code_version": asked["code_version"],
        "config": asked["config"],
        "checkpoints": committed,
        "best": runs.read_json(store, runs.BEST),
        "result": runs.read_json(store, runs.RESULT),
        "previews": [entry.key for entry in reversed(store.list("previews"))],
    }
    if verify:
        for name in committed:
            checkpoints.load(store, name)
        facts["verified"] = 2 * len(committed)
    if sweep:
        kept = {f"{checkpoints.FOLDER}/{name}" for name in committed}
        entries = (entry.key for entry in store.list(checkpoints.FOLDER))
        facts["swept"] = [key for key in entries if key.rpartition("/")[0] not in kept]
        for key in facts["swept"]:
            store.delete(key)
    return facts


def _search(store: Store, verify: bool, sweep: bool) -> dict[str, Any]:
    _refuse("search", verify, sweep)
    board = runs.read_json(store, "leaderboard.json") or {}
    return {"kind": "search", "best": runs.read_json(store, runs.BEST), **board}


def _model(store: Store, verify: bool, sweep: bool) -> dict[str, Any]:
    if sweep:
        _refuse("model", False, sweep)
    found = registry.at(store) if verify else None
    checked = {"verified": registry.verify(found)} if found else {}
    _, card = read_model(store)
    return {"kind": "model", **checked, **card.model_dump(mode="json")}


def _registered(store: Store, verify: bool, sweep: bool) -> dict[str, Any]:
    swept = registry.sweep(store) if sweep else []
    numbers, orphans = registry.contents(store)
    facts: dict[str, Any] = {"kind": "model", "versions": numbers, "orphans": orphans, **registry.pointer(store)}
    facts["current"] = facts.pop("version")
    if verify:
        facts["verified"] = sum(registry.verify(registry.version(store, number)) for number in numbers)
    if sweep:
        facts["swept"] = swept
    if facts["current"]:
        _, card = read_model(registry.version(store, facts["current"]).folder)
        facts.update(card.model_dump(mode="json"))
    return facts


def _refuse(kind: str, verify: bool, sweep: bool) -> None:
    if verify or sweep:
        raise UsageError(f"a {kind} is neither verified nor swept as a whole", "", "inspect its runs")


_KINDS: dict[str, Callable[[Store, bool, bool], dict[str, Any]]] = {
    POINTER: _dataset,
    runs.RUN: _run,
    "search.json": _search,
    DESCRIPTION: _model,
    registry.CURRENT: _registered,
}
"""By the file that tells what it is."""


def _draw(kind: str, uri: str, grid: str) -> None:
    from medgan_ray.report.figures import grid_png

    if kind == "dataset":
        pixels = _dataset_pixels(open_dataset(uri))
    else:
        from medgan_ray.inference.model import load_model

        model = load_model(uri)
        pixels = model.intensity.display(model.sample(GRID))
    folder, _, name = grid.rpartition("/")
    open_store(folder or ".").replace(name, grid_png(pixels))


def _dataset_pixels(dataset: Dataset) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    split = dataset.split("train")
    chosen = split.order(0, "grid").indices(0, min(GRID, len(split)))
    return dataset.manifest.intensity.display(split.take(chosen).image)
