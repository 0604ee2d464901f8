"""A recognizer is evaluated and published as a generator is: figures, pages, gate, a version with its calibration."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from medgan_ray import promote_version, publish_run
from medgan_ray.artifacts import calibration
from medgan_ray.cli.main import main
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import GateRefusal, InputError
from medgan_ray.evaluate import record
from medgan_ray.inference.recognizer import load_recognizer
from medgan_ray.store import open_store
from medgan_ray.verbs.evaluate import evaluate_run
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.train import train
from tests.builders import write_dataset

TRAIN = {"checkpoint_images": 96, "log_images": 48, "writers": []}
SMALL = {"task": "recognize", "batch": 8, "images": 96, "model": {"recognizer_width": 8}, "train": TRAIN}
DRAWS = {"evaluate.draws": 20}
LENIENT = {"majority": {"figure": "recognition.over_majority", "at_least": -1.0, "why": "never"}}
FORCE = {"force": True, "why": "a baseline for the course"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on two label sets: the first is by turns, which nothing shows, the second is shown by the picture."""
    folder = tmp_path_factory.mktemp("recognizer")
    write_dataset(
        str(folder / "data"), classes=("no<i>ne", "lesion"), counts={"train": 60, "val": 30, "test": 60}, sides=True
    )
    train(str(folder / "data"), str(folder / "run"), SMALL)
    (folder / "lenient.yaml").write_text(yaml.safe_dump(LENIENT))
    return folder


@pytest.fixture(scope="module")
def judged(trained, tmp_path_factory):
    """A copy of the run, evaluated by the package's own rules, through the command line."""
    run = tmp_path_factory.mktemp("judged") / "run"
    shutil.copytree(trained / "run", run)
    return run, evaluate_run(str(run), str(trained / "data"), DRAWS)


@pytest.fixture
def passed(trained, tmp_path):
    """A copy of the run that has passed rules of one's own."""
    shutil.copytree(trained / "run", tmp_path / "run")
    words = ["evaluate.draws=20", f"evaluate.rules={trained / 'lenient.yaml'}", "-q"]
    assert main(["evaluate", str(tmp_path / "run"), str(trained / "data"), *words]) == 0
    return str(tmp_path / "run")


def test_what_learned_nothing_is_refused_by_name(judged):
    run, found = judged
    broken = {rule.name for rule in found.rules if not rule.passed}
    assert found.verdict == "refused" and "better than guessing" in broken
    kept = record.newest(open_store(str(run)))
    assert kept.verdict == "refused" and kept.extractor == {}
    assert kept.calibration == calibration.sha256(open_store(str(run)).child("best")) != ""
    assert kept.model_dump()["figures"] == found.model_dump()["figures"]
    assert set(kept.details["recognition"]) == {"label", "side"}


def test_every_label_set_has_its_figures_and_the_first_is_judged(judged):
    _, found = judged
    names = {"recognition.accuracy", "recognition.accuracy[set=side]", "recognition.sensitivity[set=side, class=left]"}
    assert names <= found.figures.keys()
    assert found.figures["recognition.promise"].n == 30
    assert found.figures["recognition.pixels.auroc[set=side]"].value > 0.8, "which side is in the pixels"
    chance = found.figures["recognition.pixels.auroc"]
    assert chance.low < 0.65, "the turns are not"


def test_figures_are_those_of_what_the_recognizer_says(trained, judged):
    run, found = judged
    test = open_dataset(str(trained / "data")).split("test")
    samples = test.take(np.arange(len(test)))
    answers = load_recognizer(str(run)).answers(samples.image)
    for index, end in enumerate(("", "[set=side]")):
        said, labels = answers.sets[index], samples.label[:, index]
        held = said.held[np.arange(60), labels]
        sure = said.sure & ~answers.foreign
        for name, value in {
            "accuracy": (said.named == labels).mean(),
            "coverage": held.mean(),
            "set_size": said.held.sum(1).mean(),
            "answered": sure.mean(),
            "nll": -np.log(said.probabilities[np.arange(60), labels]).mean(),
        }.items():
            assert found.figures[f"recognition.{name}{end}"].value == pytest.approx(value, abs=1e-6), name


