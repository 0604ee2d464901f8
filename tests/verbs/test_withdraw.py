"""The verb withdraw as it is used: ids from a file or standard input, never on the command line."""

import io
import json
import sys
from pathlib import Path

import pytest

from medgan_ray.cli.main import main
from medgan_ray.dicom import phantom
from medgan_ray.errors import InputError
from medgan_ray.verbs.withdraw import read_ids


def test_ids_are_read_one_a_line(tmp_path: Path):
    path = tmp_path / "ids.txt"
    path.write_bytes("\ufeffMRN 1\r\n\n  MRN2  \nÄ3\nMRN2".encode())
    assert read_ids(str(path)) == ["MRN 1", "MRN2", "Ä3"]


@pytest.mark.parametrize(
    ("data", "text"), [(b"", "empty"), (b" \n\n", "empty"), (b"MRN\xff", "not text"), (b"x" * (2**24 + 1), "too long")]
)
def test_an_unusable_list_is_refused_without_quoting_it(tmp_path: Path, data: bytes, text: str):
    path = tmp_path / "ids.txt"
    path.write_bytes(data)
    with pytest.raises(InputError, match=text) as refused:
        read_ids(str(path))
    assert "MRN" not in str(refused.value)


def test_a_missing_list_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="No such file"):
        read_ids(str(tmp_path / "none"))


def test_the_command_takes_standard_input_and_answers_in_json(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "scans").mkdir()
    drawn = list(phantom.draw("ct", 4, 1, 64, 0))
    for number, each in enumerate(drawn):
        (tmp_path / "scans" / f"{number}.dcm").write_bytes(phantom.encode(each, 0))
    data = f"{tmp_path}/data"
    assert main(["ingest", f"{tmp_path}/scans", data, "size=32", "ingest.workers=1", "-q"]) == 0
    capfd.readouterr()
    given = io.TextIOWrapper(io.BytesIO(f"{drawn[1].patient_id}\nSTRANGER\n".encode()))
    monkeypatch.setattr(sys, "stdin", given)
    assert main(["withdraw", data, "--subjects-from", "-", "--purge", "--json"]) == 0
    out, err = capfd.readouterr()
    found = json.loads(out)
    assert (found["subjects"], found["samples"], found["unknown"], found["manifests_deleted"]) == (1, 1, 1, 1)
    assert drawn[1].patient_id not in out + err and "STRANGER" not in out + err
    (tmp_path / "ids").write_text("STRANGER")
    assert main(["withdraw", data, "--subjects-from", f"{tmp_path}/ids"]) == 4
    assert capfd.readouterr().err.startswith("error: none of the 1 ids is in this dataset")
    assert main(["withdraw", data]) == 2
    assert "--subjects-from" in capfd.readouterr().err
