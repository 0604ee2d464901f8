"""A model's images are functions of (weights, seed, label, i) alone."""

import json

import numpy as np
import pytest

from medgan_ray import load_model
from medgan_ray.errors import InputError, UsageError
from medgan_ray.inference.encode import encode
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"), counts={"train": 90})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return str(folder / "run")


@pytest.fixture(scope="module")
def model(run):
    return load_model(run)


def test_few_are_a_prefix_of_many_and_start_anywhere(model):
    many = model.sample(40, "lesion", seed=3)
    assert many.dtype == np.uint16 and many.shape == (40, 1, 32, 32)
    assert np.array_equal(model.sample(4, "lesion", seed=3), many[:4])
    assert np.array_equal(model.sample(9, "lesion", seed=3, start=20), many[20:29])


def test_seed_label_and_weights_matter(model):
    images = [model.sample(1, "lesion", 0), model.sample(1, "lesion", 1), model.sample(1, "normal", 0)]
    assert not np.array_equal(images[0], images[1]) and not np.array_equal(images[0], images[2])


def test_without_a_label_classes_are_drawn_as_often_as_in_training(model):
    labels = model.labels_of(400)
    assert 150 < labels.count("lesion") < 250


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n=0"),
        ({"n": 1, "label": "leison"}, "unknown label 'leison'.*did you mean 'lesion'"),
        ({"n": 1, "start": -1}, "start=-1"),
    ],
)
def test_bad_requests_are_refused(model, arguments, message):
    with pytest.raises(UsageError, match=message):
        model.sample(**arguments)


def test_no_model_and_altered_weights_are_named(run, tmp_path):
    with pytest.raises(InputError, match="no model here"):
        load_model(str(tmp_path))
    copy = open_store(str(tmp_path / "copy"))
    for name in ("model.json", "model.safetensors"):
        copy.replace(name, open_store(run).read(f"best/{name}"))
    assert load_model(copy.uri).version == load_model(run).version
    copy.replace("model.safetensors", copy.read("model.safetensors")[:-1] + b"?")
    with pytest.raises(InputError, match="do not match their SHA-256"):
        load_model(copy.uri)


def test_a_search_is_opened_by_its_winner(run, tmp_path):
    search = open_store(str(tmp_path))
    for entry in open_store(run).list("best"):
        search.replace(f"trial3/{entry.key}", open_store(run).read(entry.key))
    search.replace("best.json", json.dumps({"run": "trial3", "score": 1.0}).encode())
    assert load_model(search.uri).version == load_model(run).version


def test_no_discriminator_leaves_with_a_model(run):
    assert "discriminator" not in open_store(run).read("best/model.safetensors").decode("latin-1")


def test_png_shows_the_window_and_npz_holds_the_unit(model, tmp_path):
    import io

    from PIL import Image

    images = model.sample(3, "normal", seed=5)
    files = encode(model, images, "png", seed=5, label="normal")
    assert [name for name, _ in files] == ["000000.png", "000001.png", "000002.png"]
    shown = np.asarray(Image.open(io.BytesIO(files[0][1])))
    assert np.array_equal(shown, model.intensity.display(images[0, 0]))
    ((_, data),) = encode(model, images, "npz", seed=5, label="normal")
    with np.load(io.BytesIO(data), allow_pickle=False) as held:
        assert held["unit"] == "HU" and held["synthetic"]
        np.testing.assert_allclose(held["image"], model.intensity.values(images))


def test_dicom_says_that_it_is_synthetic_and_whence(model):
    import io

    import pydicom

    images = model.sample(2, "lesion", seed=5)
    files = encode(model, images, "dicom", seed=5, label="lesion")
    scans = [pydicom.dcmread(io.BytesIO(data)) for _, data in files]
    assert {scan.SyntheticData for scan in scans} == {"YES"}
    assert len({scan.SeriesInstanceUID for scan in scans}) == 1 and len({scan.SOPInstanceUID for scan in scans}) == 2
    values = scans[0].pixel_array * float(scans[0].RescaleSlope) + float(scans[0].RescaleIntercept)
    np.testing.assert_allclose(values, model.intensity.values(images[0, 0]), atol=1)
    assert model.card.weights[:12] in str(scans[0])


@pytest.fixture(scope="module")
def truncating(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stylegan2")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"), counts={"train": 90})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16, "model.name": "stylegan2"})
    return load_model(str(folder / "run"))


def test_truncation_leads_from_the_mean_to_the_image(truncating):
    plain = truncating.sample(3, "lesion", seed=2).astype(int)
    assert np.array_equal(truncating.sample(3, "lesion", seed=2, truncation=1.0), plain)
    mean = truncating.sample(3, "lesion", seed=2, truncation=0.0).astype(int)
    assert np.abs(mean - mean[0]).max() <= 1
    half = truncating.sample(20, "lesion", seed=2, truncation=0.5).astype(int)
    assert 0 < np.abs(half[:3] - mean).mean() < np.abs(plain - mean).mean()
    assert np.array_equal(truncating.sample(2, "lesion", seed=2, start=17, truncation=0.5), half[17:19])


def test_a_truncated_file_says_so(truncating):
    import io

    import pydicom

    images = truncating.sample(1, seed=2, truncation=0.5)
    ((_, data),) = encode(truncating, images, "dicom", seed=2, label=None, truncation=0.5)
    told = pydicom.dcmread(io.BytesIO(data)).ContributingEquipmentSequence[0].ContributionDescription
    assert told.endswith("truncation=0.5")
    ((_, data),) = encode(truncating, images, "npz", seed=2, label=None, truncation=0.5)
    assert np.load(io.BytesIO(data))["truncation"] == 0.5


def test_truncation_is_refused_where_there_is_none_and_beyond_its_range(model, truncating):
    with pytest.raises(UsageError, match="this model has no truncation"):
        model.sample(1, truncation=0.5)
    for wrong in (-0.1, 1.1, float("nan")):
        with pytest.raises(UsageError, match="truncation="):
            truncating.sample(1, truncation=wrong)
