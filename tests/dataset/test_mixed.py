"""Generated scans stand in for real ones of their class, at positions that nobody's number of workers decides."""

import dataclasses
from collections import Counter

import numpy as np
import pytest

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.cache import DataSettings
from medgan_ray.dataset.manifest import LabelSet, SplitEntry, read_manifest, write_manifest
from medgan_ray.dataset.mixed import Mixing, match
from medgan_ray.dataset.shards import ShardWriter
from medgan_ray.errors import ShardSkipped, UsageError
from medgan_ray.store import open_store
from tests.builders import write_dataset

POSITIONS = 1_000
SHARD_BYTES = 30_000
"""Shards of 14 scans."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Real scans of a, b and c, and of sides; generated ones of c, a and x."""
    path = tmp_path_factory.mktemp("mixed")
    write_dataset(str(path / "real"), classes=("a", "b", "c"), sides=True, shard_bytes=SHARD_BYTES)
    made = {"train": 60}
    write_dataset(str(path / "made"), counts=made, classes=("c", "a", "x"), shard_bytes=SHARD_BYTES, synthetic=True)
    return path


def mixed(folder, share, settings=None, run=None, made="made"):
    """Return the real dataset with the generated one in it."""
    real = open_dataset(str(folder / "real"), settings, run=run)
    generated = open_dataset(str(made if "://" in made else folder / made), settings, run=run)
    found = match(real.manifest, real.manifest.labels, generated.manifest, share, made)
    return dataclasses.replace(real, mixing=Mixing(generated, found))


def shown(dataset, start=0, count=POSITIONS, seed=3):
    """Return what is seen at positions."""
    split = dataset.split("train")
    return split.take(split.order(seed, "recognizer").indices(start, count))


def images_by_class(folder, made="made"):
    samples = open_dataset(str(folder / made)).split("train").take(np.arange(60))
    names = np.array(["c", "a", "x"])[samples.label[:, 0]]
    return {name: {image.tobytes() for image in samples.image[names == name]} for name in "cax"}


def test_a_class_that_is_generated_alone_is_never_seen_really(folder):
    real, seen = shown(open_dataset(str(folder / "real"))), shown(mixed(folder, {"a": 1, "c": 1}))
    assert np.array_equal(seen.label[:, 0], real.label[:, 0]), "classes come as they came"
    generated = images_by_class(folder)
    for code, name in enumerate("abc"):
        rows = seen.label[:, 0] == code
        found = {image.tobytes() for image in seen.image[rows]}
        if name == "b":
            assert np.array_equal(seen.image[rows], real.image[rows])
            assert np.array_equal(seen.label[rows], real.label[rows])
        else:
            assert found == generated[name], "all of its generated scans are drawn, by their class's name"
            assert (seen.subject[rows] == -1).all() and (seen.label[rows, 1] == -1).all()


def test_a_share_is_kept_and_no_class_comes_oftener(folder):
    real, seen = shown(open_dataset(str(folder / "real"))), shown(mixed(folder, 0.3))
    assert np.array_equal(seen.label[:, 0], real.label[:, 0])
    taken = seen.subject == -1
    assert np.array_equal(seen.image[~taken], real.image[~taken])
    for code, share in enumerate((0.3, 0.0, 0.3)):
        rows = real.label[:, 0] == code
        error = 4 * np.sqrt(share * (1 - share) / rows.sum())
        assert abs(taken[rows].mean() - share) <= error


def test_no_share_is_as_if_there_were_none(folder):
    split, plain = mixed(folder, 0.0).split("train"), open_dataset(str(folder / "real")).split("train")
    assert np.array_equal(split.order(0, "s").indices(0, 500), plain.order(0, "s").indices(0, 500))
    assert len(split) == len(plain) and split.class_counts(3) == plain.class_counts(3)


def test_what_stands_at_a_position_is_the_same_for_any_workers_and_start(folder):
    whole = shown(mixed(folder, 0.5))
    split = mixed(folder, 0.5).split("train")
    for start, count in ((0, 7), (250, 300), (513, 64)):
        order = split.order(3, "recognizer")
        indices = order.indices(start, count)
        for rank in range(3):
            part = split.take(indices[rank::3])
            rows = np.arange(start, start + count)[rank::3]
            for name, values in part.tensors().items():
                assert np.array_equal(values, getattr(whole, name)[rows], equal_nan=name == "spacing"), name
            known = split.known(indices[rank::3])
            assert np.array_equal(known.label, whole.label[rows]) and known.image.shape[2] == 0
    other = shown(mixed(folder, 0.5), seed=4)
    assert not np.array_equal(other.subject == -1, whole.subject == -1)


def test_balanced_classes_give_a_rare_class_its_positions(folder, tmp_path):
    def rare(samples):
        return samples.rows(np.flatnonzero((samples.label[:, 0] != 2) | (np.arange(len(samples)) < 9)))

    rewritten(folder / "real", tmp_path / "real", rare)
    (tmp_path / "made").symlink_to(folder / "made")
    seen = shown(mixed(tmp_path, {"c": 0.8}, DataSettings(balance="classes")))
    rows = seen.label[:, 0] == 2
    assert rows.mean() == pytest.approx(1 / 3, abs=0.03)
    assert (seen.subject[rows] == -1).mean() == pytest.approx(0.8, abs=0.09)
    assert len({image.tobytes() for image in seen.image[rows]}) == 20 + 3


