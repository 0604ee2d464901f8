"""Generated scans are files with fixed names and fixed pixels."""

import pytest

from medgan_ray import generate_scans
from medgan_ray.errors import UsageError
from medgan_ray.store import open_store
from medgan_ray.verbs.train import train
from tests.builders import SMALL, write_dataset


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    write_dataset(str(folder / "data"), counts={"train": 40})
    train(str(folder / "data"), str(folder / "run"), {**SMALL, "images": 16})
    return str(folder / "run")


def test_the_same_call_writes_the_same_files(run, tmp_path):
    one, two = (generate_scans(run, str(tmp_path / name), n=5, seed=2) for name in ("a", "b"))
    assert one.files == ("000000.png", "000001.png", "000002.png", "000003.png", "000004.png")
    assert one.sha256 == two.sha256
    assert [entry.key for entry in open_store(one.folder).list()] == list(one.files)


def test_scans_go_to_s3(run, s3):
    result = generate_scans(run, s3, n=300, form="npz")
    assert [entry.key for entry in open_store(s3).list()] == list(result.files) == ["000000.npz", "000256.npz"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"n": 0}, "n=0"), ({"form": "gif"}, "format 'gif'"), ({"label": "lesion"}, "this model knows no labels")],
)
def test_bad_requests_write_nothing(run, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        generate_scans(run, str(tmp_path / "out"), **arguments)
    assert not (tmp_path / "out").exists()
