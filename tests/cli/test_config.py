"""The configuration is shown as YAML that reads back, described by a schema, and checked."""

import json

import pytest
import yaml

from medgan_ray.cli.main import main
from medgan_ray.on_ray.settings import PlacedConfig


def test_show_reads_back(capfd: pytest.CaptureFixture[str]):
    assert main(["config", "show", "images=123", "model.name=r3gan", "data.cache='a: b'"]) == 0
    text = capfd.readouterr().out
    shown = PlacedConfig.parse(yaml.safe_load(text))
    assert shown == PlacedConfig.parse({"images": 123, "model": {"name": "r3gan"}, "data": {"cache": "a: b"}})


def test_show_says_what_each_option_is(capfd: pytest.CaptureFixture[str]):
    main(["config", "show"])
    lines = capfd.readouterr().out.splitlines()
    options = [
        index for index, line in enumerate(lines) if not line.lstrip().startswith("#") and not line.endswith(":")
    ]
    unsaid = [lines[index] for index in options if not lines[index - 1].lstrip().startswith("# ")]
    assert len(options) > 30 and unsaid == []


def test_schema_is_json(capfd: pytest.CaptureFixture[str]):
    assert main(["config", "schema"]) == 0
    schema = json.loads(capfd.readouterr().out)
    assert schema["additionalProperties"] is False and "images" in schema["properties"]


def test_check(capfd: pytest.CaptureFixture[str]):
    assert main(["config", "check", "images=5"]) == 0
    assert main(["config", "check", "images=0"]) == 2
    assert "images=0" in capfd.readouterr().err
