"""A sound generator passes the gate; one that copies, repeats itself or makes noise is refused with exit code 3."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from medgan_ray.cli.main import main
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine.watch import to_signed
from medgan_ray.errors import InputError, UsageError
from medgan_ray.evaluate import record
from medgan_ray.store import open_store
from medgan_ray.verbs.evaluate import evaluate_run
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset
from tests.evaluate import stored
from tests.evaluate.test_features import network

COUNTS = {"train": 400, "val": 150, "test": 150}
SETTINGS = {"samples": 300, "draws": 20, "utility": "none"}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """A dataset of disks, a run on it, an extractor, and disks of nobody in the dataset."""
    folder = tmp_path_factory.mktemp("evaluated")
    write_dataset(str(folder / "data"), counts=COUNTS)
    write_dataset(str(folder / "more"), counts={"test": 1600})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 32})
    network(folder / "own.onnx", ("batch", 1, 32, 32))
    return folder


@pytest.fixture
def run(scans, tmp_path, monkeypatch):
    """A run whose best generator is one that a test puts there."""
    stored.install(tmp_path / "site", monkeypatch)
    for entry in open_store(str(scans / "run")).list():
        open_store(str(tmp_path / "run")).replace(entry.key, (scans / "run" / entry.key).read_bytes())
    return str(tmp_path / "run")


def images(folder, split, start=0, count=300):
    part = open_dataset(str(folder)).split(split)
    return to_signed(part.take(np.arange(start, min(start + count, len(part)))).image)


def evaluated(scans, run, **settings):
    options = {"evaluate": {**SETTINGS, "extractor": str(scans / "own.onnx"), **settings}}
    return evaluate_run(run, str(scans / "data"), options)


def refused(found):
    return {rule.name for rule in found.rules if not rule.passed}


def test_a_generator_of_other_disks_passes_and_is_told_on_two_pages(scans, run):
    stored.replace_best(run, images(scans / "more", "test", count=1600))
    seen = []
    found = evaluate_run(
        run,
        str(scans / "data"),
        {"evaluate": {**SETTINGS, "extractor": str(scans / "own.onnx")}},
        lambda done, of: seen.append((done, of)),
    )
    assert found.verdict == "passed", refused(found)
    assert seen[-1][0] == seen[-1][1] == len(seen)
    kept = record.newest(open_store(run))
    assert kept and kept.model_dump()["figures"] == found.model_dump()["figures"]
    assert (kept.verdict, kept.extractor["name"]) == ("passed", "own.onnx")
    whole = found.figures["fidelity.whole"]
    assert whole.value and whole.low and whole.high and whole.floor and whole.n == 150
    told = (Path(run) / "report.html").read_text()
    assert "Passed: all" in told and "Membership attack" in told and kept.model in told
    assert "Nearest neighbors" not in told and "real, held out" not in told
    private = (Path(run) / "private" / "report.html").read_text()
    assert "Nearest neighbors" in private and "real, held out" in private


def test_the_report_holds_no_real_pixel(scans, run):
    """All pictures of the public page are those of the generator: another dataset's scans would change none."""
    stored.replace_best(run, images(scans / "more", "test", count=1600))
    evaluated(scans, run)
    pictures = {
        page: set(re.findall(r"data:image/[^\"]+", (Path(run) / page).read_text()))
        for page in ("report.html", "private/report.html")
    }
    assert len(pictures["report.html"] & pictures["private/report.html"]) == 1
    assert len(pictures["private/report.html"]) == 3


@pytest.mark.parametrize(
    ("kind", "broken"),
    [
        ("copies of training scans", {"copies"}),
        ("one image", {"recall", "variety"}),
        ("noise", {"whole images", "patches", "recall"}),
    ],
)
def test_a_generator_that_copies_repeats_itself_or_makes_noise_is_refused(scans, run, kind, broken):
    if kind == "copies of training scans":
        stored.replace_best(run, images(scans / "data", "train"), most_shift=2)
    elif kind == "one image":
        stored.replace_best(run, images(scans / "more", "test", count=1), grain=0.01)
    else:
        noise = np.random.default_rng(0).uniform(-1, 1, (400, 1, 32, 32)).astype(np.float32)
        stored.replace_best(run, noise)
    found = evaluated(scans, run)
    assert found.verdict == "refused" and broken <= refused(found)


def test_copies_of_held_out_patients_do_not_count_as_memorized(scans, run):
    held_out = np.concatenate([images(scans / "data", split) for split in ("val", "test")])
    stored.replace_best(run, held_out, most_shift=1)
    assert "copies" not in refused(evaluated(scans, run))


def test_the_command_prints_the_verdict_and_ends_with_the_gates_exit_code(scans, run, capfd):
    stored.replace_best(run, images(scans / "data", "train"), most_shift=2)
    words = [f"evaluate.{key}={value}" for key, value in SETTINGS.items()]
    words += [f"evaluate.extractor={scans / 'own.onnx'}", "--json"]
    assert main(["evaluate", run, str(scans / "data"), *words]) == 3
    out, err = capfd.readouterr()
    told = json.loads(out)
    assert told["verdict"] == "refused" and {"name", "value", "limit", "passed"} <= told["rules"][0].keys()
    assert {"value", "low", "high", "floor", "n"} <= told["figures"]["fidelity.whole"].keys()
    assert re.search(r"^error: the gate refuses this model: .*copies: generated scans repeat", err, re.MULTILINE)


def test_rules_of_ones_own_decide(scans, run, tmp_path):
    stored.replace_best(run, images(scans / "more", "test", count=1600))
    rules = tmp_path / "rules.yaml"
    rules.write_text(yaml.safe_dump({"strict": {"figure": "fidelity.whole", "at_most": 0.0, "why": "not the same"}}))
    found = evaluated(scans, run, rules=str(rules))
    assert found.verdict == "refused" and refused(found) == {"strict"}


def test_what_cannot_be_evaluated_is_named(scans, run, tmp_path):
    with pytest.raises(UsageError, match="no extractor"):
        evaluated(scans, run, extractor="inception")
    with pytest.raises(InputError, match="no run here"):
        evaluated(scans, str(tmp_path / "nothing"))
    write_dataset(str(tmp_path / "other"), size=48)
    with pytest.raises(InputError):
        evaluate_run(run, str(tmp_path / "other"), {"evaluate": SETTINGS})
