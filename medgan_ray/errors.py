"""Every way in which medgan-ray refuses: one tree, with exit code and HTTP status.

    MedganError            1   500   unexpected: a bug, asks for a report
    ├── UsageError         2   400   wrong use or configuration
    ├── GateRefusal        3   409   refused by the release gate
    ├── InputError         4   422   input unusable: missing, empty, corrupt
    │   ├── BadShard       4   422   a shard of a dataset is missing or corrupt
    │   │   └── ShardSkipped 4 422   the run goes on without it from its newest checkpoint, once it is started again
    │   ├── BrokenInput    4   400   what was sent cannot be parsed or decoded
    │   ├── InputTooLarge  4   413   more bytes, pixels, memory or seconds than one may cost
    │   └── UnknownType    4   415   a type that is not taken
    ├── StoreError         5   503   store or network: bucket, credentials, exhausted retries
    ├── TrainingStopped    6   500   training failed by a guard
    └── Interrupted      130   503   interrupted; what was committed is kept

Each reads as one line, ``WHAT (WHERE): WHAT TO DO``.
"""

import difflib
from collections.abc import Iterable


class MedganError(Exception):
    """A refusal that a person can act on.

    Args:
        what: what went wrong, without a full stop.
        where: the file, key or address it concerns; empty if there is none.
        fix: what to do about it.
    """

    exit_code = 1
    http_status = 500

    def __init__(self, what: str, where: str = "", fix: str = "") -> None:
        super().__init__(what, where, fix)
        self.what, self.where, self.fix = what, where, fix

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        advice = f": {self.fix}" if self.fix else ""
        return " ".join(f"{self.what}{place}{advice}".split())


class UsageError(MedganError):
    """Wrong use or configuration."""

    exit_code = 2
    http_status = 400


class GateRefusal(MedganError):
    """The release gate said no."""

    exit_code = 3
    http_status = 409


class InputError(MedganError):
    """What was given to read is missing, empty or corrupt."""

    exit_code = 4
    http_status = 422


class BadShard(InputError):
    """A shard is missing or corrupt in the dataset itself, not only in a cache."""


class ShardSkipped(BadShard):
    """A bad shard is recorded in the run, which goes on without it from its newest checkpoint when started again."""


class BrokenInput(InputError):
    """What was sent cannot be parsed or decoded."""

    http_status = 400


class InputTooLarge(InputError):
    """What was sent takes more bytes, pixels, memory or seconds than one may cost."""

    http_status = 413


class UnknownType(InputError):
    """What was sent is of a type that is not taken."""

    http_status = 415


class StoreError(MedganError):
    """The store or the network failed after its retries."""

    exit_code = 5
    http_status = 503


class TrainingStopped(MedganError):
    """A guard ended training."""

    exit_code = 6
    http_status = 500


class Interrupted(MedganError):
    """The user or the scheduler asked to stop; state is kept."""

    exit_code = 130
    http_status = 503


def nearest(name: str, known: Iterable[str]) -> str:
    """Return advice that names the known spelling nearest to ``name``, or all that are known."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
