"""Signals that end a training: the first stops it at a checkpoint, the second has its usual effect."""

import contextlib
import signal
import threading
from collections.abc import Iterator

from medgan_ray.host import Host


class Interruptible:
    """A host that also stops when a signal has come."""

    def __init__(self, host: Host) -> None:
        self._host, self.interrupted = host, False
        self.rank, self.world = host.rank, host.world
        self.report, self.progress, self.log = host.report, host.progress, host.log
        self.should_checkpoint, self.gauges = host.should_checkpoint, host.gauges

    def should_stop(self) -> bool:
        """Say whether a signal has come, or the host wishes to stop."""
        return self.interrupted or self._host.should_stop()

    def interrupt(self) -> None:
        """Have the run stop at its next look."""
        self.interrupted = True


@contextlib.contextmanager
def interruptible(host: Host) -> Iterator[Interruptible]:
    """Turn SIGINT and SIGTERM into a stop at the next checkpoint; a second one has its usual effect."""
    stoppable = Interruptible(host)
    if threading.current_thread() is not threading.main_thread():
        yield stoppable
        return

    old = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, frame: object) -> None:
        stoppable.interrupt()
        signal.signal(number, old[number])

    for number in old:
        signal.signal(number, handle)
    try:
        yield stoppable
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
