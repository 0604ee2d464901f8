"""Starting and joining Ray: version guard, environment, token, addresses."""

import importlib.metadata
import inspect
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from medgan_ray.errors import MedganError, StoreError, UsageError
from medgan_ray.on_ray import session


def test_ray_is_the_version_whose_private_names_are_known() -> None:
    assert importlib.metadata.version("ray") == session.RAY_VERSION, (
        "Ray was upgraded: check every name in session._PRIVATE against its source, then move RAY_VERSION"
    )
    for name in session._PRIVATE:
        assert session.private(name) is not None


def test_private_names_are_used_as_this_version_means_them(ray_instance: Path) -> None:
    assert 'add_port_to_grpc_server(self._server, "[::]:0")' in inspect.getsource(session.private("replica"))
    assert session.private("constants").ENABLE_RAY_CLUSTERS_ENV_VAR == session.LOOPBACK_SWITCH
    put = inspect.signature(session.private("kv_put")).parameters
    assert {"key", "value", "overwrite", "namespace"} <= put.keys()


def test_another_version_of_ray_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "RAY_VERSION", "2.61.0")
    with pytest.raises(MedganError, match=r"2\.60\.0 is not the version.*install ray==2\.61\.0"):
        session.private("replica")


def test_token_is_random_and_private(tmp_path: Path) -> None:
    first, second = session.write_token(tmp_path / "a"), session.write_token(tmp_path / "b")
    assert first.stat().st_mode & 0o777 == 0o600
    assert len(first.read_text()) == 64
    assert first.read_text() != second.read_text()


def test_environment_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "7")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    before = {**os.environ}
    kept = session.prepare(loopback=True)
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    assert os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] == "7", "what a user sets stands"
    assert session.on_loopback()
    session.restore(kept)
    assert before == {**os.environ}


def test_the_address_is_the_argument_then_the_environment_then_local(monkeypatch: pytest.MonkeyPatch) -> None:
    assert session.resolve(None) is None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert session.resolve(None) == "10.0.0.1:6379"
    assert session.resolve("10.0.0.2:6379") == "10.0.0.2:6379"
    assert session.resolve("local") is None


def test_nobody_at_the_address_is_said_at_once_in_one_line() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"""
from medgan_ray.errors import StoreError
from medgan_ray.on_ray import session
try:
    with session.local("127.0.0.1:{port}"): pass
except StoreError as error:
    print(error)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ended.stdout.startswith(f"cannot join the Ray cluster: [Errno 111] Connection refused (127.0.0.1:{port}): ")
    assert "RAY_AUTH_TOKEN" in ended.stdout
    assert StoreError.exit_code == 5


def test_local_paths_are_refused_on_several_nodes(ray_instance: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    session.check_paths("/data", "s3://bucket/run", shared=False)
    monkeypatch.setattr(ray, "nodes", lambda: [{"Alive": True}, {"Alive": True}, {"Alive": False}])
    session.check_paths("s3://bucket/data", "s3://bucket/run", shared=False)
    session.check_paths("/data", "/run", shared=True)
    with pytest.raises(UsageError, match=r"several nodes \(/data\).*ray.shared_paths=true"):
        session.check_paths("/data", "s3://bucket/run", shared=False)


@pytest.mark.parametrize(("host", "loopback"), [("127.0.0.1", True), ("localhost", True), ("0.0.0.0", False)])
def test_loopback_is_recognized(host: str, loopback: bool) -> None:
    assert session.is_loopback(host) is loopback
