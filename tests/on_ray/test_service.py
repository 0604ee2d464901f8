"""The HTTP service without Ray: answers, keys, admission, and every refusal as problem JSON."""

import asyncio
import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest

from medgan_ray import publish_run
from medgan_ray.on_ray.gate import hash_key
from medgan_ray.on_ray.service import Models, build
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset

KEY = {"Authorization": "Bearer secret"}
Call = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("served")
    write_dataset(str(folder / "data"), classes=("normal", "lesion"), counts={"train": 90})
    train(str(folder / "data"), str(folder / "heads"), {**SMALL, "images": 16})
    return str(folder / "heads")


@pytest.fixture(scope="module")
def models(run: str) -> Models:
    models = Models({"heads": run})
    deadline = time.monotonic() + 30
    while not models.ready:
        assert time.monotonic() < deadline, models.failure
        time.sleep(0.02)
    return models


def _call(app: Any, client: str = "127.0.0.1") -> Call:
    def call(method: str, path: str, **given: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(client, 1), raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as each:
                return await each.request(method, path, **given)

        return asyncio.run(ask())

    return call


@pytest.fixture(scope="module")
def call(models: Models) -> Call:
    return _call(build(models, (hash_key("secret"),), 100, 5))


def _problem(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status and body["title"] and body["type"] == "about:blank"
    assert answer.headers["x-request-id"]
    return str(body["detail"])


def test_without_a_key_one_learns_that_it_lives_and_no_more(call: Call) -> None:
    assert call("GET", "/health").json() == {"status": "alive"}
    assert call("GET", "/ready").json() == {"status": "ready"}
    assert "text/html" in call("GET", "/").headers["content-type"]
    for method, path in [("GET", "/v1/models"), ("POST", "/v1/generate"), ("GET", "/nowhere")]:
        answer = call(method, path)
        assert "Bearer" in _problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    assert "not known" in _problem(call("GET", "/v1/models", headers={"Authorization": "Bearer Secret"}), 403)


def test_models_are_described(call: Call) -> None:
    (model,) = call("GET", "/v1/models", headers=KEY).json()["models"]
    assert model["name"] == "heads" and model["classes"] == ["normal", "lesion"] and model["size"] == [32, 32]
    assert model["card"]["weights"].startswith(model["version"])
    assert model["verdict"] is None and model["release"] is None, "a run has not been through the gate"


def test_a_version_says_how_it_was_judged_and_that_it_was_forced(run: str, tmp_path: Path) -> None:
    publish_run(run, str(tmp_path / "brains"), force=True, why="a <b>baseline</b>")
    models = Models({"brains": f"{tmp_path}/brains@1"})
    deadline = time.monotonic() + 30
    while not models.ready:
        assert time.monotonic() < deadline, models.failure
        time.sleep(0.02)
    call = _call(build(models, (), 64, 5))
    (model,) = call("GET", "/v1/models").json()["models"]
    told = [model[name] for name in ("name", "release", "verdict", "forced")]
    assert told == ["brains", 1, "none", "a <b>baseline</b>"]
    assert call("POST", "/v1/generate", json={"seed": 1}).headers["x-model-version"] == model["version"]
    page = call("GET", "/").text
    assert "model.forced" in page and "innerHTML" not in page, "a reason is shown as text"


def test_the_same_seed_gives_the_same_bytes_and_few_are_a_prefix_of_many(call: Call) -> None:
    ask = {"n": 1, "label": "lesion", "seed": 5}
    one = call("POST", "/v1/generate", headers=KEY, json=ask)
    assert one.status_code == 200 and one.headers["content-type"] == "image/png"
    assert one.headers["x-seed"] == "5" and one.headers["x-model-version"]
    many = call("POST", "/v1/generate", headers=KEY, json={**ask, "n": 3})
    with zipfile.ZipFile(io.BytesIO(many.content)) as archive:
        names = archive.namelist()
        assert len(names) == 3 and archive.read(names[0]) == one.content
    free = call("POST", "/v1/generate", headers=KEY, json={})
    again = call("POST", "/v1/generate", headers=KEY, json={"seed": int(free.headers["x-seed"])})
    assert free.content == again.content, "a random seed is told, and names the image"


def test_npz_holds_all_and_dicom_is_marked_synthetic(call: Call) -> None:
    ask = {"n": 2, "seed": 1}
    arrays = np.load(io.BytesIO(call("POST", "/v1/generate", headers=KEY, json={**ask, "format": "npz"}).content))
    assert arrays["image"].shape == (2, 1, 32, 32) and str(arrays["unit"]) == "HU"
    packed = call("POST", "/v1/generate", headers=KEY, json={**ask, "format": "dicom"}).content
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        scans = [pydicom.dcmread(io.BytesIO(archive.read(name))) for name in archive.namelist()]
    assert len({scan.SOPInstanceUID for scan in scans}) == 2
    assert len({(scan.StudyInstanceUID, scan.SeriesInstanceUID, scan.StudyDate, scan.StudyTime) for scan in scans}) == 1
    assert [scan.InstanceNumber for scan in scans] == [1, 2]
    for scan in scans:
        assert scan[0x0008001C].value == "YES" and list(scan.ImageType)[:2] == ["DERIVED", "SECONDARY"]


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        ({"n": 0}, 400, "n: "),
        ({"n": 65}, 400, "n: "),
        ({"n": True}, 400, "n: "),
        ({"seed": -1}, 400, "seed: "),
        ({"format": "gif"}, 400, "format: "),
        ({"nn": 1}, 400, "nn: "),
        ({"label": "leison"}, 422, "did you mean 'lesion'"),
        ({"truncation": 0.5}, 422, "truncation"),
        ({"truncation": 1.5}, 400, "truncation"),
        ({"model": "hands"}, 404, "did you mean 'heads'"),
    ],
)
def test_bad_requests_are_problems(call: Call, ask: dict[str, Any], status: int, words: str) -> None:
    assert words in _problem(call("POST", "/v1/generate", headers=KEY, json=ask), status)


