"""Answers prepared scans as Ray tasks, one core (or GPU) each.

recognize_by(by_tasks(workers=8), decode_home, model, source)    # inside a Ray program
"""

import functools
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from medgan_ray.errors import MedganError
from medgan_ray.inference.recognizer import Recognizer, load_recognizer
from medgan_ray.ingest.prepare import Chunk, Scan
from medgan_ray.verbs.recognize import Answer, Said, answered

RETRIES = 2


def by_tasks(workers: int, gpus: float = 0.0) -> Answer:
    """Return what answers chunks of scans as Ray tasks.

    Args:
        workers: how many at a time; so many chunks are in memory.
        gpus: GPUs of each.
    """
    return functools.partial(_answer_chunks, workers, gpus)


def _answer_chunks(
    workers: int, gpus: float, model: Recognizer, chunks: Iterator[Chunk], maps: str | None
) -> Iterator[tuple[list[Scan], Said]]:
    """Answer chunks as tasks; one that dies with its node is run again.

    Raises:
        MedganError: the first that a chunk ends with.
    """
    import ray

    task = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=RETRIES)(_answer)
    running: dict[ray.ObjectRef[Said | MedganError], list[Scan]] = {}
    more = True
    try:
        while more or running:
            while more and len(running) < workers:
                scans, images = next(chunks, ([], None))
                more = images is not None
                if more:
                    reference = task.remote(model.uri, model.card.weights, _unnamed(scans), images, maps)
                    running[reference] = scans
            for reference in ray.wait(list(running), num_returns=1)[0] if running else ():
                found = ray.get(reference)
                if isinstance(found, MedganError):
                    raise found
                yield running.pop(reference), found
    finally:
        for reference in running:
            ray.cancel(reference, force=True)


def _unnamed(scans: list[Scan]) -> list[Scan]:
    """Return scans without their files' names: an answer needs none."""
    return [scan._replace(name="") for scan in scans]


def _answer(
    model: str, weights: str, scans: list[Scan], images: NDArray[np.uint16], maps: str | None
) -> Said | MedganError:
    """Answer one chunk in a Ray worker; a refusal is an answer, since Ray would wrap an exception in its own."""
    try:
        return answered(_opened(model, weights), scans, images, maps)
    except MedganError as error:
        return error


@functools.lru_cache(maxsize=1)
def _opened(model: str, weights: str) -> Recognizer:
    """Return the recognizer, which a worker opens once for all its chunks; ``weights`` name which."""
    del weights
    return load_recognizer(model)
