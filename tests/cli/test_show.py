"""Results are one JSON object whoever else prints; progress is a plain line now and then where there is no terminal."""

import dataclasses
import json
import logging
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from medgan_ray.cli import show
from medgan_ray.cli.show import Show, TerminalHost, duration, plain
from medgan_ray.config import Section


@dataclasses.dataclass
class _Result:
    path: Path
    values: tuple[float, ...]
    found: dict[str, object]


class _Part(Section):
    name: str = "x"
    share: float = 0.5


def test_plain_is_what_json_knows():
    value = _Result(Path("a/b"), (1.0, float("nan"), float("inf")), {"part": _Part(), "count": np.int64(3)})
    expected = {
        "path": "a/b",
        "values": [1.0, None, None],
        "found": {"part": {"name": "x", "share": 0.5}, "count": 3},
    }
    assert plain(value) == expected
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == expected


def test_with_json_standard_output_holds_one_object_only(capfd: pytest.CaptureFixture[str]):
    shown = Show(as_json=True)
    with shown.streams():
        print("a library prints")
        subprocess.run([sys.executable, "-c", "print('a process prints')"], check=True)
        shown.line("a line for people")
        shown.table(["a"], [["b"]])
        shown.result({"answer": 42, "warnings": ["mind"]}, "Done.")
    print("afterwards")
    out, err = capfd.readouterr()
    first, *rest = out.splitlines()
    assert json.loads(first) == {"answer": 42, "warnings": ["mind"]}
    assert rest == ["afterwards"]
    assert "a library prints" in err and "a process prints" in err


def test_a_result_is_a_table_for_people(capfd: pytest.CaptureFixture[str]):
    shown = Show()
    with shown.streams():
        shown.result(
            {"files": list(range(20)), "figures": {"score": 1.23456}, "none": None, "warnings": ["mind"]}, "Done."
        )
    out, err = capfd.readouterr()
    assert out.splitlines()[0] == "Done."
    assert "0, 1, 2, 3, 4, 5, 6, 7, … (20 in all)" in out and "score 1.235" in out and "none" not in out
    assert err == "note: mind\n"


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({}, ["told", "warning: warned"]),
        ({"quiet": True}, ["warning: warned"]),
        ({"debug": True}, ["detail", "told", "warning: warned"]),
    ],
)
def test_logs_go_to_standard_error(capfd: pytest.CaptureFixture[str], options: dict[str, bool], seen: list[str]):
    logger = logging.getLogger("medgan_ray")
    handlers = list(logger.handlers)
    with Show(**options).streams():
        logger.debug("detail")
        logger.info("told")
        logger.warning("warned")
    out, err = capfd.readouterr()
    assert out == "" and err.splitlines() == seen
    assert logger.handlers == handlers


def test_progress_is_a_line_every_ten_seconds(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show().progress("train", "images") as bar:
        for second in range(26):
            now[0] = 100.0 + second
            TerminalHost(bar).progress(1000 * second, 75_000, 140.0)
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "train: 10,000 of 75,000 images, 140 images/s, about 8 min left",
        "train: 20,000 of 75,000 images, 140 images/s, about 7 min left",
    ]


@pytest.mark.parametrize(
    ("files", "seconds", "line"),
    [
        (20, 1, "ingest: 1,180 of 5,000 files, 20 files/s, about 3 min left"),
        (1, 3, "ingest: 1,003 of 5,000 files, 0.33 files/s, about 3 h 20 min left"),
    ],
)
def test_a_rate_that_is_not_given_is_measured(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, files: int, seconds: int, line: str
):
    """What was done before doesn't count, whether by an earlier attempt or by a piece of work that came first."""
    now = [100.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show().progress("ingest", "files") as bar:
        bar.update(4000, 9000)
        for second in range(12):
            now[0] = 101.0 + second
            bar.update(1000 + second // seconds * files, 5000)
    assert capfd.readouterr().err.splitlines() == [line]


def said(capfd: pytest.CaptureFixture[str]) -> list[str]:
    return [line.partition("images, ")[2] for line in capfd.readouterr().err.splitlines()]


def test_the_rate_is_of_late(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Neither a quick beginning nor what an earlier attempt did says how fast it goes now."""
    now, done = [0.0], 50_000
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show().progress("train", "images") as bar:
        for second in range(401):
            now[0], done = float(second), done + (100 if second < 300 else 20)
            bar.update(done, 100_000)
    lines = said(capfd)
    assert lines[0] == "100 images/s, about 8 min left"
    assert lines[-1] == "20 images/s, about 15 min left"


def test_pauses_count_for_the_time_left_and_not_for_the_speed(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Training says how fast its steps are; here it measures figures for 10 s after each 10 s of steps."""
    now, done = [0.0], 0
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show().progress("train", "images") as bar:
        for second in range(200):
            now[0] = float(second)
            if second % 20 < 10:
                done += 100
                TerminalHost(bar).progress(done, 40_000, 100.0)
    assert said(capfd)[-1] == "100 images/s, about 10 min left"


def test_few_pieces_of_slow_work_have_a_rate_too(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show().progress("tune", "trials") as bar:
        for minute in range(21):
            now[0] = 60.0 * minute
            bar.update(minute, 30)
    assert capfd.readouterr().err.splitlines()[-1] == "tune: 20 of 30 trials, 0.017 trials/s, about 10 min left"


def test_quiet_has_no_progress(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    now = [0.0]
    monkeypatch.setattr(show.time, "monotonic", lambda: now[0])
    with Show(quiet=True).progress("train", "images") as bar:
        now[0] = 60.0
        bar.update(1, 2)
    assert capfd.readouterr() == ("", "")


def test_on_a_terminal_there_is_a_bar():
    pty = pytest.importorskip("pty")
    code = (
        "import sys; from medgan_ray.cli.show import Show\n"
        "with Show().progress('train', 'images') as bar:\n"
        "    bar.update(50, 100, 25.0)\n"
        "    bar._live.refresh()\n"
    )
    import os

    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=follower, stdout=subprocess.DEVNULL, env={**os.environ, "TERM": "xterm"}
    )
    os.close(follower)
    text = b""
    try:
        while chunk := os.read(leader, 4096):
            text += chunk
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(leader)
    assert process.wait() == 0
    assert b"50/100" in text and b"25 images/s" in text and b"about 2 s left" in text


def test_warnings_of_libraries_are_for_debugging(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "warnoptions", [])
    monkeypatch.delenv("PYTHONWARNINGS", raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        with Show().streams():
            warnings.warn("of a library", FutureWarning, stacklevel=1)
        assert capfd.readouterr().err == ""
    with pytest.warns(FutureWarning, match="of a library"), Show(debug=True).streams():
        warnings.warn("of a library", FutureWarning, stacklevel=1)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0 s"), (89, "89 s"), (150, "2 min"), (7500, "2 h 05 min")])
def test_duration(seconds: float, text: str):
    assert duration(seconds) == text
