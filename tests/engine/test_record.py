"""The log of an attempt is whole whichever thread flushes it, and a tracker that is slow or dead holds nothing up."""

import importlib.machinery
import importlib.metadata
import json
import sys
import threading
import time

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from medgan_ray.engine import writers
from medgan_ray.engine.record import Record
from medgan_ray.errors import UsageError
from medgan_ray.host import WRITER_ENTRY_POINTS, WRITERS, writer_names
from medgan_ray.store import LocalStore, open_store
from medgan_ray.tasks.protocol import TrainSettings
from medgan_ray.verbs.train import begin
from tests.builders import write_dataset


class Keeping:
    """A writer that keeps what it is given, after a while or never."""

    def __init__(self, fails=0, wait=None):
        self.given, self.closed, self.fails, self.wait = [], False, fails, wait

    def scalars(self, images, figures):
        if self.wait:
            self.wait.wait(10)
        if self.fails:
            self.fails -= 1
            raise ConnectionError("no route\nto the server")
        self.given.append((images, dict(figures)))

    def image(self, name, images, png):
        self.given.append((images, name, png[:4]))

    def flush(self):
        pass

    def close(self):
        self.closed = True


def brought(monkeypatch, writer):
    """Have a package bring the writer ``theirs``."""
    monkeypatch.setattr(sys.modules[__name__], "theirs", lambda run, segment: writer, raising=False)
    point = importlib.metadata.EntryPoint("theirs", f"{__name__}:theirs", WRITER_ENTRY_POINTS)
    found = importlib.metadata.EntryPoints([point])
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **wanted: found.select(**wanted))
    return writer


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules["__main__"])


def lines(run, segment="000000000000"):
    return [json.loads(line) for line in run.read(f"log/{segment}/metrics.jsonl").splitlines()]


def test_figures_and_previews_go_to_the_files_and_to_tensorboard(tmp_path):
    run = open_store(str(tmp_path))
    record = Record(run, 0)
    record.add(32, {"loss": 0.5, "score": float("inf")})
    record.preview(32, np.zeros((8, 1, 16, 16), np.float32))
    record.close()
    assert lines(run) == [{"images": 32, "loss": 0.5, "score": "inf"}]
    assert run.exists("previews/000000000032.png")
    found = EventAccumulator(str(tmp_path / "log/000000000000/tensorboard"))
    found.Reload()
    assert [(each.step, each.value) for each in found.Scalars("loss")] == [(32, 0.5)]
    assert [(each.step, each.width) for each in found.Images("preview")] == [(32, 128)]


def test_a_second_attempt_has_a_segment_of_its_own(tmp_path):
    run = open_store(str(tmp_path))
    for loss in (1.0, 2.0):
        record = Record(run, 64, ())
        record.add(96, {"loss": loss})
        record.close()
    assert [lines(run, name)[0]["loss"] for name in ("000000000064", "000000000064-2")] == [1.0, 2.0]


def test_no_line_is_lost_or_overwritten_by_an_older_flush(tmp_path):
    class Slow(LocalStore):
        """A store whose first write of the log lasts until the second is done, or a while."""

        def replace(self, key, data):
            first = not began.is_set()
            began.set()
            if first:
                later.wait(0.3)
            super().replace(key, data)
            (earlier if first else later).set()

    began, earlier, later = threading.Event(), threading.Event(), threading.Event()
    record = Record(Slow(str(tmp_path)), 0, ())
    record.add(8, {"loss": 1.0})
    flushes = [threading.Thread(target=record.flush) for _ in range(2)]
    flushes[0].start()
    assert began.wait(10)
    record.add(16, {"loss": 0.5})
    assert not earlier.is_set(), "figures have waited for a flush that is under way"
    flushes[1].start()
    for flush in flushes:
        flush.join(10)
    assert earlier.is_set() and later.is_set()
    assert [line["images"] for line in lines(open_store(str(tmp_path)))] == [8, 16]


