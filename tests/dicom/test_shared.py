"""Memory between a parent and its decoding process: what is written arrives, and nobody can take it away."""

import math
import mmap
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.read import read_scan
from medgan_ray.dicom.sandbox import Source, Step, decode
from medgan_ray.dicom.shared import NONE, SLOT_BYTES, SLOTS, Slots, opened, put


def _write_large(path: Path, seed: int) -> None:
    """Write a picture that no slot holds."""
    side = math.isqrt(SLOT_BYTES) + 1
    rows = np.random.default_rng(seed).integers(0, 255, side, np.uint8)
    Image.fromarray(np.tile(rows, (side, 1))).save(path, "PNG")


def test_values_arrive_in_their_slots() -> None:
    slots = Slots()
    memory = opened(slots.descriptor)
    drawn = np.random.default_rng(0).integers(-1000, 3000, (SLOTS, 2, 30, 20)).astype(np.int16)
    for slot, values in enumerate(drawn):
        assert put(memory, slot, values[:, ::-1])
    for slot, values in enumerate(drawn):
        copied = slots.copy(slot, values.nbytes).view(np.int16).reshape(values.shape)
        np.testing.assert_array_equal(copied, values[:, ::-1])
    before = slots.copy(0, 8)
    assert put(memory, 0, drawn[1]) and not np.array_equal(slots.copy(0, 8), before)
    slots.close()


def test_what_does_not_fit_is_not_written() -> None:
    slots = Slots()
    values = np.ones(SLOT_BYTES + 1, np.uint8)
    assert not put(opened(slots.descriptor), 0, values) and put(opened(slots.descriptor), 0, values[1:])
    assert not put(opened(NONE), 0, values[:1])
    for size in (-1, SLOT_BYTES + 1, 1 << 60):
        with pytest.raises(ValueError, match="a reply that is none"):
            slots.copy(0, size)
    slots.close()


def test_the_memory_cannot_be_made_smaller_or_larger() -> None:
    """A process that did so could end its parent."""
    slots = Slots()
    for size in (0, SLOTS * SLOT_BYTES - 1, 2 * SLOTS * SLOT_BYTES):
        with pytest.raises(PermissionError):
            os.ftruncate(slots.descriptor, size)
    with pytest.raises(PermissionError):
        mmap.mmap(slots.descriptor, SLOT_BYTES, prot=mmap.PROT_READ | mmap.PROT_WRITE, flags=mmap.MAP_SHARED).resize(1)
    slots.close()


def test_small_and_large_scans_come_as_they_are_read(tmp_path: Path) -> None:
    """More than there are slots, some too large for one."""
    sources = []
    for number in range(2 * SLOTS + 3):
        path = tmp_path / f"{number}"
        path.write_bytes(phantom.encode(next(phantom.draw("ct", 1, 1, 24 + number, number)), number))
        if number % 4 == 1:
            _write_large(path, number)
        sources.append(Source(path.name, path=str(path)))
    for outcome in decode(sources, 1):
        expected = read_scan(Path(str(outcome.source.path)).read_bytes(), Options())
        assert outcome.values is not None and expected.values is not None
        assert outcome.values.dtype == expected.values.dtype
        np.testing.assert_array_equal(outcome.values, expected.values)
        outcome.values[...] = 0  # it is the parent's own


def test_a_process_that_lies_about_what_it_wrote_costs_its_file(tmp_path: Path) -> None:
    path = tmp_path / "large"
    _write_large(path, 0)
    outcome = next(decode([Source(path.name, path=str(path))], 1, step=Step("tests.dicom.liar")))
    assert (outcome.refusal, outcome.values) == ("decoder_crashed", None)
