"""Stores on a folder and on a real S3 server keep the same promises."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.store import open_store


@pytest.fixture(params=["folder", "s3"])
def store(request, tmp_path):
    return open_store(str(tmp_path) if request.param == "folder" else request.getfixturevalue("s3"))


def test_bytes_come_back_and_keys_are_listed(store, tmp_path_factory):
    store.replace("b/two", b"22")
    store.child("a").replace("one", b"1")
    assert [(entry.key, entry.size) for entry in store.list()] == [("a/one", 1), ("b/two", 2)]
    assert [entry.key for entry in store.list("b")] == ["b/two"]
    assert store.read("a/one") == b"1" and store.exists("b/two") and not store.exists("b")
    path = tmp_path_factory.mktemp("down") / "copy"
    store.download("b/two", path)
    store.upload("c", path)
    assert store.read("c") == b"22"
    store.delete("c")
    store.delete("c")
    assert not store.exists("c")


def test_many_files_are_written_over_what_was_there(store):
    store.replace("a/1", b"old")
    files = [(f"a/{number}", f"{number}".encode()) for number in range(300)]
    store.replace_all(files, through="work")
    assert {entry.key: store.read(entry.key) for entry in store.list()} == dict(files)
    with pytest.raises(UsageError, match="not a key below the store"):
        store.replace_all([("../out", b"")], through="work")


def test_ranges_end_where_the_bytes_do(store):
    store.replace("key", b"0123456789")
    ranges = [(0, 4), (4, 10), (8, 99), (10, 11), (50, 60), (3, 3), (5, 2)]
    assert [store.read_range("key", *each) for each in ranges] == [b"0123", b"456789", b"89", b"", b"", b"", b""]
    with pytest.raises(InputError, match="not there"):
        store.read_range("none", 0, 1)


def test_what_is_written_again_has_another_version(store):
    store.replace("key", b"one")
    before = store.entry("key")
    store.replace("key", b"two")
    assert (before.size, before.version) == (3, before.version) != (3, store.entry("key").version)
    with pytest.raises(InputError, match="not there"):
        store.entry("none")


def test_lists_longer_than_a_page_are_whole(s3, monkeypatch):
    monkeypatch.setattr("medgan_ray.s3.PAGE", 2)
    store = open_store(s3)
    for number in range(5):
        store.create(f"many/{number}", b"")
    assert [entry.key for entry in store.list("many")] == [f"many/{number}" for number in range(5)]
    assert {len(entry.version) for entry in store.list()} == {32}


def test_what_is_created_is_never_overwritten(store):
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda i: store.create("key", b"%d" % i), range(8)))
    assert sum(won) == 1
    assert store.read("key") == b"%d" % won.index(True)


def test_no_update_of_a_pointer_is_lost(store):
    assert store.read_version("n") == (None, None)
    assert store.swap("n", b"0", None)
    assert not store.swap("n", b"9", None)
    barrier = threading.Barrier(3)

    def add_five():
        barrier.wait()
        for _ in range(5):
            while True:
                data, version = store.read_version("n")
                if store.swap("n", b"%d" % (int(data) + 1), version):
                    break

    threads = [threading.Thread(target=add_five) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("n") == b"15"


def test_a_missing_key_is_unusable_input(store):
    with pytest.raises(InputError, match="not there"):
        store.read("none")


def test_keys_stay_below_the_root(store):
    for key in ("../up", "/etc/passwd", "a/../../b"):
        with pytest.raises(UsageError):
            store.read(key)


def test_a_missing_bucket_and_a_wrong_key_are_named(s3, monkeypatch):
    with pytest.raises(StoreError, match=r"no such bucket \(s3://nowhere/x/a\)"):
        open_store("s3://nowhere/x").read("a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="check key, secret and policy"):
        open_store(s3).list()


def test_an_unknown_scheme_is_refused():
    with pytest.raises(UsageError, match="unknown kind of store 'gs'"):
        open_store("gs://bucket")


def test_a_local_file_being_written_is_never_listed(tmp_path):
    (tmp_path / ".writing-x").write_bytes(b"half")
    assert open_store(str(tmp_path)).list() == []
