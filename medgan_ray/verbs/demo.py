"""The verb ``demo``: the whole chain, small, on phantoms or on real scans; ends with a summary and a report.

    medgan-ray demo out --scans my/scans

Without Ray it goes from scans to generated scans; ``on_ray/demo.py`` brings the steps that need Ray: training on
workers, a small search, the service. The same call goes on where it stopped.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from medgan_ray.artifacts import registry, runs
from medgan_ray.config import merge
from medgan_ray.errors import InputError, UsageError
from medgan_ray.evaluate import record
from medgan_ray.host import Host, LocalHost
from medgan_ray.ingest.pipeline import IngestResult
from medgan_ray.store import is_remote, open_store
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.demo_page import Answer, Chapter, Search, Story, summary, write
from medgan_ray.verbs.evaluate import evaluate_run
from medgan_ray.verbs.generate import generate_scans
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms
from medgan_ray.verbs.publish import publish_run
from medgan_ray.verbs.train import TrainResult, train

PHANTOM_PATIENTS, PHANTOM_SLICES, PHANTOM_SIDE = 80, 8, 96
DEFAULTS: dict[str, Any] = {"images": 12_000}
FOR_PHANTOMS: dict[str, Any] = {"split": {"val": 0.2, "test": 0.2}}
"""So that 640 phantoms leave more than 100 for each of the figures' splits."""
GENERATED, GENERATED_DICOM = 16, 4
MODEL = "registry/demo"
EVALUATE: dict[str, Any] = {"evaluate": {"samples": 500, "utility": "none"}}
"""What a demo has time for."""
FORCED = "the demo shows how a version is published"

Value = TypeVar("Value")
Train = Callable[[str, str, Mapping[str, Any], Host], TrainResult]


@dataclass(frozen=True)
class Steps:
    """How the steps that Ray can place are done; without Ray there is neither search nor service."""

    train: Train = train
    search: Callable[[str, str, Mapping[str, Any]], Search] | None = None
    serve: Callable[[str], Answer] | None = None


@dataclass(frozen=True)
class DemoResult:
    """What the demo made; ``summary`` says it in lines for a person."""

    out: str
    report: str
    dataset: str
    run: str
    images: int
    figures: dict[str, float]
    seconds: float
    summary: list[str]


class _Told(LocalHost):
    """A host that passes progress to a function."""

    def __init__(self, progress: Callable[[int, int, float], None] | None) -> None:
        super().__init__()
        self._progress = progress

    def progress(self, images: int, total: int, rate: float) -> None:
        """Pass it on."""
        if self._progress:
            self._progress(images, total, rate)


def demo(
    out: str,
    scans: str | None = None,
    config: Mapping[str, Any] | None = None,
    *,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[int, int, float], None] | None = None,
    steps: Steps | None = None,
) -> DemoResult:
    """Walk from scans to generated scans, and tell what happened.

    Args:
        out: a local folder for everything that is made.
        scans: a folder or s3:// prefix of real scans; None draws phantoms.
        config: options, laid over the demo's own (``images=12000``).
        say: told in a line what begins.
        progress: told images seen, images to see, images a second while training.
        steps: how training, search and service are done; by default in this process, without the last two.

    Raises:
        MedganError: what a step refuses.
    """
    began, steps, folder = time.monotonic(), steps or Steps(), _folder(out)
    options = merge(merge(DEFAULTS, FOR_PHANTOMS if scans is None else {}), config or {})
    dataset, run = str(folder / "dataset"), str(folder / "run")
    tell = _Teller(say)
    if scans is None:
        tell("Draw phantoms", lambda: _phantoms(str(folder / "scans")))
    ingested = tell("Ingest", lambda: _ingest(scans or str(folder / "scans"), dataset, options))
    trained = tell("Train", lambda: _train(steps.train, dataset, run, options, _Told(progress)))
    tell("Evaluate", lambda: _evaluate(run, dataset, options, ingested.splits.get("test", 0)))
    model = tell("Publish", lambda: _publish(run, str(folder / MODEL)))
    tell("Generate", lambda: _generate(model, folder / "generated"))
    search, serve, searched = steps.search, steps.serve, None
    if search:
        settings = partial(search, dataset, str(folder / "search"), options)
        searched = tell("Search", lambda: _search(settings() if trained.figures else None))
    if serve:
        tell("Serve", lambda: _serve(serve(model)))
    return _told(Story(folder, scans is None, dataset, run, tell.chapters, ingested, trained, searched), began)


def _folder(out: str) -> Path:
    if is_remote(out):
        raise UsageError("the demo writes to a local folder", out, "give a path")
    try:
        Path(out).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("cannot make the folder", out, error.strerror or "give another path") from None
    return Path(out)


def _told(story: Story, began: float) -> DemoResult:
    """Write the pages and return the result."""
    report, seconds = write(story), time.monotonic() - began
    return DemoResult(
        out=str(story.out),
        report=str(report),
        dataset=story.dataset,
        run=story.run,
        images=story.trained.images,
        figures=story.trained.figures,
        seconds=round(seconds, 1),
        summary=summary(story, report, seconds),
    )


