"""Shards are content-addressed, memory-mapped, and refused when they are not whole."""

import hashlib

import numpy as np
import pytest
import safetensors.numpy

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import FORMAT, canonical
from medgan_ray.dataset.shards import Samples, ShardWriter, open_shard, shard_key
from medgan_ray.errors import InputError
from medgan_ray.store import open_store
from tests.builders import write_dataset


def test_the_same_samples_give_the_same_shards(tmp_path):
    one, two = write_dataset(str(tmp_path / "a")), write_dataset(str(tmp_path / "b"))
    assert one == two


@pytest.mark.parametrize(("columns", "paired"), [(1, True), (0, False)])
def test_a_shard_is_the_file_that_safetensors_writes(tmp_path, columns, paired):
    draw, count = np.random.default_rng(0), 5
    image, pair = draw.integers(0, 65536, (2, count, 1, 8, 8), np.uint16)
    samples = Samples(
        image=image,
        label=draw.integers(-1, 9, (count, columns), np.int32),
        subject=np.arange(count, dtype=np.int32),
        attribute=draw.integers(-1, 9, (count, 4 * columns), np.int16),
        spacing=draw.random((count, 2), np.float32),
        pair=pair if paired else None,
    )
    store = open_store(str(tmp_path))
    writer = ShardWriter(store, "train", 'a "recipe"')
    for rows in (slice(0, 2), slice(2, count)):
        writer.add(samples.rows(rows))
    (entry,) = writer.close()
    metadata = {"medgan": canonical({"format": FORMAT, "split": "train", "recipe": 'a "recipe"'}).decode()}
    expected = safetensors.numpy.save(samples.tensors(), metadata=metadata)
    assert store.read(shard_key(entry.sha256)) == expected
    assert entry.sha256 == hashlib.sha256(expected).hexdigest()
    assert (entry.samples, entry.bytes) == (count, len(expected))


def test_samples_are_views_of_the_file(tmp_path):
    manifest = write_dataset(str(tmp_path))
    samples = open_shard(tmp_path / "shards" / f"{manifest.shards[0].sha256}.safetensors")
    assert samples.image.dtype == np.uint16 and samples.image.shape == (120, 1, 32, 32)
    assert not samples.image.flags.owndata and not samples.image.flags.writeable


def test_shards_stay_below_their_size(tmp_path):
    manifest = write_dataset(str(tmp_path), shard_bytes=50_000)
    assert len(manifest.shards) > 5
    assert all(entry.bytes < 60_000 for entry in manifest.shards)
    assert sum(entry.samples for entry in manifest.shards) == 168


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), r"shard holds \d+ bytes of \d+"),
        (lambda path: path.unlink(), "shard is missing"),
        (lambda path: _flip(path), "shard does not match its SHA-256"),
    ],
)
def test_a_damaged_shard_is_named(tmp_path, damage, message):
    manifest = write_dataset(str(tmp_path))
    damage(tmp_path / "shards" / f"{manifest.shards[0].sha256}.safetensors")
    with pytest.raises(InputError, match=message):
        open_dataset(str(tmp_path)).split("train").take(np.arange(3))


@pytest.mark.parametrize("data", [b"", b"\0" * 8, b"\xff" * 64, (2**40).to_bytes(8, "little") + b"{}"])
def test_a_header_that_lies_is_refused(tmp_path, data):
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(InputError):
        open_shard(path)


def test_a_shard_on_s3_is_cached_and_fetched_again_when_the_copy_is_damaged(s3, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path))
    write_dataset(s3)
    first = open_dataset(s3).split("train").take(np.arange(5)).image
    (cached,) = (tmp_path / "shards").iterdir()
    _flip(cached)
    assert np.array_equal(open_dataset(s3).split("train").take(np.arange(5)).image, first)
    key = f"shards/{cached.name}"
    open_store(s3).replace(key, b"gone bad")
    _flip(cached)
    with pytest.raises(InputError, match="shard holds 8 bytes"):
        open_dataset(s3).split("train").take(np.arange(5))


def _flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
