"""Messages between the driver and the ranks of a run through Ray's key-value store: progress, lines, a wish to stop.

No actor, no port: a rank puts, the driver polls. A board lives as long as one call of ``train``.
"""

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

from medgan_ray import errors
from medgan_ray.host import Host
from medgan_ray.on_ray import session

POLL_S = 0.3
_SPACE = b"medgan-ray"


class Board:
    """One run's messages. Picklable: ranks and driver each hold one of the same name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def put(self, key: str, value: Any) -> None:
        """Write a JSON value under ``key``, over whatever was there."""
        session.private("kv_put")(self._key(key), json.dumps(value).encode(), overwrite=True, namespace=_SPACE)

    def get(self, key: str) -> Any:
        """Return the value under ``key``, or None."""
        data = session.private("kv_get")(self._key(key), namespace=_SPACE)
        return None if data is None else json.loads(data)

    def send(self, event: dict[str, Any]) -> None:
        """Queue an event for the driver; events of one rank keep their order, also over its restarts."""
        self.put(f"event/{time.time_ns():020d}", event)

    def take(self) -> list[dict[str, Any]]:
        """Return the queued events in order, and remove them."""
        events = []
        for key in sorted(session.private("kv_list")(self._key("event/"), namespace=_SPACE)):
            data = session.private("kv_get")(key, namespace=_SPACE)
            session.private("kv_delete")(key, namespace=_SPACE)
            if data is not None:
                events.append(json.loads(data))
        return events

    def fail(self, error: errors.MedganError) -> None:
        """Keep a refusal: the run ends with it, and isn't tried again."""
        self.put("refusal", [type(error).__name__, error.what, error.where, error.fix])

    def refusal(self) -> errors.MedganError | None:
        """Return the refusal that a rank has kept, if any."""
        kept = self.get("refusal")
        if kept is None:
            return None
        kind = getattr(errors, kept[0], errors.MedganError)
        error: errors.MedganError = kind(*kept[1:])
        return error

    def clear(self) -> None:
        """Remove all that was written."""
        for key in session.private("kv_list")(self._key(""), namespace=_SPACE):
            session.private("kv_delete")(key, namespace=_SPACE)

    @contextlib.contextmanager
    def relayed(self, host: Host | None) -> Iterator[None]:
        """Relay events to the driver's host, and its wish to stop to the ranks, until the block ends."""
        if host is None:
            yield
            self.clear()
            return
        done = threading.Event()

        def relay() -> None:
            while not done.wait(POLL_S):
                self._relay(host)

        thread = threading.Thread(target=relay, name="medgan-ray-relay", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._relay(host)
            self.clear()

    def _relay(self, host: Host) -> None:
        for event in self.take():
            kind = event.pop("kind")
            if kind == "report":
                host.report(**event)
            elif kind == "progress":
                host.progress(**event)
            else:
                host.log(event["text"])
        if host.should_stop() and self.get("stop") is None:
            self.put("stop", True)

    def _key(self, key: str) -> bytes:
        return f"{self.name}/{key}".encode()
