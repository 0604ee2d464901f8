"""Verbs that are one piece of work, placed as a Ray task, so that nothing heavy runs in the driver of a cluster.

ingest_scans("s3://archive/ct", "s3://bucket/heads", {"size": 128}, place=Place("head:6379"))
"""

import dataclasses
import os
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from medgan_ray.errors import MedganError
from medgan_ray.host import LocalHost
from medgan_ray.ingest import parts
from medgan_ray.ingest.deidentify import SubjectKey, subject_key
from medgan_ray.ingest.pipeline import Decode, IngestResult
from medgan_ray.on_ray import session
from medgan_ray.on_ray.train import absolute, most, placed, rank_config
from medgan_ray.verbs import recognize
from medgan_ray.verbs.evaluate import EvaluateResult
from medgan_ray.verbs.generate import GenerateResult
from medgan_ray.verbs.recognize import RecognizeResult

Progress = Callable[[int, int], None]
Value = TypeVar("Value")

INGEST_CPUS = 1
"""Of the task that waits for the others; Ray lends them its core meanwhile."""


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a task runs.

    Attributes:
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.
        shared_paths: local paths are seen by all nodes of the cluster.
    """

    address: str | None = None
    shared_paths: bool = False


HERE = Place()


def ingest_scans(
    source: str | list[str],
    dataset: str,
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    dry_run: bool = False,
    place: Place = HERE,
) -> IngestResult:
    """Do what ``verbs.ingest.ingest_scans`` does, as a Ray task that hands the decoding out to others.

    Patients are hashed with the key of this machine's user: one that a node of the cluster made would go with it.
    """
    sources = [absolute(name) for name in ([source] if isinstance(source, str) else source)]
    settings, key = placed(config), subject_key()
    sent = SubjectKey(key.secret)

    def work(tell: Progress) -> IngestResult:
        from medgan_ray.on_ray.ingest import decode_parts
        from medgan_ray.verbs import ingest

        # Counting keeps its parts in a folder of this process, which no other node sees.
        decode: Decode = parts.decode if dry_run else decode_parts
        return ingest.ingest_scans(sources, absolute(dataset), rank_config(settings), tell, dry_run, decode, sent)

    result = _as_task(work, INGEST_CPUS, [*sources, absolute(dataset)], progress, place)
    warning = key.keep() if result.subjects and not dry_run else ""
    return dataclasses.replace(result, warnings=[*result.warnings, warning]) if warning else result


def generate_scans(
    model: str,
    out: str,
    progress: Progress | None = None,
    place: Place = HERE,
    config: Mapping[str, Any] | None = None,
    **asked: Any,
) -> GenerateResult:
    """Do what ``verbs.generate.generate_scans`` does, with its other arguments by name, as Ray tasks.

    ``config`` says how many make scans at a time (``workers``), and on which GPUs (``ray.gpus_per_worker``).
    """
    settings = placed(config)
    workers, gpus = most(settings.workers), settings.ray.gpus_per_worker

    def work(tell: Progress) -> GenerateResult:
        from medgan_ray.on_ray.generate import by_tasks, gpus_for
        from medgan_ray.verbs import generate

        make = by_tasks(workers, gpus_for(workers, gpus))
        return generate.generate_by(make, absolute(model), absolute(out), generate.Wanted(**asked), tell)

    return _as_task(work, max(1, workers), [absolute(model), absolute(out)], progress, place, own=1)


def recognize_scans(
    model: str,
    source: str | list[str],
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    place: Place = HERE,
    maps: str | None = None,
    out: str | None = None,
) -> RecognizeResult:
    """Do what ``verbs.recognize.recognize_scans`` does: files are decoded and scans answered as Ray tasks.

    ``config`` says how many answer at a time (``workers``), and on which GPUs (``ray.gpus_per_worker``). ``out`` is
    written by this process.
    """
    sources = [absolute(name) for name in ([source] if isinstance(source, str) else source)]
    settings, kept = placed(config), absolute(maps) if maps else None
    workers, gpus = most(settings.workers), settings.ray.gpus_per_worker
    asked = settings.model_dump(mode="json", include={"size", "ingest"}, exclude_unset=True)
    recognize.check_out(out)

    def work(tell: Progress) -> RecognizeResult:
        from medgan_ray.on_ray.generate import gpus_for
        from medgan_ray.on_ray.ingest import decode_home
        from medgan_ray.on_ray.recognize import by_tasks

        answer = by_tasks(workers, gpus_for(workers, gpus))
        return recognize.recognize_by(answer, decode_home, absolute(model), sources, asked, maps=kept, progress=tell)

    paths = [absolute(model), *sources, *([kept] if kept else [])]
    result = _as_task(work, max(1, workers), paths, progress, place, own=1)
    if out:
        result = dataclasses.replace(result, out=out)
        recognize.write(result, out)
    return result


def evaluate_run(
    run: str,
    dataset: str,
    config: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
    place: Place = HERE,
) -> EvaluateResult:
    """Do what ``verbs.evaluate.evaluate_run`` does, as a Ray task."""
    settings = placed(config)

    def work(tell: Progress) -> EvaluateResult:
        from medgan_ray.verbs import evaluate

        return evaluate.evaluate_run(absolute(run), absolute(dataset), rank_config(settings), tell)

    return _as_task(work, 1, [absolute(run), absolute(dataset)], progress, place)


class _Told(LocalHost):
    """Pass a task's progress to a function."""

    def __init__(self, tell: Progress | None) -> None:
        super().__init__()
        self._tell = tell

    def progress(self, images: int, total: int, rate: float) -> None:
        """Pass it on."""
        if self._tell:
            self._tell(images, total)


def _as_task(
    work: Callable[[Progress], Value],
    cpus: int,
    paths: list[str],
    progress: Progress | None,
    place: Place,
    own: int | None = None,
) -> Value:
    """Do work in a task; ``cpus`` are needed in all, ``own`` of them (by default all) by the task itself."""
    with session.local(place.address, cpus=max(cpus, os.cpu_count() or 1)):
        session.check_paths(*paths, shared=place.shared_paths)
        import ray

        from medgan_ray.on_ray.board import Board

        board = Board(uuid.uuid4().hex)
        task = ray.remote(num_cpus=cpus if own is None else own, max_retries=1)(_run)
        with board.relayed(_Told(progress)):
            value: Value | MedganError = ray.get(task.remote(work, board))
    if isinstance(value, MedganError):
        raise value
    return value


def _run(work: Callable[[Progress], Value], board: Any) -> Value | MedganError:
    """Do the work in a Ray worker; a refusal is an answer, since Ray would wrap an exception in its own."""

    def tell(done: int, total: int) -> None:
        board.send({"kind": "progress", "images": done, "total": total, "rate": 0.0})

    try:
        return work(tell)
    except MedganError as error:
        return error
