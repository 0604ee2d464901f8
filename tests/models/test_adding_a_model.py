"""The page on adding a network, done to the letter: its file, its line, a training of two steps, samples."""

import re
import sys
from pathlib import Path

import pytest

from medgan_ray import load_model
from medgan_ray.models import catalog
from medgan_ray.verbs.train import train
from tests.builders import write_dataset

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "adding-a-model.md").read_text("utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    return str(found)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install what the page shows as pip would: the file, and the line in the package's metadata."""
    _, group, name, target = re.fullmatch(r"(.*)entry-points\.\"(.+?)\"\]\n(\w+) = \"(.+)\"\n", block("toml")).groups()
    (tmp_path / f"{target.partition(':')[0]}.py").write_text(block("python"))
    metadata = tmp_path / "theirs-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{group}]\n{name} = {target}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


@pytest.mark.parametrize("classes", [(), ("normal", "lesion")])
def test_a_file_and_a_line_are_a_network(package: None, tmp_path: Path, classes: tuple[str, ...]) -> None:
    assert "dense" in catalog.names()
    data, run = str(tmp_path / "data"), str(tmp_path / "run")
    write_dataset(data, classes=classes, counts={"train": 40})
    result = train(data, run, {"model.name": "dense", "batch": 8, "images": 16, "model.latent": 8})
    assert result.images == 16
    assert load_model(run).sample(3).shape == (3, 1, 32, 32)
    again = train(data, f"{run}-again", {"model.name": "dense", "batch": 8, "images": 16, "model.latent": 8})
    assert again.weights_sha256 == result.weights_sha256
    sys.modules.pop("my_networks")
