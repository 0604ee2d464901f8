"""Set this process up for training: settings of CPU and GPU that change speed, and no result of a CPU."""

import ctypes
import ctypes.util
import platform

import torch

_OPTIONS = {  # mallopt(3): option to bytes
    -3: 2**25,  # M_MMAP_THRESHOLD: blocks below come from the heap; glibc refuses more than 32 MiB
    -1: 2**31 - 1,  # M_TRIM_THRESHOLD: free memory that the heap keeps
    -2: 2**28,  # M_TOP_PAD: what the heap grows by
}


def prepare(exact: bool = False) -> None:
    """Flush denormal numbers to zero, and keep freed memory in the process; on a GPU, multiply float32 in TF32.

    TF32 has 10 bits of fraction: what bfloat16 leaves in float32 (penalties, optimizers' inputs) is none the worse for
    it. With ``exact``, float32 stays float32.

    glibc hands large blocks back to the kernel at once, so that every activation of a step is paged in afresh: keeping
    them makes steps of small networks 17 to 20 % faster (measured on 64 px, batch 32).
    """
    torch.set_flush_denormal(True)
    if torch.cuda.is_available():
        for place in (torch.backends.cuda.matmul, getattr(torch.backends.cudnn, "conv")):  # noqa: B009 - not in its types
            place.fp32_precision = "ieee" if exact else "tf32"
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(ctypes.util.find_library("c"))
        for option, count in _OPTIONS.items():
            libc.mallopt(option, count)
