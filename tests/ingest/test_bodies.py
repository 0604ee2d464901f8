"""Bodies: a series is cropped as one, and millimeters stay right; also resampling in millimeters, end to end."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.shards import Samples
from medgan_ray.errors import UsageError
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms

SPLITS = {"split.val": 0, "split.test": 0, "ingest.workers": 1}


def train(dataset: Path) -> Samples:
    split = open_dataset(str(dataset)).split("train")
    return split.take(np.arange(len(split)))


def ingest(scans: Path, dataset: Path, **options: object) -> Samples:
    ingest_scans(str(scans), str(dataset), {**SPLITS, **{f"ingest.{name}": value for name, value in options.items()}})
    return train(dataset)


def test_a_series_is_cropped_as_one(ct_series: Path, tmp_path: Path) -> None:
    keep = ["tilted", "uneven_slices"]
    plain, cropped = (
        ingest(ct_series / "head_gantry_tilt", tmp_path / crop, crop=crop, keep=keep) for crop in ("none", "body")
    )
    shares = cropped.spacing / plain.spacing
    assert len(cropped.image) == len(plain.image) == 12
    assert np.ptp(shares) < 1e-6 and 0.7 < shares[0, 0] < 0.95
    assert (cropped.image > 0).mean() > 1.1 * (plain.image > 0).mean()


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    make_phantoms(str(folder), patients=3, slices=2, size=96)
    return folder


def test_millimeters_are_as_asked(phantoms: Path, tmp_path: Path) -> None:
    plain = ingest(phantoms, tmp_path / "plain")
    same = ingest(phantoms, tmp_path / "same", spacing_mm=float(plain.spacing[0, 0]))
    np.testing.assert_allclose(same.spacing, plain.spacing)
    np.testing.assert_allclose(same.image.astype(float), plain.image, atol=1)
    far = ingest(phantoms, tmp_path / "far", spacing_mm=[2 * float(plain.spacing[0, 0]), float(plain.spacing[0, 1])])
    np.testing.assert_allclose(far.spacing, plain.spacing * [2, 1])
    assert (far.image[:, :, :16] == 0).all() and (far.image[:, :, 48:] == 0).all()  # air beyond the scan
    halves = plain.image.reshape(-1, 1, 32, 2, 64).mean(3)
    shift = np.abs(np.sort(far.image[:, :, 16:48].mean((1, 2, 3))) - np.sort(halves.mean((1, 2, 3))))
    assert shift.max() < 0.01 * 65535  # here values were clipped before they were averaged


def test_scans_without_spacing_have_a_reason(phantoms: Path, tmp_path: Path) -> None:
    scans = tmp_path / "in"
    scans.mkdir()
    for number, path in enumerate(sorted(phantoms.rglob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        if number == 0:
            del dataset.PixelSpacing
        dataset.save_as(scans / f"{number}.dcm")
    result = ingest_scans(str(scans), str(tmp_path / "out"), {**SPLITS, "ingest.spacing_mm": 3})
    assert (result.samples, result.rejected) == (5, {"no_spacing": 1})


def test_odd_aspects_have_a_reason_that_can_be_switched_off(phantoms: Path, tmp_path: Path) -> None:
    options = {**SPLITS, "size": [32, 96]}
    refused = ingest_scans(str(phantoms), str(tmp_path / "a"), options | {"ingest.max_aspect": 3.5})
    assert refused.rejected == {}
    for extra, rejected in (({"split.seed": 1}, {"odd_aspect": 6}), ({"ingest.keep": ["odd_aspect"]}, {})):
        if rejected:
            with pytest.raises(Exception, match="6 odd_aspect"):
                ingest_scans(str(phantoms), str(tmp_path / "b"), options | extra)
        else:
            assert ingest_scans(str(phantoms), str(tmp_path / "c"), options | extra).rejected == {}


def test_two_scales_at_once_are_refused(phantoms: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="choose one"):
        ingest(phantoms, tmp_path, crop="body", spacing_mm=1)


def test_a_projection_is_cropped_to_its_field(tmp_path: Path) -> None:
    make_phantoms(str(tmp_path / "in"), patients=3, slices=1, size=128, kind="xray")
    for path in (tmp_path / "in").rglob("*.dcm"):
        dataset = pydicom.dcmread(path)
        dataset.ShutterShape = "RECTANGULAR"
        dataset.ShutterUpperHorizontalEdge, dataset.ShutterLowerHorizontalEdge = 33, 96
        dataset.ShutterLeftVerticalEdge, dataset.ShutterRightVerticalEdge = 33, 96
        dataset.save_as(path)
    auto, none = (ingest(tmp_path / "in", tmp_path / crop, crop=crop) for crop in ("auto", "none"))
    np.testing.assert_allclose(auto.spacing * 2, none.spacing)
