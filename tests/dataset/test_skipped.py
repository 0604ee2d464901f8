"""A shard that is corrupt in the dataset itself ends training, or the run goes on without it, exactly."""

import json

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.dataset.skipped import add_skipped, read_skipped
from medgan_ray.errors import BadShard, InputError, ShardSkipped
from medgan_ray.store import open_store
from tests.builders import write_dataset

SKIP = DataSettings(on_bad_shard="skip", span_shards=3)


@pytest.fixture
def damaged(tmp_path):
    """URI of a dataset whose training shards 1 and 4 of 15 are cut short; a run; the bad names."""
    manifest = write_dataset(str(tmp_path / "data"), shard_bytes=18_000)
    bad = [entry.sha256 for entry in manifest.shards if entry.split == "train"]
    for name in (bad[1], bad[4]):
        path = tmp_path / "data" / "shards" / f"{name}.safetensors"
        path.write_bytes(path.read_bytes()[:-1])
    return str(tmp_path / "data"), open_store(str(tmp_path / "run")), sorted((bad[1], bad[4]))


def read_all(uri, run, settings=SKIP):
    """Return the subjects at two epochs' positions; starts again as often as the run asks for."""
    starts = 0
    while True:
        split = open_dataset(uri, settings, run=run).split("train")
        order = split.order(0, "discriminator")
        try:
            whole = [split.take(order.indices(start, 8)).subject for start in range(0, 2 * order.length, 8)]
            return np.concatenate(whole), split.skipped, starts
        except ShardSkipped:
            starts += 1


def test_by_default_a_bad_shard_ends_training_by_name(damaged):
    uri, run, bad = damaged
    with pytest.raises(BadShard, match=f"({bad[0]}|{bad[1]})") as refused:
        read_all(uri, run, DataSettings())
    assert refused.value.exit_code == 4 and read_skipped(run) == ()


def test_a_run_goes_on_without_bad_shards_and_says_so(damaged):
    uri, run, bad = damaged
    subjects, skipped, starts = read_all(uri, run)
    assert sorted(skipped) == bad and starts == 2
    assert json.loads(run.read("skipped.json")) == {"shards": bad}
    assert not set(range(8, 16)) & set(subjects.tolist()) and not set(range(32, 40)) & set(subjects.tolist())
    again, _, starts = read_all(uri, run)
    assert starts == 0 and np.array_equal(again, subjects)


def test_positions_of_whole_shards_are_what_they_were(damaged, tmp_path):
    uri, run, _ = damaged
    subjects, _, _ = read_all(uri, run)
    write_dataset(str(tmp_path / "whole"), shard_bytes=18_000)
    undisturbed, _, _ = read_all(str(tmp_path / "whole"), run, DataSettings(span_shards=3))
    bad = np.isin(undisturbed // 8, (1, 4))
    assert np.array_equal(subjects[~bad], undisturbed[~bad]) and bad.sum() == 32
    # Refilled from the others of their span, not always by the same ones.
    assert len(set(subjects[bad].tolist())) > 16


def test_a_span_of_bad_shards_alone_is_refilled_from_all_others(damaged):
    uri, run, _ = damaged
    subjects, _, _ = read_all(uri, run, DataSettings(on_bad_shard="skip", span_shards=1))
    assert len(subjects) == 240 and not set(range(8, 16)) & set(subjects.tolist())


def test_samples_asked_for_by_index_are_replaced_too(damaged):
    uri, run, _ = damaged
    read_all(uri, run)
    split = open_dataset(uri, SKIP, run=run).split("train")
    asked = np.arange(len(split))
    taken = split.take(asked).subject
    bad = np.isin(asked // 8, (1, 4))
    assert np.array_equal(taken[~bad], asked[~bad]) and not np.isin(taken // 8, (1, 4)).any()
    assert np.array_equal(split.take(asked[5:12]).subject, taken[5:12])


def test_balanced_classes_do_without_a_bad_shard(damaged, tmp_path):
    manifest = write_dataset(str(tmp_path / "classes"), classes=("a", "b"), counts={"train": 30}, shard_bytes=18_000)
    run, shard = damaged[1], manifest.shards[0].sha256
    open_store(str(tmp_path / "classes")).delete(f"shards/{shard}.safetensors")
    settings = DataSettings(on_bad_shard="skip", balance="classes")
    with pytest.raises(ShardSkipped):
        open_dataset(str(tmp_path / "classes"), settings, run=run).split("train").class_counts(2)
    split = open_dataset(str(tmp_path / "classes"), settings, run=run).split("train")
    assert split.class_counts(2) == (11, 11)
    order = split.order(0, "discriminator")
    assert len(split.take(order.indices(0, order.length))) == order.length


def test_names_added_at_the_same_time_are_all_kept(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    run = open_store(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: add_skipped(run, f"{n:02}"), range(12)))
    assert read_skipped(run) == tuple(f"{n:02}" for n in range(12))


def test_a_split_of_bad_shards_alone_is_refused(tmp_path):
    manifest = write_dataset(str(tmp_path / "data"), counts={"train": 9})
    run = open_store(str(tmp_path / "run"))
    add_skipped(run, manifest.shards[0].sha256)
    with pytest.raises(InputError, match="every shard is corrupt"):
        open_dataset(str(tmp_path / "data"), SKIP, run=run).split("train")
