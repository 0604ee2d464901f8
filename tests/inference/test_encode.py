"""Files of samples: what a model doesn't know of space is not written."""

import io

import numpy as np
import pydicom
import pytest

from medgan_ray.dataset.manifest import read_manifest, write_manifest
from medgan_ray.inference.encode import encode
from medgan_ray.inference.model import load_model
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.mark.parametrize("spacing", [(2.5, 2.0), None])
def test_pixel_spacing_is_written_only_where_the_datasets_is_uniform(spacing, tmp_path):
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    write_dataset(data, counts={"train": 40})
    manifest, digest = read_manifest(open_store(data))
    write_manifest(open_store(data), manifest.model_copy(update={"spacing": spacing}), digest)
    train(data, run, {**SMALL, "images": 8, "train": {"checkpoint_images": 8, "figure_samples": 8}})
    model = load_model(run)
    (_, data), *_ = encode(model, model.sample(2), "dicom", seed=0, label=None)
    dataset = pydicom.dcmread(io.BytesIO(data))
    assert dataset.get("PixelSpacing") == (list(spacing) if spacing else None)
    assert not {"ImagePositionPatient", "SliceThickness", "FrameOfReferenceUID"} & set(dir(dataset))


def test_hounsfield_units_span_the_intensity_map(tmp_path):
    write_dataset(str(tmp_path / "data"), counts={"train": 40})
    train(str(tmp_path / "data"), str(tmp_path / "run"), {**SMALL, "images": 8})
    model = load_model(str(tmp_path / "run"))
    images = model.sample(1)
    (_, data), *_ = encode(model, images, "dicom", seed=0, label=None)
    dataset = pydicom.dcmread(io.BytesIO(data))
    values = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
    assert np.abs(values - model.intensity.values(images)[0, 0]).max() < 0.01