def test_size_type_path_and_method_are_checked(call: Call) -> None:
    large = {"label": "x" * 70_000}
    assert "larger than" in _problem(call("POST", "/v1/generate", headers=KEY, json=large), 413)
    _problem(call("POST", "/v1/generate", headers=KEY, content=_chunks(json.dumps(large))), 415)
    kind = {**KEY, "Content-Type": "application/json"}
    _problem(call("POST", "/v1/generate", headers=kind, content=_chunks(json.dumps(large))), 413)
    _problem(call("POST", "/v1/generate", headers=kind, content="{no"), 400)
    _problem(call("GET", "/nowhere", headers=KEY), 404)
    _problem(call("GET", "/v1/generate", headers=KEY), 405)


async def _chunks(text: str) -> Any:
    for start in range(0, len(text), 10_000):
        yield text[start : start + 10_000].encode()


def test_beyond_the_limit_the_answer_is_503_at_once(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan_ray.on_ray import service

    files = service._files

    def slow(*given: Any) -> tuple[bytes, str]:
        time.sleep(0.3)
        return files(*given)

    monkeypatch.setattr(service, "_files", slow)
    app = build(models, (), 4, 5)

    async def ask() -> list[tuple[int, float, httpx.Headers]]:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:

            async def one() -> tuple[int, float, httpx.Headers]:
                began = time.monotonic()
                answer = await client.post("/v1/generate", json={"n": 2})
                return answer.status_code, time.monotonic() - began, answer.headers

            return await asyncio.gather(*(one() for _ in range(5)))

    answers = asyncio.run(ask())
    refused = [answer for answer in answers if answer[0] == 503]
    assert len(refused) == 3 and sum(answer[0] == 200 for answer in answers) == 2
    assert all(wait_s < 0.3 and headers["retry-after"] == "1" for _, wait_s, headers in refused)
    assert _call(app)("POST", "/v1/generate", json={"n": 4}).status_code == 200, "what was counted is given back"


def test_a_turn_that_does_not_come_is_408(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    from medgan_ray.on_ray import service

    monkeypatch.setattr(service, "_files", lambda *_: (time.sleep(0.5), (b"", "x.png"))[1])
    app = build(models, (), 64, 0.05)

    async def ask() -> list[int]:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            answers = await asyncio.gather(*(client.post("/v1/generate", json={}) for _ in range(2)))
            return sorted(answer.status_code for answer in answers)

    assert asyncio.run(ask()) == [200, 408]


def test_without_keys_only_this_machine_is_answered(models: Models) -> None:
    app = build(models, (), 64, 5)
    assert _call(app)("GET", "/v1/models").status_code == 200
    assert "this machine" in _problem(_call(app, "10.0.0.9")("GET", "/v1/models"), 403)


def test_a_request_id_is_kept_if_it_is_one(models: Models) -> None:
    call = _call(build(models, (), 64, 5))
    assert call("GET", "/health", headers={"X-Request-Id": "abc-1"}).headers["x-request-id"] == "abc-1"
    assert call("GET", "/health", headers={"X-Request-Id": "a b\tc"}).headers["x-request-id"] != "a b\tc"


def test_a_model_that_can_not_be_opened_is_named_and_the_service_says_it_is_not_ready(tmp_path: Path) -> None:
    models = Models({"gone": str(tmp_path / "gone")})
    call = _call(build(models, (), 64, 5))
    deadline = time.monotonic() + 10
    while not models.failure:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    answer = call("GET", "/ready")
    assert "no model here" in _problem(answer, 503)
    assert answer.headers["retry-after"] == "1"
    _problem(call("POST", "/v1/generate", json={}), 503)


def test_a_model_that_can_truncate_does(tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "data"), counts={"train": 40})
    options = {**SMALL, "images": 8, "model.name": "stylegan2"}
    train(str(tmp_path / "data"), str(tmp_path / "run"), options)
    models = Models({"heads": str(tmp_path / "run")})
    deadline = time.monotonic() + 30
    while not models.ready:
        assert time.monotonic() < deadline, models.failure
        time.sleep(0.02)
    call = _call(build(models, (), 64, 5))
    whole, none, half = (
        call("POST", "/v1/generate", json={"seed": 1, **ask}) for ask in ({"truncation": 1}, {}, {"truncation": 0.5})
    )
    assert whole.content == none.content != half.content
    assert half.status_code == 200
