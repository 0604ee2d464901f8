"""A task is judged by what its protocol says that it does, on the scans of a split, in one order."""

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine import judge as judges
from medgan_ray.engine.judge import judge
from medgan_ray.engine.ranks import Ranks
from medgan_ray.store import open_store
from medgan_ray.tasks.protocol import TrainSettings
from tests.builders import write_dataset


class Means:
    """A task that answers with the mean pixel, and is wrong by as much as that is not what it expects."""

    def __init__(self, refuses=""):
        self.refuses, self.seen = refuses, []

    def answers(self, samples):
        return samples.image.mean((1, 2, 3), keepdims=True)[:, 0, 0].astype(np.float32) / 65535

    def not_applicable(self, known):
        return self.refuses

    def figures(self, answers, known):
        assert known.image.size == 0, "what is known of scans is not their pixels"
        self.seen.append((answers, known.subject))
        return {"score": float(answers.mean())}


class HalfOfTwo(Ranks):
    """The second of two ranks, whose sister sends nothing."""

    def __init__(self):
        super().__init__()
        self.rank, self.world = 1, 2

    def gather_rows(self, rows, total):
        self.sent = rows
        return np.zeros((total, *rows.shape[1:]), np.float32)


@pytest.fixture
def dataset(tmp_path):
    write_dataset(str(tmp_path / "data"), counts={"train": 10, "val": 7})
    return open_dataset(str(tmp_path / "data"))


def asked(task, dataset, tmp_path, split="val", ranks=None):
    return judge(task, dataset, split, TrainSettings(), open_store(str(tmp_path / "run")), ranks or Ranks())


def test_answers_are_those_to_the_scans_that_they_are_compared_with(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "READ", 3)
    task = Means()
    found = asked(task, dataset, tmp_path)
    assert found.not_applicable == ""
    means = dataset.split("val").take(np.arange(7)).image.mean((1, 2, 3)) / 65535
    assert found.figures()["score"] == pytest.approx(means.mean())
    ((answers, subjects),) = task.seen
    np.testing.assert_allclose(answers[:, 0], means[subjects - subjects.min()], rtol=1e-6)


def test_each_rank_answers_for_its_own_scans(dataset, tmp_path):
    ranks = HalfOfTwo()
    asked(Means(), dataset, tmp_path, ranks=ranks).figures()
    means = dataset.split("val").take(np.arange(7)).image.mean((1, 2, 3)) / 65535
    np.testing.assert_allclose(ranks.sent[:, 0], means[1::2], rtol=1e-6)


def test_of_many_scans_some_are_drawn_and_a_rank_without_any_sends_none(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(judges, "MOST", 1)
    task, ranks = Means(), HalfOfTwo()
    asked(task, dataset, tmp_path, ranks=ranks).figures()
    assert ranks.sent.shape == (0, 1) and len(task.seen[0][1]) == 1


@pytest.mark.parametrize(
    ("split", "task", "why"),
    [("val", Means("holds one class"), "holds one class"), ("test", Means(), "holds no scans")],
)
def test_a_split_that_says_nothing_has_no_figures(dataset, tmp_path, split, task, why):
    found = asked(task, dataset, tmp_path, split)
    assert found.figures() == {} and found.not_applicable == f"the {split} split {why}"


def test_a_task_that_can_be_judged_by_nothing_is_a_mistake(dataset, tmp_path):
    with pytest.raises(TypeError, match="object neither generates nor answers"):
        asked(object(), dataset, tmp_path)