def test_the_report_shows_no_scan_and_the_private_page_the_worst(judged):
    run, _ = judged
    told, private = ((run / page).read_text() for page in ("report.html", "private/report.html"))
    for text in (told, private):
        assert "Not a medical device" in text and "<i>" not in text and "<script" not in text
        assert not re.search(r"https?://", text)
    assert "data:image" not in told and told.count("<svg") == 5, "two curves a label set, and the losses"
    for words in (
        "Reliability",
        "What is taken for what",
        "raw pixels",
        "Calibrated on 30 scans of 30 patients",
        "Refused",
    ):
        assert words in told
    assert "no&lt;i&gt;ne" in told
    assert 1 <= private.count("data:image/png") <= 24 and "Wrong, and sure of it" in private
    assert re.search(r"\d+: said (no&lt;i&gt;ne|lesion) \(\d+%\), is", private)


def test_the_command_ends_with_the_gates_exit_code_and_fails_closed(trained, tmp_path, capfd):
    shutil.copytree(trained / "run", tmp_path / "run")
    (tmp_path / "run" / "best" / calibration.FILE).unlink()
    assert main(["evaluate", str(tmp_path / "run"), str(trained / "data"), "evaluate.draws=20", "--json"]) == 3
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert told["verdict"] == "refused"
    coverage = next(rule for rule in told["rules"] if rule["name"] == "coverage")
    assert not coverage["passed"] and coverage["note"].startswith("not calibrated")
    assert re.search(r"^error: the gate refuses this model: .*coverage: not calibrated", err, re.MULTILINE)


def test_a_version_carries_its_calibration(passed, trained, tmp_path):
    name = str(tmp_path / "registry" / "sides")
    result = publish_run(passed, name, {"publish.license": "apache-2.0", "publish.use": "Teaching."})
    assert (result.model, result.verdict, result.forced) == (f"{name}@1", "passed", None)
    files = {entry.key.rpartition("/")[2] for entry in open_store(name).list("versions/1")}
    expected = {"model.safetensors", "model.json", "card.md", "evaluation.json", "commit.json", calibration.FILE}
    assert files == expected
    mine, theirs = load_recognizer(f"{name}@1"), load_recognizer(passed)
    assert mine.calibration == theirs.calibration is not None and mine.version == "sides@1"
    test = open_dataset(str(trained / "data")).split("test").take(np.arange(8)).image
    first, second = mine.answers(test), theirs.answers(test)
    assert np.array_equal(first.sets[1].held, second.sets[1].held) and np.array_equal(first.p, second.p)
    assert inspect(name, verify=True)["verified"] == 5
    assert publish_run(passed, name).version == 2
    assert promote_version(f"{name}@1").before == 2 and load_recognizer(name).version == "sides@1"
    path = Path(name) / "versions" / "1" / calibration.FILE
    path.write_bytes(path.read_bytes()[:-8] + b"\0" * 8)
    with pytest.raises(InputError, match=r"calibration\.safetensors does not match its SHA-256"):
        load_recognizer(f"{name}@1")


def test_its_card_says_what_it_is_and_what_it_can_not(passed, tmp_path):
    name = str(tmp_path / "sides")
    publish_run(passed, name, {"publish.use": "Teaching."})
    _, front, body = (tmp_path / "sides/versions/1/card.md").read_text().split("---\n", 2)
    told = yaml.safe_load(front)
    assert told["pipeline_tag"] == "image-classification" and "synthetic-data" not in told["tags"]
    for words in (
        "not a medical device",
        "calibrated on 30 scans of 30 patients",
        "in 90% of scans",
        "no promise by class",
        "## Intended use\n\nTeaching.",
        "no&lt;i&gt;ne",
        calibration.FILE,
    ):
        assert words in body, words
    assert "generator" not in body and "ImageNet" not in body and "floor" not in body


def test_without_calibration_or_with_another_one_nothing_is_published(passed, tmp_path):
    name, path = str(tmp_path / "sides"), Path(passed) / "best" / calibration.FILE
    facts, tensors = calibration.read(
        open_store(passed).child("best"), json.loads((path.parent / "model.json").read_text())["weights"]
    )
    calibration.write(open_store(passed).child("best"), facts.model_copy(update={"coverage": 0.5}), tensors)
    with pytest.raises(GateRefusal, match="the best weights' calibration was not evaluated, only others"):
        publish_run(passed, name)
    path.unlink()
    for force in ({}, FORCE):
        with pytest.raises(InputError, match="a recognizer without calibration is not published"):
            publish_run(passed, name, **force)
    assert not (tmp_path / "sides").exists()
