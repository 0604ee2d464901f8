"""Fetched shards are whole, shared by processes, bounded in bytes, never taken from who uses them."""

import contextlib
import errno
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from medgan_ray.dataset import cache, shelf
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.cache import DataSettings, ShardCache
from medgan_ray.errors import BadShard, StoreError
from medgan_ray.store import LocalStore
from tests.builders import write_dataset
from tests.faults import FaultProxy


class Remote(LocalStore):
    """A folder that is read as if it were far away."""

    is_local = False

    def __init__(self, uri):
        super().__init__(uri)
        self.read_keys, self.gate = [], threading.Event()
        self.gate.set()

    def stream(self, key):
        self.read_keys.append(key)
        for number, piece in enumerate(super().stream(key)):
            yield piece
            if not number:
                self.gate.wait(10)


@pytest.fixture
def remote(tmp_path):
    """A remote dataset of 15 training shards of about 40 kB; entries are its own."""
    manifest = write_dataset(str(tmp_path / "data"), shard_bytes=18_000)
    store = Remote(str(tmp_path / "data"))
    store.entries = [entry for entry in manifest.shards if entry.split == "train"]
    return store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def held_cache(remote, folder, most=2**30):
    return ShardCache(remote, DataSettings(cache=str(folder), cache_bytes=most))


def names(folder):
    return sorted(path.stem for path in (folder / "shards").iterdir())


