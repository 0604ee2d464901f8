"""The verb ingest: what comes out depends on the scans and the recipe alone."""

import dataclasses
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from PIL import Image

from medgan_ray.dataset.manifest import Manifest, read_manifest
from medgan_ray.dataset.shards import Samples, open_shard
from medgan_ray.dicom.write import Provenance, Rescale, SeriesIds, secondary_capture
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms

SMALL = {"size": 32, "ingest": {"workers": 1}}


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    make_phantoms(str(folder), patients=8, slices=3, size=48)
    return folder


def opened(dataset: str | Path) -> tuple[Manifest, dict[str, Samples]]:
    store = open_store(str(dataset))
    manifest, _ = read_manifest(store)
    shards = {entry.split: open_shard(store.path(f"shards/{entry.sha256}.safetensors")) for entry in manifest.shards}
    return manifest, shards


def test_phantoms_become_a_dataset(scans: Path, tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    result = ingest_scans(str(scans), str(tmp_path), SMALL, progress=lambda done, total: calls.append((done, total)))
    manifest, shards = opened(tmp_path)
    assert (result.samples, result.subjects, result.rejected) == (24, 8, {})
    assert calls[-1] == (24, 24)
    assert (manifest.modality, manifest.size, manifest.classes) == ("CT", (32, 32), ("lesion", "normal"))
    assert (manifest.intensity.unit, manifest.intensity.low, manifest.intensity.high) == ("HU", -160, 240)
    assert manifest.spacing == (7.5, 7.5)
    seen = [set(samples.subject.tolist()) for samples in shards.values()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == 8
    assert {name: len(samples) for name, samples in shards.items()} == result.splits
    for samples in shards.values():
        assert samples.image.dtype == np.uint16 and samples.image.shape[1:] == (1, 32, 32)
        assert samples.image.max() == 65535 and samples.image.min() == 0


def test_names_order_workers_and_keys_leave_no_trace(
    scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "renamed"
    other.mkdir()
    table = (scans / "labels.csv").read_text().splitlines()
    rows = [line.split(",") for line in table[1:]]
    for number, (name, _, _) in enumerate(reversed(rows)):
        shutil.copy(scans / name, other / f"{number}.bin")
    lines = [f"{number}.bin,{label},{patient}" for number, (_, label, patient) in enumerate(reversed(rows))]
    (other / "labels.csv").write_text("\n".join([table[0], *lines]))
    ingest_scans(str(scans), str(tmp_path / "a"), SMALL)
    monkeypatch.setenv("MEDGAN_SUBJECT_KEY", "another key that is long enough")
    ingest_scans(str(other), str(tmp_path / "b"), {"size": 32, "ingest.workers": 2})
    (a, _), (b, _) = opened(tmp_path / "a"), opened(tmp_path / "b")
    assert a.content_digest == b.content_digest
    assert a.shards == b.shards
    assert a.key_fingerprint != b.key_fingerprint
    assert not set(a.subjects) & set(b.subjects)


def test_the_same_call_again_changes_nothing(scans: Path, tmp_path: Path) -> None:
    first, again = (ingest_scans(str(scans), str(tmp_path), SMALL) for _ in range(2))
    assert first.manifest == again.manifest
    other = ingest_scans(str(scans), str(tmp_path), SMALL | {"split": {"val": 0.3}})
    assert other.manifest != first.manifest
    assert (
        opened(tmp_path)[0].content_digest != read_manifest(open_store(str(tmp_path)), first.manifest)[0].content_digest
    )


def test_no_identifier_stands_in_any_byte(scans: Path, tmp_path: Path) -> None:
    ingest_scans(str(scans), str(tmp_path / "out"), SMALL)
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    kept = b"".join(path.read_bytes() for path in files)
    assert len(files) >= 5
    for canary in (b"PHANTOM-0001", b"Phantom^", b"ct-0001", str(scans).encode()):
        assert canary not in kept


def test_counting_writes_nothing(scans: Path, tmp_path: Path) -> None:
    result = ingest_scans(str(scans), str(tmp_path / "out"), SMALL, dry_run=True)
    assert (result.samples, result.manifest) == (24, "")
    assert not (tmp_path / "out").exists()


def test_each_file_that_is_not_taken_has_a_reason(scans: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    shutil.copytree(scans, folder)
    names = sorted(path.name for path in folder.glob("*.dcm"))
    shutil.copy(folder / names[0], folder / "again.dcm")
    (folder / names[1]).write_bytes((folder / names[1]).read_bytes()[:-2000])
    (folder / "notes.txt").write_text("notes")
    Image.fromarray(np.arange(48 * 48, dtype=np.uint16).reshape(48, 48)).save(folder / "a.png")
    Image.fromarray(np.full((48, 48), 9, np.uint8)).save(folder / "blank.png")
    result = ingest_scans(str(folder), str(tmp_path / "out"), SMALL)
    expected = {"duplicate": 1, "truncated_pixels": 1, "not_an_image": 1, "mixed_modality": 1, "constant": 1}
    assert result.rejected == expected
    assert result.examples["truncated_pixels"] == [str(folder / names[1])]
    assert opened(tmp_path / "out")[0].rejected == expected


def test_pictures_in_class_folders(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    for name in ("hand", "head"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for number in range(6):
            image = draw.integers(0, 256, (40, 60)).astype(np.uint8)
            Image.fromarray(image).save(tmp_path / "in" / name / f"{number}.jpeg")
    result = ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), SMALL)
    manifest, shards = opened(tmp_path / "out")
    assert (result.classes, result.subjects) == ({"hand": 6, "head": 6}, 0)
    assert (manifest.intensity.unit, manifest.intensity.high, manifest.attributes) == ("grey", 255, ())
    assert {-1} == set(np.concatenate([samples.subject for samples in shards.values()]).tolist())


@pytest.mark.parametrize("kind", ["mr", "xray"])
def test_modalities_without_a_unit_fill_the_range(tmp_path: Path, kind: str) -> None:
    make_phantoms(str(tmp_path / "in"), kind=kind, patients=4, slices=2, size=48)
    ingest_scans(str(tmp_path / "in"), str(tmp_path / "out"), SMALL)
    manifest, shards = opened(tmp_path / "out")
    image = np.concatenate([samples.image for samples in shards.values()]) / 65535
    assert (manifest.intensity.unit, manifest.intensity.high) == ("relative", 1)
    assert image.max() > 0.95 and image.min() < 0.12
    assert image.std() > 0.15


def test_real_abdomen_keeps_its_hounsfield_units(ct_abdomen: Path, tmp_path: Path) -> None:
    """A sample is the area mean of the file's own HU, and comes back from the DICOM writer within one HU."""
    ingest_scans(str(ct_abdomen), str(tmp_path), {"size": 64, "ingest.workers": 2})
    manifest, shards = opened(tmp_path)
    images = shards["train"].image[:, 0]
    low, high = manifest.intensity.low, manifest.intensity.high
    found = np.stack([_written_and_read(image, low, high) for image in images])
    for path in ct_abdomen.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        mean = values.reshape(64, 8, 64, 8).mean((1, 3)).clip(low, high)
        assert np.abs(found - mean).max((1, 2)).min() < 1
    assert manifest.spacing == pytest.approx((5.3125, 5.3125), rel=1e-3)


def _written_and_read(image: NDArray[np.uint16], low: float, high: float) -> NDArray[np.float64]:
    data = secondary_capture(
        image,
        modality="CT",
        rescale=Rescale((high - low) / 65535, low, "HU"),
        window=((low + high) / 2, high - low),
        spacing=None,
        provenance=Provenance("abdomen", "", 0, 0),
        series=SeriesIds.fresh(),
    )
    dataset = pydicom.dcmread(io.BytesIO(data))
    return dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)


def test_the_way_over_s3(scans: Path, s3: str, tmp_path: Path) -> None:
    source = open_store(f"{s3}/in")
    for path in scans.iterdir():
        source.create(path.name, path.read_bytes())
    remote = ingest_scans(f"{s3}/in", f"{s3}/out", SMALL)
    local = ingest_scans(str(scans), str(tmp_path), SMALL)
    assert remote.manifest == local.manifest
    assert json.dumps(dataclasses.asdict(remote))


def test_bad_input_is_named(scans: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.txt").write_text("a")
    with pytest.raises(InputError, match="no such source"):
        ingest_scans(str(tmp_path / "nowhere"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="no files here"):
        ingest_scans(str(tmp_path / "empty"), str(tmp_path / "out"))
    with pytest.raises(InputError, match="1 not_an_image"):
        ingest_scans(str(tmp_path / "text"), str(tmp_path / "out"))
    with pytest.raises(UsageError, match="did you mean 'window'"):
        ingest_scans(str(scans), str(tmp_path / "out"), {"ingest.windwo": "brain"})
    assert not (tmp_path / "out").exists()


def test_a_bucket_that_is_not_there(scans: Path, s3: str) -> None:
    with pytest.raises(StoreError, match="bucket"):
        ingest_scans(str(scans), "s3://nobody-made-this-bucket/x", SMALL)
