"""What a parent and its decoding processes agree on: what a file may cost, and what becomes of its values."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts


@dataclass(frozen=True)
class Limits:
    """What one file may cost: seconds, and bytes of address space for the process that decodes it.

    Pixels of few samples must be there sooner; see ``child.DECODE_S``.
    """

    file_s: float = 20.0
    memory_bytes: int = 1536 << 20
    file_bytes: int = 1 << 30


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
