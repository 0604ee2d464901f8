"""S3 that fails in passing is asked again, with an end; what will not change is refused at once."""

import os
import threading
import time

import numpy as np
import pytest

from medgan_ray import s3_retry
from medgan_ray.errors import InputError, StoreError
from medgan_ray.store import open_store
from tests.faults import FaultProxy


@pytest.fixture
def proxy(s3, monkeypatch):
    """A store on the real server, seen through a proxy that passes everything until it is told otherwise."""
    # Backoff itself is looked at below; here it would only take time.
    monkeypatch.setattr(s3_retry, "BASE_S", 0.001)
    with FaultProxy(os.environ["AWS_ENDPOINT_URL"]) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", proxy.url)
        proxy.store = open_store(s3)
        yield proxy


@pytest.mark.parametrize("fault", ["error", "throttle", "internal", "cut", "lost"])
def test_every_call_outlives_what_passes(proxy, tmp_path, fault):
    def met(call):
        proxy.next += [fault, fault]
        result = call()
        # What was cut in its head may have said all that matters: a write after "200 OK" is done.
        assert proxy.next in ([], [fault]) if fault == "cut" else not proxy.next
        proxy.next.clear()
        return result

    data = np.random.default_rng(0).bytes(300_000)
    met(lambda: proxy.store.replace("a", data))
    assert met(lambda: proxy.store.read("a")) == data
    assert met(lambda: proxy.store.read_range("a", 5, 9)) == data[5:9]
    assert met(lambda: proxy.store.entry("a")).size == len(data)
    assert met(lambda: proxy.store.exists("a"))
    assert [entry.key for entry in met(lambda: proxy.store.list())] == ["a"]
    assert met(lambda: proxy.store.create("b", b"1"))
    assert not met(lambda: proxy.store.create("b", b"2"))
    _, version = met(lambda: proxy.store.read_version("b"))
    assert met(lambda: proxy.store.swap("b", b"3", version))
    assert not met(lambda: proxy.store.swap("b", b"4", version))
    met(lambda: proxy.store.download("a", tmp_path / "a"))
    met(lambda: proxy.store.upload("c", tmp_path / "a"))
    met(lambda: proxy.store.delete("b"))
    assert proxy.store.read("c") == data and not proxy.store.exists("b")


def test_many_faults_among_many_calls_lose_nothing(proxy):
    proxy.errors, proxy.cuts, proxy.latency_s = 0.2, 0.2, 0.001
    for number in range(40):
        proxy.store.replace(f"{number:02}", b"%d" % number * 1000)
    assert [proxy.store.read(entry.key) for entry in proxy.store.list()] == [b"%d" % n * 1000 for n in range(40)]
    assert proxy.counts["error"] > 5 and proxy.counts["cut"] > 5


def test_a_cut_read_goes_on_where_it_was_cut(proxy):
    data = np.random.default_rng(1).bytes(8 << 20)
    proxy.store.replace("a", data)
    before = len(proxy.requests)
    proxy.next += ["cut"] * 3
    assert b"".join(proxy.store.stream("a")) == data
    assert len(proxy.requests) - before == 4


def test_a_large_file_is_uploaded_in_parts_and_a_part_again(proxy, tmp_path, monkeypatch):
    monkeypatch.setattr("medgan_ray.s3.PART_BYTES", 5 << 20)
    data = np.random.default_rng(2).bytes(12 << 20)
    (tmp_path / "a").write_bytes(data)
    proxy.next += ["pass", "error", "lost"]
    proxy.store.upload("a", tmp_path / "a")
    assert proxy.store.read("a") == data
    parts = [path for method, path in proxy.requests if method == "PUT" and "partNumber" in path]
    assert len(parts) == 5


def test_an_answer_cut_in_its_head_is_no_answer(proxy):
    """Python's HTTP client takes what is left of the head for all of it, and the body for empty."""
    proxy.store.replace("a", b"")
    for call in (proxy.store.list, lambda: proxy.store.entry("a"), lambda: proxy.store.read_version("a")):
        expected = call()
        proxy.next += ["cut"]
        assert call() == expected
    proxy.next += ["cut"]
    assert proxy.store.read("a") == b"" and proxy.next == []


@pytest.mark.parametrize("fault", ["error", "cut"])
def test_attempts_have_an_end(proxy, monkeypatch, fault):
    monkeypatch.setattr(s3_retry, "ATTEMPTS", 4)
    proxy.next += [fault] * 9
    with pytest.raises(StoreError, match=r"S3 failed 4 times in 0 s: .*") as refused:
        proxy.store.entry("a") if fault == "error" else proxy.store.list()
    assert refused.value.exit_code == 5 and len(proxy.requests) == 4


def test_time_has_an_end(proxy, monkeypatch):
    monkeypatch.setattr(s3_retry, "BASE_S", 0.05)
    monkeypatch.setattr(s3_retry, "TOTAL_S", 0.3)
    proxy.store.list()
    proxy.down = True
    began = time.monotonic()
    with pytest.raises(StoreError, match="S3 failed"):
        proxy.store.read("a")
    assert time.monotonic() - began < 1


def test_a_server_that_comes_back_is_met_again(proxy, monkeypatch):
    proxy.store.replace("a", b"1")
    proxy.down = True
    back = threading.Timer(0.3, setattr, (proxy, "down", False))
    back.start()
    monkeypatch.setattr(s3_retry, "BASE_S", 0.05)
    assert proxy.store.read("a") == b"1"
    back.join()


def test_an_address_where_nothing_listens_is_given_up_soon(monkeypatch):
    monkeypatch.setattr(s3_retry, "_answered", set())
    monkeypatch.setattr(s3_retry, "FIRST_S", 0.2)
    for name, value in {"ENDPOINT_URL": "http://127.0.0.1:9", "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    with pytest.raises(StoreError, match="check AWS_ENDPOINT_URL and the network"):
        open_store("s3://scans/x").read("a")


def test_what_will_not_change_is_asked_once(proxy, monkeypatch):
    with pytest.raises(InputError, match="not there"):
        proxy.store.read("none")
    assert len(proxy.requests) == 1
    with pytest.raises(StoreError, match="no such bucket"):
        open_store("s3://nowhere/x").read("a")
    assert not proxy.store.exists("none")
    with pytest.raises(StoreError, match="no such bucket"):
        open_store("s3://nowhere/x").exists("a")
    del proxy.requests[:]
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    for call in (proxy.store.list, lambda: proxy.store.read("a"), lambda: proxy.store.create("a", b"")):
        with pytest.raises(StoreError, match="check key, secret and policy"):
            call()
    assert len(proxy.requests) == 3


def test_waits_double_up_to_a_bound_and_are_drawn_below_it(monkeypatch):
    bounds = []
    monkeypatch.setattr(s3_retry._jitter, "uniform", lambda low, high: bounds.append((low, high)) or 0)
    retry = s3_retry.Retry()
    from botocore.exceptions import EndpointConnectionError

    for _ in range(9):
        error = StoreError("S3 failed")
        error.__cause__ = EndpointConnectionError(endpoint_url="http://nowhere")
        retry.wait(error)
    assert bounds == [(0, bound) for bound in (0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10, 10)]
