"""How runs of each task are evaluated: what is looked at, which chapters there are, by which rules, on which pages."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from medgan_ray.artifacts import runs
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.errors import UsageError
from medgan_ray.evaluate import chapters, gate, generator_report, recognition, recognizer_report
from medgan_ray.evaluate.answered import RecognizerCase
from medgan_ray.evaluate.case import Case, GeneratorCase
from medgan_ray.evaluate.chapter import Chapter
from medgan_ray.evaluate.record import Evaluation
from medgan_ray.evaluate.report import Pages
from medgan_ray.evaluate.settings import EvaluateSettings
from medgan_ray.store import open_store

Looked = TypeVar("Looked", bound=Case)


@dataclass(frozen=True)
class Kind(Generic[Looked]):
    """One task, as its evaluation asks about it."""

    opens: Callable[[str, str, EvaluateSettings, DataSettings], Looked]
    """Opens run and dataset."""
    chapters: Mapping[str, Callable[[Looked], Chapter]]
    """What is looked at, by name, in this order."""
    pages: Callable[[Looked, Evaluation, Mapping[str, Chapter]], Pages]
    """Tells what was found."""
    rules: str
    """File of the gate's rules, beside this one."""


def of(run: str) -> Kind[Any]:
    """Return how a run is evaluated.

    Raises:
        InputError: if there is no run.
        UsageError: if it is of a task that nobody evaluates.
    """
    task = runs.read(open_store(run))["config"].get("task")
    if task not in _KINDS:
        raise UsageError(f"a run of the task {task!r}", run, f"evaluated are: {', '.join(_KINDS)}")
    return _KINDS[task]


_KINDS: Mapping[Any, Kind[Any]] = {
    "generate": Kind(GeneratorCase, chapters.CHAPTERS, generator_report.pages, gate.DEFAULT),
    "recognize": Kind(RecognizerCase, recognition.CHAPTERS, recognizer_report.pages, gate.RECOGNIZERS),
}
