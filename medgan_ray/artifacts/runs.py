"""Runs: what was asked, written once, and the pointer to the best checkpoint.

RUN/run.json     config, manifest, code version
RUN/best/        the best checkpoint's model, in the form of a version
RUN/best.json    {"checkpoint", "score", "images"}
RUN/result.json  what training gave, once it is complete
"""

import json
from collections.abc import Mapping
from typing import Any

from medgan_ray import __version__
from medgan_ray.config import differences, json_object, merge
from medgan_ray.dataset.manifest import canonical
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store

RUN = "run.json"
BEST = "best.json"
RESULT = "result.json"
WALK = "previews/walk.gif"


def begin(
    run: Store, config: dict[str, Any], manifest: str, free: frozenset[str], defaults: Mapping[str, Any] | None = None
) -> bool:
    """Write ``run.json``, or check that the one that is there asks for the same; say whether the run is new.

    Args:
        run: the run's store.
        config: the effective configuration.
        manifest: digest of the dataset's manifest.
        free: dotted keys that may differ when a run goes on.
        defaults: what options stand at that are newer than the run that is there.

    Raises:
        UsageError: if the run was begun with another configuration or on another dataset.
    """
    if run.create(RUN, canonical({"config": config, "manifest": manifest, "code_version": __version__})):
        return True
    old = read(run)
    if old["manifest"] != manifest:
        raise UsageError("this run was begun on another dataset", run.uri, "give the run another name")
    different = sorted(differences(merge(defaults or {}, old["config"]), config, free))
    if different:
        raise UsageError(f"this run was begun with another {different[0]}", run.uri, "give the run another name")
    return False


def read(run: Store) -> dict[str, Any]:
    """Return what ``run.json`` holds.

    Raises:
        InputError: if there is no run, or it is corrupt.
    """
    found = read_json(run, RUN)
    if found is None:
        raise InputError("no run here", run.uri, "make one with 'medgan-ray train DATASET RUN'")
    return found


def read_json(store: Store, key: str) -> dict[str, Any] | None:
    """Return the JSON object at ``key``, None if there is none; InputError if it is corrupt."""
    data, _ = store.read_version(key)
    return None if data is None else json_object(data, f"{store.uri}/{key}")


def write_json(store: Store, key: str, values: dict[str, Any]) -> None:
    """Write a JSON object at ``key``, whatever was there."""
    store.replace(key, canonical(values))


def read_log(run: Store) -> list[dict[str, Any]]:
    """Return the lines of a run's log, oldest first; of images logged twice the later attempt counts."""
    lines: dict[tuple[int, bool], dict[str, Any]] = {}
    keys = [entry.key for entry in run.list("log") if entry.key.endswith("/metrics.jsonl")]
    for key in sorted(keys):
        for text in run.read(key).decode().splitlines():
            line = json.loads(text)
            lines[line["images"], "score" in line] = line
    return [lines[key] for key in sorted(lines)]
