"""Which of a network's layers are the earliest: those that see its input first, whatever order they were declared in.

Mo et al., "Freeze the discriminator: a simple baseline for fine-tuning GANs" (FreezeD, 2020): when a discriminator is
taken over from another run, its earliest layers, which see edges and textures, are best left as they are.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from medgan_ray.errors import UsageError


def earliest(network: nn.Module, layers: int, *inputs: Tensor) -> list[str]:
    """Return the names of the parameters of the first so many layers that a forward pass meets.

    A layer is a module with parameters of its own (a convolution with its bias).

    Args:
        network: any module.
        layers: how many.
        inputs: what ``network`` takes; the values don't matter.

    Raises:
        UsageError: if the network has no more layers than that: nothing would be left to train.
    """
    met: dict[str, nn.Module] = {}

    def remember(name: str) -> Callable[[nn.Module, object], None]:
        return lambda module, _: met.update({name: met.get(name, module)})

    own = ((name, each, next(each.parameters(recurse=False), None)) for name, each in network.named_modules())
    hooks = [each.register_forward_pre_hook(remember(name)) for name, each, first in own if first is not None]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    if layers >= len(met):
        advice = f"the discriminator has {len(met)} layers, and some must be trained"
        raise UsageError(f"{layers} frozen layers", "train.freeze_discriminator", advice)
    first = list(met.items())[:layers]
    return [each for name, module in first for each, _ in module.named_parameters(name, recurse=False)]
