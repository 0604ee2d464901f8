"""Decodes the parts of an archive as Ray tasks, one core each; the parts meet again in the dataset's store.

ingest_scans(source, dataset, config, decode=decode_parts)    # inside a Ray program
"""

import dataclasses
from collections.abc import Callable, Sequence

from medgan_ray.errors import MedganError
from medgan_ray.ingest import parts
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Part
from medgan_ray.store import Store, open_store

RETRIES = 2
AHEAD = 2
"""Tasks a core that are handed to Ray at a time: the rest of a long list waits here, where it costs nothing."""


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
    import ray

    alone = dataclasses.replace(recipe, settings=recipe.settings.model_copy(update={"workers": 1}))
    task = ray.remote(num_cpus=1, max_retries=RETRIES)(_decode_part)
    most = AHEAD * max(1, int(ray.cluster_resources().get("CPU", 1)))
    waiting = list(reversed(todo))
    running: dict[ray.ObjectRef[MedganError | None], int] = {}
    try:
        while waiting or running:
            while waiting and len(running) < most:
                part = waiting.pop()
                running[task.remote(store.uri, part, alone, key)] = len(part.found)
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                error = ray.get(reference)
                if error is not None:
                    raise error
                files = running.pop(reference)
                if tell is not None:
                    tell(files)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _decode_part(uri: str, part: Part, recipe: Recipe, key: SubjectKey) -> MedganError | None:
    """Decode one part in a Ray worker; a refusal is an answer, since Ray would wrap an exception in its own."""
    try:
        parts.decode(open_store(uri), [part], recipe, key)
    except MedganError as error:
        return error
    return None
