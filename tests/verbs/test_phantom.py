"""The verb phantom: files, a table, and no mixing."""

import csv
from pathlib import Path

import pytest

from medgan_ray.errors import InputError, UsageError
from medgan_ray.verbs.phantom import make_phantoms


def test_writes_files_and_their_table(tmp_path: Path) -> None:
    result = make_phantoms(str(tmp_path / "out"), kind="xray", patients=4, slices=2, size=32)
    with (tmp_path / "out/labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert (result.files, result.patients, result.labels) == (8, 4, {"lesion": 4, "normal": 4})
    assert sorted(row["file"] for row in rows) == sorted(path.name for path in tmp_path.glob("out/*.dcm"))
    assert len({row["patient"] for row in rows}) == 4


def test_a_folder_that_holds_something_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.dcm").write_bytes(b"")
    with pytest.raises(InputError, match="not empty"):
        make_phantoms(str(tmp_path), patients=1)


def test_local_folders_only(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="local"):
        make_phantoms("s3://bucket/x")
    with pytest.raises(UsageError, match="did you mean 'xray'"):
        make_phantoms(str(tmp_path / "x"), kind="xrays")
