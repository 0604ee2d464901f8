"""Signals to the driver of a run: Ctrl-C leaves it at once, SIGTERM asks the workers for a last checkpoint first."""

import contextlib
import queue
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from medgan_ray.errors import Interrupted

Value = TypeVar("Value")


def interruptible(function: Callable[[], Value], stop: Callable[[], None]) -> tuple[Value, bool]:
    """Call ``function`` in a thread, so that signals reach this one at once and Ray installs no handler of its own.

    Args:
        function: the work.
        stop: asks for the work's early end; called on the first SIGTERM, a second one has its usual effect.

    Returns:
        What ``function`` returns, and whether it was asked to stop.

    Raises:
        Interrupted: on Ctrl-C, at once.
    """
    answer: queue.Queue[tuple[Value | None, BaseException | None]] = queue.Queue()

    def call() -> None:
        try:
            answer.put((function(), None))
        except BaseException as error:
            answer.put((None, error))

    threading.Thread(target=call, name="medgan-ray-fit", daemon=True).start()
    with _terminable(stop) as asked:
        try:
            value, error = answer.get()
        except KeyboardInterrupt:
            raise Interrupted("interrupted", "", "the same command goes on from the newest checkpoint") from None
    if error is not None:
        raise error
    return value, asked.is_set()  # type: ignore[return-value]


@contextlib.contextmanager
def _terminable(stop: Callable[[], None]) -> Iterator[threading.Event]:
    """Turn the first SIGTERM into a call of ``stop``; only the main thread can."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = signal.getsignal(signal.SIGTERM) or signal.SIG_DFL

    def handle(number: int, frame: object) -> None:
        signal.signal(number, before)
        asked.set()
        # Not here: the signal may have come while this thread held a lock of Ray's.
        threading.Thread(target=stop, name="medgan-ray-stop", daemon=True).start()

    signal.signal(signal.SIGTERM, handle)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGTERM, before)
