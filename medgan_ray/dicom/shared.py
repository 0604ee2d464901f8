"""Memory through which a decoding process hands over values: a pipe would cost two more copies of each.

It is divided into slots. The parent says with each request which one the values go into, and asks for no more files
ahead than there are slots, so that it has copied what lies in one before the next file gets it. The memory can't be
made smaller: a process that was taken over could end its parent that way (SIGBUS).
"""

import fcntl
import mmap
import os

import numpy as np
from numpy.typing import NDArray

SLOTS = 4
"""So many files a process may be ahead of its parent."""
SLOT_BYTES = 4 << 20
"""What is larger goes through the pipe."""
NONE = -1
"""Stands for a descriptor where a system has no such memory."""


class Slots:
    """The parent's end: it reads only."""

    def __init__(self) -> None:
        self.descriptor = NONE
        if hasattr(os, "memfd_create"):  # Linux alone
            self.descriptor = os.memfd_create("values", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            os.ftruncate(self.descriptor, SLOTS * SLOT_BYTES)
            seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, seals)
            memory = mmap.mmap(self.descriptor, SLOTS * SLOT_BYTES, prot=mmap.PROT_READ)
            self._bytes = np.frombuffer(memory, np.uint8)

    def copy(self, slot: int, size: int) -> NDArray[np.uint8]:
        """Return a copy of the first bytes of a slot: the process may change them at any time.

        Raises:
            ValueError: if there are not so many.
        """
        if self.descriptor == NONE or not 0 <= size <= SLOT_BYTES:
            raise ValueError("a reply that is none")
        return self._bytes[slot * SLOT_BYTES :][:size].copy()

    def close(self) -> None:
        """Close the descriptor; the memory goes when nobody looks at it."""
        if self.descriptor != NONE:
            os.close(self.descriptor)


def put(memory: mmap.mmap | None, slot: int, values: NDArray[np.generic]) -> bool:
    """Write values into a slot of a decoding process's memory, if there is any and they fit; say whether they did."""
    if memory is None or values.nbytes > SLOT_BYTES:
        return False
    np.frombuffer(memory, values.dtype, values.size, slot * SLOT_BYTES).reshape(values.shape)[...] = values
    return True


def opened(descriptor: int) -> mmap.mmap | None:
    """Return a decoding process's end of the memory, or None if there is none."""
    return None if descriptor == NONE else mmap.mmap(descriptor, SLOTS * SLOT_BYTES)
