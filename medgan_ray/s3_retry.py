"""When and how often a call to S3 is tried again: exponential backoff with full jitter, and an end.

Tried again: throttling, answers of 5xx, timeouts, connections that could not be made or were dropped. Not: missing keys
and buckets, wrong credentials, anything else that will be the same the next time. Each wait is drawn evenly between
0 and a bound that doubles (Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015).
"""

import secrets
import time

from medgan_ray.errors import StoreError

ATTEMPTS = 20
TOTAL_S = 120.0
"""Seconds from the first failure to giving up: a store that restarts may take half a minute."""
FIRST_S = 8.0
"""The same where nothing has answered this process yet: then the address is likely wrong."""
BASE_S = 0.2
LONGEST_S = 10.0

_THROTTLED = frozenset(
    ("SlowDown", "Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequests")
)
_PASSING = _THROTTLED | {
    "RequestTimeout",
    "InternalError",
    "ServiceUnavailable",
    "ConditionalRequestConflict",
    "OperationAborted",
}
_DROPPED = ("ConnectionError", "HTTPClientError", "IncompleteReadError", "ResponseParserError", "CutAnswer")
"""Names of errors, and of those above them, for what got no whole answer; botocore is only imported when needed."""

_jitter = secrets.SystemRandom()
_answered: set[str] = set()
"""Holds a word once an answer of any kind has come."""


class CutAnswer(Exception):
    """An answer without what every whole one has: the connection was cut in its head."""


class Retry:
    """The attempts at one call: ``wait`` after each failure, until it raises that failure."""

    def __init__(self) -> None:
        self._failures, self._began, self._progress = 0, 0.0, 0
        self.unanswered = False
        """An attempt ended without an answer, or with 5xx: it may have been carried out all the same."""

    def wait(self, error: StoreError, progress: int = 0) -> None:
        """Wait before the next attempt.

        Args:
            error: how S3 failed; raised where trying again will not help or there is no end to it.
            progress: bytes that have come so far; where there are more than before, attempts are counted anew.
        """
        cause = error.__cause__
        if cause is None or not passing(cause):
            raise error
        if status_of(cause):
            _answered.add("S3")
        self.unanswered = self.unanswered or status_of(cause) == 0 or status_of(cause) >= 500
        now = time.monotonic()
        if not self._failures or progress > self._progress:
            self._failures, self._began, self._progress = 0, now, progress
            if progress:
                _answered.add("S3")
        self._failures += 1
        pause = _jitter.uniform(0, min(LONGEST_S, BASE_S * 2 ** (self._failures - 1)))
        total = TOTAL_S if _answered else FIRST_S
        if self._failures >= ATTEMPTS or now + pause - self._began > total:
            tries = f"S3 failed {self._failures} times in {now - self._began:.0f} s: {cause}"
            raise StoreError(tries, error.where, error.fix) from cause
        time.sleep(pause)


def succeeded() -> None:
    """Note that S3 has answered this process."""
    _answered.add("S3")


def passing(error: BaseException) -> bool:
    """Say whether the same call may work the next time."""
    status = status_of(error)
    if status:
        return code_of(error) in _PASSING or status == 429 or (status >= 500 and status != 501)
    if "CERTIFICATE" in str(error):
        return False
    return any(kind.__name__ in _DROPPED for kind in type(error).__mro__)


def code_of(error: BaseException | None) -> str:
    """Return S3's error code behind a failure; empty if S3 gave none."""
    response = _response(error)
    return str(response.get("Error", {}).get("Code", "")) if response else ""


def status_of(error: BaseException | None) -> int:
    """Return the HTTP status behind a failure; 0 if no answer came."""
    response = _response(error)
    return int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)) if response else 0


def _response(error: BaseException | None) -> dict[str, dict[str, str]] | None:
    while error is not None:
        response = getattr(error, "response", None)
        if isinstance(response, dict):
            return response
        error = error.__cause__
    return None
