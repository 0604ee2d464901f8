"""How fast work goes of late: what an earlier attempt did, and how it went an hour ago, doesn't count."""

import collections
import time

FEWEST = 5
"""Pieces of work that a rate is taken over at least, however long they took."""
_POINTS = 50
"""Points that a window is remembered by."""


class Pace:
    """Pieces of work a second over the last ``window_s`` seconds, or the last few pieces if those took longer."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._points: collections.deque[tuple[float, int]] = collections.deque()
        """When how much was done, oldest first; the first is where the rate is taken from."""

    def at(self, done: int) -> float:
        """Take how much is done now; return the rate, 0 while it isn't known. Less than before begins anew."""
        now, points = time.monotonic(), self._points
        if points and done < points[-1][1]:
            points.clear()
        if not points or now - points[-1][0] >= self._window_s / _POINTS:
            points.append((now, done))
        while len(points) > 2 and now - points[1][0] >= self._window_s and done - points[1][1] >= FEWEST:
            points.popleft()
        since, before = points[0]
        return (done - before) / (now - since) if now > since else 0.0
