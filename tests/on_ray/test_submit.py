"""Jobs: what travels, and a real head on loopback with a token: log, exit code, wrong token, detach."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medgan_ray.errors import InputError, UsageError
from medgan_ray.on_ray import session, submit

BIN = Path(sys.executable).parent


def test_the_package_and_named_files_travel(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text("space: {}")
    (tmp_path / "heads.yaml").write_text("images: 1")
    words = ["tune", "s3://b/d", "s3://b/r", "--space", str(tmp_path / "space.yaml")]
    folder = tmp_path / "folder"
    folder.mkdir()
    carried = submit.pack([*words, f"--config={tmp_path / 'heads.yaml'}", "seed=1"], folder)
    assert carried[:4] == words[:4] and carried[-1] == "seed=1"
    assert (folder / carried[4]).read_text() == "space: {}"
    assert (folder / carried[5].removeprefix("--config=")).read_text() == "images: 1"
    assert (folder / "medgan_ray" / "on_ray" / "submit.py").exists()
    assert not list(folder.rglob("__pycache__"))


def test_mistakes_are_refused_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="no verb"):
        submit.submit([])
    with pytest.raises(UsageError, match="not the address"):
        submit.submit(["inspect"], "ray://a b")
    with pytest.raises(InputError, match=r"nowhere\.yaml"):
        submit.pack(["train", "--config", "nowhere.yaml"], tmp_path)
    monkeypatch.setattr(submit, "LARGEST_UPLOAD", 1000)
    (tmp_path / "again").mkdir()
    with pytest.raises(UsageError, match="would travel"):
        submit.pack(["train"], tmp_path / "again")


def test_a_job_learns_where_stores_and_trackers_are_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, dict[str, str]] = {}

    class Client:
        def submit_job(self, runtime_env: dict[str, Any], **_: object) -> str:
            given.update(runtime_env)
            return "job-1"

    monkeypatch.setattr(submit, "_client", lambda url: contextlib.nullcontext(Client()))
    for name in ("AWS_SECRET_ACCESS_KEY", "WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9000")
    monkeypatch.setenv("WANDB_PROJECT", "heads")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow.example:5000")
    assert submit.submit(["inspect", "s3://b/r"], "127.0.0.1:8265", detach=True) == 0
    known = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000", "WANDB_PROJECT": "heads", "PYTHONUNBUFFERED": "1"}
    assert given["env_vars"] == {**known, "MLFLOW_TRACKING_URI": "http://mlflow.example:5000"}
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example:5000")
    submit.submit(["inspect", "s3://b/r"], "127.0.0.1:8265", detach=True)
    assert given["env_vars"] == known


@pytest.mark.parametrize(
    ("address", "url"),
    [("10.0.0.5:8265", "http://10.0.0.5:8265"), ("https://ray.example/", "https://ray.example")],
)
def test_addresses_become_urls(address: str, url: str) -> None:
    assert submit.dashboard(address) == url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A Ray head of its own on loopback; yields the dashboard's address and the environment of a user."""
    folder = tmp_path_factory.mktemp("head")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        session.LOOPBACK_SWITCH: "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(session.write_token(folder / "token")),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
    }
    port, dashboard, agent = _free_port(), _free_port(), _free_port()
    options = [f"--port={port}", f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
    options += ["--num-cpus=2", f"--temp-dir=/tmp/mr{os.getpid()}"]
    command = [BIN / "ray", "start", "--head", "--block", "--disable-usage-stats", *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{dashboard}/", timeout=2).close()
                break
            except OSError:
                assert time.monotonic() < deadline and process.poll() is None, "the head did not start"
                time.sleep(0.3)
        yield f"127.0.0.1:{dashboard}", environment
    finally:
        process.terminate()
        process.wait(30)


def _submit(environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "medgan_ray", "submit", *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_job_hands_back_its_log_and_exit_code(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = head
    failed = _submit(environment, "--address", address, "inspect", str(tmp_path / "nowhere"))
    assert failed.returncode == 4, failed.stderr
    assert "error: " in failed.stdout, "the job's log is handed on"


@pytest.mark.slow
def test_a_wrong_token_is_said_in_one_line(head: tuple[str, dict[str, str]], tmp_path: Path) -> None:
    address, environment = head
    wrong = {**environment, "RAY_AUTH_TOKEN_PATH": str(session.write_token(tmp_path / "token"))}
    refused = _submit(wrong, "--address", address, "inspect", "x")
    assert refused.returncode == 5, refused.stderr
    (line,) = [line for line in refused.stderr.splitlines() if line]
    assert line.startswith("error: ") and "RAY_AUTH_TOKEN" in line


@pytest.mark.slow
def test_detach_leaves_it_running_and_says_how_to_follow(head: tuple[str, dict[str, str]]) -> None:
    address, environment = head
    left = _submit(environment, "--address", address, "--detach", "inspect", "nowhere")
    assert left.returncode == 0, left.stderr
    assert "ray job logs --follow" in left.stderr
