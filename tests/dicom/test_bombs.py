"""Bombs: small files that claim, or unpack to, far more than they are; each costs little and ends with a reason."""

import pytest

from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import Limits, Outcome, Source, Step, decode
from tests.dicom.fuzzing.bombs import BOMBS
from tests.dicom.processes import MemoryWatch
from tests.dicom.test_fuzz import fault_of

LIMITS = Limits(file_s=5.0)


@pytest.fixture(scope="module")
def lit() -> tuple[dict[str, Outcome], MemoryWatch]:
    """All bombs, read one after another in decoding processes, and what those took."""
    sources = [Source(name, fetch=make) for name, (make, _) in BOMBS.items()]
    options = Options(luma=True, secondary=True, derived=True)
    with MemoryWatch() as watch:
        outcomes = {outcome.source.name: outcome for outcome in decode(sources, 2, options=options, limits=LIMITS)}
    return outcomes, watch


@pytest.mark.fuzz
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_ends_with_a_reason(lit: tuple[dict[str, Outcome], MemoryWatch], name: str) -> None:
    outcome = lit[0][name]
    assert outcome.refusal in BOMBS[name][1], f"{outcome.refusal}: {outcome.detail}"
    assert fault_of(outcome, Step()) == ""


@pytest.mark.fuzz
def test_bombs_meet_the_limit_on_memory(lit: tuple[dict[str, Outcome], MemoryWatch]) -> None:
    assert lit[1].limits == {LIMITS.memory_bytes}
    assert max(lit[1].address_bytes, lit[1].resident_bytes) <= LIMITS.memory_bytes