def bytes_in(folder):
    total = 0
    for path in (folder / "shards").iterdir():
        with contextlib.suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def flip(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def test_a_shard_is_fetched_once_and_checked_whenever_it_is_opened(remote, folder):
    first = held_cache(remote, folder).hold(remote.entries[0])
    held_cache(remote, folder).hold(remote.entries[0])
    assert len(remote.read_keys) == 1
    flip(first.path)
    second = held_cache(remote, folder).hold(remote.entries[0])
    assert len(remote.read_keys) == 2
    assert second.path.read_bytes() == remote.path(remote.read_keys[0]).read_bytes()


def test_what_arrives_under_a_wrong_name_is_never_kept(remote, folder):
    flip(remote.path(f"shards/{remote.entries[0].sha256}.safetensors"))
    with pytest.raises(BadShard, match="does not match its SHA-256"):
        held_cache(remote, folder).hold(remote.entries[0])
    assert names(folder) == []
    remote.path(f"shards/{remote.entries[1].sha256}.safetensors").unlink()
    with pytest.raises(BadShard, match="shard is missing"):
        held_cache(remote, folder).hold(remote.entries[1])


def test_the_least_recently_opened_shard_goes(remote, folder):
    size = remote.entries[0].bytes
    shards = held_cache(remote, folder, most=3 * size + 1000)
    for number in (0, 1, 2, 0, 3):
        shards.hold(remote.entries[number])
        time.sleep(0.01)  # the file system tells when a file was used in steps of some milliseconds
    assert names(folder) == sorted(remote.entries[number].sha256 for number in (0, 2, 3))
    assert {path.name for path in (folder / "sums").iterdir()} == set(names(folder))


def test_what_is_in_use_stays_even_for_another_process(remote, folder):
    size = remote.entries[0].bytes
    code = (
        "import sys; from tests.dataset.test_cache import *\n"
        "held = held_cache(Remote(sys.argv[1]), Path(sys.argv[2])).hold(Remote.entry_of(sys.argv[1], 0))\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with process(code, remote.uri, str(folder)) as other:
        assert other.stdout.readline() == "held\n"
        shards = held_cache(remote, folder, most=2 * size + 1000)
        for number in (1, 2, 3):
            shards.hold(remote.entries[number])
        assert names(folder) == sorted(remote.entries[number].sha256 for number in (0, 3))
    shards.hold(remote.entries[1])
    assert names(folder) == sorted(remote.entries[number].sha256 for number in (1, 3))


def test_one_process_fetches_and_the_others_wait(remote, folder):
    remote.gate.clear()
    shards = [held_cache(remote, folder) for _ in range(3)]
    found = []
    threads = [threading.Thread(target=lambda s=s: found.append(s.hold(remote.entries[0]))) for s in shards]
    for thread in threads:
        thread.start()
    wait_for(lambda: remote.read_keys)
    remote.gate.set()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(remote.read_keys) == 1


@pytest.mark.parametrize("fate", [signal.SIGKILL, signal.SIGSTOP])
def test_a_writer_that_is_killed_or_stopped_holds_nobody_up(remote, folder, monkeypatch, fate):
    monkeypatch.setattr(shelf, "STALLED_S", 0.3)
    code = (
        "import sys; from tests.dataset.test_cache import *\n"
        "store = Remote(sys.argv[1]); store.gate.clear()\n"
        "held_cache(store, Path(sys.argv[2])).hold(Remote.entry_of(sys.argv[1], 0))"
    )
    with process(code, remote.uri, str(folder)) as writer:
        wait_for(lambda: list(folder.glob("shards/.writing-*")) and locked(next(folder.glob("shards/.writing-*"))))
        writer.send_signal(fate)
        if fate == signal.SIGKILL:
            writer.wait()
        held_cache(remote, folder).hold(remote.entries[0])
        assert len(remote.read_keys) == 1
        writer.kill()
    held_cache(remote, folder).hold(remote.entries[1])
    assert names(folder) == sorted(entry.sha256 for entry in remote.entries[:2])


@pytest.mark.parametrize("share", [-1, 0.3])
def test_a_full_disk_makes_a_smaller_cache_and_one_warning(remote, tmpfs, caplog, monkeypatch, share):
    monkeypatch.setattr(shelf, "FREE_SHARE", share)
    shards = held_cache(remote, tmpfs)
    for entry in remote.entries:
        shards.hold(entry)
    warnings = [record.message for record in caplog.records if "the disk is full" in record.message]
    assert len(warnings) == 1 and "shrinks to 0.00 GiB" in warnings[0]
    assert remote.entries[-1].sha256 in names(tmpfs) and 1 < len(names(tmpfs)) < 13


def test_a_disk_without_room_for_a_span_is_one_clear_error(remote, tmpfs, monkeypatch):
    monkeypatch.setattr(cache, "ROOM_S", 0.2)
    shards, held = held_cache(remote, tmpfs), []
    with pytest.raises(StoreError, match=r"all cached shards are in use \(.*lower data.span_shards") as refused:
        held += [shards.hold_needed(entry) for entry in remote.entries]
    assert refused.value.exit_code == 5
    del held[:]


def test_a_limit_below_a_span_is_the_same_error(remote, folder, monkeypatch):
    monkeypatch.setattr(cache, "ROOM_S", 0.2)
    shards = held_cache(remote, folder, most=2 * remote.entries[0].bytes)
    held = [shards.hold(entry) for entry in remote.entries[:2]]
    with pytest.raises(StoreError, match="no room for the shards of a span"):
        shards.hold_needed(remote.entries[2])
    letting_go = threading.Timer(0.05, held.clear)
    letting_go.start()
    shards.hold_needed(remote.entries[2])


def test_a_local_dataset_is_hashed_in_full_once_on_a_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    manifest = write_dataset(str(tmp_path / "data"))
    split = open_dataset(str(tmp_path / "data")).split("train")
    split.take(np.arange(3))
    assert (tmp_path / "cache" / "sums" / manifest.shards[0].sha256).exists()
    monkeypatch.setattr(cache, "both_sums", None)
    open_dataset(str(tmp_path / "data")).split("train").take(np.arange(3))
    monkeypatch.undo()
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    flip(tmp_path / "data" / "shards" / f"{manifest.shards[0].sha256}.safetensors")
    with pytest.raises(BadShard, match="does not match its SHA-256"):
        open_dataset(str(tmp_path / "data")).split("train").take(np.arange(3))


def test_the_next_span_is_fetched_while_this_one_is_read(s3, tmp_path, monkeypatch):
    write_dataset(s3, shard_bytes=18_000)
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"], errors=0.05, cuts=0.05) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        split = open_dataset(s3, DataSettings(cache=str(tmp_path), span_shards=3)).split("train")
        order = split.order(0, "discriminator")
        split.take(order.indices(0, 4))
        wait_for(lambda: len(names(tmp_path)) == 6 and not any(name.startswith(".") for name in names(tmp_path)))
        indices = order.indices(0, order.length)
        assert split.take(indices).subject.tolist() == indices.tolist()


def test_a_remote_dataset_larger_than_the_cache_is_read_whole(s3, tmp_path):
    manifest = write_dataset(s3, shard_bytes=18_000)
    most = 5 * max(entry.bytes for entry in manifest.shards)
    split = open_dataset(s3, DataSettings(cache=str(tmp_path), cache_bytes=most, span_shards=2)).split("train")
    order = split.order(0, "discriminator")
    for start in range(0, 2 * order.length, 10):
        indices = order.indices(start, 10)
        assert split.take(indices).subject.tolist() == indices.tolist()
        assert bytes_in(tmp_path) <= most


def test_fetches_at_the_same_moment_never_take_the_same_room(remote, folder):
    entries = remote.entries[:12]
    most = 3 * max(entry.bytes for entry in entries)
    shards, seen, barrier = held_cache(remote, folder, most), [], threading.Barrier(4)

    def fetch(own):
        for entry in own:
            barrier.wait(10)
            shards.fetch_ahead(entry)
            seen.append(bytes_in(folder))

    threads = [threading.Thread(target=fetch, args=(entries[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) <= most


@pytest.fixture
def tmpfs(tmp_path):
    """A file system of 256 kB, full of nothing yet."""
    if os.geteuid() or not shutil.which("mount"):
        pytest.skip("only root can mount a file system")
    path = tmp_path / "small"
    path.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", path], capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


@contextlib.contextmanager
def process(code, *words):
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code, *words], env=environment, **pipes) as running:
        try:
            yield running
        finally:
            running.kill()


def entry_of(uri, number):
    return [entry for entry in open_dataset(uri).manifest.shards if entry.split == "train"][number]


Remote.entry_of = staticmethod(entry_of)


def locked(path):
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    return False


def wait_for(done):
    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until
        time.sleep(0.01)
