"""What a person or a program sees: results on standard output; progress, logs and errors on standard error."""

import contextlib
import dataclasses
import json
import logging
import math
import os
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self

from medgan_ray.cli.pace import Pace
from medgan_ray.host import LocalHost

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

LINE_EVERY_S = 10.0
LATELY_S, LONGER_S = 30.0, 600.0
"""How far back a rate looks that is measured here: the speed now, and with all pauses."""
ROW_WIDTH = 90
_LOGGER = "medgan_ray"


class Show:
    """Where a verb's words go.

    Args:
        as_json: one JSON object on standard output, and nothing else there, whoever prints.
        quiet: no progress and no notices, only warnings and errors.
        debug: everything, with tracebacks.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False, debug: bool = False) -> None:
        self.as_json, self.quiet, self.debug = as_json, quiet, debug

    @contextlib.contextmanager
    def streams(self) -> Iterator[None]:
        """Log to standard error; with JSON, keep standard output for the one object."""
        handler, logger = _Standard(), logging.getLogger(_LOGGER)
        before = logger.level, logger.propagate
        logger.addHandler(handler)
        logger.setLevel(logging.DEBUG if self.debug else logging.WARNING if self.quiet else logging.INFO)
        logger.propagate = False
        try:
            with warnings.catch_warnings(), _own_output() if self.as_json else contextlib.nullcontext():
                if not (self.debug or "PYTHONWARNINGS" in os.environ or sys.warnoptions):
                    warnings.simplefilter("ignore")  # of libraries; ours are logged
                yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(before[0])
            logger.propagate = before[1]

    def result(self, value: object, title: str = "", extra: Mapping[str, Any] | None = None) -> None:
        """Print what a verb returned: as one JSON object, or as a table of its figures under ``title``."""
        found = {**plain(value), **(extra or {})}
        if self.as_json:
            _write_json(found)
            return
        for warning in found.pop("warnings", []) or []:
            note(f"note: {warning}")
        if title:
            self.line(title)
        for name, text in _rows(found):
            self.line(f"  {name:<20} {text}")

    def line(self, text: str) -> None:
        """Print a line for a person on standard output; with JSON there is none."""
        if not self.as_json:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Print a table for a person; with JSON there is none."""
        if self.as_json:
            return
        from rich.console import Console
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for index, column in enumerate(columns):
            words = any(isinstance(row[index], str) for row in rows)
            table.add_column(_escaped(column), justify="left" if index == 0 or words else "right", overflow="fold")
        for row in rows:
            table.add_row(*(_escaped(_text(cell)) for cell in row))
        Console(highlight=False).print(table)

    def progress(self, what: str, unit: str) -> "Bar":
        """Return a bar for work counted in ``unit``, to be used in a ``with`` block."""
        return Bar(what, unit, self.quiet)


class Bar:
    """Progress on standard error: a bar on a terminal, a plain line every ``LINE_EVERY_S`` elsewhere."""

    def __init__(self, what: str, unit: str, quiet: bool) -> None:
        self._what, self._unit, self._quiet = what, unit, quiet
        self._live: Progress | None = None
        self._task: TaskID | None = None
        self._said = time.monotonic()
        self._lately, self._longer = Pace(LATELY_S), Pace(LONGER_S)

    def __enter__(self) -> Self:
        if not self._quiet and sys.stderr.isatty():
            self._live = _live_bar()
            self._live.start()
            self._task = self._live.add_task(self._what, total=None, unit=self._unit, rate="", left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, done: int, total: int | None = None, rate: float | None = None) -> None:
        """Take how much is done, of how much, and at how many a second; without that, it is measured here."""
        rate, whole = self._rates(done, rate)
        pace = f"{rate:,.0f} {self._unit}/s" if rate >= 10 else f"{rate:.2g} {self._unit}/s" if rate else ""
        left = f"about {duration((total - done) / whole)} left" if total and whole else ""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, completed=done, total=total, rate=pace, left=left)
            return
        now = time.monotonic()
        if self._quiet or now - self._said < LINE_EVERY_S:
            return
        self._said = now
        amount = f"{done:,} of {total:,} {self._unit}" if total else f"{done:,} {self._unit}"
        note(f"{self._what}: " + ", ".join(part for part in (amount, pace, left) if part))

    def _rates(self, done: int, given: float | None) -> tuple[float, float]:
        """Return how many a second are done, and how many with all pauses, by which the time left is told.

        Training gives the speed of its steps; that it also stops to measure its figures shows in the longer run.
        """
        lately, longer = self._lately.at(done), self._longer.at(done)
        if not given:
            return lately, lately
        return given, min(given, longer) if longer else given


class TerminalHost(LocalHost):
    """The surroundings of a training run that is watched on a terminal."""

    def __init__(self, bar: Bar) -> None:
        super().__init__()
        self._bar = bar

    def progress(self, images: int, total: int, rate: float) -> None:
        """Move the bar."""
        self._bar.update(images, total, rate)


class _Standard(logging.Handler):
    """Writes each record as a line to whatever standard error is at that moment, so that a bar isn't torn."""

    def emit(self, record: logging.LogRecord) -> None:
        prefix = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        note(prefix + record.getMessage())


def note(text: str) -> None:
    """Write a line to standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def duration(seconds: float) -> str:
    """Return a time as a person says it: 45 s, 7 min, 2 h 05 min."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def plain(value: object) -> Any:
    """Return a result as JSON knows it: dataclasses and sections as objects, what is not finite as null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if hasattr(value, "model_dump"):
        return plain(value.model_dump())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if hasattr(value, "item"):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


_saved_output: int | None = None


@contextlib.contextmanager
def _own_output() -> Iterator[None]:
    """Send whatever is printed to standard error, on the level of the process, and keep the real output aside."""
    global _saved_output
    sys.stdout.flush()
    _saved_output = os.dup(1)
    os.dup2(2, 1)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(_saved_output, 1)
        os.close(_saved_output)
        _saved_output = None


def _write_json(value: Mapping[str, Any]) -> None:
    text = json.dumps(value, allow_nan=False, ensure_ascii=False) + "\n"
    with os.fdopen(os.dup(1 if _saved_output is None else _saved_output), "w", encoding="utf-8") as stream:
        stream.write(text)


def _live_bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[rate]}", markup=False),
        TextColumn("{task.fields[left]}", markup=False),
        console=Console(stderr=True),
        transient=True,
    )


def _rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield names and texts; a small object takes one row, a larger one a row for each of its keys."""
    for name, value in found.items():
        if isinstance(value, Mapping) and value and len(_text(value)) > ROW_WIDTH:
            yield from ((f"{name}.{inner}", text) for inner, text in _rows(value))
        elif value not in (None, [], {}, ""):
            yield name, _text(value)


def _text(value: object) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        shown = ", ".join(_text(item) for item in value[:8])
        return shown + (f", … ({len(value)} in all)" if len(value) > 8 else "")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(item)}" for key, item in value.items())
    return " ".join(str(value).split())


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
