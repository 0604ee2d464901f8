"""The demo with Ray: trained on workers, searched where figures can be taken, served and asked over HTTP."""

from pathlib import Path
from typing import Any

import pytest

from medgan_ray.on_ray import demo as placed
from medgan_ray.on_ray.tune import TuneResult
from medgan_ray.verbs import demo as verb

SMALL = {"size": 32, "images": 32, "batch": 8, "workers": 1}


@pytest.mark.slow
def test_the_whole_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(verb, "PHANTOM_PATIENTS", 8)
    monkeypatch.setattr(verb, "PHANTOM_SLICES", 3)
    monkeypatch.setattr(verb, "PHANTOM_SIDE", 48)
    said: list[str] = []
    result = placed.demo(str(tmp_path), config=SMALL, say=said.append)
    assert [line.split()[1] for line in said] == [
        *("Draw", "Ingest", "Train", "Evaluate", "Publish", "Generate", "Search", "Serve")
    ]
    text = "\n".join(result.summary)
    assert "4 scans asked for over HTTP" in text and "http://127.0.0.1:" in text
    assert Path(result.report).exists() and result.images == 32


def test_the_search_is_told_in_rows(monkeypatch: pytest.MonkeyPatch):
    given: list[Any] = []

    def tune(*words: Any) -> TuneResult:
        given.extend(words)
        trials = (
            {"name": "trial-001", "state": "finished", "score": 2.5, "images": 80, "train.lr": 0.001, "train.gamma": 5},
            {"name": "trial-000", "state": "stopped", "score": None, "images": 16, "train.lr": 0.002},
        )
        return TuneResult(search="runs", best="runs/trial-001", score=2.5, trials=trials)

    monkeypatch.setattr(placed, "tune", tune)
    found = placed._search(None, "data", "runs", {"images": 9, "workers": 2, "seed": 4})
    assert given == ["data", "runs", placed.SPACE, {**placed.TRIALS, "seed": 4}, None]
    assert found.stopped_early == 1
    assert found.rows == (
        ("trial-001", "finished", 2.5, 80, 0.001, 5),
        ("trial-000", "stopped", None, 16, 0.002, None),
    )
    assert len(found.columns) == 6
