"""The answers of a recognizer as a file: CSV, one line a scan or refusal, or JSON, as ``--json`` prints it."""

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medgan_ray.errors import UsageError

if TYPE_CHECKING:
    from medgan_ray.verbs.recognize import RecognizeResult

CSV, JSON = ".csv", ".json"
FORMS = (CSV, JSON)


def encode(result: "RecognizeResult", form: str) -> bytes:
    """Return a result as a file of this ending.

    The CSV has ``file``, ``frame``, ``refused`` (a reason; the other columns are empty then), ``label``, ``nearest``,
    ``set`` (classes, | between), ``abstained``, ``anomaly``, ``foreign`` and ``p.CLASS`` for each class; of further
    label sets, ``SET.label``, ``SET.nearest``, ``SET.set`` and ``SET.p.CLASS``; ``map`` where maps were written; and in
    each line ``model``.

    Raises:
        UsageError: for another ending.
    """
    if form == JSON:
        return (json.dumps(dataclasses.asdict(result), allow_nan=False, ensure_ascii=False, indent=1) + "\n").encode()
    if form != CSV:
        raise UsageError("not a form of answers", form, f"one of {', '.join(FORMS)}")
    lines = [dict(_cells(scan)) for scan in result.scans]
    names = list(lines[0]) if lines else ["file", "frame", "refused"]
    lines += [{"file": each["file"], "frame": each["frame"], "refused": each["reason"]} for each in result.not_taken]
    stream = io.StringIO(newline="")
    table = csv.DictWriter(stream, [*names, "model"], restval="", lineterminator="\n")
    table.writeheader()
    for line in lines:
        table.writerow({**line, "model": result.model})
    return stream.getvalue().encode()


def _cells(scan: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from (("file", scan["file"]), ("frame", scan["frame"]), ("refused", ""))
    yield from _of_set(scan, "")
    yield from ((name, _text(scan[name])) for name in ("abstained", "anomaly", "foreign"))
    for name, said in scan.get("others", {}).items():
        yield from _of_set(said, f"{name}.")
    if "map" in scan:
        yield "map", scan["map"]


def _of_set(said: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    yield f"{prefix}label", _text(said["label"])
    yield f"{prefix}nearest", said["nearest"]
    yield f"{prefix}set", "|".join(said["set"])
    yield from ((f"{prefix}p.{name}", f"{value:.6g}") for name, value in said["probabilities"].items())


def _text(value: object) -> object:
    """Return a cell: nothing for null, true and false in JSON's words."""
    return "" if value is None else str(value).lower() if isinstance(value, bool) else value
