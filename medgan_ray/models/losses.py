"""The relativistic pairing objective with zero-centered penalties, one value a pair.

Huang et al., "The GAN is dead; long live the GAN! A modern GAN baseline" (R3GAN, NeurIPS 2024, arXiv 2501.05441).
Pair i is (real_i, fake_i) under one condition_i. With d_i = D(T real_i) - D(T fake_i) and T the augmentation,

    discriminator   softplus(-d_i) + gamma / 2 * (R1_i + R2_i)
    generator       softplus(d_i)

R1_i (at the real) and R2_i (at the fake) are the squared norms, summed over channels and pixels, of the gradient of
D(T x) in x: through T, by images that T has not yet touched. Nothing here takes a mean: callers divide the sums by the
number of pairs in the global batch, so that ranks may hold unequal shares.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Augmentation = Callable[[Tensor], Tensor]


class DiscriminatorTerms(NamedTuple):
    """Values of each pair, all [B] and float32 at least; ``penalty`` is R1 + R2, or zeros in a step without it."""

    adversarial: Tensor
    penalty: Tensor
    real_logits: Tensor
    fake_logits: Tensor


class GeneratorTerms(NamedTuple):
    """Values of each pair, all [B] and float32 at least."""

    adversarial: Tensor
    real_logits: Tensor
    fake_logits: Tensor


def relativistic_discriminator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation, penalty: bool = True
) -> DiscriminatorTerms:
    """Return the terms of the discriminator's step.

    Args:
        discriminator: (images [2 B, C, H, W], condition [2 B, K]) to logits [2 B], without any layer across samples.
        real: [B, C, H, W].
        fake: [B, C, H, W]; its graph, if any, is cut.
        condition: [B, K], shared by the two images of a pair.
        augment: called for the reals, then for the fakes; needs a second derivative.
        penalty: whether to compute R1 + R2, which about doubles the cost of the step.
    """
    real, fake = (images.detach().requires_grad_(penalty) for images in (real, fake))
    logits = discriminator(torch.cat([augment(real), augment(fake)]), torch.cat([condition, condition]))
    real_logits, fake_logits = _at_least_float32(logits).chunk(2)
    adversarial = functional.softplus(fake_logits - real_logits)
    if not penalty:
        return DiscriminatorTerms(adversarial, torch.zeros_like(adversarial), real_logits, fake_logits)
    gradients = torch.autograd.grad(logits.sum(), (real, fake), create_graph=True)
    squares = [_at_least_float32(gradient).square().flatten(1).sum(dim=1) for gradient in gradients]
    return DiscriminatorTerms(adversarial, squares[0] + squares[1], real_logits, fake_logits)


def relativistic_generator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation
) -> GeneratorTerms:
    """Return the terms of the generator's step; gradients flow through ``fake`` alone.

    Freeze the discriminator (``requires_grad_(False)``) around it, which spares the gradients of its weights.
    """
    with torch.no_grad():
        real_logits = _at_least_float32(discriminator(augment(real), condition))
    fake_logits = _at_least_float32(discriminator(augment(fake), condition))
    return GeneratorTerms(functional.softplus(real_logits - fake_logits), real_logits, fake_logits)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
