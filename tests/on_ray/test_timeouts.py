"""Timeouts: what the configuration gives stands over the environment, and that over what is usual."""

import os

import pytest

from medgan_ray.on_ray import session, timeouts
from medgan_ray.on_ray.settings import RaySettings

HANG = "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"


def test_the_configuration_stands_over_the_environment_for_as_long_as_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(HANG, "99")
    monkeypatch.delenv(timeouts.START, raising=False)
    with timeouts.applied(RaySettings(worker_health_check_timeout_s=30), elastic=False):
        assert float(os.environ[HANG]) == 30
        assert float(os.environ[timeouts.START]) == timeouts.WAITS_FOR_NODES_S
    assert os.environ[HANG] == "99"
    assert timeouts.START not in os.environ
    with timeouts.applied(RaySettings(), elastic=True):
        assert os.environ[HANG] == "99"
        assert float(os.environ[timeouts.START]) == timeouts.FITS_S
    monkeypatch.setenv(timeouts.START, "7")
    with timeouts.applied(RaySettings(), elastic=True):
        assert os.environ[timeouts.START] == "7"


def test_defaults_of_the_configuration_are_those_of_the_environment() -> None:
    settings = RaySettings()
    assert float(timeouts.TRAIN[HANG]) == settings.worker_health_check_timeout_s
    assert float(timeouts.TRAIN["RAY_TRAIN_COLLECTIVE_TIMEOUT_S"]) == settings.collective_timeout_s


def test_a_hang_is_noticed_within_ten_seconds_and_a_short_cut_loses_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*timeouts.TRAIN, *timeouts.CORE):
        monkeypatch.delenv(name, raising=False)
    before = session.prepare(loopback=True)
    try:
        polls = float(os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"])
        assert float(os.environ[HANG]) + 4 * polls < 10
        core = {name: int(os.environ[name]) for name in timeouts.CORE}
        assert core["RAY_health_check_timeout_ms"] * core["RAY_health_check_failure_threshold"] > 20_000
    finally:
        session.restore(before)
