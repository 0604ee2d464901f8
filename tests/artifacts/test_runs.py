"""Curves are read over all attempts of a run; where two logged the same images, the later one counts."""

import json
from pathlib import Path

from medgan_ray.artifacts.runs import read_log
from medgan_ray.store import open_store


def _segment(run: Path, name: str, *lines: dict[str, float]) -> None:
    folder = run / "log" / name
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_read_log(tmp_path: Path):
    _segment(tmp_path, "000000000000", {"images": 8, "loss": 1}, {"images": 16, "loss": 2}, {"images": 24, "loss": 3})
    _segment(
        tmp_path, "000000000016", {"images": 24, "loss": 9}, {"images": 24, "score": 1.5}, {"images": 32, "loss": 4}
    )
    lines = read_log(open_store(str(tmp_path)))
    assert [(line["images"], line.get("loss"), line.get("score")) for line in lines] == [
        (8, 1, None),
        (16, 2, None),
        (24, 9, None),
        (24, None, 1.5),
        (32, 4, None),
    ]
