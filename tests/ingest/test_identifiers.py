"""A canary in every place of a scan that can hold a name; none is left in any byte of what comes of the scans."""

import json
import subprocess
import sys
import warnings
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin
from pydicom.dataset import Dataset

from medgan_ray.dicom import phantom
from tests.canaries import CANARY, PLANTED, UID, fill

PATIENTS = 12
SLICES = 3


class Done(NamedTuple):
    """Where the scans are, what a chain of verbs left of them, and what was said that a log would keep.

    Ingest's own answer is left out: it names examples of what was not taken, for the person at the terminal.
    """

    scans: Path
    folder: Path
    said: bytes


def _burned() -> tuple[Dataset, NDArray[np.bool_]]:
    """Return a phantom with a canary in its pixels, and which pixels [H, W] it stands in."""
    dataset = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 128, 1)), 1)
    picture = Image.new("L", (128, 128))
    ImageDraw.Draw(picture).text((30, 100), CANARY, fill=255, font=ImageFont.load_default(12))
    strength = np.asarray(picture) / 255
    pixels = dataset.pixel_array * (1 - strength) + 4095 * strength
    dataset.PixelData, dataset.PatientID = np.rint(pixels).astype("<u2").tobytes(), CANARY
    return dataset, strength > 0


def _scans(folder: Path) -> None:
    """Write phantoms full of canaries, under names and folders that are canaries, and files that are refused."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number, each in enumerate(phantom.draw("ct", PATIENTS, SLICES, 64, 0)):
            dataset = phantom.to_dicom(each, 0)
            instance = dataset.SOPInstanceUID
            # Every attribute in one scan of each patient; in all scans, those that name a person or an instance.
            fill(dataset, each.patient, 0x0020 if each.slice else 0x4FFF)
            item = Dataset()
            fill(item, each.patient, 0x0010)
            dataset.RequestAttributesSequence = dataset.ReferencedImageSequence = [item]
            dataset.PatientID = f"{CANARY}{each.patient}"
            dataset.SOPInstanceUID, dataset.SeriesInstanceUID = f"{UID}.{number}", f"{UID}.{each.patient}"
            dataset.file_meta.MediaStorageSOPInstanceUID = instance
            dataset.file_meta.SourceApplicationEntityTitle = CANARY
            dataset.preamble = CANARY.encode().ljust(128, b"\0")
            place = folder / f"{CANARY}^zebrafinch{each.patient}"
            place.mkdir(exist_ok=True, parents=True)
            buffer = BytesIO()
            pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
            (place / f"{CANARY}_{number}.dcm").write_bytes(buffer.getvalue())
    pydicom.dcmwrite(folder / f"{CANARY}_burned.dcm", _burned()[0], enforce_file_format=True)
    (folder / f"{CANARY}.txt").write_text(CANARY)
    (folder / f"{CANARY}_cut.dcm").write_bytes(buffer.getvalue()[:-500])
    (folder / f"{CANARY}_broken.dcm").write_bytes(buffer.getvalue().replace(b"US\x02\x00@\x00", b"US\x02\x00\xff\xff"))
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", CANARY)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8)
    Image.fromarray(noise).save(folder / f"{CANARY}.png", pnginfo=text)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Done:
    """Scans full of canaries, ingested, learned from and generated from, by the command line."""
    folder = tmp_path_factory.mktemp("identifiers")
    scans = tmp_path_factory.mktemp("source") / f"{CANARY} archive"
    _scans(scans)
    small = ["batch=8", "images=32", "train.checkpoint_images=16", "train.floor_draws=2", "train.figure_samples=8"]
    small += ["model.generator_width=4", "model.discriminator_width=4", "model.latent=8", "model.name=dcgan"]
    kept = "ingest.keep=[duplicate_slice,mixed_orientation,tilted,uneven_slices]"
    _, said = _run(folder, ["ingest", str(scans), "data", "size=32", "ingest.workers=1", kept])
    told = _run(
        folder,
        ["train", "data", "run", *small],
        ["generate", "run", "out", "-n", "3", "--format", "dicom"],
        ["generate", "run", "pictures", "-n", "2"],
        ["inspect", "data", "--verify", "--json"],
        ["inspect", "run", "--json"],
    )
    return Done(scans, folder, said + b"".join(told))


def _run(folder: Path, *words: list[str]) -> tuple[bytes, bytes]:
    """Run commands in one process of its own; return its standard output and standard error."""
    code = "import json, sys; from medgan_ray.cli.main import main; sys.exit(max(map(main, json.loads(sys.argv[1]))))"
    ran = subprocess.run([sys.executable, "-c", code, json.dumps(words)], cwd=folder, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()[-2000:]
    return ran.stdout, ran.stderr


def _unpacked(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes, and what is packed in it: pixels and texts of pictures."""
    data = path.read_bytes()
    yield data
    if data.startswith(b"\x89PNG"):
        with Image.open(path) as picture:
            yield repr(picture.info).encode()
            yield picture.tobytes()
    if data[:2] in (b"\x1f\x8b", b"x\x9c"):
        yield zlib.decompress(data, 47)


