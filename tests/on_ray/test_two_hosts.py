"""Two real hosts: head and worker by ``ray start`` with a token, data on S3, a run whose link is cut for 20 s."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medgan_ray.artifacts import checkpoints
from medgan_ray.on_ray import session
from medgan_ray.store import open_store
from tests.builders import SMALL, write_dataset
from tests.on_ray.hosts import HEAD_PORTS, PORTS, Host, hosts

CUT_S = 20
WORDS = ["workers=2", "batch=8", "images=6400", "train.checkpoint_images=640", "train.log_images=640"]
WORDS += [f"model.{name}={value}" for name, value in SMALL["model"].items()] + ["train.figure_samples=24"]


@pytest.fixture
def two_hosts_wanted(request: pytest.FixtureRequest) -> None:
    """Skip what takes minutes and makes network namespaces, unless it is asked for."""
    if not request.config.getoption("--two-hosts"):
        pytest.skip("takes minutes: give --two-hosts, as 'make chaos' does")


@pytest.fixture
def pair(
    two_hosts_wanted: None, _s3_server: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Host, Host, dict[str, str]]]:
    """A head and a worker of one CPU slot each, and the environment of a person on a third machine."""
    for name, value in _s3_server.items():
        monkeypatch.setenv(name, value)
    with hosts(tmp_path, _s3_server) as (head, worker):
        started = [
            head.start(tmp_path / "head.log", *_ray(head, "--head", **HEAD_PORTS), f"--dashboard-host={head.address}"),
        ]
        _await_dashboard(head, started[0])
        started.append(worker.start(tmp_path / "worker.log", *_ray(worker, f"--address={head.address}:6379")))
        try:
            _await_nodes(head, 2)
            yield head, worker, head.environment
        finally:
            for process in started:
                process.terminate()
            for process in started:
                _ended(process)


def _ended(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(60)
    except subprocess.TimeoutExpired:  # the machine is busy; what is left goes with its namespace
        process.kill()
        process.wait()


def _ray(host: Host, *words: str, **ports: int) -> list[str]:
    options = [f"--{name.replace('_', '-')}={port}" for name, port in (PORTS | ports).items()]
    command = ["ray", "start", *words, f"--node-ip-address={host.address}", "--num-cpus=1", "--num-gpus=0", *options]
    return [*command, "--object-store-memory=100000000", "--disable-usage-stats", "--block"]


def _nodes(head: Host) -> list[dict[str, Any]]:
    """Ask the head's dashboard for its nodes, with the token."""
    url = f"http://{head.address}:8265/api/v0/nodes"
    token = Path(head.environment["RAY_AUTH_TOKEN_PATH"]).read_text()
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        return list(json.load(answer)["data"]["result"]["result"])


def _await_dashboard(head: Host, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(f"http://{head.address}:8265/", timeout=2).close()
            return
        except OSError:
            assert time.monotonic() < deadline and process.poll() is None, "the head did not start"
            time.sleep(0.3)


def _await_nodes(head: Host, count: int) -> None:
    deadline = time.monotonic() + 120
    while True:
        try:
            if sum(node["state"] == "ALIVE" for node in _nodes(head)) >= count:
                return
        except OSError:
            pass
        assert time.monotonic() < deadline, "the worker did not join"
        time.sleep(0.5)


def _train(environment: dict[str, str], head: Host, dataset: str, run: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "medgan_ray", "submit", "--address", f"{head.address}:8265"]
    command += ["train", dataset, run, *WORDS, "--json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _digest(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output[-3000:]
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return str(found[-1]["weights_sha256"])


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_link_cut_for_20_s_changes_no_bit_and_a_stranger_is_refused(
    pair: tuple[Host, Host, dict[str, str]], s3: str, tmp_path: Path
) -> None:
    head, worker, environment = pair
    for mode in ({"RAY_AUTH_TOKEN_PATH": str(session.write_token(tmp_path / "other"))}, {"RAY_AUTH_MODE": "disabled"}):
        refused = worker.run("ray", "start", f"--address={head.address}:6379", **mode)
        assert refused.returncode != 0, refused.stdout + refused.stderr
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"http://{head.address}:8265/api/v0/nodes", timeout=10)

    write_dataset(f"{s3}/data")
    undisturbed = _digest(_train(environment, head, f"{s3}/data", f"{s3}/a"))

    process = _train(environment, head, f"{s3}/data", f"{s3}/b")
    store, deadline = open_store(f"{s3}/b"), time.monotonic() + 200
    while not checkpoints.names(store):
        assert time.monotonic() < deadline and process.poll() is None, "no checkpoint"
        time.sleep(0.2)
    opened = {"head": head.listening(), "worker": worker.listening()}
    worker.cut(CUT_S)
    assert _digest(process) == undisturbed
    assert len(list(store.list("log/"))) >= 2, "it was resumed"
    assert sum(node["state"] == "ALIVE" for node in _nodes(head)) == 2, "no host was given up"
    named = set(PORTS.values()) | set(HEAD_PORTS.values()) | set(range(20000, 20100)) | {10001}
    strays = {host: {port for port in ports if port not in named and port < 32768} for host, ports in opened.items()}
    assert not any(strays.values()), f"ports that docs/cluster.md doesn't name: {strays}"
    assert HEAD_PORTS["port"] in opened["head"], opened
