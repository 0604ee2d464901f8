"""The service as a Ray Serve application: ``serve.run(build_app({"models": "runs/1"}))``.

Also ``serve run medgan_ray:build_app models=runs/1``, and the file that ``medgan-ray serve --write-config`` writes.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan_ray.artifacts import registry
from medgan_ray.errors import InputError, UsageError
from medgan_ray.on_ray import session
from medgan_ray.on_ray.gate import hash_key
from medgan_ray.on_ray.settings import ServeSettings
from medgan_ray.on_ray.train import absolute

if TYPE_CHECKING:
    from ray.serve import Application

KEYS = "MEDGAN_API_KEYS"
QUEUE = 10_000
"""Requests that reach a replica at a time; it admits or refuses each at once, so Serve's own queue stays empty."""


def build_app(args: Mapping[str, Any]) -> "Application":
    """Return a Serve application.

    Args:
        args: ``models``: one URI (a run, a search, ``REGISTRY/NAME[@N]``), several with commas between, or a list;
            ``no_auth``: ask for no key and answer loopback alone; and any option of the section ``serve``. API keys
            come from MEDGAN_API_KEYS (commas between) and from ``keys_file``, on the machine where this runs; only
            their hashes travel.

    Raises:
        UsageError: without models or keys, or for an unknown option.
        InputError: for a version that is not there.
    """
    given = dict(args)
    # One version for all replicas, also for one that starts after another was promoted.
    uris = {name: registry.pinned(uri) for name, uri in named(given.pop("models", ())).items()}
    no_auth = str(given.pop("no_auth", False)).lower() in ("true", "1", "yes")
    settings = ServeSettings.parse(given, where="serve")
    keys = () if no_auth else hashed_keys(settings.keys_file)
    before = session.prepare(session.on_loopback())
    try:
        from ray import serve

        deployment = serve.deployment(
            name="medgan-ray",
            num_replicas=settings.replicas,
            max_ongoing_requests=QUEUE,
            ray_actor_options={"num_cpus": 1, "num_gpus": settings.gpus_per_replica},
            graceful_shutdown_timeout_s=10,
        )(serve.ingress()(Replica))
        found: Application = deployment.bind(uris, keys, settings.max_images, settings.wait_s)
        return found
    finally:
        session.restore(before)


class Replica:
    """One process that holds the models and answers."""

    def __init__(self, uris: dict[str, str], keys: tuple[str, ...], max_images: int, wait_s: float) -> None:
        session.keep_replica_on_loopback()
        from medgan_ray.on_ray.service import Models

        self._models, self._keys, self._limits = Models(uris), keys, (max_images, wait_s)

    def __serve_build_asgi_app__(self) -> Any:
        """Return the ASGI application, as Serve asks for it after the constructor."""
        from medgan_ray.on_ray.service import build

        return build(self._models, self._keys, *self._limits, proxied=True)


def named(models: str | list[str] | tuple[str, ...]) -> dict[str, str]:
    """Return URIs by name, the last part of each.

    Raises:
        UsageError: for none, or two of one name.
    """
    uris = [each.strip() for each in models.split(",")] if isinstance(models, str) else list(models)
    found: dict[str, str] = {}
    for uri in filter(None, uris):
        name = registry.split(uri)[0].rsplit("/", 1)[-1]
        if name in found:
            raise UsageError(f"two models are called {name!r}", uri, "serve them apart, or rename one")
        found[name] = absolute(uri)
    if not found:
        raise UsageError("no models", "models", "give a run, a search or a version")
    return found


def hashed_keys(keys_file: str | None) -> tuple[str, ...]:
    """Return the SHA-256 of each API key in MEDGAN_API_KEYS and in a file.

    Raises:
        InputError: if the file can't be read.
        UsageError: if there is no key at all.
    """
    keys = os.environ.get(KEYS, "").split(",")
    if keys_file:
        try:
            keys += Path(keys_file).read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError("cannot read the API keys", keys_file, str(error)) from None
    found = tuple(sorted({hash_key(key.strip()) for key in keys if key.strip()}))
    if not found:
        raise UsageError("no API keys", KEYS, "set it, or serve.keys_file, or pass --no-auth on loopback")
    return found
