"""Decoding processes: what hangs, dies or swells costs one file and never the run."""

import os
import signal
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan_ray.dicom import phantom
from medgan_ray.dicom.child import DECODE_S
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import BATCH_FILES, Limits, Source, Step, decode, decode_one
from tests.dicom.processes import children


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> list[Source]:
    folder = tmp_path_factory.mktemp("scans")
    sources = []
    for drawn in phantom.draw("ct", 3 * BATCH_FILES, 1, 16, 0):
        path = folder / drawn.name
        path.write_bytes(phantom.encode(drawn, 0))
        sources.append(Source(drawn.name, path=str(path)))
    return sources


def test_outcomes_come_in_order_whatever_the_number_of_workers(scans: list[Source]) -> None:
    one, two = (list(decode(scans, workers)) for workers in (1, 2))
    assert [outcome.source for outcome in one] == [outcome.source for outcome in two] == scans
    for a, b in zip(one, two, strict=True):
        assert a.values is not None and b.values is not None and a.facts == b.facts
        np.testing.assert_array_equal(a.values, b.values)
        assert a.facts is not None and a.facts.unit == "HU"
    assert children() == []


def test_bytes_and_paths_read_alike(scans: list[Source]) -> None:
    data = Path(scans[0].path or "").read_bytes()
    by_path, by_bytes = decode([scans[0], Source("fetched", fetch=lambda: data)], 1)
    assert by_path.facts == by_bytes.facts


@pytest.mark.fuzz
def test_a_file_that_hangs_costs_only_itself(scans: list[Source], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "never.dcm")
    hanging = Source("never.dcm", path=str(tmp_path / "never.dcm"))
    outcomes = list(decode([scans[0], hanging, scans[1]], 1, limits=Limits(file_s=1.0)))
    assert [outcome.refusal for outcome in outcomes] == ["", "too_slow", ""]


@pytest.mark.fuzz
def test_a_small_image_must_be_there_soon(scans: list[Source]) -> None:
    outcome = next(decode(scans[:1], 1, limits=Limits(file_s=60), step=Step("tests.dicom.sleeper")))
    assert outcome.refusal == "too_slow"
    assert DECODE_S <= outcome.seconds < 60


@pytest.mark.fuzz
def test_a_process_that_dies_costs_only_its_file(scans: list[Source]) -> None:
    def deadly() -> bytes:
        for child in children():
            os.kill(int(child.name), signal.SIGKILL)
        return b"\0" * 1000

    outcomes = list(decode([scans[0], Source("deadly", fetch=deadly), scans[1]], 1))
    assert [outcome.refusal for outcome in outcomes] == ["", "decoder_crashed", ""]


@pytest.mark.fuzz
def test_a_bomb_meets_the_memory_limit(scans: list[Source], tmp_path: Path) -> None:
    """Deflated DICOM unpacks before its header can be read: only the process's own limit stops it."""
    head = Path(scans[0].path or "").read_bytes()[:132]
    meta = b"\x02\x00\x10\x00UI\x16\x001.2.840.10008.1.2.1.99"
    group = b"\x02\x00\x00\x00UL\x04\x00" + len(meta).to_bytes(4, "little")
    packer = zlib.compressobj(1, wbits=-15)
    body = b"".join(packer.compress(bytes(1 << 24)) for _ in range(44)) + packer.flush()
    bomb = tmp_path / "bomb.dcm"
    bomb.write_bytes(head + group + meta + body)
    limits = Limits(memory_bytes=600 << 20)
    outcomes = list(decode([Source("bomb", path=str(bomb)), scans[0]], 1, limits=limits))
    assert outcomes[0].refusal == "over_memory"
    assert outcomes[1].refusal == ""


def test_secrets_stay_outside(scans: list[Source], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-canary")
    monkeypatch.setenv("MEDGAN_SUBJECT_KEY", "subject-canary-0123456789")
    seen: list[bytes] = []

    def look() -> bytes:
        seen.extend((child / "environ").read_bytes() for child in children())
        return b""

    list(decode([scans[0], Source("look", fetch=look)], 1))
    assert len(seen) == 1
    assert b"PYTHONPATH" in seen[0]
    assert b"canary" not in seen[0]


def test_pictures_are_decoded_there_too(tmp_path: Path) -> None:
    values = np.arange(64 * 48, dtype=np.uint16).reshape(64, 48) * 20
    Image.fromarray(values).save(tmp_path / "a.png")
    outcome = decode_one(Source("a.png", path=str(tmp_path / "a.png")))
    assert outcome.values is not None
    np.testing.assert_array_equal(outcome.values, values[None])


def test_looking_only_hands_over_no_pixels(scans: list[Source]) -> None:
    outcome = decode_one(scans[0], Options(inspect=True))
    assert outcome.values is None
    assert outcome.facts is not None and len(outcome.facts.stored_sha256) == 64


def test_abandoning_the_iteration_ends_the_processes(scans: list[Source]) -> None:
    outcomes = decode(scans, 2)
    next(outcomes)
    outcomes.close()  # type: ignore[attr-defined]
    assert children() == []
