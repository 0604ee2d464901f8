"""Serving on Ray: nothing listens off loopback, the file for ``serve deploy``, refusals before anything starts."""

import socket
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml

from medgan_ray import build_app, publish_run
from medgan_ray.errors import InputError, UsageError
from medgan_ray.on_ray.serve import running, serve
from medgan_ray.on_ray.settings import ServeSettings
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("served")
    write_dataset(str(folder / "data"), counts={"train": 90})
    train(str(folder / "data"), str(folder / "heads"), {**SMALL, "images": 16})
    return str(folder / "heads")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _ask(url: str, key: str, ask: dict[str, object]) -> httpx.Response:
    return httpx.post(f"{url}/v1/generate", json=ask, headers={"Authorization": f"Bearer {key}"}, timeout=30)


@pytest.mark.slow
def test_a_run_is_served_on_loopback_alone(
    ray_instance: Path, run: str, monkeypatch: pytest.MonkeyPatch, listening: Callable[[], dict[str, set[str]]]
) -> None:
    monkeypatch.setenv("MEDGAN_API_KEYS", "other, secret")
    with running([run], ServeSettings(port=_free_port()), None, False) as url:
        answer = _ask(url, "secret", {"seed": 3})
        assert answer.content.startswith(b"\x89PNG") and answer.headers["x-seed"] == "3"
        assert len(answer.headers.get_list("x-request-id")) == 1
        assert _ask(url, "other", {"seed": 3}).content == answer.content
        assert _ask(url, "wrong", {}).status_code == 403
        found = listening()
    assert any("ServeReplica" in name for name in found["127.0.0.1"]), found
    assert set(found) == {"127.0.0.1"}, found


@pytest.mark.slow
def test_build_app_serves_in_a_ray_program_of_ones_own(ray_instance: Path, run: str) -> None:
    from ray import serve as ray_serve

    port = _free_port()
    ray_serve.start(http_options={"host": "127.0.0.1", "port": port})
    try:
        ray_serve.run(build_app({"models": run, "no_auth": True}))
        answer = httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=30)
        assert answer.json()["models"][0]["name"] == "heads"
    finally:
        ray_serve.shutdown()


def test_the_written_file_is_rays_own_schema(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.setenv("MEDGAN_API_KEYS", "secret")
    path = tmp_path / "serve.yaml"
    serve([run], {"serve": {"port": 8123, "max_images": 99}}, write_config=str(path))
    text = path.read_text()
    assert "secret" not in text
    schema = ServeDeploySchema.model_validate(yaml.safe_load(text))
    assert (schema.http_options.host, schema.http_options.port) == ("127.0.0.1", 8123)
    (application,) = schema.applications
    assert application.import_path == "medgan_ray:build_app"
    assert build_app(application.args) is not None
    assert application.args == {"models": [run], "max_images": 99}


def test_a_moving_address_is_pinned_when_the_application_is_built(run: str, tmp_path: Path) -> None:
    name = str(tmp_path / "heads")
    for _ in range(2):
        publish_run(run, name, force=True, why="a test")
    for address in (name, f"{name}@current", f"{name}@2"):
        uris = build_app({"models": address, "no_auth": True})._bound_deployment.init_args[0]
        assert uris == {"heads": f"{name}@2"}
    with pytest.raises(InputError, match="no version 7"):
        build_app({"models": f"{name}@7", "no_auth": True})


def test_mistakes_are_refused_first(run: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan_ray.on_ray.session._started", pytest.fail)
    with pytest.raises(UsageError, match=r"no API keys.*MEDGAN_API_KEYS"):
        serve([run])
    with pytest.raises(UsageError, match="loopback only"):
        serve([run], {"serve.host": "0.0.0.0"}, no_auth=True)
    with pytest.raises(UsageError, match="no API keys"):
        serve([run], {"serve.host": "0.0.0.0"})
    with pytest.raises(UsageError, match="two models are called 'heads'"):
        serve([run, str(tmp_path / "heads")], no_auth=True)
    with pytest.raises(InputError, match="no model here"):
        serve([str(tmp_path / "nowhere")], no_auth=True)
    with pytest.raises(InputError, match="cannot read the API keys"):
        serve([run], {"serve.keys_file": str(tmp_path / "nowhere")})
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="the port is in use"):
            serve([run], {"serve.port": taken.getsockname()[1]}, no_auth=True)


def test_keys_come_from_a_file_too_and_only_their_hashes_go_on(tmp_path: Path) -> None:
    from medgan_ray.on_ray.app import hashed_keys
    from medgan_ray.on_ray.gate import hash_key

    path = tmp_path / "keys"
    path.write_text("one\n\ntwo\n")
    assert set(hashed_keys(str(path))) == {hash_key("one"), hash_key("two")}
