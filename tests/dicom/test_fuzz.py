"""Broken files by the thousand: each ends as values or a named reason, within its limits, and the parent lives.

Mutation number N is the same wherever the same seeds lie: ``pytest tests/dicom/test_fuzz.py --fuzz-first N
--fuzz-cases 1`` has it again.
"""

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts, Options
from medgan_ray.dicom.refusals import REFUSALS
from medgan_ray.dicom.sandbox import Limits, Outcome, Source, Step, decode
from medgan_ray.ingest import shrink
from medgan_ray.ingest.reasons import MEANINGS
from medgan_ray.ingest.settings import IngestSettings
from tests.conftest import SHARED
from tests.dicom.fuzzing.mutations import mutate
from tests.dicom.fuzzing.seeds import Seed, gather_seeds
from tests.dicom.processes import MemoryWatch

SHORT_CASES = 2500
"""As many as take some twenty seconds."""

LIMITS = Limits()
"""Those that ingest has by default."""

MOST_S = 5.0
"""What none may take."""

EVERYTHING = Options(luma=True, secondary=True, derived=True)
SIZE = (32, 32)
SETTINGS = IngestSettings(crop="body", text="mask")
INGEST = shrink.step(SIZE, SETTINGS)
WAYS: tuple[tuple[Options, Step], ...] = (
    (EVERYTHING, Step()),
    (EVERYTHING, INGEST),
    (replace(EVERYTHING, headers=True), Step()),
    (replace(EVERYTHING, inspect=True), Step()),
)
"""By the number of the mutation, one after another: taking all that can be taken, as ingest does, gets furthest."""

LISTED = ("decoder_crashed", "over_memory", "too_slow")
SHOWN_S = 10.0
UNFORESEEN = re.compile(r"[A-Za-z]+(Error|Exception|Warning): ")
"""How the decoding process words what nothing below it has named."""


@dataclass
class Report:
    """What became of all mutations."""

    reasons: Counter[str] = field(default_factory=Counter)
    unforeseen: Counter[str] = field(default_factory=Counter)
    slowest: list[tuple[float, str]] = field(default_factory=list)
    listed: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Against the law."""

    def add(self, outcome: Outcome, step: Step, told: Callable[[], str]) -> None:
        """Count an outcome of a step; ``told`` says which file it was and what was done to it."""
        self.reasons[outcome.refusal or ("(images)" if step is INGEST else "(values)")] += 1
        fault = fault_of(outcome, step)
        if fault:
            self.broken.append(f"{told()}: {fault}")
        if outcome.refusal in LISTED:
            self.listed.append(f"{outcome.refusal} ({outcome.detail}) {told()}")
        if UNFORESEEN.match(outcome.detail):
            kind = re.sub(r"\d+", "N", outcome.detail)[:90]
            if not self.unforeseen[kind]:
                self.listed.append(f"{outcome.refusal} ({outcome.detail}) {told()}")
            self.unforeseen[kind] += 1
        if len(self.slowest) < 12 or outcome.seconds > self.slowest[-1][0]:
            self.slowest = sorted([*self.slowest, (outcome.seconds, f"{told()}: {outcome.refusal}")], reverse=True)[:12]

    def lines(self, seconds: float, watch: MemoryWatch) -> Iterator[str]:
        """Yield the report for the terminal."""
        count = self.reasons.total()
        yield f"{count} mutations in {seconds:.0f} s, {count / seconds:.0f}/s; of the decoding processes the largest"
        yield f"had {watch.resident_bytes >> 20} MB resident, {watch.address_bytes >> 20} MB of address space"
        yield from (f"{number:>9} {reason}" for reason, number in self.reasons.most_common())
        yield "slowest:"
        yield from (f"{spent:>8.2f} s  {name}" for spent, name in self.slowest)
        if self.unforeseen:
            yield "named by nothing but the decoding process itself:"
            yield from (f"{number:>9} {kind}" for kind, number in self.unforeseen.most_common())
        yield from ("against the law:", *(f"  {line}" for line in self.broken)) if self.broken else ()
        yield from ("listed:", *(f"  {line}" for line in self.listed)) if self.listed else ()


def fault_of(outcome: Outcome, step: Step) -> str:
    """Return what is wrong with an outcome of a step, or an empty text."""
    if outcome.seconds > MOST_S:
        return f"took {outcome.seconds:.1f} s"
    if outcome.refusal:
        taken = outcome.values is not None or outcome.facts is not None
        return "refused and taken" if taken else "" if outcome.refusal in REFUSALS else f"no reason: {outcome.refusal}"
    if outcome.facts is None:
        return "neither taken nor refused"
    facts, values = outcome.facts, outcome.values
    if values is None:
        return _fault_of_look(facts)
    if step is INGEST:
        return _fault_of_images(outcome, values)
    if values.shape != (facts.frames, facts.rows, facts.columns):
        return f"values {values.shape}, facts {facts.frames} x {facts.rows} x {facts.columns}"
    if not np.isfinite(values).all():
        return "values that are no numbers"
    if facts.unit not in ("HU", "SUV", "voi", "grey", "relative"):
        return f"unit {facts.unit}"
    if facts.unit == "voi" and (values.min() < 0 or values.max() > 1):
        return "display values beyond 0 to 1"
    for name in ("positions", "orientations", "spacings"):
        if len(getattr(facts, name)) not in (0, facts.frames):
            return f"{len(getattr(facts, name))} {name} for {facts.frames} frames"
    return ""


def _fault_of_images(outcome: Outcome, images: NDArray[np.generic]) -> str:
    """Return what is wrong with what ingest's own decoding process made of a file."""
    if images.dtype != np.float32 or images.shape != (len(outcome.notes), *SETTINGS.grid(SIZE)):
        return f"images {images.dtype} {images.shape}, {len(outcome.notes)} notes"
    if not np.isfinite(images).all():
        return "images that are no numbers"
    reasons = {note["reason"] for note in outcome.notes} - {"", *MEANINGS}
    return f"no reason: {sorted(reasons)}" if reasons else ""


