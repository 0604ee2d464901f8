"""A manifest is named by its digest; the pointer moves last; newer formats and altered bytes are refused."""

import json

import pytest

from medgan_ray.dataset.manifest import Intensity, read_manifest, write_manifest
from medgan_ray.errors import InputError, StoreError
from medgan_ray.store import open_store
from tests.builders import write_dataset


def test_older_manifests_stay_readable(tmp_path):
    first = write_dataset(str(tmp_path))
    store = open_store(str(tmp_path))
    _, old = read_manifest(store)
    new = write_manifest(store, first.model_copy(update={"modality": "MR"}), old)
    assert read_manifest(store)[1] == new != old
    assert read_manifest(store, old)[0] == first


def test_a_writer_that_comes_second_is_told(tmp_path):
    first = write_dataset(str(tmp_path))
    store = open_store(str(tmp_path))
    _, before = read_manifest(store)
    won = write_manifest(store, first.model_copy(update={"modality": "MR"}), before)
    with pytest.raises(StoreError, match="another writer finished first"):
        write_manifest(store, first.model_copy(update={"modality": "PT"}), before)
    assert read_manifest(store)[1] == won


def test_no_dataset_says_how_to_make_one(tmp_path):
    with pytest.raises(InputError, match="no dataset here"):
        read_manifest(open_store(str(tmp_path)))


def test_altered_and_foreign_manifests_are_refused(tmp_path):
    write_dataset(str(tmp_path))
    store = open_store(str(tmp_path))
    digest = read_manifest(store)[1]
    path = tmp_path / "manifests" / f"{digest}.json"
    path.write_text(path.read_text().replace("CT", "MR"))
    with pytest.raises(InputError, match="does not match its name"):
        read_manifest(store)
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(InputError, match="not a JSON object"):
        read_manifest(store)


def test_a_newer_major_version_is_refused(tmp_path):
    manifest = write_dataset(str(tmp_path))
    store = open_store(str(tmp_path))
    write_manifest(store, manifest.model_copy(update={"format": "2.0"}), read_manifest(store)[1])
    with pytest.raises(InputError, match=r"manifest format 2\.0"):
        read_manifest(store)


def test_the_manifest_is_plain_json_that_others_can_read(tmp_path):
    write_dataset(str(tmp_path), classes=("normal", "lesion"))
    pointer = json.loads((tmp_path / "dataset.json").read_text())
    values = json.loads((tmp_path / "manifests" / f"{pointer['manifest']}.json").read_text())
    assert values["labels"] == [{"name": "label", "classes": ["normal", "lesion"]}]
    assert values["splits"]["train"] == {"samples": 120, "subjects": 120}


def test_display_maps_the_window_to_8_bits():
    import numpy as np

    intensity = Intensity(unit="HU", low=0, high=65535, window=(100, 200))
    shown = intensity.display(np.array([0, 100, 150, 200, 65535], np.uint16))
    assert shown.tolist() == [0, 0, 128, 255, 255]
