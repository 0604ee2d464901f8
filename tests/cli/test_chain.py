"""The verbs in a row, as a program uses them: each prints one JSON object with the promised keys."""

import json
from pathlib import Path
from typing import Any

import pytest

from medgan_ray.cli.main import main

TRAIN = ["images=48", "batch=8", "train.checkpoint_images=16", "train.floor_draws=2"]


def _json(capfd: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code = main([*words, "--json"])
    out, err = capfd.readouterr()
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 1
    found: dict[str, Any] = json.loads(lines[0])
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of phantoms at 32 px and a short run on it."""
    folder = tmp_path_factory.mktemp("chain")
    assert main(["phantom", f"{folder}/scans", "--patients", "8", "--slices", "3", "size=64", "-q"]) == 0
    assert main(["ingest", f"{folder}/scans", f"{folder}/data", "size=32", "-q"]) == 0
    assert main(["train", f"{folder}/data", f"{folder}/run", *TRAIN, "-q"]) == 0
    return folder


def test_phantom(capfd: pytest.CaptureFixture[str], tmp_path: Path):
    found = _json(capfd, "phantom", f"{tmp_path}/scans", "--kind", "mr", "--patients", "2", "--slices", "2", "size=32")
    assert found["files"] == 4 and found["patients"] == 2
    assert len(list((tmp_path / "scans").rglob("*.dcm"))) == 4


def test_ingest_and_its_dry_run(capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path):
    counted = _json(capfd, "ingest", f"{folder}/scans", f"{tmp_path}/data", "size=32", "--dry-run")
    assert counted["samples"] == 24 and not counted["manifest"] and not (tmp_path / "data").exists()
    found = _json(capfd, "ingest", f"{folder}/scans", f"{tmp_path}/data", "size=32")
    assert (tmp_path / "data" / "manifests" / f"{found['manifest']}.json").exists()
    assert found["subjects"] == 8 and sum(found["splits"].values()) == 24 and found["rejected"] == {}


def test_inspect_says_what_it_is(capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path):
    assert _json(capfd, "inspect", f"{folder}/data", "--verify")["kind"] == "dataset"
    assert _json(capfd, "inspect", f"{folder}/run", "--verify")["kind"] == "run"
    scan = next((folder / "scans").rglob("*.dcm"))
    found = _json(capfd, "inspect", str(scan))
    assert found["kind"] == "dicom" and found["verdict"] == "taken" and len(found["stored_sha256"]) == 64
    _json(capfd, "inspect", f"{folder}/data", "--grid", f"{tmp_path}/grid.png")
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_train_goes_on_and_refuses_another_configuration(capfd: pytest.CaptureFixture[str], folder: Path):
    words = ["train", f"{folder}/data", f"{folder}/run"]
    done = _json(capfd, *words, *TRAIN)
    assert done["images"] == 48 and set(done) >= {"run", "images", "seconds", "weights_sha256", "figures"}
    longer = _json(capfd, *words, *TRAIN, "images=64")
    assert longer["images"] == 64 and longer["weights_sha256"] != done["weights_sha256"]
    assert main([*words, *TRAIN, "images=64", "train.lr=1e-4"]) == 2
    assert "train.lr" in capfd.readouterr().err


def test_generate(capfd: pytest.CaptureFixture[str], folder: Path, tmp_path: Path):
    words = ["generate", f"{folder}/run", f"{tmp_path}/out", "-n", "3", "--seed", "5", "--label", "lesion"]
    found = _json(capfd, *words)
    assert len(found["files"]) == 3 and len(found["sha256"]) == 64
    assert all((tmp_path / "out" / name).exists() for name in found["files"])
    assert _json(capfd, *words)["sha256"] == found["sha256"]
    assert main([*words[:-1], "lesoin"]) == 2
    assert "did you mean 'lesion'?" in capfd.readouterr().err
    assert main(["generate", f"{folder}/run", f"{tmp_path}/none", "-n", "0"]) == 2
    assert main(["generate", f"{folder}/run", f"{tmp_path}/none", "--truncation", "0.7"]) == 2
    assert "no truncation" in capfd.readouterr().err
