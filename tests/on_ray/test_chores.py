"""Ingest and generate as Ray tasks give what they give without Ray, refusals too."""

import pytest

from medgan_ray import generate_scans, ingest_scans
from medgan_ray.dataset.manifest import read_manifest
from medgan_ray.errors import InputError
from medgan_ray.ingest.deidentify import subject_key
from medgan_ray.on_ray import chores
from medgan_ray.store import open_store
from medgan_ray.verbs.phantom import make_phantoms
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


def test_patients_are_hashed_with_the_callers_key(ray_instance, tmp_path, monkeypatch):
    """A key that a node made would be lost with it."""
    make_phantoms(str(tmp_path / "scans"), patients=4, slices=1, size=48)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "mine"))
    placed = chores.ingest_scans(str(tmp_path / "scans"), str(tmp_path / "a"), {"size": 32})
    manifest, _ = read_manifest(open_store(str(tmp_path / "a")))
    assert (tmp_path / "mine/medgan-ray/subject.key").exists() and "made a subject key" in placed.warnings[0]
    assert manifest.key_fingerprint == subject_key(make=False).fingerprint


def test_tasks_give_what_the_verbs_give(ray_instance, tmp_path):
    make_phantoms(str(tmp_path / "scans"), patients=6, slices=3, size=48)
    config = {"size": 32, "split": {"val": 0.2, "test": 0.2}}
    told = []
    placed = chores.ingest_scans(
        str(tmp_path / "scans"), str(tmp_path / "a"), config, lambda done, total: told.append((done, total))
    )
    here = ingest_scans(str(tmp_path / "scans"), str(tmp_path / "b"), config)
    assert placed.manifest == here.manifest and placed.samples == 18
    assert told[-1][0] == told[-1][1]
    train(str(tmp_path / "a"), str(tmp_path / "run"), {**SMALL, "images": 8})
    one = chores.generate_scans(str(tmp_path / "run"), str(tmp_path / "x"), n=3, seed=4)
    assert one.sha256 == generate_scans(str(tmp_path / "run"), str(tmp_path / "y"), n=3, seed=4).sha256


def test_several_workers_make_what_one_makes(ray_instance, tmp_path):
    write_dataset(str(tmp_path / "data"), classes=("normal", "lesion"), counts={"train": 60})
    train(str(tmp_path / "data"), str(tmp_path / "run"), {**SMALL, "images": 8})
    asked, told = {"n": 2100, "seed": 4}, []
    two = chores.generate_scans(
        str(tmp_path / "run"), str(tmp_path / "x"), lambda *each: told.append(each), config={"workers": 2}, **asked
    )
    assert two.sha256 == generate_scans(str(tmp_path / "run"), str(tmp_path / "y"), **asked).sha256
    assert len(list((tmp_path / "x").iterdir())) == 2100 and told[-1] == (2100, 2100)
    made = {
        place: chores.generate_scans(str(tmp_path / "run"), str(tmp_path / place), form="dataset", **asked).manifest
        for place in ("a", "b")
    }
    assert made["a"] == made["b"] == read_manifest(open_store(str(tmp_path / "a")))[1]


def test_a_refusal_in_a_task_is_raised_as_it_is(ray_instance, tmp_path):
    with pytest.raises(InputError, match="no model here"):
        chores.generate_scans(str(tmp_path / "none"), str(tmp_path / "out"))
