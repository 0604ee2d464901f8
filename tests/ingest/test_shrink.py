"""Frames leave a decoding process at the dataset's size; a reply that is none costs its file."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from medgan_ray.dicom import phantom, sandbox
from medgan_ray.dicom.facts import Facts, Options
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


def with_text(path: Path, annotated: str = "NO") -> pydicom.Dataset:
    """Write a phantom with a name in its pixels."""
    scan = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 256, 0)), 0)
    letters = Image.new("1", (256, 256))
    ImageDraw.Draw(letters).text((8, 8), "CANARY^ZEBRAFINCH", fill=1, font=ImageFont.load_default(16))
    pixels = scan.pixel_array.copy()
    pixels[np.asarray(letters)] = pixels.max()
    scan.PixelData, scan.BurnedInAnnotation = pixels.tobytes(), annotated
    scan.save_as(path, enforce_file_format=True)
    return scan


def notes(path: Path, text: Literal["refuse", "mask", "keep"]) -> tuple[NDArray[np.float32], str]:
    (outcome,) = sandbox.decode(
        [sandbox.Source(path.name, str(path))],
        1,
        options=Options(burned_in=text != "refuse"),
        step=shrink.step((256, 256), IngestSettings(text=text)),
    )
    assert outcome.values is not None
    return outcome.values[0], outcome.notes[0]["reason"]


def test_text_in_pixels_is_refused_masked_or_kept(tmp_path: Path) -> None:
    plain = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 256, 0)), 0)
    plain.save_as(tmp_path / "plain", enforce_file_format=True)
    with_text(tmp_path / "text")
    expected, reason = notes(tmp_path / "plain", "refuse")
    assert reason == ""
    assert notes(tmp_path / "text", "refuse")[1] == "burned_in_text"
    masked, reason = notes(tmp_path / "text", "mask")
    assert reason == "" and set(np.unique(masked[masked != expected])) <= {-1000.0}
    kept, reason = notes(tmp_path / "text", "keep")
    assert reason == "" and kept[:40].max() > expected[:40].max()


def test_what_the_header_says_counts_where_nothing_is_found(tmp_path: Path) -> None:
    scan = with_text(tmp_path / "text", "YES")
    assert notes(tmp_path / "text", "mask")[1] == ""
    scan.PixelData = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 256, 0)), 0).PixelData
    scan.save_as(tmp_path / "none", enforce_file_format=True)
    assert notes(tmp_path / "none", "mask")[1] == "burned_in"
    assert notes(tmp_path / "none", "keep")[1] == ""


def test_nobody_sees_a_thumbnail_of_text(tmp_path: Path) -> None:
    with_text(tmp_path / "text")
    (outcome,) = outcomes([tmp_path / "text"])
    (left,) = take(0, Found(outcome.source), outcome, RECIPE, KEY)
    assert isinstance(left, Left) and (left.reason, left.picture) == ("burned_in_text", None)
