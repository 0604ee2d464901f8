"""Versions: none lost, none half, the pointer right, whoever publishes at once and whoever is killed."""

import time
from pathlib import Path

import pytest

from medgan_ray import seeds
from medgan_ray.artifacts import registry
from medgan_ray.errors import InputError, UsageError
from medgan_ray.store import Store, open_store
from tests.artifacts import publisher
from tests.artifacts.publisher import NAMES, files_of


@pytest.fixture(params=["local", "s3"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    base = str(tmp_path) if request.param == "local" else request.getfixturevalue("s3")
    return registry.open_model(f"{base}/registry/heads")


def _whole(model: Store) -> list[int]:
    """Return the versions that can be seen, each of them whole."""
    numbers = registry.contents(model).numbers
    for number in numbers:
        found = registry.version(model, number)
        assert sorted(found.hashes) == sorted(NAMES) and registry.verify(found) == 4
        assert f"model.json of {number} at ".encode() in registry.read_file(found, "model.json")
    return numbers


def test_two_processes_publish_at_once_and_nothing_is_lost(model: Store):
    publishers = [publisher.start(model, 5) for _ in range(2)]
    assert [running.wait(60) for running in publishers] == [0, 0]
    assert _whole(model) == list(range(1, 11))
    pointer = registry.pointer(model)
    history = [entry["version"] for entry in pointer["history"]]
    assert pointer["version"] == 10 and history == sorted(set(history)) and history[-1] == 10
    assert registry.contents(model).orphans == []


def test_one_that_is_killed_leaves_nothing_half_and_the_next_publishes(model: Store):
    draw = seeds.generator("kills", 3)
    for _ in range(3):
        running = publisher.start(model, 10**6)
        time.sleep(draw.uniform(0.01, 0.15))
        running.kill()
        running.wait()
        _whole(model)
        found = registry.publish(model, files_of)
        assert registry.current(model) == found.number == _whole(model)[-1]
    registry.sweep(model)
    assert registry.contents(model).orphans == [] and _whole(model)


def _until(step: str, model: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Publish, and end as a crash would just before a file of this name is written."""

    class CrashError(BaseException):
        pass

    create = type(model).create

    def crash(self: Store, key: str, data: bytes) -> bool:
        if key.endswith(step):
            raise CrashError
        return create(self, key, data)

    with monkeypatch.context() as patch, pytest.raises(CrashError):
        patch.setattr(type(model), "create", crash)
        registry.publish(model, files_of)


def test_what_a_crash_left_is_listed_and_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = registry.open_model(str(tmp_path / "heads"))
    _until("evaluation.json", model, monkeypatch)
    first = [f"versions/1/{name}" for name in sorted(NAMES) if name != "evaluation.json"]
    assert registry.contents(model) == ([], first)
    with pytest.raises(InputError, match="no model here"):
        registry.find(model.uri)
    assert registry.folder(f"{model.uri}/versions/1") is None, "half a version can't be opened by its path either"
    assert registry.publish(model, files_of).number == 2
    assert registry.sweep(model) == first
    assert registry.contents(model) == ([2], [])
    assert registry.publish(model, files_of).number == 3, "a number is never used again"


def test_a_version_that_lacks_its_commit_alone_is_committed_by_a_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    model = registry.open_model(str(tmp_path / "heads"))
    _until("commit.json", model, monkeypatch)
    assert registry.contents(model).numbers == []
    assert registry.sweep(model) == []
    assert _whole(model) == [1] and registry.current(model) == 0
    with pytest.raises(InputError, match=r"no version is current .*promote .*heads@1"):
        registry.find(model.uri)


def test_a_publisher_that_is_swept_while_it_writes_takes_another_number(tmp_path: Path):
    model = registry.open_model(str(tmp_path / "heads"))
    create, swept = type(model).create, list[str]()

    def slow(self: Store, key: str, data: bytes) -> bool:
        if key == "versions/1/card.md":
            swept.extend(registry.sweep(model))
        return create(self, key, data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(model), "create", slow)
        found = registry.publish(model, files_of)
    assert swept == ["versions/1/model.json", "versions/1/model.safetensors"]
    assert found.number == 2 and _whole(model) == [2] and registry.contents(model).orphans == []


def test_the_pointer_goes_back_only_when_asked(model: Store):
    for _ in range(3):
        registry.publish(model, files_of)
    pointer = registry.promote(model, 1, "promoted: worse at night")
    assert pointer["version"] == 1 == registry.find(model.uri).number
    late = {"version": 2, "time": "late", "why": "published"}
    registry._move(model, late, only_newer=True)
    assert registry.current(model) == 1, "a slow publisher doesn't undo a promotion"
    assert registry.publish(model, files_of).number == 4 == registry.current(model)
    told = [(entry["version"], entry["why"]) for entry in registry.pointer(model)["history"]]
    assert told[3:] == [(1, "promoted: worse at night"), (4, "published")]
    with pytest.raises(InputError, match="no version 9"):
        registry.promote(model, 9)
    model.replace("versions/2/card.md", b"other words")
    with pytest.raises(InputError, match=r"card.md does not match its SHA-256"):
        registry.promote(model, 2)


def test_addresses(tmp_path: Path):
    model = registry.open_model(str(tmp_path / "heads"))
    for _ in range(2):
        registry.publish(model, files_of)
    registry.promote(model, 1)
    for address, number in (("", 1), ("@current", 1), ("@2", 2), ("@1", 1)):
        found = registry.find(f"{model.uri}{address}")
        assert (found.name, found.number, found.address) == ("heads", number, f"{model.uri}@{number}")
    assert registry.pinned(f"{model.uri}@current") == f"{model.uri}@1" == registry.pinned(model.uri)
    assert registry.pinned(str(tmp_path / "run")) == str(tmp_path / "run")
    with pytest.raises(InputError, match="no version 7"):
        registry.find(f"{model.uri}@7")
    for name in ("heads@3", "he ads", "-heads"):
        with pytest.raises(UsageError, match="is no name for a model"):
            registry.open_model(str(tmp_path / name))
    open_store(str(tmp_path / "run")).replace("run.json", b"{}")
    with pytest.raises(UsageError, match="something else stands there"):
        registry.open_model(str(tmp_path / "run"))
