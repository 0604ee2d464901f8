"""The verb ``recognize``: scans of any source in, the class of each out, or "I don't know".

medgan-ray recognize registry/brains@2 scans --out answers.csv
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Protocol

from medgan_ray.artifacts import registry
from medgan_ray.errors import UsageError
from medgan_ray.ingest import parts
from medgan_ray.ingest.pipeline import Decode, Progress
from medgan_ray.ingest.prepare import Chunk, Prepared, Scan, Target, prepare, target
from medgan_ray.store import open_store
from medgan_ray.verbs.answers import FORMS, encode
from medgan_ray.verbs.config import Config

if TYPE_CHECKING:
    from medgan_ray.inference.recognizer import Recognizer

Said = list[dict[str, Any]]


@dataclass(frozen=True)
class RecognizeResult:
    """What the scans show; names of files stand in here, and in the file that was asked for, nowhere else."""

    model: str
    """The version of the weights."""
    scans: list[dict[str, Any]]
    """As ``inference.told.told`` explains, with ``file`` and ``frame``, in the order of the files."""
    refused: dict[str, int]
    """What was not taken, by reason."""
    not_taken: list[dict[str, Any]]
    """The same one by one: ``file``, ``frame`` (null: the whole file) and ``reason``."""
    thresholds: dict[str, Any]
    """What the answers were decided by; empty without a calibration."""
    why: str
    """Why every scan is abstained from; empty where that isn't so."""
    not_a_device: str
    seconds: float
    """On the clock, from files to answers."""
    seconds_per_scan: float
    """Of that, for one scan that was answered."""
    scans_per_second: float
    out: str = ""
    """The file that was asked for."""
    maps: str = ""
    """Where the maps are that were asked for; each scan names its own (``map``)."""
    warnings: list[str] = field(default_factory=list)


class Answer(Protocol):
    """Answers chunks of prepared scans, in any order: yields the scans and what is said of them."""

    def __call__(
        self, model: "Recognizer", chunks: Iterator[Chunk], maps: str | None
    ) -> Iterator[tuple[list[Scan], Said]]:
        """Answer."""


def recognize_scans(
    model: str,
    source: str | list[str],
    config: Mapping[str, Any] | Config | None = None,
    maps: str | None = None,
    progress: Progress | None = None,
    out: str | None = None,
) -> RecognizeResult:
    """Say what scans show. Not a medical device.

    Scans are prepared as the model's training scans were, whatever the source; what can't be is refused with a reason.

    Args:
        model: a run, a search or a version (``REGISTRY/NAME[@N]``) of task=recognize.
        source: a folder, file, zip, tar or s3:// prefix, a DICOMweb service, or several.
        config: of its options ``ingest.workers``, ``ingest.file_limit_s`` and ``ingest.memory_mb`` count.
        maps: a folder or s3:// prefix for a picture of each scan with a map of what its nearest class rests on; they
            show patients.
        progress: told (files done, files) while they are read, then (scans answered, scans).
        out: a file for the answers, ``.csv`` or ``.json``, also on s3://; written as a whole or not at all.

    Raises:
        UsageError: if the model recognizes nothing or does not say how its scans were prepared, or an option differs.
        InputError: if there is no model, a source is missing or empty, or nothing could be taken.
        StoreError: if a store fails.
    """
    return recognize_by(answer_here, parts.decode, model, source, config, maps=maps, progress=progress, out=out)


def recognize_by(
    answer: Answer,
    decode: Decode,
    model: str,
    source: str | list[str],
    config: Mapping[str, Any] | Config | None = None,
    *,
    maps: str | None = None,
    progress: Progress | None = None,
    out: str | None = None,
) -> RecognizeResult:
    """Do what ``recognize_scans`` does, files decoded by ``decode``, scans answered by ``answer``; the same errors."""
    from medgan_ray.inference import told
    from medgan_ray.inference.recognizer import NO_DEVICE, load_recognizer

    begun = time.monotonic()
    check_out(out)
    opened = load_recognizer(registry.pinned(model))
    names = [source] if isinstance(source, str) else list(source)
    with prepare(names, target_of(opened, config), progress, decode) as prepared:
        said = _all(answer, opened, prepared, maps, progress)
        if not said:
            raise prepared.nothing(names)
        refusals = sorted(prepared.refusals, key=lambda each: (each.name, each.frame or 0, each.reason))
    seconds = time.monotonic() - begun
    result = RecognizeResult(
        model=opened.version,
        scans=said,
        refused=prepared.counts,
        not_taken=[{"file": each.name, "frame": each.frame, "reason": each.reason} for each in refusals],
        thresholds=told.thresholds(opened),
        why=told.why_unsure(opened),
        not_a_device=NO_DEVICE,
        seconds=seconds,
        seconds_per_scan=seconds / len(said),
        scans_per_second=len(said) / max(seconds, 1e-9),
        out=out or "",
        maps=maps or "",
    )
    if out:
        write(result, out)
    return result


def target_of(model: "Recognizer", config: Mapping[str, Any] | Config | None = None) -> Target:
    """Return what a recognizer takes, read where and within the limits that ``config`` says.

    Raises:
        UsageError: as ``prepare.target`` does, and for another ``size``.
    """
    card, settings = model.card, Config.of(config)
    if settings.size not in (None, card.size):
        raise UsageError(f"the model takes scans of {card.size}", "size", "leave it out")
    return target(card.recipe, card.modality, card.intensity, settings.ingest, model.uri)


def answer_here(model: "Recognizer", chunks: Iterator[Chunk], maps: str | None) -> Iterator[tuple[list[Scan], Said]]:
    """Answer in this process."""
    for scans, images in chunks:
        yield scans, answered(model, scans, images, maps)


def answered(model: "Recognizer", scans: list[Scan], images: Any, maps: str | None) -> Said:
    """Return what is said of prepared scans [n, C, H, W], their maps written to a folder if one is named."""
    from medgan_ray.inference.told import told

    answers = model.answers(images)
    said = told(model, answers)
    if maps:
        from medgan_ray.inference.saliency import write_maps

        names = [map_name(scan) for scan in scans]
        keys = write_maps(model, images, names, answers.sets[0].named, open_store(maps))
        said = [{**each, "map": key} for each, key in zip(said, keys, strict=True)]
    return said


def map_name(scan: Scan) -> str:
    """Return what a scan's map is called: the number of its file in their order, and its frame."""
    return f"{scan.record.item:06d}-{scan.record.frame:04d}"


def write(result: RecognizeResult, out: str) -> None:
    """Write the answers to a file as its ending says; StoreError if it can't be written."""
    folder, _, name = out.rpartition("/")
    open_store(folder or ("/" if out.startswith("/") else ".")).replace(name, encode(result, PurePath(name).suffix))


def _all(
    answer: Answer, model: "Recognizer", prepared: Prepared, maps: str | None, progress: Progress | None
) -> list[dict[str, Any]]:
    """Return what is said of all scans, in the order of their files and frames."""
    found: list[tuple[tuple[int, int], dict[str, Any]]] = []
    for scans, said in answer(model, prepared.chunks(), maps):
        found += [
            (scan.rank, {"file": scan.name, "frame": scan.record.frame, **each})
            for scan, each in zip(scans, said, strict=True)
        ]
        if progress:
            progress(len(found), prepared.total)
    return [each for _, each in sorted(found, key=lambda pair: pair[0])]


def check_out(out: str | None) -> None:
    """Refuse a file of another form before hours of work."""
    if out is not None and PurePath(out).suffix not in FORMS:
        raise UsageError("not a file for answers", out, f"end it with {' or '.join(FORMS)}")
