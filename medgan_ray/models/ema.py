"""The running average of a generator, which is what samples are taken from."""

import torch
from torch import Tensor, nn


@torch.no_grad()
def update(average: nn.Module, module: nn.Module, beta: float) -> None:
    """Move ``average`` towards ``module``: average = module + beta * (average - module); buffers are copied.

    Args:
        average: a copy of ``module`` in structure, changed in place.
        module: what is averaged.
        beta: share of the old average that stays, 0 (a copy) to 1.
    """
    old: list[Tensor] = list(average.parameters())
    new = [theirs.to(mine.dtype) for mine, theirs in zip(old, module.parameters(), strict=True)]
    torch._foreach_lerp_(old, new, 1 - beta)
    for mine, theirs in zip(average.buffers(), module.buffers(), strict=True):
        mine.copy_(theirs)
