"""Scans are prepared for a model as its training scans were, bit for bit; what can't be has a reason; nothing stays."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import Manifest
from medgan_ray.dicom import phantom
from medgan_ray.dicom.sandbox import Source
from medgan_ray.dicom.upload import Uploads
from medgan_ray.errors import InputError, UsageError
from medgan_ray.ingest.pipeline import IngestSettings
from medgan_ray.ingest.prepare import Prepared, Scan, Target, prepare, prepare_one, target
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms

ONE = IngestSettings(workers=1)


def made(folder: Path, kind: str, **ingest: object) -> tuple[str, Manifest, np.ndarray]:
    """Draw scans and ingest them; return where they are, the manifest, and all stored images."""
    scans, dataset = str(folder / "scans"), str(folder / "data")
    make_phantoms(scans, kind=kind, patients=3, slices=5, size=48)
    ingest_scans(scans, dataset, {"size": 32, "ingest": {"workers": 1, **ingest}})
    opened = open_dataset(dataset)
    splits = [opened.split(name) for name in ("train", "val", "test")]
    stored = np.concatenate([each.take(np.arange(len(each))).image for each in splits if len(each)])
    return scans, opened.manifest, stored


def aim(manifest: Manifest) -> Target:
    return target(manifest.recipe, manifest.modality, manifest.intensity, ONE)


def whole(prepared: Prepared) -> tuple[list[Scan], np.ndarray]:
    parts = list(prepared.chunks())
    return [scan for scans, _ in parts for scan in scans], np.concatenate([images for _, images in parts])


def as_set(images: np.ndarray) -> set[bytes]:
    return {image.tobytes() for image in images}


@pytest.mark.parametrize(
    ("kind", "ingest"), [("ct", {"window": "brain"}), ("mr", {}), ("mr", {"crop": "body"}), ("xray", {})]
)
def test_what_was_stored_is_prepared_again_bit_for_bit(tmp_path: Path, kind: str, ingest: dict[str, object]) -> None:
    scans, manifest, stored = made(tmp_path, kind, **ingest)
    with prepare([scans], aim(manifest)) as prepared:
        found, images = whole(prepared)
    assert images.dtype == np.uint16 and images.shape == (15, 1, 32, 32) == (len(found), *images.shape[1:])
    assert as_set(images) == as_set(stored) and not prepared.refusals
    assert {scan.name for scan in found} == {str(path) for path in Path(scans).glob("*") if path.name != "labels.csv"}


def test_slices_that_the_dataset_left_out_are_wanted_too_on_the_scale_of_its_own(tmp_path: Path) -> None:
    """A series without a unit is scaled by the slices that the recipe asks for, as in training."""
    scans, manifest, stored = made(tmp_path, "mr", slices="central:2")
    assert len(stored) == 6
    with prepare([scans], aim(manifest)) as prepared:
        found, images = whole(prepared)
    assert len(images) == 15 and as_set(stored) <= as_set(images)
    assert sorted(scan.place for scan in found) == [place for place in range(5) for _ in range(3)]


def test_what_is_not_taken_is_named_with_its_reason(tmp_path: Path) -> None:
    _, manifest, _ = made(tmp_path, "ct")
    folder = tmp_path / "mixed"
    folder.mkdir()
    good = next(phantom.draw("ct", 1, 1, 48, 9))
    (folder / "good").write_bytes(phantom.encode(good, 9))
    (folder / "cut").write_bytes(phantom.encode(good, 9)[:-900])
    (folder / "mr").write_bytes(phantom.encode(next(phantom.draw("mr", 1, 1, 48, 9)), 9))
    (folder / "notes.txt").write_text("not a scan")
    grey = np.random.default_rng(0).integers(0, 255, (48, 48), np.uint8)
    Image.fromarray(grey).save(folder / "picture.png")
    with prepare([str(folder)], aim(manifest)) as prepared:
        found, _ = whole(prepared)
    assert [Path(scan.name).name for scan in found] == ["good"]
    assert {Path(each.name).name: each.reason for each in prepared.refusals} == {
        "cut": "truncated_pixels",
        "mr": "mixed_modality",
        "notes.txt": "not_an_image",
        "picture.png": "mixed_modality",
    }
    assert prepared.counts == {"mixed_modality": 2, "not_an_image": 1, "truncated_pixels": 1}
    with pytest.raises(InputError, match="no such source"), prepare([str(tmp_path / "none")], aim(manifest)):
        pass


def test_chunks_are_bounded_and_no_pixel_has_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scans, manifest, _ = made(tmp_path, "ct")
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    with prepare([scans], aim(manifest)) as prepared:
        sizes = [len(images) for _, images in prepared.chunks(4)]
        assert not list((tmp_path / "tmp").iterdir()), "whoever is killed now leaves no scan behind"
    assert sizes == [4, 4, 4, 3]


def test_one_upload_is_prepared_as_its_file_is(tmp_path: Path) -> None:
    scans, manifest, stored = made(tmp_path, "ct")
    path = next(path for path in Path(scans).iterdir() if path.name != "labels.csv")
    wanted = aim(manifest)
    with Uploads(wanted.options, step=wanted.step) as uploads:
        outcome = uploads.read(path.read_bytes())
    prepared = prepare_one(outcome, wanted, "upload")
    (scan,), images = whole(prepared)
    assert as_set(images) <= as_set(stored) and scan.name == "upload" and scan.record.spacing[0] > 0
    assert outcome.source == Source("upload", fetch=outcome.source.fetch)


def test_what_a_model_does_not_say_or_the_caller_asks_otherwise_is_refused(tmp_path: Path) -> None:
    _, manifest, _ = made(tmp_path, "ct", window="brain")
    facts = manifest.modality, manifest.intensity
    with pytest.raises(UsageError, match=r"does not say how .* \(runs/1\)"):
        target({}, *facts, where="runs/1")
    with pytest.raises(UsageError, match="version 2 of ingest"):
        target({**manifest.recipe, "version": 2}, *facts)
    with pytest.raises(UsageError, match=r"another ingest\.window"):
        target(manifest.recipe, *facts, IngestSettings(window="lung"))
    same = IngestSettings(window="brain", workers=3, memory_mb=1024, slices="every:2", labels="folders")
    settings = target(manifest.recipe, *facts, same).recipe.settings
    assert (settings.workers, settings.memory_mb, settings.window) == (3, 1024, "brain")
