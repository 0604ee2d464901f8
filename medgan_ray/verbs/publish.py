"""The verb ``publish``: a run's best model becomes a new version in a registry, if the gate lets it.

medgan-ray publish runs/1 registry/heads
medgan-ray publish runs/1 registry/heads --force --why "a baseline for the course"
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from medgan_ray.artifacts import registry, runs
from medgan_ray.config import Section
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import GateRefusal, InputError, UsageError
from medgan_ray.store import Store, open_store

if TYPE_CHECKING:
    from torch import Tensor

    from medgan_ray.artifacts.calibration import Calibration
    from medgan_ray.artifacts.versions import Description, Release
    from medgan_ray.verbs.config import Config

CARD, EVALUATION = "card.md", "evaluation.json"


class PublishResult(Section):
    """The new version, and what the gate said of it."""

    model: str
    """REGISTRY/NAME@N: what serve, generate and load_model open."""
    version: int
    current: int
    """The version that is current now; higher where another publisher was faster."""
    verdict: str
    failed: tuple[str, ...]
    forced: str | None
    weights: str


class _Best(NamedTuple):
    """A run's best model as it is published: what it is, its files, and a recognizer's calibration."""

    card: "Description"
    files: dict[str, bytes]
    calibration: "Calibration | None" = None


class _Judged(Section):
    """What is known of a model's weights: the evaluation, and what it comes to."""

    verdict: Literal["passed", "refused", "none"]
    evaluation: dict[str, Any]
    sha256: str = ""
    failed: tuple[str, ...] = ()
    why: str = ""
    """Why the gate does not let them through; empty if it does."""
    fix: str = ""


def publish_run(
    run: str,
    model: str,
    config: "Mapping[str, Any] | Config | None" = None,
    *,
    force: bool = False,
    why: str = "",
) -> PublishResult:
    """Publish a run's best model as a new version, and make it current.

    Args:
        run: a run, or a search (its winner).
        model: ``REGISTRY/NAME``, a path or s3:// prefix; it may be new.
        config: the configuration; its section ``publish`` counts.
        force: publish although the gate refuses.
        why: the reason for it, shown wherever the model is served.

    Raises:
        GateRefusal: if the best weights were not evaluated, or a rule was not kept, and ``force`` is not given.
        UsageError: for ``force`` without a reason, a reason without ``force``, or a name that can't be a model's.
        InputError: if there is no run with a best model, it is corrupt, or a recognizer that isn't calibrated.
        StoreError: if a store fails.
    """
    from medgan_ray.verbs.config import Config

    if force != bool(why.strip()):
        raise UsageError("--force and --why go together", "", 'give --force --why "REASON", or neither')
    settings = Config.of(config).publish
    target, source = registry.open_model(model), _run(run)
    best = _best(source)
    judged = _judge(source, best)
    if judged.why and not force:
        raise GateRefusal(judged.why, source.uri, judged.fix)
    forced = " ".join(why.split()) if judged.why else None

    def files_of(number: int, now: str) -> dict[str, bytes]:
        release = _release(source, target, judged, forced, (number, now, settings.license))
        return _files(best, release, judged.evaluation, settings.use)

    found = registry.publish(target, files_of, f"published: {judged.verdict}" + (", forced" if forced else ""))
    return PublishResult(
        model=found.address,
        version=found.number,
        current=registry.current(target),
        verdict=judged.verdict,
        failed=judged.failed,
        forced=forced,
        weights=best.card.weights,
    )


def _run(uri: str) -> Store:
    """Return the run at an address, or the winner of a search there."""
    store = open_store(uri)
    if not store.exists(runs.RUN):
        best = runs.read_json(store, runs.BEST) or {}
        if not isinstance(best.get("run"), str):
            raise InputError("no run here", uri, "give a run, or a search")
        store = store.child(best["run"])
    if not store.exists("best/model.json"):
        raise InputError("no checkpoint yet", uri, "train it first")
    return store


def _best(run: Store) -> _Best:
    """Return a run's best model: a generator or a calibrated recognizer, with no tensor that isn't its own."""
    from medgan_ray.artifacts.versions import WEIGHTS, read_model

    tensors, card = read_model(run.child("best"))
    weights = run.read(f"best/{WEIGHTS}")
    if hashlib.sha256(weights).hexdigest() != card.weights:
        raise InputError("the run has found a better model meanwhile", run.uri, "publish again")
    if card.task not in _CARRIED:
        raise UsageError(f"a model of task={card.task}", run.uri, f"published are: {', '.join(_CARRIED)}")
    return _CARRIED[card.task](run, tensors, _Best(card, {WEIGHTS: weights}))