def test_the_canaries_were_there(done: Done):
    from medgan_ray.dataset.batches import open_dataset

    sources = [path for path in done.scans.rglob("*") if path.is_file()]
    everything = b"".join(str(path).encode() + path.read_bytes() for path in sources)
    assert [planted for planted in PLANTED if everything.count(planted.encode()) < PATIENTS] == []
    manifest = open_dataset(str(done.folder / "data")).manifest
    assert sum(entry.samples for entry in manifest.shards) == PATIENTS * SLICES
    assert len(manifest.subjects) == PATIENTS and sum(manifest.rejected.values()) >= 4
    assert manifest.rejected["burned_in_text"] == 1  # the canary in pixels, which no search of bytes could find
    assert {path.suffix for path in (done.folder / "out").iterdir()} == {".dcm"}


def test_none_is_left_in_any_byte(done: Done):
    files = [path for path in done.folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".safetensors", ".json", ".dcm", ".png"} <= kinds
    found = [
        (planted, path.relative_to(done.folder))
        for path in files
        for data in _unpacked(path)
        for planted in PLANTED
        for form in (planted.encode(), planted.encode("utf-16-le"))
        if form in data or planted.lower() in str(path.relative_to(done.folder)).lower()
    ]
    assert found == []


def test_none_is_said(done: Done):
    lines = [line for line in done.said.splitlines() for planted in PLANTED if planted.encode() in line]
    assert lines == []


def test_generated_scans_carry_no_source_header(done: Done):
    for path in (done.folder / "out").iterdir():
        dataset = pydicom.dcmread(path)
        assert dataset.SyntheticData == "YES" and dataset.PatientID == "SYNTHETIC"
        assert not dataset.get("PatientBirthDate") and not [each for each in dataset if each.tag.is_private]


def test_a_name_in_the_pixels_is_blanked(tmp_path: Path):
    from medgan_ray.dataset.batches import open_dataset
    from medgan_ray.verbs.ingest import ingest_scans

    dataset, letters = _burned()
    (tmp_path / "in").mkdir()
    pydicom.dcmwrite(tmp_path / "in/scan", dataset, enforce_file_format=True)
    config = {"size": 128, "ingest": {"text": "mask", "workers": 1, "window": "full"}, "split": {"val": 0, "test": 0}}
    result = ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), config)
    data = open_dataset(str(tmp_path / "out"))
    (image,) = data.split("train").take(np.array([0])).image[:, 0]
    clean = dataset.pixel_array.astype(np.float64) + float(dataset.RescaleIntercept)
    seen = data.manifest.intensity.values(image)
    assert (result.samples, result.masked, data.manifest.masked) == (1, 1, 1)
    assert letters.sum() > 200 and np.unique(seen[letters]).size == 1
    assert abs(seen[letters] + 1000).max() < 0.1  # air
    assert np.mean(abs(seen - clean) < 0.1) > 0.8
