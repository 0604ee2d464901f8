"""Paths are told apart from settings, and put in the places that the usage names."""

from pathlib import Path
from typing import Any

import pytest

from medgan_ray.cli.call import Call
from medgan_ray.cli.show import Show
from medgan_ray.errors import InputError, UsageError


def _call(usage: str, *words: str, config_file: Path | None = None, **more: Any) -> Call:
    return Call(usage, words, Show(), config_file, more.get("ray", False), more.get("address"))


def test_settings_and_paths_may_mix():
    call = _call("DATASET RUN", "images=10", "data", "model.name=r3gan", "run", "train.lr=2e-4")
    assert call.paths() == ["data", "run"]
    assert call.config == {"images": 10, "model": {"name": "r3gan"}, "train": {"lr": 2e-4}}


@pytest.mark.parametrize("path", ["./images=10", "s3://bucket/seed=1/x", "/data/size=64", "a b=c"])
def test_what_is_no_known_key_may_be_a_path(path: str):
    call = _call("DATASET RUN", path, "run")
    assert call.paths() == [path, "run"] and call.config == {}


def test_a_file_that_looks_like_a_setting_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "patient=7").mkdir()
    assert _call("DATASET RUN", "patient=7", "run").paths() == ["patient=7", "run"]
    with pytest.raises(UsageError, match=r"\./patient=8"):
        _call("DATASET RUN", "patient=8", "run").paths()


def test_many_sources_then_one_dataset():
    assert _call("SOURCE… DATASET", "a", "b", "c", "out").paths() == [["a", "b", "c"], "out"]
    assert _call("MODEL…", "a").paths() == [["a"]]
    with pytest.raises(UsageError, match="DATASET is missing"):
        _call("SOURCE… DATASET", "a").paths()


def test_an_optional_path_may_be_missing():
    assert _call("[OUT]").paths() == [None]
    assert _call("[OUT]", "here").paths() == ["here"]
    with pytest.raises(UsageError, match="too many"):
        _call("[OUT]", "here", "there").paths()


def test_the_command_line_lies_on_top_of_the_file(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("images: 5\ntrain.lr: 1e-3\ntrain:\n  gamma: 3\n")
    call = _call("DATASET RUN", "data", "run", "images=7", config_file=file)
    assert call.config == {"images": 7, "train": {"lr": 1e-3, "gamma": 3}}
    assert call.settings.images == 7 and call.settings.train.gamma == 3


def test_a_bad_file_is_named(tmp_path: Path):
    file = tmp_path / "config.yaml"
    file.write_text("- a\n- b\n")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        _ = _call("DATASET", "data", config_file=file).config
    file.write_text("imgaes: 3")
    with pytest.raises(UsageError, match=r"config\.yaml.*'images'"):
        _ = _call("DATASET", "data", config_file=file).config
    with pytest.raises(InputError, match=r"missing\.yaml"):
        _ = _call("DATASET", "data", config_file=tmp_path / "missing.yaml").config


@pytest.mark.parametrize(
    ("words", "more", "placed"),
    [
        ([], {}, False),
        (["workers=1"], {}, False),
        (["workers=2"], {}, True),
        ([], {"ray": True}, True),
        ([], {"address": "10.0.0.5:6379"}, True),
    ],
)
def test_where_it_runs(words: list[str], more: dict[str, Any], placed: bool):
    assert _call("DATASET RUN", "data", "run", *words, **more).placed is placed


def test_a_verb_in_this_process_gets_nothing_of_rays():
    call = _call("DATASET RUN", "data", "run", "ray.max_failures=1", "serve.port=9000", "seed=3")
    assert call.local_config == {"seed": 3}
    assert set(call.config) == {"ray", "serve", "seed"}
