"""Verbs that Ray places hand over what was asked, and print what comes back."""

import json
from typing import Any

import pytest

from medgan_ray.cli.main import main
from medgan_ray.on_ray import demo, serve, submit, train, tune
from medgan_ray.on_ray.tune import TuneResult
from medgan_ray.verbs.demo import DemoResult
from medgan_ray.verbs.train import TrainResult

RESULT = TrainResult(run="run", images=8, seconds=1.0, weights_sha256="0" * 64, figures={"score": 1.5})


class _Calls:
    """Stands for a function: keeps what it was called with and returns ``value``."""

    def __init__(self, value: Any = None) -> None:
        self.value, self.given, self.named = value, (), {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        return self.value


@pytest.mark.parametrize("words", [["workers=2"], ["--ray"], ["--address", "10.0.0.5:6379"]])
def test_train(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: list[str]):
    calls = _Calls(RESULT)
    monkeypatch.setattr(train, "train", calls)
    assert main(["train", "data", "run", "seed=3", "--json", *words]) == 0
    assert json.loads(capfd.readouterr().out) == RESULT.model_dump()
    dataset, run, config, address, host = calls.given
    assert (dataset, run, config["seed"]) == ("data", "run", 3)
    assert address == ("10.0.0.5:6379" if "--address" in words else None)
    host.progress(1, 2, 3.0)


def test_train_reads_ray_address(monkeypatch: pytest.MonkeyPatch):
    calls = _Calls(RESULT)
    monkeypatch.setattr(train, "train", calls)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.6:6379")
    assert main(["train", "data", "run", "-q"]) == 0
    assert calls.given[3] == "10.0.0.6:6379"


def test_tune_ends_with_a_leaderboard(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    rows = ({"name": "a", "score": 1.25, "train.lr": 0.001}, {"name": "b", "score": None, "reason": "[red]too slow"})
    calls = _Calls(TuneResult(search="runs", best="runs/a", score=1.25, trials=rows))
    monkeypatch.setattr(tune, "tune", calls)
    assert main(["tune", "data", "runs", "--space", "space.yaml"]) == 0
    out = capfd.readouterr().out
    assert calls.given[:3] == ("data", "runs", "space.yaml")
    assert out.splitlines()[0].split() == ["name", "score", "train.lr", "reason"]
    assert "1.25" in out and "[red]too slow" in out and out.endswith("Best: runs/a\n")
    assert main(["tune", "data", "runs", "--space", "space.yaml", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["trials"][0]["name"] == "a"


def test_serve_says_its_address_once_it_is_ready(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    calls = _Calls()
    monkeypatch.setattr(serve, "serve", calls)
    words = ["serve", "run", "other", "--port", "9001", "serve.replicas=2", "--no-auth", "--json"]
    assert main(words) == 0
    models, config, address = calls.given
    assert models == ["run", "other"] and address is None
    assert config == {"serve": {"port": 9001, "replicas": 2}}
    assert calls.named["no_auth"] is True and calls.named["write_config"] is None
    capfd.readouterr()
    monkeypatch.setattr(serve, "serve", lambda *_, ready, **__: ready("http://127.0.0.1:9001"))
    assert main(words) == 0
    assert json.loads(capfd.readouterr().out) == {"url": "http://127.0.0.1:9001"}


def test_submit_passes_everything_after_the_verb_on(monkeypatch: pytest.MonkeyPatch):
    calls = _Calls(0)
    monkeypatch.setattr(submit, "submit", calls)
    inner = ["train", "s3://b/data", "s3://b/run", "imgaes=5", "--json", "--address", "x", "-q"]
    assert main(["submit", "--address", "127.0.0.1:8265", "--detach", *inner]) == 0
    assert calls.given == (inner, "127.0.0.1:8265", True)


@pytest.mark.parametrize("code", [0, 2, 6, 130])
def test_submit_hands_the_exit_code_back(monkeypatch: pytest.MonkeyPatch, code: int):
    monkeypatch.setattr(submit, "submit", _Calls(code))
    assert main(["submit", "train", "data", "run"]) == code


def test_demo_prints_its_summary(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    result = DemoResult("out", "out/report.html", "d", "r", 8, {}, 1.0, ["first", "second"])
    calls = _Calls(result)
    monkeypatch.setattr(demo, "demo", calls)
    assert main(["demo", "here", "--scans", "scans", "images=9"]) == 0
    assert capfd.readouterr().out == "first\nsecond\n"
    assert calls.given == ("here", "scans", {"images": 9})
    assert main(["demo", "--json"]) == 0
    assert json.loads(capfd.readouterr().out)["report"] == "out/report.html"
    assert calls.given[:2] == ("out/demo", None)
