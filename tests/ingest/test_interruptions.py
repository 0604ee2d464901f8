"""kill -9 in the middle, and others who write at the same time: a dataset is whole or not there."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.errors import StoreError
from medgan_ray.store import open_store
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.inspect import inspect
from medgan_ray.verbs.phantom import make_phantoms

SMALL = {"size": 32, "ingest": {"workers": 1}}

KILLED_WHILE = {
    "decoding": "progress = lambda done, _: os.kill(os.getpid(), 9) if done == 20 else None",
    "moving the pointer": "LocalStore.swap = lambda *_: os.kill(os.getpid(), 9)",
}
"""What the process is doing when it ends itself: the second part is half done, or all shards are written."""

SCRIPT = """
import os, sys
from medgan_ray.ingest import parts
from medgan_ray.store import LocalStore
from medgan_ray.verbs.ingest import ingest_scans
progress, parts.PART_FILES = None, 16
{}
ingest_scans(sys.argv[1], sys.argv[2], {{"size": 32, "ingest": {{"workers": 1}}}}, progress)
"""


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantoms") / "in"
    make_phantoms(str(folder), patients=8, slices=3, size=48)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("others") / "in"
    make_phantoms(str(folder), patients=3, slices=2, size=48, seed=5)
    return folder


@pytest.fixture(scope="module")
def straight(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The manifest of an ingest that nobody disturbed."""
    return ingest_scans(str(scans), str(tmp_path_factory.mktemp("straight")), SMALL).manifest


def everything(dataset: Path) -> int:
    """Return how many samples can be read."""
    opened = open_dataset(str(dataset))
    return sum(len(opened.split(name)) for name in opened.manifest.splits)


@pytest.mark.parametrize("moment", KILLED_WHILE)
def test_killed_and_run_again_gives_the_same_dataset(scans: Path, straight: str, tmp_path: Path, moment: str) -> None:
    command = [sys.executable, "-c", SCRIPT.format(KILLED_WHILE[moment]), str(scans), str(tmp_path)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not (tmp_path / "dataset.json").exists()
    whole = list((tmp_path / "private/parts").glob("*.json"))
    assert len(whole) == {"decoding": 1, "moving the pointer": 2}[moment]
    assert ingest_scans(str(scans), str(tmp_path), SMALL).manifest == straight
    assert inspect(str(tmp_path), verify=True)["manifest"] == straight


def test_the_second_of_two_ingests_of_other_scans_is_told_and_can_follow(
    scans: Path, others: Path, tmp_path: Path
) -> None:
    def meanwhile(done: int, total: int) -> None:
        if done == total:
            ingest_scans(str(others), str(tmp_path), SMALL)

    with pytest.raises(StoreError, match="run the same command again"):
        ingest_scans(str(scans), str(tmp_path), SMALL, progress=meanwhile)
    assert everything(tmp_path) == 6
    assert ingest_scans(str(scans), str(tmp_path), SMALL).samples == everything(tmp_path) == 30


def test_the_second_of_two_ingests_of_the_same_scans_is_told_and_can_follow(
    scans: Path, straight: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They share their parts: who finishes first removes them from under the other."""
    monkeypatch.setattr("medgan_ray.ingest.parts.PART_FILES", 16)

    def meanwhile(done: int, total: int) -> None:
        if done == total:
            ingest_scans(str(scans), str(tmp_path), SMALL)

    with pytest.raises(StoreError, match="run the same command again"):
        ingest_scans(str(scans), str(tmp_path), SMALL, progress=meanwhile)
    assert ingest_scans(str(scans), str(tmp_path), SMALL).manifest == straight
    assert not list(open_store(str(tmp_path)).list("private/parts"))