def _generator(run: Store, tensors: "dict[str, Tensor]", best: _Best) -> _Best:
    """Refuse any tensor that isn't the generator's: a discriminator never leaves a run."""
    from medgan_ray.inference.model import Model

    Model(run.uri, tensors, best.card)
    return best


def _recognizer(run: Store, tensors: "dict[str, Tensor]", best: _Best) -> _Best:
    """Take the calibration along, and refuse weights that have none: what they say would mean nothing."""
    from medgan_ray.artifacts import calibration
    from medgan_ray.inference.recognizer import Recognizer

    data, _ = run.read_version(f"best/{calibration.FILE}")
    where = f"{run.uri}/best/{calibration.FILE}"
    fitted = calibration.parsed(data, best.card.weights, where) if data is not None else None
    Recognizer(run.uri, tensors, best.card, fitted)
    if data is None or fitted is None:
        advice = "train it to its end, with 10 scans or more in the val split"
        raise InputError("a recognizer without calibration is not published", run.uri, advice)
    return _Best(best.card, {**best.files, calibration.FILE: data}, fitted[0])


_CARRIED: Mapping[str, Callable[[Store, "dict[str, Tensor]", _Best], _Best]] = {
    "generate": _generator,
    "recognize": _recognizer,
}
"""By task, what a version needs beside weights and description."""


def _judge(run: Store, best: _Best) -> _Judged:
    """Return what the newest evaluation of a run says of this very model; whatever is unclear is a refusal."""
    from medgan_ray.artifacts import calibration
    from medgan_ray.evaluate import record

    fix = f"medgan-ray evaluate {run.uri} DATASET, or pass --force --why REASON"
    found, weights = record.newest(run), best.card.weights
    fitted = best.files.get(calibration.FILE)
    beside = hashlib.sha256(fitted).hexdigest() if fitted is not None else ""
    if found is None or found.model != weights or found.calibration != beside:
        what = "weights were" if found is None or found.model != weights else "weights' calibration was"
        why = f"the best {what} not evaluated" + (", only others" if found else "")
        nothing = {"verdict": "none", "rules": [], "figures": {}, "model": weights}
        return _Judged(verdict="none", evaluation=nothing, why=f"refused by the gate: {why}", fix=fix)
    values = found.model_dump(mode="json")
    failed = tuple(rule.name for rule in found.rules if rule.passed is not True)
    sha256 = hashlib.sha256(canonical(values)).hexdigest()
    if found.verdict == "passed" and found.rules and not failed:
        return _Judged(verdict="passed", evaluation=values, sha256=sha256)
    told = "; ".join(
        f"{rule.name} ({rule.note})" if rule.note else rule.name for rule in found.rules if not rule.passed
    )
    return _Judged(
        verdict="refused",
        evaluation=values,
        sha256=sha256,
        failed=failed,
        why=f"refused by the gate: {told or 'its evaluation names no rule that was kept'}",
        fix="train it further, or pass --force --why REASON",
    )


def _release(run: Store, model: Store, judged: _Judged, forced: str | None, told: tuple[int, str, str]) -> "Release":
    from medgan_ray.artifacts.versions import Release

    number, now, license_name = told
    return Release(
        name=model.uri.rpartition("/")[2],
        version=number,
        published=now,
        verdict=judged.verdict,
        failed=judged.failed,
        forced=forced,
        evaluation=judged.sha256,
        run=run.uri.rpartition("/")[2],
        run_sha256=hashlib.sha256(run.read(runs.RUN)).hexdigest(),
        license=license_name,
    )


def _files(best: _Best, release: "Release", evaluation: Mapping[str, Any], use: str) -> dict[str, bytes]:
    from medgan_ray.artifacts.card import write_card
    from medgan_ray.artifacts.versions import DESCRIPTION

    described = best.card.model_copy(update={"release": release})
    return {
        **best.files,
        DESCRIPTION: canonical(described.model_dump(mode="json")),
        CARD: write_card(described, release, evaluation, use, best.calibration).encode(),
        EVALUATION: canonical(dict(evaluation)),
    }
