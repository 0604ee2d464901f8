"""`train.synthetic` mixes generated scans into a recognizer's training: pinned when it begins, exact, and no others."""

import json
import shutil
from collections import Counter

import numpy as np
import pytest

from medgan_ray import generate_scans, publish_run
from medgan_ray.artifacts import checkpoints
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import InputError, UsageError
from medgan_ray.inference import bulk
from medgan_ray.store import open_store
from medgan_ray.verbs.config import Config
from medgan_ray.verbs.train import begin, train
from tests.builders import SMALL, write_dataset
from tests.engine.ranks import Stopping, seen, train_on

TRAIN = {"checkpoint_images": 32, "log_images": 8, "writers": []}
LONG = 160
"""Images of a run that stops halfway: whether to is asked every 16 steps."""
RECOGNIZE = {"task": "recognize", "batch": 8, "images": 64, "model": {"recognizer_width": 8}, "train": TRAIN}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A dataset, a generator of it, and what that generated."""
    path = tmp_path_factory.mktemp("generated")
    counts = {"train": 60, "val": 24, "test": 24}
    write_dataset(str(path / "data"), classes=("normal", "lesion"), counts=counts)
    train(str(path / "data"), str(path / "gan"), {**SMALL, "images": 8})
    generate_scans(str(path / "gan"), str(path / "made"), n=40, form="dataset")
    return path


@pytest.fixture
def data(folder):
    return str(folder / "data")


def options(uri, **given):
    return {**RECOGNIZE, "train": {**TRAIN, "synthetic": str(uri), **given}}


def begun(run):
    return json.loads(open_store(str(run)).read("run.json"))["config"]["train"]


def digest(uri):
    return open_dataset(str(uri)).manifest.content_digest


def test_a_version_is_pinned_and_its_scans_made_once_of_each_class_alike(folder, data, tmp_path, monkeypatch):
    name = str(tmp_path / "registry/heads")
    publish_run(str(folder / "gan"), name, force=True, why="a test")
    asked, run, host = {**options(f"{name}@current"), "images": LONG}, tmp_path / "run", Stopping(after=2)
    part = train(data, str(run), asked, host)
    assert not part.complete
    assert any("0.5 of normal (30), 0.5 of lesion (30)" in line for line in host.said)
    assert not any("another dataset" in line for line in host.said)
    made = open_dataset(str(run / "synthetic"))
    assert begun(run)["synthetic_from"] == f"{name}@1"
    assert begun(run)["synthetic_digest"] == made.manifest.content_digest
    assert made.split("train").class_counts(2) == (30, 30) and made.manifest.synthetic.version == 1
    train(data, str(tmp_path / "other"), {**SMALL, "images": 8, "seed": 1})
    assert publish_run(str(tmp_path / "other"), name, force=True, why="a test").current == 2
    monkeypatch.setattr(bulk, "make", None)
    rest = train(data, str(run), asked)
    assert rest.complete and begun(run)["synthetic_from"] == f"{name}@1"
    monkeypatch.undo()
    whole = train(data, str(tmp_path / "whole"), {**options(f"{name}@1"), "images": LONG})
    assert whole.weights_sha256 == rest.weights_sha256 and whole.figures == rest.figures
    begin(data, str(tmp_path / "newest"), asked)
    assert begun(tmp_path / "newest")["synthetic_from"] == f"{name}@2"
    assert begun(tmp_path / "newest")["synthetic_digest"] != begun(run)["synthetic_digest"]


def test_no_share_is_as_no_setting_and_any_share_is_not(folder, data, tmp_path):
    plain, none, half = (
        train(data, str(tmp_path / name), asked)
        for name, asked in (
            ("plain", RECOGNIZE),
            ("none", options(folder / "made", synthetic_share=0)),
            ("half", options(folder / "made")),
        )
    )
    assert none.weights_sha256 == plain.weights_sha256 and none.figures == plain.figures
    assert half.weights_sha256 != plain.weights_sha256


@pytest.mark.slow
def test_two_ranks_that_one_goes_on_for_are_shown_the_same_as_one(folder, data):
    asked = options(folder / "made", synthetic_share={"lesion": 0.7}, precision="float64")
    asked["images"] = LONG
    one, stopped = train_on(1, data, asked), train_on(2, data, asked, after=3)
    assert 0 < len(seen(stopped)) < LONG and not open_store(stopped).exists("result.json")
    changed = train_on(1, data, asked, run=stopped)
    assert seen(one) == seen(changed) and len(seen(one)) == LONG
    mine, theirs = (checkpoints.newest(open_store(run), print).tensors for run in (one, changed))
    for name, value in mine.items():
        assert (value - theirs[name]).abs().max() < 1e-10, name


def test_each_class_has_its_own_share_and_a_scan_its_real_class(folder, data, tmp_path, monkeypatch):
    from medgan_ray.tasks import recognize

    shown = []

    class Noted(recognize.RecognizeTask):
        def losses(self, phase, share, values):
            shown.append(share.samples)
            return super().losses(phase, share, values)

    host = Stopping()
    with monkeypatch.context() as patch:
        patch.setattr(recognize, "RecognizeTask", Noted)
        train(data, str(tmp_path / "run"), options(folder / "made", synthetic_share={"lesion": 1.0}), host)
    assert "no generated scans stand in for normal" in host.said
    made = open_dataset(str(folder / "made")).split("train").take(np.arange(40))
    lesions = {image.tobytes() for image in made.image[made.label[:, 0] == 1]}
    real = open_dataset(data).split("train").take(np.arange(60))
    normal = {image.tobytes() for image in real.image[real.label[:, 0] == 0]}
    taken = Counter()
    for samples in shown:
        for image, code in zip(samples.image, samples.label[:, 0], strict=True):
            assert image.tobytes() in (normal, lesions)[code]
            taken[int(code)] += 1
    # 64 positions: an epoch of 30 scans of each class, and four more.
    assert sum(taken.values()) == 64 and 30 <= taken[1] <= 34


def test_how_many_are_made_is_a_setting_and_a_seed_makes_its_own(folder, data, tmp_path):
    few = options(folder / "gan", synthetic_scans=7)
    begin(data, str(tmp_path / "few"), few)
    split = open_dataset(str(tmp_path / "few" / "synthetic")).split("train")
    assert split.class_counts(2) == (4, 3)
    assert begun(tmp_path / "few")["synthetic_from"] == str(folder / "gan")
    begin(data, str(tmp_path / "seed"), {**few, "seed": 1})
    assert digest(tmp_path / "seed" / "synthetic") != digest(tmp_path / "few" / "synthetic")


def test_scans_that_were_half_made_are_made_of_the_same_version(folder, data, tmp_path, monkeypatch):
    name, run = str(tmp_path / "heads"), str(tmp_path / "run")
    publish_run(str(folder / "gan"), name, force=True, why="a test")
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "write_dataset", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            begin(data, run, options(name))
    assert not open_store(run).exists("run.json")
    train(data, str(tmp_path / "other"), {**SMALL, "images": 8, "seed": 1})
    publish_run(str(tmp_path / "other"), name, force=True, why="a test")
    with pytest.raises(UsageError, match=r"begun with another train\.synthetic"):
        begin(data, run, options(f"{name}@2"))
    begin(data, run, options(name))
    assert begun(run)["synthetic_from"] == f"{name}@1"


def test_the_same_scans_at_another_address_are_the_same(folder, data, tmp_path):
    run, moved, altered = str(tmp_path / "run"), tmp_path / "moved", tmp_path / "altered"
    asked = {**options(folder / "made"), "images": LONG}
    assert not train(data, run, asked, Stopping(after=2)).complete
    shutil.copytree(folder / "made", moved)
    generate_scans(str(folder / "gan"), str(altered), n=40, seed=1, form="dataset")
    for other in (altered, ""):
        with pytest.raises(UsageError, match=r"this run was begun with another train\.synthetic \("):
            train(data, run, {**options(other), "images": LONG})
    with pytest.raises(UsageError, match=r"begun with another train\.synthetic_share"):
        train(data, run, {**options(folder / "made", synthetic_share=0.4), "images": LONG})
    assert train(data, run, {**options(moved), "images": LONG}).complete
    plain = str(tmp_path / "plain")
    begin(data, plain, RECOGNIZE)
    with pytest.raises(UsageError, match=r"begun with another train\.synthetic"):
        begin(data, plain, options(folder / "made"))


def test_scans_that_changed_meanwhile_are_not_trained_on(folder, data, tmp_path):
    made, run = tmp_path / "made", str(tmp_path / "run")
    shutil.copytree(folder / "made", made)
    begin(data, run, options(made))
    shutil.rmtree(made)
    generate_scans(str(folder / "gan"), str(made), n=40, seed=1, form="dataset")
    with pytest.raises(InputError, match="other scans than the run was begun with"):
        train(data, run, options(made))


def test_what_may_not_be_mixed_in_is_refused_in_a_line(folder, data, tmp_path):
    write_dataset(str(tmp_path / "plain"), counts={"train": 40})
    train(str(tmp_path / "plain"), str(tmp_path / "unconditional"), {**SMALL, "images": 8})
    train(data, str(tmp_path / "recognizer"), {**RECOGNIZE, "images": 8})
    gan = {**SMALL, "images": 8, "train": {**SMALL["train"], "synthetic": str(folder / "made")}}
    refused = [
        (gan, r"generated scans in the training of task=generate \(train\.synthetic\): .*task=recognize"),
        (options(data), r"scans of patients as train\.synthetic"),
        (options(tmp_path / "unconditional"), "generated scans without classes"),
        (options(tmp_path / "recognizer"), "a model of task=recognize makes no scans"),
        (options(folder / "made", synthetic_share={"leison": 0.5}), "no class 'leison'.*lesion"),
        (options(folder / "made", synthetic_share=1.5), "give a share of 0 to 1"),
        (options(folder / "made", synthetic_share={"lesion": True}), "give a share of 0 to 1"),
    ]
    for asked, message in refused:
        with pytest.raises(UsageError, match=message):
            train(data, str(tmp_path / "run"), asked)
    with pytest.raises(InputError, match="no model here"):
        train(data, str(tmp_path / "run"), options(tmp_path / "nothing"))
    assert not open_store(str(tmp_path / "run")).list(), "nothing is left of what was refused"
    assert Config.of({"train.synthetic_share": {"lesion": 1}}).train.synthetic_share == {"lesion": 1.0}


def test_a_generator_of_other_scans_is_taken_and_told(folder, data, tmp_path):
    write_dataset(str(tmp_path / "other"), classes=("lesion", "cyst"), counts={"train": 40})
    train(str(tmp_path / "other"), str(tmp_path / "gan"), {**SMALL, "images": 8})
    host = Stopping()
    train(data, str(tmp_path / "run"), {**options(tmp_path / "gan"), "images": 8}, host)
    assert any(line.startswith("the generator learned another dataset") for line in host.said)
    assert "no generated scans stand in for normal" in host.said
    made = open_dataset(str(tmp_path / "run" / "synthetic"))
    assert made.manifest.synthetic.classes == ("lesion",) and made.split("train").class_counts(2) == (60, 0)
