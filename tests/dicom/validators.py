"""Other people's tools that say whether a file is DICOM; a test that needs one skips where it is not installed."""

import shutil
import subprocess
from pathlib import Path

import pydicom
import pytest
from PIL import Image

NEWER_THAN_THE_TOOL = ("(0x0008,0x001c)", "this is a Standard Extended SOP Class")
"""Synthetic Data came into the standard in 2023; Debian's dciodvfy is of 2022, and calls any file that holds it so."""

LINEAR_EXACT = "W: unknown value for 'VOILUTFunction' (LINEAR_EXACT) ... ignoring"
"""Debian's dcmtk draws it by LINEAR, half a unit off."""


def run(tool: str, *words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a tool, or skip the test where there is none."""
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed (Debian: dicom3tools, dcmtk)")
    return subprocess.run([tool, *words], capture_output=True, text=True, errors="replace", timeout=60)


def complaints(path: Path, kind: str) -> list[str]:
    """Return the errors and warnings of dciodvfy, apart from those of Synthetic Data; ``kind``: the object's name."""
    said = run("dciodvfy", path)
    lines = (said.stdout + said.stderr).splitlines()
    assert kind in lines
    found = [line for line in lines if line != kind]
    return [line for line in found if not any(known in line for known in NEWER_THAN_THE_TOOL)]


def check_dcmtk(path: Path, folder: Path) -> None:
    """Check that dcmtk parses a file, decodes it and draws it without another word."""
    for tool, words in (
        ("dcmdump", ["+E", path]),
        ("dcmdjpeg", [path, folder / "plain.dcm"]),
        ("dcm2pnm", ["+Wm", path, folder / "drawn.pgm"]),
    ):
        done = run(tool, *words)
        said = [line for line in done.stderr.splitlines() if line not in ("", LINEAR_EXACT)]
        assert done.returncode == 0 and not said, f"{tool}: {said}"
    header = pydicom.dcmread(path, stop_before_pixels=True)
    with Image.open(folder / "drawn.pgm") as drawn:
        low, high = drawn.convert("L").getextrema()
        assert drawn.size == (header.Columns, header.Rows) and low < high
