"""What should be looked at before a dataset is used is said, and only that."""

from typing import Any

import pytest

from medgan_ray.dataset.manifest import Counts, Group, Intensity, LabelSet, Manifest, ShardEntry, SplitEntry
from medgan_ray.ingest.facts import dataset_facts, options

CLASSES = ("a", "b")


def _group(train: int, val: int, test: int, subjects: int) -> Group:
    return Group(samples={"train": train, "val": val, "test": test}, subjects=subjects)


def _manifest(**changes: Any) -> Manifest:
    """Return a manifest of 600 samples of 60 patients with nothing to say about it."""
    shard = ShardEntry(sha256="0" * 64, split="train", samples=600, bytes=1)
    values = {
        "modality": "CT",
        "size": (32, 32),
        "intensity": Intensity(unit="HU", low=-160, high=240, window=(-160, 240)),
        "labels": (LabelSet(name="class", classes=CLASSES),),
        "splits": {
            "train": SplitEntry(samples=400, subjects=40),
            "val": SplitEntry(samples=100, subjects=10),
            "test": SplitEntry(samples=100, subjects=10),
        },
        "shards": (shard,),
        "subjects": tuple(f"{number:064x}" for number in range(60)),
        "recipe": {"version": 2, "size": [32, 32], "ingest": {"keep": [], "secondary": False}, "split": {"val": 0.15}},
        "rejected": {"duplicate": 2, "constant": 7, "code_of_tomorrow": 1},
        "content_digest": "1" * 64,
        "counts": Counts(classes={"a": _group(200, 50, 50, 30), "b": _group(200, 50, 50, 30)}),
    }
    return Manifest.model_validate({**values, **changes})


def _warnings(manifest: Manifest) -> list[str]:
    assert manifest.counts is not None
    warnings: list[str] = dataset_facts(manifest, "2" * 64, manifest.counts)["warnings"]
    return warnings


def test_nothing_is_said_where_nothing_is_wrong():
    assert _warnings(_manifest()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"subjects": ("0" * 64,) * 1 + ("withdrawn:1",) * 59}, "Leakage: 59 patients stand in more than one split."),
        ({"masked": 7}, "Text was blanked in 7 samples"),
        ({"counts": Counts(without_subject=600)}, "Samples whose patient is unknown: all."),
        ({"counts": Counts(without_subject=3)}, "Samples whose patient is unknown: 3."),
        ({"counts": Counts(attributes={"sex": {"F": _group(9, 0, 0, 4)}})}, "1 groups of sex, age, maker or view"),
        (
            {"counts": Counts(classes={"a": _group(400, 100, 0, 9), "b": _group(0, 0, 100, 9)})},
            "test holds no sample of a",
        ),
        ({"counts": Counts(classes={"": _group(5, 1, 0, 2)})}, "6 samples have no class."),
        ({"splits": {"train": SplitEntry(samples=99, subjects=60)}}, "Small splits: train 99, val 0, test 0 samples"),
        ({"recipe": {"ingest": {"keep": ["tilted"]}}}, "Taken in spite of tilted: ingest.keep asks for it."),
        ({"recipe": {"ingest": {"secondary": True}}}, "ingest.secondary=true takes images that were made by a program"),
    ],
)
def test_what_should_be_looked_at_is_said(changes: dict[str, Any], said: str):
    assert sum(line.startswith(said) for line in _warnings(_manifest(**changes))) == 1


def test_reasons_stand_with_their_meaning_the_commonest_first():
    manifest = _manifest()
    found = dataset_facts(manifest, "2" * 64, manifest.counts or Counts())
    assert list(found["rejected"].items()) == [("constant", 7), ("duplicate", 2), ("code_of_tomorrow", 1)]
    assert found["reasons"]["constant"] == "every pixel has the same value"
    assert found["reasons"]["code_of_tomorrow"] == "unknown to this version"


def test_a_recipe_is_told_as_options():
    expected = {"size": [32, 32], "ingest.keep": [], "ingest.secondary": False, "split.val": 0.15}
    assert options(_manifest().recipe) == expected
