"""The way through, where the verb's own tests don't look: frames, depths, contrast, failing stores."""

import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.data import get_testdata_file

from medgan_ray.dataset.manifest import read_manifest
from medgan_ray.dataset.shards import open_shard
from medgan_ray.dicom import phantom
from medgan_ray.errors import InputError
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.parts import Images
from medgan_ray.ingest.pipeline import IngestResult, IngestSettings, ingest
from medgan_ray.ingest.split import SplitSettings
from medgan_ray.store import open_store

ALONE = SplitSettings(val=0, test=0)


def run(source: Path, out: Path, **settings: object) -> IngestResult:
    return ingest([str(source)], str(out), Recipe((32, 32), IngestSettings.parse({"workers": 1, **settings})), ALONE)


def images(out: Path) -> NDArray[np.uint16]:
    store = open_store(str(out))
    manifest, _ = read_manifest(store)
    return np.concatenate(
        [open_shard(store.path(f"shards/{entry.sha256}.safetensors")).image for entry in manifest.shards]
    )


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """Two pictures of the same grey levels in 8 and 16 bits, and one of hardly any contrast."""
    folder = tmp_path / "in"
    folder.mkdir()
    grey = np.random.default_rng(0).integers(0, 256, (32, 32))
    Image.fromarray(grey.astype(np.uint8)).save(folder / "a.png")
    Image.fromarray((grey[::-1] * 257).astype(np.uint16)).save(folder / "b.png")
    Image.fromarray((100 + grey % 3).astype(np.uint8)).save(folder / "c.png")
    return folder


def test_grey_levels_of_8_and_16_bits_share_a_scale(noise: Path, tmp_path: Path) -> None:
    result = run(noise, tmp_path / "out")
    a, b = images(tmp_path / "out")
    np.testing.assert_array_equal(a[0], b[0, ::-1])
    assert result.rejected == {"nearly_empty": 1}


def test_the_contrast_wanted_can_be_set(noise: Path, tmp_path: Path) -> None:
    assert run(noise, tmp_path / "out", min_contrast=0).samples == 3


def test_each_frame_is_a_sample_of_its_patient(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    slices = [phantom.to_dicom(drawn, 0) for drawn in phantom.draw("ct", 1, 3, 32, 0)]
    slices[0].NumberOfFrames = 3
    slices[0].PixelData = b"".join(item.PixelData for item in slices)
    pydicom.dcmwrite(tmp_path / "in/frames", slices[0], enforce_file_format=True)
    result = run(tmp_path / "in", tmp_path / "out", window="brain")
    assert (result.samples, result.subjects) == (3, 1)


def test_settings_that_take_more(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(0)
    Image.fromarray(draw.integers(0, 256, (32, 32, 3)).astype(np.uint8)).save(tmp_path / "in/a.png")
    with pytest.raises(InputError, match="1 color"):
        run(tmp_path / "in", tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "out", color="luma").samples == 1
    secondary = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)
    secondary.SOPClassUID = secondary.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    (tmp_path / "sc").mkdir()
    pydicom.dcmwrite(tmp_path / "sc/a", secondary, enforce_file_format=True)
    with pytest.raises(InputError, match="1 secondary_capture"):
        run(tmp_path / "sc", tmp_path / "taken")
    assert run(tmp_path / "sc", tmp_path / "taken", secondary=True).samples == 1
    projected = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)
    projected.ImageType = ["DERIVED", "SECONDARY", "AXIAL", "MIP"]
    (tmp_path / "mip").mkdir()
    pydicom.dcmwrite(tmp_path / "mip/a", projected, enforce_file_format=True)
    with pytest.raises(InputError, match="1 derived"):
        run(tmp_path / "mip", tmp_path / "projected")
    assert run(tmp_path / "mip", tmp_path / "projected", derived=True).samples == 1


def test_text_in_pixels_is_refused_or_blanked(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(0)
    grey = np.kron(draw.integers(40, 120, (32, 32)), np.ones((8, 8))).astype(np.uint8)
    letters = Image.new("1", (256, 256))
    ImageDraw.Draw(letters).text((16, 116), "CANARY^ZEBRA 1951-06-07", fill=1, font=ImageFont.load_default(16))
    ink = np.asarray(letters)
    Image.fromarray(np.where(ink, 255, grey)).save(tmp_path / "in/a.png")
    with pytest.raises(InputError, match="1 burned_in_text"):
        run(tmp_path / "in", tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "masked", text="mask").samples == 1
    ((masked,),) = images(tmp_path / "masked")
    expected = grey[::8, ::8].astype(np.float64) * 257
    touched = abs(masked - expected) > 1
    cells = ink.reshape(32, 8, 32, 8).any((1, 3))
    # Blanked to the frame's least value, so that a cell is darker than it was, or had that value.
    assert (masked[cells] <= expected[cells] + 1).all() and touched[cells].mean() > 0.9
    assert not touched[:10].any() and not touched[22:].any()


def test_equal_pictures_under_two_labels_leave_nothing(tmp_path: Path) -> None:
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8))
    for label in ("a", "b"):
        (tmp_path / "in" / label).mkdir(parents=True)
        image.save(tmp_path / "in" / label / "x.png")
    with pytest.raises(InputError, match="2 label_conflict"):
        run(tmp_path / "in", tmp_path / "out")


