"""Frames leave a decoding process at the dataset's size; a reply that is none costs its file."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgan_ray.dicom import phantom, sandbox
from medgan_ray.dicom.facts import Facts
from medgan_ray.ingest import geometry, shrink
from medgan_ray.ingest.deidentify import SubjectKey
from medgan_ray.ingest.frames import Left, Recipe, Taken, take
from medgan_ray.ingest.settings import IngestSettings
from medgan_ray.ingest.sources import Found

SIZE = (32, 32)
RECIPE = Recipe(SIZE, IngestSettings())
KEY = SubjectKey(b"0123456789abcdef")


def outcomes(paths: list[Path], settings: IngestSettings | None = None) -> list[sandbox.Outcome]:
    sources = [sandbox.Source(path.name, path=str(path)) for path in paths]
    return list(sandbox.decode(sources, 1, step=shrink.step(SIZE, settings or IngestSettings())))


def test_a_process_hands_over_small_images(tmp_path: Path) -> None:
    (tmp_path / "ct").write_bytes(phantom.encode(next(phantom.draw("ct", 1, 1, 96, 0)), 0))
    grey = np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    (whole,) = sandbox.decode([sandbox.Source("ct", path=str(tmp_path / "ct"))], 1)
    small, picture = outcomes([tmp_path / "ct", tmp_path / "grey.png"])
    assert whole.values is not None and small.values is not None and picture.values is not None
    assert small.facts == whole.facts
    expected = geometry.resize(whole.values[0].astype(np.float64), SIZE).astype(np.float32)
    np.testing.assert_array_equal(small.values, expected[None])
    middle = grey[:, 8:56].astype(np.float64) * (255 / 65535)
    np.testing.assert_array_equal(picture.values[0], geometry.resize(middle, SIZE).astype(np.float32))
    (taken,) = take(7, Found(small.source), small, RECIPE, KEY)
    assert isinstance(taken, Taken) and taken.record.item == 7
    assert taken.record.spacing == tuple(3 * mm for mm in whole.facts.spacings[0])


@pytest.mark.parametrize(("keep", "reason"), [((), "too_small"), (("too_small",), "")])
def test_reasons_come_with_the_images(tmp_path: Path, keep: tuple[str, ...], reason: str) -> None:
    Image.fromarray(np.arange(100, dtype=np.uint8).reshape(10, 10)).save(tmp_path / "a.png")
    (outcome,) = outcomes([tmp_path / "a.png"], IngestSettings(keep=keep))
    assert [note["reason"] for note in outcome.notes] == [reason]
    (frame,) = take(0, Found(outcome.source), outcome, RECIPE, KEY)
    assert isinstance(frame, Left if reason else Taken)


GOOD = {"reason": "", "digest": "00" * 8, "spacing": [1.0, 1.0], "box": None}


@pytest.mark.parametrize(
    ("shape", "notes"),
    [
        ((1, 32, 32), [GOOD | {"reason": "no such reason"}]),
        ((1, 32, 32), [GOOD | {"digest": "no digest"}]),
        ((1, 32, 32), [GOOD | {"spacing": [1.0]}]),
        ((1, 32, 32), [GOOD | {"box": [0, 1]}]),
        ((1, 32, 32), ["no note"]),
        ((1, 32, 32), [{}]),
        ((1, 32, 32), [GOOD, GOOD]),
        ((1, 16, 32), [GOOD]),
    ],
)
def test_a_reply_that_is_none_costs_its_file(shape: tuple[int, ...], notes: list[Any]) -> None:
    source = sandbox.Source("a")
    outcome = sandbox.Outcome(source, Facts(kind="image", modality="OT"), np.zeros(shape, np.float32), tuple(notes))
    assert take(3, Found(source), outcome, RECIPE, KEY) == [Left(3, "decoder_crashed")]
    honest = sandbox.Outcome(source, outcome.facts, np.zeros((1, *SIZE), np.float32), (GOOD,))
    assert isinstance(take(3, Found(source), honest, RECIPE, KEY)[0], Taken)
