"""Publishing goes through the gate; what is published opens wherever a run does, and says how it was judged."""

import json
import shutil

import pytest

from medgan_ray import generate_scans, load_model, promote_version, publish_run
from medgan_ray.cli.main import main
from medgan_ray.dataset.manifest import read_manifest
from medgan_ray.errors import GateRefusal, InputError, UsageError
from medgan_ray.evaluate import record
from medgan_ray.evaluate.gate import Ruling
from medgan_ray.metrics.figure import Figure
from medgan_ray.store import open_store
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

FORCE = {"force": True, "why": "a baseline for the course"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"), counts={"train": 60})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return folder


@pytest.fixture
def run(trained, tmp_path):
    shutil.copytree(trained / "run", tmp_path / "run")
    return str(tmp_path / "run")


def _evaluate(run, weights=None, **given):
    """Leave an evaluation behind, as ``evaluate`` does."""
    rules = given.pop("rules", {"copies": True, "recall": True})
    store = open_store(run)
    values = {
        "verdict": "passed" if all(rules.values()) else "refused",
        "rules": [
            Ruling(name=name, figure=f"f.{name}", value=0.5, limit="at most 1", passed=kept, note="" if kept else "bad")
            for name, kept in rules.items()
        ],
        "figures": {"f.copies": Figure(value=0.5, low=0.25, high=0.75, floor=0.5, n=100)},
        "model": weights or json.loads(store.read("best/model.json"))["weights"],
        "dataset": "ab" * 32,
        "extractor": {"name": "own", "digest": "cd"},
        "settings": {},
        "code_version": "0.1.0",
    }
    return record.write(store, record.Evaluation(**{**values, **given}))


def test_a_version_opens_wherever_a_run_does(run, trained, tmp_path):
    digest = _evaluate(run)
    name = str(tmp_path / "registry/heads")
    result = publish_run(run, name, {"publish.license": "apache-2.0"})
    assert (result.model, result.version, result.current, result.verdict) == (f"{name}@1", 1, 1, "passed")
    files = {entry.key.partition("/1/")[2] for entry in open_store(name).list("versions")}
    assert files == {"model.safetensors", "model.json", "card.md", "evaluation.json", "commit.json"}
    release = load_model(f"{name}@1").card.release
    assert release.evaluation == digest and release.license == "apache-2.0" and release.run == "run"
    assert load_model(f"{name}@1").card.manifest == read_manifest(open_store(str(trained / "data")))[1]
    told = {open_store(run).read("best/model.safetensors"), open_store(name).read("versions/1/model.safetensors")}
    assert len(told) == 1 and b"discriminator" not in told.pop()
    scans = {generate_scans(uri, str(tmp_path / "out"), n=2).sha256 for uri in (run, name, f"{name}@1")}
    assert len(scans) == 1
    assert load_model(f"{name}@current").name == "heads"
    begun = {**SMALL, "images": 8, "train": {**SMALL["train"], "init_from": f"{name}@1"}}
    assert train(str(trained / "data"), str(tmp_path / "next"), begun).images == 8


def test_a_version_goes_to_s3_and_back(run, s3, tmp_path):
    _evaluate(run)
    result = publish_run(run, f"{s3}/registry/heads")
    assert load_model(f"{s3}/registry/heads@current").version == load_model(run).version
    facts = inspect(f"{s3}/registry/heads", verify=True, sweep=True)
    assert (facts["versions"], facts["current"], facts["verified"], facts["swept"]) == ([1], 1, 4, [])
    assert inspect(result.model, grid=str(tmp_path / "grid.png"))["release"]["version"] == 1
    assert (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    ("evaluated", "message"),
    [
        (None, "the best weights were not evaluated"),
        ({"weights": "00" * 32}, "the best weights were not evaluated, only others"),
        ({"rules": {"copies": False, "recall": True, "utility": False}}, r"copies \(bad\); utility \(bad\)"),
        ({"rules": {"copies": False}, "verdict": "passed"}, r"copies \(bad\)"),
        ({"rules": {}}, "names no rule"),
    ],
)
def test_the_gate_fails_closed(run, tmp_path, evaluated, message):
    if evaluated is not None:
        _evaluate(run, **evaluated)
    with pytest.raises(GateRefusal, match=message) as refused:
        publish_run(run, str(tmp_path / "heads"))
    assert refused.value.exit_code == 3
    assert not (tmp_path / "heads").exists()
    assert main(["publish", run, str(tmp_path / "heads")]) == 3


def test_the_newest_evaluation_counts(run, tmp_path):
    _evaluate(run)
    _evaluate(run, rules={"copies": False})
    with pytest.raises(GateRefusal, match="copies"):
        publish_run(run, str(tmp_path / "heads"))
    _evaluate(run)
    assert publish_run(run, str(tmp_path / "heads")).version == 1


def test_force_is_recorded_and_shown(run, tmp_path, capfd):
    _evaluate(run, rules={"copies": False, "recall": True})
    name = str(tmp_path / "heads")
    assert main(["publish", run, name, "--force", "--why", "a <baseline>", "--json"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert (told["verdict"], told["failed"], told["forced"]) == ("refused", ["copies"], "a <baseline>")
    card = (tmp_path / "heads/versions/1/card.md").read_text()
    assert "Published against the release gate** (copies)" in card and "a &lt;baseline&gt;" in card
    facts = inspect(f"{name}@1")
    assert facts["kind"] == "model" and facts["release"]["forced"] == "a <baseline>"
    for words in ({"force": True}, {"why": "because"}):
        with pytest.raises(UsageError, match="--force and --why go together"):
            publish_run(run, name, **words)


def test_force_without_need_is_no_force(run, tmp_path):
    _evaluate(run)
    assert publish_run(run, str(tmp_path / "heads"), **FORCE).forced is None


def test_promote_rolls_back(run, tmp_path, capfd):
    name = str(tmp_path / "heads")
    for _ in range(2):
        publish_run(run, name, **FORCE)
    assert promote_version(f"{name}@1", why="better at night").before == 2
    assert load_model(name).card.release.version == 1
    assert main(["promote", f"{name}@2", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["current"] == 2
    history = inspect(name)["history"]
    assert [(entry["version"], entry["why"].partition(":")[0]) for entry in history[2:]] == [
        (1, "promoted"),
        (2, "promoted"),
    ]
    assert all(entry["time"] for entry in history)
    assert main(["promote", f"{name}@9"]) == 4 and main(["promote", name]) == 2


def test_a_damaged_version_is_named(run, tmp_path):
    name = str(tmp_path / "heads")
    publish_run(run, name, **FORCE)
    path = tmp_path / "heads/versions/1/model.json"
    path.write_bytes(path.read_bytes().replace(b'"modality":"CT"', b'"modality":"MR"'))
    for look in (load_model, lambda uri: inspect(uri, verify=True)):
        with pytest.raises(InputError, match=r"model.json does not match its SHA-256"):
            look(f"{name}@1")


def test_what_is_no_run_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="no run here"):
        publish_run(str(tmp_path / "nowhere"), str(tmp_path / "heads"), **FORCE)
    shutil.rmtree(f"{run}/best")
    with pytest.raises(InputError, match="no checkpoint yet"):
        publish_run(run, str(tmp_path / "heads"), **FORCE)


def test_a_discriminator_never_leaves_a_run(run, tmp_path):
    from medgan_ray.artifacts.versions import read_model, write_model

    best = open_store(run).child("best")
    tensors, card = read_model(best)
    smuggled = {**tensors, "discriminator.weight": next(iter(tensors.values())).clone()}
    write_model(best, smuggled, {key: value for key, value in card if key != "weights"})
    with pytest.raises(InputError, match="another network"):
        publish_run(run, str(tmp_path / "heads"), **FORCE)