HOSTILE = [
    {"ImagePositionPatient": ["1e308"] * 3},
    {"ImageOrientationPatient": ["1e308"] * 6},
    {"PixelSpacing": ["1e-300", "1e300"]},
    {"PixelSpacing": ["1e300", "1e-300"]},
    {"RescaleIntercept": "1e9"},
]


@pytest.mark.parametrize("header", HOSTILE, ids=str)
def test_no_header_ends_the_run(tmp_path: Path, header: dict[str, object]) -> None:
    """Its file is taken or refused; the others are taken."""
    (tmp_path / "in").mkdir()
    for number, drawn in enumerate(phantom.draw("mr", 2, 3, 32, 0)):
        scan = phantom.to_dicom(drawn, 0)
        for keyword, value in header.items() if number < 3 else ():
            setattr(scan, keyword, value)
        pydicom.dcmwrite(tmp_path / f"in/{number}", scan, enforce_file_format=True)
    result = run(tmp_path / "in", tmp_path / "out")
    assert result.samples + sum(result.rejected.values()) == 6 and result.samples >= 3


def test_pages_of_a_picture_stay_in_one_split(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    draw = np.random.default_rng(0)
    for number in range(6):
        pages = [Image.fromarray(draw.integers(0, 256, (32, 32)).astype(np.uint8)) for _ in range(4)]
        pages[0].save(tmp_path / f"in/{number}.tiff", save_all=True, append_images=pages[1:])
    recipe = Recipe((32, 32), IngestSettings.parse({"workers": 1}))
    result = ingest([str(tmp_path / "in")], str(tmp_path / "out"), recipe, SplitSettings())
    assert result.splits == {"train": 16, "val": 4, "test": 4}
    store = open_store(str(tmp_path / "out"))
    shards = [open_shard(store.path(f"shards/{entry.sha256}.safetensors")) for entry in read_manifest(store)[0].shards]
    assert sorted(len(set(shard.subject.tolist())) for shard in shards) == [1, 1, 4]


def test_uptake_of_pet_is_not_cut_off(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, drawn in enumerate(phantom.draw("mr", 1, 3, 32, 0)):
        scan = phantom.to_dicom(drawn, 0)
        scan.Modality, scan.Units, scan.SUVType = "PT", "GML", "BW"
        scan.SOPClassUID = scan.file_meta.MediaStorageSOPClassUID = pydicom.uid.PositronEmissionTomographyImageStorage
        stored = np.frombuffer(scan.PixelData, "<u2")
        scan.RescaleSlope, scan.RescaleIntercept = str(round(10 / int(stored.max()), 8)), "0"
        pydicom.dcmwrite(tmp_path / f"in/{number}", scan, enforce_file_format=True)
    assert run(tmp_path / "in", tmp_path / "out").samples == 3
    intensity = read_manifest(open_store(str(tmp_path / "out")))[0].intensity
    assert intensity.unit == "SUV"
    assert 8 < intensity.values(images(tmp_path / "out")).max() <= 10.01


def test_a_series_has_one_scale_however_long_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is read at a time to find it is bounded, and chosen by content: names and order of files play no part."""
    for name, ways in (("in", 1), ("other", -1)):
        (tmp_path / name).mkdir()
        for number, drawn in enumerate(phantom.draw("mr", 1, 12, 32, 0)):
            (tmp_path / name / f"{ways * number + 50}").write_bytes(phantom.encode(drawn, 0))
    whole = run(tmp_path / "in", tmp_path / "whole")
    assert whole.samples == 12
    monkeypatch.setattr("medgan_ray.ingest.values.RANGE_BYTES", 4 * 32 * 32 * 4)
    sizes: list[int] = []
    read = Images.read
    monkeypatch.setattr(Images, "read", lambda self, some: sizes.append(len(some)) or read(self, some))
    monkeypatch.setattr("medgan_ray.ingest.second.CHUNK_PIXELS", 5 * 32 * 32)
    results = [run(tmp_path / name, tmp_path / f"out {name}") for name in ("in", "other")]
    assert max(sizes) == 5 and sizes[0] == 4
    assert len({read_manifest(open_store(each.dataset))[0].content_digest for each in results}) == 1


def test_ultrasound_and_nuclear_medicine_are_scaled_by_all_their_values(tmp_path: Path) -> None:
    """By 0.5 and 99.5 percent of the series; of MR, of what lies inside the body."""
    high = {}
    for modality in ("NM", "US", "MR"):
        folder = tmp_path / modality
        folder.mkdir()
        for number, drawn in enumerate(phantom.draw("mr", 1, 3, 32, 0)):
            scan = phantom.to_dicom(drawn, 0)
            scan.Modality = modality
            pydicom.dcmwrite(folder / f"{number}", scan, enforce_file_format=True)
        run(folder, tmp_path / f"out {modality}")
        stored = images(tmp_path / f"out {modality}")
        high[modality] = float((stored == 65535).mean())
    assert high["NM"] == high["US"] == pytest.approx(0.005, abs=0.002) != high["MR"]


def test_what_a_file_is_shows_in_its_content(tmp_path: Path) -> None:
    """Names lie: a scan called .jpg, a picture called .dcm, and a DICOMDIR, of which nothing is followed."""
    (tmp_path / "in").mkdir()
    drawn = list(phantom.draw("ct", 1, 4, 32, 0))
    for name, each in zip(("scan.jpg", "scan.nii.gz", "scan.zip", "labels.txt"), drawn, strict=True):
        (tmp_path / "in" / name).write_bytes(phantom.encode(each, 0))
    grey = np.random.default_rng(0).integers(0, 256, (32, 32)).astype(np.uint8)
    Image.fromarray(grey).convert("RGB").save(tmp_path / "in/picture.dcm", "JPEG")
    shutil.copy(str(get_testdata_file("DICOMDIR")), tmp_path / "in/DICOMDIR")
    result = run(tmp_path / "in", tmp_path / "out")
    assert (result.samples, result.modality) == (4, "CT")
    assert result.rejected == {"mixed_modality": 1, "no_pixels": 1}


def test_scouts_are_taken_when_asked_for(tmp_path: Path) -> None:
    scout = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    (tmp_path / "in").mkdir()
    pydicom.dcmwrite(tmp_path / "in/a", scout, enforce_file_format=True)
    with pytest.raises(InputError, match="1 localizer"):
        run(tmp_path / "in", tmp_path / "out")
    assert run(tmp_path / "in", tmp_path / "out", keep=["localizer"]).samples == 1


def test_copies_that_are_kept_stay_in_one_split_and_in_one_order(tmp_path: Path) -> None:
    draw = np.random.default_rng(3)
    for number in range(12):
        grey = Image.fromarray(draw.integers(0, 256, (32, 32)).astype(np.uint8))
        for copy in range(3):
            for folder, name in (("in", f"{copy}{number}"), ("turned", f"{2 - copy}{99 - number}")):
                (tmp_path / folder).mkdir(exist_ok=True)
                grey.save(tmp_path / folder / f"{name}.png")
    settings = IngestSettings(workers=1, keep=("duplicate",), near_duplicates="off", labels="none")
    halves = SplitSettings(val=0.25, test=0.25)
    stores = [open_store(str(tmp_path / f"out-{folder}")) for folder in ("in", "turned")]
    for folder, store in zip(("in", "turned"), stores, strict=True):
        result = ingest([str(tmp_path / folder)], store.uri, Recipe((32, 32), settings), halves)
        assert (result.samples, result.rejected) == (36, {})
    one, other = (read_manifest(store)[0] for store in stores)
    assert one.shards == other.shards and one.content_digest == other.content_digest
    seen = [
        {image.tobytes() for image in open_shard(stores[0].path(f"shards/{entry.sha256}.safetensors")).image}
        for entry in one.shards
    ]
    assert len(seen) == 3 and sum(map(len, seen)) == 12


def test_copies_under_two_labels_go_even_if_copies_are_kept(tmp_path: Path) -> None:
    for name, seed in (("a/x", 0), ("a/y", 1), ("a/z", 2), ("b/x", 0)):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(seed).integers(0, 256, (32, 32)).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / "in" / f"{name}.png")
    result = run(tmp_path / "in", tmp_path / "out", keep=["duplicate"])
    assert (result.samples, result.rejected) == (2, {"label_conflict": 2})


def test_what_the_collimator_covered_does_not_set_the_scale(tmp_path: Path) -> None:
    scan = phantom.to_dicom(next(phantom.draw("xray", 1, 1, 64, 0)), 0)
    del scan.WindowCenter, scan.WindowWidth
    pixels = scan.pixel_array.copy()
    field = pixels[20:44, 12:52].copy()
    pixels[:] = 0
    pixels[20:44, 12:52] = field
    scan.PixelData = pixels.tobytes()
    (tmp_path / "in").mkdir()
    pydicom.dcmwrite(tmp_path / "in/a", scan, enforce_file_format=True)
    settings = IngestSettings(workers=1, crop="none")
    ingest([str(tmp_path / "in")], str(tmp_path / "out"), Recipe((64, 64), settings), ALONE)
    (image,) = images(tmp_path / "out")
    inside = image[0, 20:44, 12:52]
    assert image[0, 0, 0] == 0 and 0 < np.mean(inside == 0) < 0.02
