"""Makes the parts of a generation as Ray tasks, one core (or GPU) each; the files meet in the store.

generate_by(by_tasks(workers=8), model, out, Wanted(n=1_000_000, form="dataset"))    # inside a Ray program
"""

import functools

from medgan_ray.errors import MedganError
from medgan_ray.inference import bulk
from medgan_ray.inference.bulk import Made, Make, Part, Recipe, Tell
from medgan_ray.inference.model import Model, load_model
from medgan_ray.store import Store, open_store

RETRIES = 2


def by_tasks(workers: int, gpus: float = 0.0) -> Make:
    """Return what makes parts as Ray tasks.

    Args:
        workers: how many at a time.
        gpus: GPUs of each.
    """
    return functools.partial(_make_parts, workers, gpus)


def gpus_for(workers: int, asked: float | str) -> float:
    """Return the GPUs of a worker: auto is one where the cluster has enough, none otherwise."""
    import ray

    if isinstance(asked, str):
        return 1.0 if ray.cluster_resources().get("GPU", 0) >= workers else 0.0
    return asked


def _make_parts(
    workers: int, gpus: float, model: Model, store: Store, recipe: Recipe, todo: list[Part], tell: Tell
) -> dict[int, Made]:
    """Make parts as tasks; one that dies with its node is run again.

    Raises:
        MedganError: the first that a part ends with.
    """
    import ray

    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_make)
    waiting, made = list(reversed(todo)), dict[int, Made]()
    running: dict[ray.ObjectRef[Made | MedganError], Part] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                part = waiting.pop()
                running[task.remote(model.uri, store.uri, recipe, part)] = part
            done, _ = ray.wait(list(running), num_returns=1)
            for reference in done:
                found = ray.get(reference)
                if isinstance(found, MedganError):
                    raise found
                part = running.pop(reference)
                made[part.start] = found
                tell(part.images)
    finally:
        for reference in running:
            ray.cancel(reference, force=True)
    return made


def _make(model: str, out: str, recipe: Recipe, part: Part) -> Made | MedganError:
    """Make one part in a Ray worker; a refusal is an answer, since Ray would wrap an exception in its own."""
    try:
        return bulk.make(_opened(model, recipe.weights), open_store(out), recipe, part)
    except MedganError as error:
        return error


@functools.lru_cache(maxsize=1)
def _opened(model: str, weights: str) -> Model:
    """Return the model, which a worker opens once for all its parts; ``weights`` name which."""
    del weights
    return load_model(model)
