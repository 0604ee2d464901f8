"""What a parent and its decoding processes agree on: what a file may cost, and what becomes of its values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts

WALL_TIMES = 5


@dataclass(frozen=True)
class Limits:
    """What one file may cost: processor seconds, and bytes of address space for the process that decodes it.

    Pixels of few samples must be there sooner; see ``child.DECODE_S``. Seconds on the clock are limited too, for files
    that hang, and more generously: on a machine that others keep busy no good scan may be lost.
    """

    file_s: float = 20.0
    memory_bytes: int = 1536 << 20
    file_bytes: int = 1 << 30

    @property
    def wall_s(self) -> float:
        """Seconds on the clock after which a file is given up."""
        return self.file_s * WALL_TIMES


Then = Callable[[Facts, NDArray[Any]], tuple[NDArray[Any], list[dict[str, Any]]]]
"""Takes a scan's facts and values [frames, H, W]; returns what to hand over, [frames, h, w], and a note a frame."""


@dataclass(frozen=True)
class Step:
    """What a decoding process does with the values of a scan before it hands them over.

    Attributes:
        module: has a function ``begin`` that makes, of ``told``, the ``Then`` that each scan goes through; empty: none.
        told: plain data for that module.
    """

    module: str = ""
    told: dict[str, Any] = field(default_factory=dict)
