"""The verb ``serve``: models over HTTP on Ray Serve, until Ctrl-C.

MEDGAN_API_KEYS=secret medgan-ray serve runs/1 --port 8000
medgan-ray serve runs/1 --write-config serve.yaml     # then: serve deploy serve.yaml
"""

import contextlib
import errno
import logging
import os
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from medgan_ray.artifacts.versions import read_model
from medgan_ray.errors import MedganError, StoreError, UsageError
from medgan_ray.inference.model import model_store
from medgan_ray.on_ray import session
from medgan_ray.on_ray.app import build_app, hashed_keys, named
from medgan_ray.on_ray.settings import ServeSettings
from medgan_ray.on_ray.train import placed
from medgan_ray.verbs.config import Config

NAME = "medgan-ray"
READY_WITHIN_S = 180.0


def serve(
    models: list[str],
    config: Mapping[str, Any] | Config | None = None,
    address: str | None = None,
    *,
    no_auth: bool = False,
    write_config: str | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models over HTTP until Ctrl-C or SIGTERM.

    Args:
        models: URIs of runs, searches or versions.
        config: the configuration; ``serve.host`` and ``serve.port`` say where to listen.
        address: ``host:port`` of a cluster; None reads RAY_ADDRESS and otherwise starts a local instance.
        no_auth: ask for no key; on loopback only.
        write_config: write Ray Serve's YAML there instead, and serve nothing.
        ready: called with the URL once every model answers.

    Raises:
        UsageError: without keys, for ``no_auth`` off loopback, or if the port is in use.
        InputError: if a model is missing or corrupt.
    """
    settings = placed(config).serve
    uris = named(models)
    if no_auth and not session.is_loopback(settings.host):
        raise UsageError("--no-auth works on loopback only", settings.host, "set MEDGAN_API_KEYS instead")
    if write_config:
        _write(Path(write_config), uris, settings, no_auth)
        return
    if not no_auth:
        hashed_keys(settings.keys_file)
    for uri in uris.values():
        read_model(model_store(uri))
    with running(list(uris.values()), settings, address, no_auth) as url:
        if ready:
            ready(url)
        _wait()


@contextlib.contextmanager
def running(uris: list[str], settings: ServeSettings, address: str | None, no_auth: bool) -> Any:
    """Serve models while the block runs; yields the URL, at which every model answers."""
    joined = session.resolve(address) is not None
    if not joined:
        _check_port(settings.host, settings.port)
    with session.local(address, cpus=max(settings.replicas + 1, os.cpu_count() or 1)):
        from ray import serve as ray_serve
        from ray.serve.config import HTTPOptions

        args = {**_args(settings), "models": uris, "no_auth": no_auth}
        try:
            logging.getLogger("ray.serve").setLevel(logging.ERROR)  # its import has set another
            ray_serve.start(http_options=HTTPOptions(host=settings.host, port=settings.port))
            ray_serve.run(build_app(args), name=NAME, route_prefix="/")
            url = f"http://{settings.host}:{settings.port}"
            _until_ready(f"http://{_reachable(settings.host)}:{settings.port}")
            yield url
        finally:
            if joined:
                ray_serve.delete(NAME)
            else:
                ray_serve.shutdown()


def _args(settings: ServeSettings) -> dict[str, Any]:
    return settings.model_dump(mode="json", exclude={"host", "port"}, exclude_unset=True)


def _write(path: Path, uris: dict[str, str], settings: ServeSettings, no_auth: bool) -> None:
    args = {"models": list(uris.values()), **_args(settings), **({"no_auth": True} if no_auth else {})}
    application = {"name": NAME, "route_prefix": "/", "import_path": "medgan_ray:build_app", "args": args}
    content = {
        "proxy_location": "EveryNode",
        "http_options": {"host": settings.host, "port": settings.port},
        "applications": [application],
    }
    head = f"# Ray Serve: 'serve deploy {path.name}'. API keys: MEDGAN_API_KEYS or args.keys_file on the cluster.\n"
    try:
        path.write_text(head + yaml.safe_dump(content, sort_keys=False), "utf-8")
    except OSError as error:
        raise StoreError("cannot write the configuration", str(path), error.strerror or str(error)) from None


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            where = f"{host}:{port}"
            if error.errno == errno.EADDRINUSE:
                raise UsageError("the port is in use", where, "pass --port, or stop what listens there") from None
            raise UsageError(f"cannot listen: {error.strerror}", where, "pass another --host or --port") from None


def _reachable(host: str) -> str:
    return session.LOOPBACK if host in ("0.0.0.0", "::", "localhost") else host  # noqa: S104 - compared, not bound


def _until_ready(url: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    said = "no answer"
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/ready", timeout=5) as answer:  # noqa: S310 - our own http address
                if answer.status == 200:
                    return
        except urllib.error.HTTPError as error:
            said = error.read().decode(errors="replace")[:300]
        except OSError as error:
            said = str(error)
        time.sleep(0.2)
    raise MedganError(f"the service is not ready after {READY_WITHIN_S:.0f} s", url, said)


def _wait() -> None:
    """Wait for Ctrl-C or SIGTERM."""
    ended = threading.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    old = [signal.signal(number, lambda *_: ended.set()) for number in signals]
    try:
        while not ended.wait(1):
            pass
    finally:
        for number, handler in zip(signals, old, strict=True):
            signal.signal(number, handler)