def test_scans_of_no_known_class_stay(folder, tmp_path):
    def forget(samples):
        label = samples.label.copy()
        label[::2, 0] = -1
        return dataclasses.replace(samples, label=label)

    rewritten(folder / "real", tmp_path / "real", forget)
    (tmp_path / "made").symlink_to(folder / "made")
    seen = shown(mixed(tmp_path, 1.0))
    assert (seen.subject[seen.label[:, 0] == -1] >= 0).all()
    assert (seen.subject[np.isin(seen.label[:, 0], (0, 2))] == -1).all()


def test_val_and_test_hold_real_scans_alone(folder):
    dataset, plain = mixed(folder, 1.0), open_dataset(str(folder / "real"))
    for name in ("val", "test"):
        there, expected = (each.split(name) for each in (dataset, plain))
        indices = there.order(0, "recognizer").indices(0, 100)
        assert np.array_equal(there.take(indices).image, expected.take(indices).image)
    train = dataset.split("train")
    assert (train.take(np.arange(len(train))).subject >= 0).all(), "who counts them sees the real ones"


def test_a_bad_shard_of_generated_scans_is_left_out(folder, tmp_path):
    rewritten(folder / "made", tmp_path / "made", lambda samples: samples)
    (tmp_path / "real").symlink_to(folder / "real")
    manifest, _ = read_manifest(open_store(str(tmp_path / "made")))
    bad = tmp_path / "made" / "shards" / f"{manifest.shards[1].sha256}.safetensors"
    bad.write_bytes(bad.read_bytes()[:-1])
    run, skip = open_store(str(tmp_path / "run")), DataSettings(on_bad_shard="skip")
    with pytest.raises(ShardSkipped):
        shown(mixed(tmp_path, 1.0, skip, run))
    seen = shown(mixed(tmp_path, 1.0, skip, run))
    lost = open_dataset(str(folder / "made")).split("train").take(np.arange(14, 28)).image
    found = {image.tobytes() for image in seen.image[seen.subject == -1]}
    assert found and not found & {image.tobytes() for image in lost}


def test_generated_scans_on_s3_are_the_same(folder, s3):
    write_dataset(s3, counts={"train": 60}, classes=("c", "a", "x"), shard_bytes=SHARD_BYTES, synthetic=True)
    there, here = (shown(mixed(folder, 0.5, made=made), count=200) for made in (s3, "made"))
    assert np.array_equal(there.image, here.image) and np.array_equal(there.label, here.label)


@pytest.mark.parametrize(
    ("change", "share", "message"),
    [
        ({"size": (64, 32)}, 0.5, r"generated scans of 1 x 64 x 32 values .*dataset's have 1 x 32 x 32"),
        ({"channels": 3}, 0.5, "generated scans of 3 x 32 x 32 values"),
        ({"low": -1000}, 0.5, "generated scans over -1000 to 3071 HU"),
        ({"labels": ()}, 0.5, "generated scans without classes"),
        ({"labels": (LabelSet(name="label", classes=("A", "d")),)}, 0.5, "of no class of 'label'.*they are of A, d"),
        ({}, {"aa": 0.5}, r"no class 'aa' \(train\.synthetic_share\)"),
        ({}, {"b": 0.5}, r"no generated scans of 'b' .*there are those of c, a, x"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(folder, change, share, message):
    real, made = (read_manifest(open_store(str(folder / name)))[0] for name in ("real", "made"))
    if "low" in change:
        change = {"intensity": made.intensity.model_copy(update=change)}
    with pytest.raises(UsageError, match=message):
        match(real, real.labels, made.model_copy(update=change), share, "made")


def test_classes_belong_to_the_set_of_their_name_or_else_to_the_first_that_is_learned(folder):
    real, made = (read_manifest(open_store(str(folder / name)))[0] for name in ("real", "made"))
    assert match(real, real.labels, made, 0.5, "made").codes == (2, 0, -1)
    sides = LabelSet(name="whatever", classes=("right", "none"))
    found = match(real, real.labels[1:], made.model_copy(update={"labels": (sides,)}), 0.5, "made")
    assert (found.column, found.codes, found.shares, found.shared) == (1, (1, -1), (0.0, 0.5), ("right",))


def rewritten(source, target, change):
    """Write a dataset anew, the samples of each split as ``change`` leaves them."""
    opened, store = open_dataset(str(source)), open_store(str(target))
    shards, splits = [], Counter()
    for name in opened.manifest.splits:
        split = opened.split(name)
        samples = change(split.take(np.arange(len(split))))
        writer = ShardWriter(store, name, "recipe", SHARD_BYTES)
        writer.add(samples)
        shards += writer.close()
        splits[name] += len(samples)
    entries = {name: SplitEntry(samples=count, subjects=count) for name, count in splits.items()}
    write_manifest(store, opened.manifest.model_copy(update={"shards": tuple(shards), "splits": entries}))
