"""inspect tells a dataset's facts in the terminal as its report does, and as one object for programs."""

import json
import re
from pathlib import Path

import pytest

from medgan_ray.cli import show
from medgan_ray.cli.main import main
from medgan_ray.cli.pages import bars
from medgan_ray.dicom import phantom


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A dataset of five patients, of which one file was left out."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "in").mkdir()
    lines = ["file,label"]
    for number, drawn in enumerate(phantom.draw("ct", 5, 2, 64, 0)):
        (folder / "in" / f"{number}.dcm").write_bytes(phantom.encode(drawn, 0))
        lines.append(f"{number}.dcm,[bold]{drawn.label}")
    (folder / "in/labels.csv").write_text("\n".join(lines))
    (folder / "in/notes.txt").write_text("notes")
    assert main(["ingest", f"{folder}/in", f"{folder}/data", "size=32", "ingest.workers=1", "-q"]) == 0
    return f"{folder}/data"


def test_a_person_reads_tables(data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    assert main(["inspect", data, "--verify", "--grid", f"{tmp_path}/grid.png"]) == 0
    out, _ = capfd.readouterr()
    lines = [line.split() for line in out.splitlines()]
    assert out.startswith(
        "10 images of 5 patients, 32 × 32 pixels, modality CT. Left out: 1, all for this: neither DICOM"
    )
    assert ["not_an_image", "neither", "DICOM", "nor", "NIfTI,", "NPZ,", "PNG,", "JPEG", "or", "TIFF", "1"] in lines
    assert any(line[:1] == ["[bold]lesion"] and line[-2:] == ["4", "2"] for line in lines)
    assert ["split.val", "0.15"] in lines and ["verified", "3"] in lines
    drawn = re.findall(r"^(train|val  |test ) \|(.{64})\|$", out, re.MULTILINE)
    assert len(drawn) == 3 and any("█" in line for _, line in drawn)
    assert (tmp_path / "grid.png").read_bytes().startswith(b"\x89PNG")


def test_a_program_reads_one_object(data: str, capfd: pytest.CaptureFixture[str]):
    assert main(["inspect", data, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["kind"], found["samples"], found["subjects"]) == ("dataset", 10, 5)
    classes = found["counts"]["classes"]
    assert {name: sum(group["samples"].values()) for name, group in classes.items()} == {
        "[bold]lesion": 4,
        "[bold]normal": 6,
    }
    assert found["rejected"] == {"not_an_image": 1} and found["reasons"].keys() == {"not_an_image"}
    assert sum(map(sum, found["counts"]["histogram"].values())) == 10 * 32 * 32
    assert found["recipe"]["ingest"]["window"] == "soft" and len(found["key_fingerprint"]) == 16


def test_ingest_says_how_fast_it_is_and_what_is_left(
    data: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(show, "LINE_EVERY_S", 0)
    assert main(["ingest", f"{data}/../in", f"{tmp_path}/data", "size=32", "ingest.workers=1"]) == 0
    out, err = capfd.readouterr()
    lines = [line for line in err.splitlines() if line.startswith("ingest: ")]
    assert lines[0] == "ingest: 0 of 11 files"
    assert re.fullmatch(r"ingest: 5 of 11 files, [\d.,]+ files/s, about \d+ s left", lines[5])
    assert lines[-1].startswith("ingest: 11 of 11 files") and f"{tmp_path}/data/report.html" in out


def test_bars_are_as_high_as_the_values():
    assert bars([0, 1, 4, 8, 0.01], 8) == " ▁▄█▁"
    assert bars([0.0, 0.0], 0.0) == "  "
