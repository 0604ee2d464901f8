"""A few threads that fetch and open shards before they are needed: what is needed now goes first.

Each works on one shard at a time, so no more than ``THREADS`` shards are in flight in a process.
"""

import functools
import itertools
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

THREADS = 4

Value = TypeVar("Value")


class Threads:
    """Daemon threads (a process that ends doesn't wait for a store that hangs) that work off calls."""

    def __init__(self, count: int) -> None:
        self._calls: queue.PriorityQueue[tuple[bool, int, Future[Any], Callable[[], Any]]] = queue.PriorityQueue()
        self._numbers = itertools.count()
        for number in range(count):
            threading.Thread(target=self._work, name=f"shards-{number}", daemon=True).start()

    def submit(self, call: Callable[[], Value], later: bool = False) -> "Future[Value]":
        """Have ``call`` done; ``later``: after all that are not."""
        future: Future[Value] = Future()
        self._calls.put((later, next(self._numbers), future, call))
        return future

    def _work(self) -> None:
        while True:
            _, _, future, call = self._calls.get()
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except BaseException as error:  # it is raised where the result is asked for
                    future.set_exception(error)
            del future, call


@functools.cache
def threads() -> Threads:
    """Return the threads of this process."""
    return Threads(THREADS)