class _Teller:
    """Takes steps and keeps what they say: each returns its value and a sentence."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self.chapters: list[Chapter] = []

    def __call__(self, name: str, step: Callable[[], tuple[Value, str]]) -> Value:
        self._say(f"{len(self.chapters) + 1}. {name} …")
        began = time.monotonic()
        value, text = step()
        self.chapters.append(Chapter(name, text, time.monotonic() - began))
        return value


def _phantoms(folder: str) -> tuple[None, str]:
    if not (Path(folder) / "labels.csv").exists():
        make_phantoms(folder, patients=PHANTOM_PATIENTS, slices=PHANTOM_SLICES, size=PHANTOM_SIDE)
    return None, (
        f"{PHANTOM_PATIENTS * PHANTOM_SLICES} CT slices of {PHANTOM_PATIENTS} made-up patients, half of them with a "
        f"lesion, were drawn and written as DICOM files ({folder})."
    )


def _ingest(source: str, dataset: str, options: Mapping[str, Any]) -> tuple[IngestResult, str]:
    local = {key: value for key, value in options.items() if key in Config.model_fields}
    found = ingest_scans(source, dataset, local)
    refused = ", ".join(f"{count} {reason}" for reason, count in found.rejected.items())
    splits = found.splits
    kept = (
        "no patient is in two of these" if found.subjects else "whose they are is not known, so a patient may be in two"
    )
    return found, (
        f"{found.samples:,} scans of {found.subjects or 'unnamed'} patients went into a dataset of 16-bit images "
        f"({dataset}); files not taken: {refused or 'none'}. {splits.get('train', 0):,} are for learning, "
        f"{splits.get('val', 0):,} for choosing, {splits.get('test', 0):,} for judging; {kept}."
    )


def _train(function: Train, dataset: str, run: str, options: Mapping[str, Any], host: Host) -> tuple[TrainResult, str]:
    done = function(dataset, run, options, host)
    how = f"in {done.seconds:.0f} s" if done.seconds else "earlier"
    return done, f"A generator saw {done.images:,} images {how} and was kept with its checkpoints ({run})."


def _evaluate(run: str, dataset: str, options: Mapping[str, Any], held_out: int) -> tuple[None, str]:
    """Evaluate the best model unless that was done earlier."""
    if not held_out:
        return None, "The model was not evaluated: there is no scan that training never saw."
    found = _evaluated(run)
    if found is None:
        local = {key: value for key, value in options.items() if key in Config.model_fields}
        evaluate_run(run, dataset, merge(EVALUATE, local))
        found = _evaluated(run)
    failed = [f"{rule.name}: {rule.note}" for rule in found.rules if not rule.passed] if found else []
    verdict = f"refuses it, since {len(failed)} rules are broken ({failed[0]})" if failed else "lets it pass"
    return None, (
        f"The model was held against scans that training never saw, and searched for copies of those it did see: the "
        f"gate {verdict} ({run}/report.html)."
    )


def _evaluated(run: str) -> record.Evaluation | None:
    """Return the newest evaluation of a run, if it is of the best weights."""
    store = open_store(run)
    found, best = record.newest(store), runs.read_json(store, "best/model.json") or {}
    return found if found and found.model == best.get("weights") else None


def _publish(run: str, model: str) -> tuple[str, str]:
    """Publish the best model unless it is the current version; where the gate refuses it, by force, and said."""
    best = runs.read_json(open_store(run), "best/model.json") or {}
    number = registry.current(open_store(model))
    there = registry.find(model).folder if number else None
    if there is None or (runs.read_json(there, "model.json") or {}).get("weights") != best.get("weights"):
        found = _evaluated(run)
        forced = not found or found.verdict != "passed"
        number = publish_run(run, model, force=forced, why=FORCED if forced else "").version
    found_version = registry.find(f"{model}@{number}")
    how = "by force, which its card and the service say" if _is_forced(found_version) else "through the gate"
    return f"{model}@{number}", f"It became version {number} of the registry's model, {how} ({model})."


def _is_forced(version: registry.Version) -> bool:
    release = (runs.read_json(version.folder, "model.json") or {}).get("release") or {}
    return bool(release.get("forced"))


def _generate(model: str, folder: Path) -> tuple[None, str]:
    generate_scans(model, str(folder), GENERATED)
    generate_scans(model, str(folder / "dicom"), GENERATED_DICOM, form="dicom")
    return None, f"{GENERATED} new scans were generated as pictures, {GENERATED_DICOM} as DICOM files ({folder})."


def _search(found: Search | None) -> tuple[Search | None, str]:
    if found is None:
        return None, "The search was left out: with so few scans no figure can tell one setting from another."
    return found, f"{len(found.rows)} settings were tried on short runs, {found.stopped_early} stopped early."


def _serve(answer: Answer) -> tuple[None, str]:
    return None, (
        f"The model was served at {answer.url} behind a key; {answer.images} scans asked for over HTTP came in "
        f"{answer.wait_s:.2f} s."
    )
