"""SIGTERM to the command that trains on Ray: a last checkpoint within 30 s, exit 130, and the same command goes on."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medgan_ray.artifacts import checkpoints
from medgan_ray.store import open_store
from tests.builders import SMALL, write_dataset

WITHIN_S = 30
SETTINGS = ["workers=2", "batch=8", "train.checkpoint_images=160", "train.log_images=80", "train.figure_samples=24"]
SETTINGS += [f"model.{name}={value}" for name, value in SMALL["model"].items()]


def command(folder: Path, images: int) -> list[str]:
    words = ["train", str(folder / "data"), str(folder / "run"), f"images={images}", *SETTINGS, "--json"]
    return [sys.executable, "-m", "medgan_ray", *words]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(500)
def test_a_terminated_driver_leaves_a_checkpoint(tmp_path: Path) -> None:
    write_dataset(str(tmp_path / "data"))
    run = open_store(str(tmp_path / "run"))
    driver = subprocess.Popen(command(tmp_path, 100_000), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 200
    while not checkpoints.names(run):
        assert time.monotonic() < deadline and driver.poll() is None, "no checkpoint"
        time.sleep(0.05)
    driver.send_signal(signal.SIGTERM)
    began = time.time()
    _, said = driver.communicate(timeout=200)
    assert driver.returncode == 130, said
    stopped = re.search(r"stopped at (\d+) images", said)
    assert stopped, said
    newest = max(checkpoints.names(run))
    assert int(newest.partition("-")[0]) == int(stopped.group(1))
    committed = (tmp_path / "run" / checkpoints.FOLDER / newest / "commit.json").stat().st_mtime
    assert committed - began < WITHIN_S
    images = int(stopped.group(1)) + 160
    again = subprocess.run(command(tmp_path, images), capture_output=True, text=True, check=True)
    assert f"resumed from checkpoint {newest}" in again.stderr
    assert json.loads(again.stdout)["images"] >= images
