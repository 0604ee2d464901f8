"""kill -9 of the command that trains on two Ray workers: the same command goes on and ends with the same weights."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from medgan_ray.artifacts import checkpoints
from medgan_ray.store import open_store
from tests.builders import write_dataset

SETTINGS = [
    "workers=2",
    "images=2400",
    "batch=8",
    "train.checkpoint_images=160",
    "train.log_images=80",
    "model.generator_width=8",
    "model.discriminator_width=8",
    "model.latent=8",
]
WITHIN_S = 150


def command(dataset: str, run: str) -> list[str]:
    return [sys.executable, "-m", "medgan_ray", "train", dataset, run, *SETTINGS, "--json"]


@pytest.mark.slow
@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_killed_driver_changes_no_bit(tmp_path: Path) -> None:
    dataset, run = str(tmp_path / "data"), open_store(str(tmp_path / "killed"))
    write_dataset(dataset)
    whole = subprocess.run(command(dataset, str(tmp_path / "whole")), capture_output=True, text=True, check=True)
    driver = subprocess.Popen(command(dataset, run.uri), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + WITHIN_S
        while len(checkpoints.names(run)) < 2 and time.monotonic() < deadline:
            assert driver.poll() is None, "it ended before it could be killed"
            time.sleep(0.05)
    finally:
        os.kill(driver.pid, signal.SIGKILL)
        driver.wait()
    assert not run.exists("result.json")
    again = subprocess.run(command(dataset, run.uri), capture_output=True, text=True, check=True)
    assert "resumed from checkpoint" in again.stderr
    assert json.loads(again.stdout)["weights_sha256"] == json.loads(whole.stdout)["weights_sha256"]