def _fault_of_look(facts: Facts) -> str:
    if facts.verdict and facts.verdict not in REFUSALS:
        return f"no reason: {facts.verdict}"
    return "" if facts.verdict or re.fullmatch("[0-9a-f]{64}", facts.stored_sha256) else "taken without a hash"


def run(numbers: range, seeds: list[Seed], workers: int, show: Callable[[str], None]) -> Report:
    """Read mutations in decoding processes; return what became of them."""
    report, begun = Report(), time.monotonic()
    shown = begun
    for way, (options, step) in enumerate(WAYS):
        chosen = [number for number in numbers if number % len(WAYS) == way]
        sources = (Source(str(number), fetch=partial(_bytes_of, number, seeds)) for number in chosen)
        for outcome in decode(sources, workers, options=options, limits=LIMITS, step=step):
            report.add(outcome, step, partial(_told, int(outcome.source.name), seeds))
            if time.monotonic() - shown > SHOWN_S:
                shown, count = time.monotonic(), report.reasons.total()
                show(
                    f"{count} of {len(numbers)}, {count / (shown - begun):.0f}/s, {len(report.broken)} against the law"
                )
    return report


def _bytes_of(number: int, seeds: list[Seed]) -> bytes:
    return mutate(number, seeds).data


def _told(number: int, seeds: list[Seed]) -> str:
    mutant = mutate(number, seeds)
    return f"#{number} {mutant.seed} ({', '.join(mutant.changes)})"


@pytest.mark.fuzz
@pytest.mark.slow
def test_broken_files_end_as_values_or_a_named_reason(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    corpus, asked = SHARED / "data" / "dicom_corpus", pytestconfig.getoption("--fuzz-cases")
    first = pytestconfig.getoption("--fuzz-first")
    numbers = range(first, first + (SHORT_CASES if asked is None else asked))
    seeds = gather_seeds(corpus if corpus.exists() else None)

    def show(line: str) -> None:
        if asked is not None:
            with capsys.disabled():
                print(line, flush=True)

    show(f"\n{len(numbers)} mutations of {len(seeds)} files")
    begun = time.monotonic()
    with MemoryWatch() as watch:
        report = run(numbers, seeds, 2, show)
    for line in report.lines(time.monotonic() - begun, watch):
        show(line)
    for line in report.broken[:20]:
        number = int(line[1:].split()[0])
        (tmp_path / str(number)).write_bytes(mutate(number, seeds).data)
    assert report.broken == [], f"the files lie in {tmp_path}"
    assert report.reasons.total() == len(numbers)
    assert watch.limits == {LIMITS.memory_bytes}
    assert watch.address_bytes <= LIMITS.memory_bytes
    assert watch.resident_bytes <= LIMITS.memory_bytes


def test_a_mutation_is_a_function_of_its_number() -> None:
    first, second = gather_seeds(None), gather_seeds(None)
    assert [mutate(number, first) for number in range(200)] == [mutate(number, second) for number in range(200)]
    assert len({mutate(number, first).data for number in range(200)}) > 190
