"""Searches: trials are ordinary runs, bad ones stop early, the same call goes on, the winner opens as a model."""

import json
from pathlib import Path
from typing import Any

import pytest

from medgan_ray import load_model, load_space, trainable, tune_search
from medgan_ray.errors import MedganError, UsageError
from medgan_ray.on_ray.ledger import OUT_OF_BOUNDS, UNMEASURED, Ledger, Trial, judge
from medgan_ray.on_ray.tune import tune
from medgan_ray.store import open_store
from tests.builders import SMALL, write_dataset

SPACE: dict[str, Any] = {
    "trials": 6,
    "images": 224,
    "space": {"train.lr": {"loguniform": [1e-5, 1e-2]}, "train.gamma": {"choice": [5, 10]}},
}
SHARED = {
    "batch": SMALL["batch"],
    "model": SMALL["model"],
    "train": {"checkpoint_images": 32, "figure_samples": 100, "floor_draws": 2},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    uri = str(tmp_path_factory.mktemp("data"))
    write_dataset(uri, counts={"train": 120, "val": 100, "test": 24})
    return uri


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_search_stops_bad_trials_and_goes_on(ray_instance: Path, data: str, tmp_path: Path) -> None:
    uri = str(tmp_path / "search")
    found = tune(data, uri, SPACE, SHARED)
    states = [trial["state"] for trial in found.trials]
    assert len(states) == 6 and set(states) == {"finished", "stopped"}, states
    assert found.trials[0]["state"] == "finished"
    board = json.loads((tmp_path / "search" / "leaderboard.json").read_text())["trials"]
    assert [trial["name"] for trial in board] == [trial["name"] for trial in found.trials]
    for trial in board:
        run = tmp_path / "search" / trial["name"]
        assert (run / "run.json").exists() and list((run / "checkpoints").glob("*/commit.json")), "an ordinary run"
        assert (run / "result.json").exists() == (trial["state"] == "finished")
        assert trial["images"] == 224 if trial["state"] == "finished" else trial["images"] < 224
    best = json.loads((tmp_path / "search" / "best.json").read_text())
    assert best["run"] == board[0]["name"]
    assert load_model(uri).version == load_model(f"{uri}/{best['run']}").version

    # What a killed driver leaves behind: a trial whose end was not recorded, and one that never began.
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "search").glob("*/run.json")}
    board[-1]["state"] = "running"
    left = [{key: value for key, value in trial.items() if key != "score"} for trial in board]
    (tmp_path / "search" / "leaderboard.json").write_text(json.dumps({"trials": left}))
    again = tune(data, uri, {**SPACE, "trials": 7}, SHARED)
    assert len(again.trials) == 7
    assert {trial["state"] for trial in again.trials} <= {"finished", "stopped"}
    assert all(path.stat().st_mtime_ns == old for path, old in written.items()), "no run is begun anew"
    with pytest.raises(UsageError, match="begun with another config"):
        tune(data, uri, SPACE, {**SHARED, "seed": 1})


def test_a_search_that_is_done_starts_nothing(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {**SPACE, "trials": 1}
    store = open_store(str(tmp_path / "search"))
    monkeypatch.setattr("medgan_ray.on_ray.session.local", lambda *_, **__: pytest.fail("started"))
    with pytest.raises(pytest.fail.Exception, match="started"):
        tune(data, store.uri, space, SHARED)
    board = {"trials": [{"name": "trial-000", "values": {}, "state": "failed", "reason": "no luck"}]}
    store.replace("leaderboard.json", json.dumps(board).encode())
    with pytest.raises(MedganError, match="no trial succeeded; trial-000: no luck"):
        tune(data, store.uri, space, SHARED)


@pytest.mark.slow
def test_the_face_searches_and_trains_in_a_tuner_of_ones_own(ray_instance: Path, data: str, tmp_path: Path) -> None:
    import yaml
    from ray import tune as ray_tune

    path = tmp_path / "space.yaml"
    path.write_text(yaml.safe_dump({**SPACE, "trials": 1, "images": 32}))
    grid = tune_search(data, str(tmp_path / "search"), str(path), SHARED, ray_tune.TuneConfig(max_concurrent_trials=1))
    assert isinstance(grid, ray_tune.ResultGrid)
    assert not grid.errors and grid.get_best_result("score", "min").metrics["images"] == 32

    tuner = ray_tune.Tuner(
        trainable(data, str(tmp_path / "own"), {**SHARED, "images": 32}),
        param_space=load_space(str(path)),
        tune_config=ray_tune.TuneConfig(metric="score", mode="min", num_samples=1),
        run_config=ray_tune.RunConfig(storage_path=str(tmp_path / "ray"), verbose=0),
    )
    result = tuner.fit()[0]
    assert result.error is None and result.metrics["images"] == 32
    (run,) = (tmp_path / "own").iterdir()
    assert (run / "result.json").exists()


def test_judging_orders_sound_unsound_and_unmeasured() -> None:
    sound = judge({"score": 1.5, "whole_ratio": 1.0, "patches_ratio": 2.0}, "score")
    unsound = judge({"score": float("inf"), "whole_ratio": 1.0, "patches_ratio": 1.0}, "score")
    assert (sound, unsound, judge({}, "score")) == (1.5, OUT_OF_BOUNDS + 1, UNMEASURED)


def test_the_ledger_ranks_and_keeps_a_winner(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    ledger = Ledger(store, [Trial(name, {}) for name in "abc"])
    ledger.report("a", 32, OUT_OF_BOUNDS + 1)
    ledger.report("b", 32, 2.0)
    ledger.report("b", 64, 3.0)
    ledger.report("b", 32, 0.1)  # repeated after a restart: known already
    ledger.end("c", "failed", "no luck")
    assert [trial.name for trial in ledger.ranked()] == ["b", "a", "c"]
    assert json.loads(store.read("best.json")) == {"run": "b", "score": 2.0}
    ledger.end("c", "finished")
    assert ledger.trials["c"].state == "failed"
