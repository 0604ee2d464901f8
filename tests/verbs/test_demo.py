"""The demo walks the whole way on a handful of phantoms, and says what it did and what it could not measure."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medgan_ray.artifacts import registry
from medgan_ray.errors import InputError, UsageError
from medgan_ray.host import Host
from medgan_ray.inference.model import load_model
from medgan_ray.store import open_store
from medgan_ray.verbs import demo as verb
from medgan_ray.verbs.demo_page import Answer, Search
from medgan_ray.verbs.train import TrainResult, train

SMALL = {"size": 32, "images": 32, "batch": 8, "train": {"checkpoint_images": 16}}


@pytest.fixture(scope="module", autouse=True)
def _few_phantoms():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(verb, "PHANTOM_PATIENTS", 8)
        patch.setattr(verb, "PHANTOM_SLICES", 3)
        patch.setattr(verb, "PHANTOM_SIDE", 48)
        yield


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[verb.DemoResult, list[str]]:
    said: list[str] = []
    out = tmp_path_factory.mktemp("demo") / "out"
    return verb.demo(str(out), config=SMALL, say=said.append), said


def test_everything_stands_where_the_summary_says(done: tuple[verb.DemoResult, list[str]]):
    result, said = done
    out = Path(result.out)
    assert said == ["1. Draw phantoms …", "2. Ingest …", "3. Train …", "4. Evaluate …", "5. Publish …", "6. Generate …"]
    assert len(list((out / "scans").rglob("*.dcm"))) == 24
    assert len(list((out / "generated").glob("*.png"))) == 16
    assert len(list((out / "generated" / "dicom").glob("*.dcm"))) == 4
    assert result.images == 32 and result.figures == {}
    text = "\n".join(result.summary)
    for path in ("scans", "dataset", "run", "generated", "report.html", "private/comparison.html"):
        assert str(out / path) in text and (out / path).exists()


def test_what_cannot_be_measured_is_said(done: tuple[verb.DemoResult, list[str]]):
    result, _ = done
    page = Path(result.report).read_text("utf-8")
    assert any("can't be measured" in line for line in result.summary)
    assert "can&#39;t be measured" in page


def test_pictures_of_scans_stand_in_private_alone(done: tuple[verb.DemoResult, list[str]]):
    out = Path(done[0].out)
    pages = [str(page.relative_to(out)) for page in sorted(out.rglob("*.html"))]
    own = [page for page in pages if not page.startswith("dataset/")]
    assert own == ["private/comparison.html", "report.html", "run/private/report.html", "run/report.html"]
    assert (out / "report.html").read_text("utf-8").count("data:image/png") == 2  # one panel a class
    assert (out / "private" / "comparison.html").read_text("utf-8").count("data:image/png") == 4


def test_the_same_call_goes_on(done: tuple[verb.DemoResult, list[str]]):
    again = verb.demo(done[0].out, config=SMALL)
    assert any("earlier" in line for line in again.summary)
    assert registry.contents(open_store(f"{done[0].out}/registry/demo")).numbers == [1]


def test_a_model_that_the_gate_refuses_is_published_by_force_and_says_so(done: tuple[verb.DemoResult, list[str]]):
    text = "\n".join(done[0].summary)
    assert "the gate refuses it" in text and "by force" in text
    assert load_model(f"{done[0].out}/registry/demo").card.release.forced


def test_steps_that_ray_brings_are_told(tmp_path: Path):
    asked: list[str] = []

    def search(dataset: str, runs: str, config: Mapping[str, Any]) -> Search:
        asked.append("search")
        return Search(columns=("trial",), rows=(("trial-<b>",),), stopped_early=1)

    def serve(model: str) -> Answer:
        asked.append(model)
        return Answer(url="http://127.0.0.1:8000", images=4, wait_s=0.25)

    def trained(dataset: str, run: str, config: Mapping[str, Any], host: Host) -> TrainResult:
        return train(dataset, run, config, host).model_copy(update={"figures": {"score": 1.5, "whole_ratio": 1.25}})

    result = verb.demo(str(tmp_path), config=SMALL, steps=verb.Steps(trained, search, serve))
    page = Path(result.report).read_text("utf-8")
    assert asked == ["search", f"{tmp_path}/registry/demo@1"]
    assert "trial-&lt;b&gt;" in page and "trial-<b>" not in page
    assert "http://127.0.0.1:8000" in "\n".join(result.summary) and "1.25 times" in page


def test_no_search_where_nothing_can_be_measured(tmp_path: Path):
    def search(dataset: str, runs: str, config: Mapping[str, Any]) -> Search:
        raise AssertionError("a search has nothing to decide by")

    result = verb.demo(str(tmp_path), config=SMALL, steps=verb.Steps(search=search))
    assert any("left out" in line for line in result.summary)


def test_scans_whose_patients_are_unknown_are_said_to_be(tmp_path: Path):
    for name, seed in (("a", 1), ("b", 2)):
        (tmp_path / "scans" / name).mkdir(parents=True)
        for index in range(6):
            pixels = np.random.default_rng(100 * seed + index).integers(0, 256, (40, 40), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "scans" / name / f"{index}.png")
    result = verb.demo(str(tmp_path / "out"), str(tmp_path / "scans"), SMALL)
    text = "\n".join(result.summary)
    assert "12 scans of unnamed patients" in text and "a patient may be in two" in text
    assert "no patient is in two" not in text
    assert "unknown" in Path(result.report).read_text("utf-8")


def test_a_folder_that_cannot_be_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="local folder"):
        verb.demo("s3://bucket/demo")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot make the folder"):
        verb.demo(str(tmp_path / "file"))