def test_a_package_brings_a_writer_by_an_entry_point(monkeypatch, tmp_path):
    writer = brought(monkeypatch, Keeping())
    assert writer_names() == (*sorted((*WRITERS, "theirs")),)
    names = TrainSettings(writers=("theirs",)).writers
    record = Record(open_store(str(tmp_path)), 0, names)
    record.add(8, {"loss": 1.0})
    record.preview(8, np.zeros((1, 1, 8, 8), np.float32))
    record.close()
    assert writer.given == [(8, {"loss": 1.0}), (8, "preview", b"\x89PNG")] and writer.closed


def test_a_tracker_that_fails_is_told_once_and_tried_again(monkeypatch, tmp_path):
    writer, said = brought(monkeypatch, Keeping(fails=2)), []
    record = Record(open_store(str(tmp_path)), 0, ("theirs",), said.append)
    for images in (8, 16, 24):
        record.add(images, {"loss": 1.0})
    record.close()
    assert said == [
        "theirs failed, training goes on: no route to the server",
        "theirs did not take all figures; all of them stand in metrics.jsonl",
    ]
    assert writer.given == [(24, {"loss": 1.0})] and writer.closed
    assert len(lines(open_store(str(tmp_path)))) == 3


def test_a_tracker_that_hangs_holds_nothing_up(monkeypatch, tmp_path):
    monkeypatch.setattr(writers, "WAITING", 4)
    monkeypatch.setattr(writers, "CLOSE_S", 0.05)
    released = threading.Event()
    brought(monkeypatch, Keeping(wait=released))
    said, began = [], time.monotonic()
    record = Record(open_store(str(tmp_path)), 0, ("theirs",), said.append)
    for images in range(20):
        record.add(images, {"loss": 1.0})
    record.close()
    assert time.monotonic() - began < 5
    assert said == ["theirs did not take all figures; all of them stand in metrics.jsonl"]
    assert len(lines(open_store(str(tmp_path)))) == 20
    released.set()


def test_names_are_checked():
    with pytest.raises(UsageError, match=r"writers.*did you mean 'mlflow'") as refused:
        TrainSettings.parse({"writers": ["mflow"]})
    assert refused.value.exit_code == 2
    with pytest.raises(UsageError, match="once"):
        TrainSettings.parse({"writers": ["wandb", "wandb"]})


@pytest.mark.parametrize("name", ["mlflow", "wandb"])
@pytest.mark.parametrize("spec", [None, importlib.machinery.ModuleSpec("a folder that a tracker left", None)])
def test_a_missing_package_is_one_line_with_the_command(monkeypatch, tmp_path, name, spec):
    find = writers.importlib.util.find_spec
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda wanted: spec if wanted == name else find(wanted))
    write_dataset(str(tmp_path / "data"))
    with pytest.raises(UsageError, match=rf"pip install 'medgan-ray\[{name}\]'") as refused:
        begin(str(tmp_path / "data"), str(tmp_path / "run"), {"train": {"writers": ["tensorboard", name]}})
    assert refused.value.exit_code == 2 and "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists(), "refused before training begins"


@pytest.mark.parametrize(
    ("name", "variable", "match"), [("mlflow", "MLFLOW_TRACKING_URI", "server"), ("wandb", "WANDB_DIR", "folder")]
)
def test_a_tracker_of_this_machine_refuses_a_run_elsewhere(monkeypatch, name, variable, match):
    there = importlib.machinery.ModuleSpec(name, None, origin="somewhere")
    monkeypatch.setattr(writers.importlib.util, "find_spec", lambda wanted: there)
    for each in ("MLFLOW_TRACKING_URI", "WANDB_DIR", "WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(each, raising=False)
    with pytest.raises(UsageError, match=match):
        writers.check([name], open_store("s3://bucket/run"))
    monkeypatch.setenv(variable, "there")
    writers.check([name], open_store("s3://bucket/run"))
