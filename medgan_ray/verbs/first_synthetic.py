"""The generated scans that are mixed into a run's training: made or named when it begins, recorded by digest.

RUN/synthetic/             a dataset of those that a model made; a dataset that was named is read where it lies
RUN/synthetic/asked.json   {"asked", "address"}: which model, with its number, before the first scan is made
"""

import dataclasses
from collections.abc import Callable
from typing import Any

from medgan_ray.artifacts import registry, runs
from medgan_ray.dataset import mixed
from medgan_ray.dataset.batches import Dataset, open_dataset
from medgan_ray.dataset.manifest import POINTER, canonical
from medgan_ray.dataset.mixed import Described, Mixing
from medgan_ray.errors import InputError, UsageError
from medgan_ray.host import Host
from medgan_ray.store import Store, open_store
from medgan_ray.verbs import kinds
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.generate import GenerateResult, Wanted, generate_by

FOLDER = "synthetic"
Generate = Callable[[str, str, Wanted], GenerateResult]
"""Makes scans of a model into a folder."""
_FROM, _DIGEST = "synthetic_from", "synthetic_digest"
_ASKED = "asked.json"


def generate_here(model: str, out: str, wanted: Wanted) -> GenerateResult:
    """Make scans in this process."""
    from medgan_ray.inference.bulk import make_parts

    return generate_by(make_parts, model, out, wanted)


def record(run: Store, options: Config, dataset: Dataset, generate: Generate) -> dict[str, str]:
    """Return what ``run.json`` records of the scans that are mixed in; those of a model are made for a new run.

    Returns:
        ``synthetic_from``, the address with a version's number, and ``synthetic_digest``, the scans' content digest.
        A run that goes on has its own: where another address holds the same scans, ``synthetic`` is the first one.

    Raises:
        UsageError: if they don't fit the dataset, or are scans of patients.
        InputError: if there are none, or they are corrupt.
    """
    uri = options.train.synthetic
    there = runs.read_json(run, runs.RUN)
    if there:
        begun = there["config"]["train"]
        asked = begun.get("synthetic")
        if not uri or not asked or (asked != uri and not _same(run, uri, options, begun)):
            return {}
        return {"synthetic": asked, _FROM: begun[_FROM], _DIGEST: begun[_DIGEST]}
    if not uri:
        return {}
    if _is_dataset(uri):
        given = _opened(uri, options)
        _match(dataset, options, given.manifest, uri)
        return {_FROM: given.store.uri, _DIGEST: given.manifest.content_digest}
    address = _made(run, options, dataset, generate)
    return {_FROM: address, _DIGEST: _opened(run.child(FOLDER).uri, options).manifest.content_digest}


def mixed_in(dataset: Dataset, run: Store, options: Config, host: Host) -> Dataset:
    """Return a run's dataset with what its training mixes in; rank 0 says what that is.

    Raises:
        InputError: if the scans are not those that the run was begun with.
    """
    begun = runs.read(run)["config"]["train"]
    if not options.train.synthetic:
        return dataset
    kept = run.child(FOLDER)
    where = options.train.synthetic if options.train.synthetic != begun["synthetic"] else begun[_FROM]
    given = _opened(kept.uri if kept.exists(POINTER) else where, options, run)
    if given.manifest.content_digest != begun[_DIGEST]:
        raise InputError("other scans than the run was begun with", given.store.uri, "give the run another name")
    mixing = Mixing(given, _match(dataset, options, given.manifest, given.store.uri))
    whole = dataclasses.replace(dataset, mixing=mixing)
    if host.rank == 0:
        for line in _told(whole, mixing):
            host.log(line)
    return whole


def places(options: Config) -> list[str]:
    """Return the addresses that every rank reads generated scans from, beside its run."""
    uri = options.train.synthetic
    return [uri] if uri and _is_dataset(uri) else []


def _is_dataset(uri: str) -> bool:
    return not registry.names_version(uri) and open_store(uri).exists(POINTER)


def _opened(uri: str, options: Config, run: Store | None = None) -> Dataset:
    found = open_dataset(uri, options.data.model_copy(update={"balance": "none"}), run=run)
    if found.manifest.synthetic is None:
        advice = "give a model, or what 'generate --format dataset' wrote"
        raise UsageError("scans of patients as train.synthetic", uri, advice)
    return found


def _match(dataset: Dataset, options: Config, generated: Described, where: str) -> mixed.Match:
    learned = kinds.of(options.task).labels(options, dataset.manifest)
    return mixed.match(dataset.manifest, learned, generated, options.train.synthetic_share, where)


def _made(run: Store, options: Config, dataset: Dataset, generate: Generate) -> str:
    """Make scans of the model, or go on making them; return its address with its number.

    The number stays that of the first attempt, also where another version is current by now.
    """
    from medgan_ray.inference.model import load_model

    uri, out = options.train.synthetic, run.child(FOLDER)
    told = runs.read_json(out, _ASKED)
    if told and told["asked"] != uri:
        raise UsageError("this run was begun with another train.synthetic", run.uri, "give the run another name")
    address = str(told["address"]) if told else registry.pinned(uri)
    if not registry.names_version(address):
        address = open_store(address).uri
    match = _match(dataset, options, load_model(address).card, address)
    if not told:
        out.create(_ASKED, canonical({"asked": uri, "address": address}))
    count = options.train.synthetic_scans or dataset.manifest.splits["train"].samples
    generate(address, out.uri, Wanted(n=count, seed=options.seed, form="dataset", classes=match.shared))
    return address


def _same(run: Store, uri: str, options: Config, begun: dict[str, Any]) -> bool:
    """Say whether another address than the one that a run was begun with holds the same scans, or their model."""
    from medgan_ray.inference.model import load_model

    if _is_dataset(uri):
        return bool(_opened(uri, options).manifest.content_digest == begun[_DIGEST])
    kept = run.child(FOLDER)
    origin = _opened(kept.uri, options).manifest.synthetic if kept.exists(POINTER) else None
    return origin is not None and load_model(uri).card.weights == origin.weights


def _told(whole: Dataset, mixing: Mixing) -> list[str]:
    """Return what is mixed in, in lines for a person."""
    split = mixing.over(whole, [entry for entry in whole.manifest.shards if entry.split == "train"])
    match, counts = mixing.match, split.generated_counts()
    named = list(zip(match.labels.classes, match.shares, counts, strict=True))
    taken = ", ".join(f"{share:g} of {name} ({count})" for name, share, count in named if share and count)
    without = ", ".join(name for name, share, count in named if not share or not count)
    lines = [f"generated scans stand in for a share of the training scans: {taken or 'none'}"]
    if without:
        lines.append(f"no generated scans stand in for {without}")
    origin = mixing.generated.manifest.synthetic
    if origin is None or origin.trained_on != whole.manifest.content_digest:
        learned = "another dataset" if origin and origin.trained_on else "a dataset that is not known"
        lines.append(f"the generator learned {learned}: it may have seen scans of this one's val and test")
    return lines
