"""Decodes the parts of an archive as Ray tasks, one core each; the parts meet again in the dataset's store.

ingest_scans(source, dataset, config, decode=decode_parts)    # inside a Ray program
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Sequence

from medgan_ray.errors import MedganError
from medgan_ray.ingest import parts
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Part
from medgan_ray.ingest.spool import Nameless
from medgan_ray.store import Store, open_store

RETRIES = 2
AHEAD = 2
"""Tasks a core that are handed to Ray at a time: the rest of a long list waits here, where it costs nothing."""

Files = list[tuple[str, bytes]]


def decode_parts(
    store: Store,
    todo: Sequence[Part],
    recipe: Recipe,
    key: SubjectKey,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Do what ``parts.decode`` does, a part a task; a task that dies with its node is run again.

    Raises:
        MedganError: the first that a part ends with.
    """
    _decode_by(functools.partial(_decode_there, store.uri), lambda files: None, todo, recipe, key, tell)


def decode_home(
    store: Store,
    todo: Sequence[Part],
    recipe: Recipe,
    key: SubjectKey,
    tell: Callable[[int], None] | None = None,
) -> None:
    """Do the same for a store that this process alone sees: tasks send back what they decoded. Errors are the same."""

    def keep(files: Files) -> None:
        for name, data in files:
            store.create(name, data)

    _decode_by(_decode_here, keep, todo, recipe, key, tell)


def _decode_by(
    work: Callable[[Part, Recipe, SubjectKey], Files | MedganError],
    keep: Callable[[Files], None],
    todo: Sequence[Part],
    recipe: Recipe,
    key: SubjectKey,
    tell: Callable[[int], None] | None,
) -> None:
    import ray

    alone = dataclasses.replace(recipe, settings=recipe.settings.model_copy(update={"workers": 1}))
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_run)
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = list(reversed(todo))
    running: dict[ray.ObjectRef[Files | MedganError], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < most:
                part = waiting.pop()
                running[task.remote(work, part, alone, key)] = len(part.found)
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                found = ray.get(reference)
                if isinstance(found, MedganError):
                    raise found
                keep(found)
                files = running.pop(reference)
                if tell is not None:
                    tell(files)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _run(
    work: Callable[[Part, Recipe, SubjectKey], Files], part: Part, recipe: Recipe, key: SubjectKey
) -> Files | MedganError:
    """Decode one part in a Ray worker; a refusal is an answer, since Ray would wrap an exception in its own."""
    try:
        return work(part, recipe, key)
    except MedganError as error:
        return error


def _decode_there(uri: str, part: Part, recipe: Recipe, key: SubjectKey) -> Files:
    """Decode a part into a store that all see."""
    parts.decode(open_store(uri), [part], recipe, key)
    return []


def _decode_here(part: Part, recipe: Recipe, key: SubjectKey) -> Files:
    """Decode a part and return its files."""
    with contextlib.closing(Nameless()) as store:
        parts.decode(store, [part], recipe, key)
        return [(entry.key, store.read(entry.key)) for entry in store.list()]
