"""What the discriminator and the generator minimize: three objectives with gradient penalties, one value a pair.

Pair i is (real_i, fake_i) under one condition_i. With r_i = D(T real_i), f_i = D(T fake_i) and T the augmentation:

    relativistic      discriminator   softplus(f_i - r_i)                     penalty R1_i + R2_i
                      generator       softplus(r_i - f_i)
    non_saturating    discriminator   softplus(-r_i) + softplus(f_i)          penalty R1_i
                      generator       softplus(-f_i)
    hinge             discriminator   max(0, 1 - r_i) + max(0, 1 + f_i)       penalty R1_i
                      generator       -f_i

Relativistic: Huang et al., "The GAN is dead; long live the GAN! A modern GAN baseline" (R3GAN, NeurIPS 2024, arXiv
2501.05441). Non-saturating: Goodfellow et al., "Generative adversarial nets" (NeurIPS 2014), with the R1 of Mescheder
et al., "Which training methods for GANs do actually converge?" (ICML 2018) in every k-th step, k times as heavy, as in
StyleGAN2 (Karras et al., CVPR 2020). Hinge: Lim and Ye, "Geometric GAN" (2017); Miyato et al., "Spectral normalization
for generative adversarial networks" (ICLR 2018).

R1_i (at the real) and R2_i (at the fake) are the squared norms, summed over channels and pixels, of the gradient of
D(T x) in x: through T, by images that T has not yet touched. A caller adds gamma / 2 times the penalty. Nothing here
takes a mean: callers divide the sums by the number of pairs in the global batch, so that ranks may hold unequal shares.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

Augmentation = Callable[[Tensor], Tensor]


class DiscriminatorTerms(NamedTuple):
    """Values of each pair, all [B] and float32 at least; ``penalty`` is zeros in a step without it."""

    adversarial: Tensor
    penalty: Tensor
    real_logits: Tensor
    fake_logits: Tensor


class GeneratorTerms(NamedTuple):
    """Values of each pair, all [B] and float32 at least; ``real_logits`` is None where only fakes are judged."""

    adversarial: Tensor
    real_logits: Tensor | None
    fake_logits: Tensor


DiscriminatorLoss = Callable[[nn.Module, Tensor, Tensor, Tensor, Augmentation, bool], DiscriminatorTerms]
"""(discriminator, real, fake, condition, augment, whether to take the penalty) to the discriminator's terms."""
GeneratorLoss = Callable[[nn.Module, Tensor, Tensor, Tensor, Augmentation], GeneratorTerms]
"""(discriminator, real, fake, condition, augment) to the generator's terms."""


class Objective(NamedTuple):
    """The two losses of a game."""

    discriminator: DiscriminatorLoss
    generator: GeneratorLoss


def relativistic_discriminator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation, penalty: bool = True
) -> DiscriminatorTerms:
    """Return the terms of the discriminator's step under the relativistic loss, penalized at reals and fakes.

    Args:
        discriminator: (images [2 B, C, H, W], condition [2 B, K]) to logits [2 B], without any layer across samples.
        real: [B, C, H, W].
        fake: [B, C, H, W]; its graph, if any, is cut.
        condition: [B, K], shared by the two images of a pair.
        augment: called for the reals, then for the fakes; needs a second derivative.
        penalty: whether to compute R1 + R2, which about doubles the cost of the step.
    """
    real, fake = (images.detach().requires_grad_(penalty) for images in (real, fake))
    real_logits, fake_logits = _judged(discriminator, real, fake, condition, augment)
    adversarial = functional.softplus(fake_logits - real_logits)
    squares = _squares(real_logits.sum() + fake_logits.sum(), real, fake) if penalty else torch.zeros_like(adversarial)
    return DiscriminatorTerms(adversarial, squares, real_logits, fake_logits)


def relativistic_generator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation
) -> GeneratorTerms:
    """Return the terms of the generator's step under the relativistic loss; gradients flow through ``fake`` alone.

    Freeze the discriminator (``requires_grad_(False)``) around it, which spares the gradients of its weights.
    """
    with torch.no_grad():
        real_logits = _at_least_float32(discriminator(augment(real), condition))
    fake_logits = _at_least_float32(discriminator(augment(fake), condition))
    return GeneratorTerms(functional.softplus(real_logits - fake_logits), real_logits, fake_logits)


def non_saturating_discriminator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation, penalty: bool = True
) -> DiscriminatorTerms:
    """Return the terms of the discriminator's step under the logistic loss, penalized at reals alone.

    Arguments are those of ``relativistic_discriminator``.
    """
    return _absolute(discriminator, real, fake, condition, augment, penalty, functional.softplus)


def non_saturating_generator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation
) -> GeneratorTerms:
    """Return the terms of the generator's step under the non-saturating loss; ``real`` isn't looked at."""
    fake_logits = _at_least_float32(discriminator(augment(fake), condition))
    return GeneratorTerms(functional.softplus(-fake_logits), None, fake_logits)


def hinge_discriminator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation, penalty: bool = True
) -> DiscriminatorTerms:
    """Return the terms of the discriminator's step under the hinge loss, penalized at reals alone.

    Arguments are those of ``relativistic_discriminator``.
    """
    return _absolute(discriminator, real, fake, condition, augment, penalty, lambda logits: functional.relu(1 + logits))


def hinge_generator(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation
) -> GeneratorTerms:
    """Return the terms of the generator's step under the hinge loss; ``real`` isn't looked at."""
    fake_logits = _at_least_float32(discriminator(augment(fake), condition))
    return GeneratorTerms(-fake_logits, None, fake_logits)


OBJECTIVES: Mapping[str, Objective] = {
    "relativistic": Objective(relativistic_discriminator, relativistic_generator),
    "non_saturating": Objective(non_saturating_discriminator, non_saturating_generator),
    "hinge": Objective(hinge_discriminator, hinge_generator),
}
"""The values of ``train.loss``."""


def _absolute(
    discriminator: nn.Module,
    real: Tensor,
    fake: Tensor,
    condition: Tensor,
    augment: Augmentation,
    penalty: bool,
    cost: Callable[[Tensor], Tensor],
) -> DiscriminatorTerms:
    """Return the terms of a loss of the form cost(-real logit) + cost(fake logit), with R1."""
    real = real.detach().requires_grad_(penalty)
    real_logits, fake_logits = _judged(discriminator, real, fake.detach(), condition, augment)
    adversarial = cost(-real_logits) + cost(fake_logits)
    squares = _squares(real_logits.sum(), real) if penalty else torch.zeros_like(adversarial)
    return DiscriminatorTerms(adversarial, squares, real_logits, fake_logits)


def _judged(
    discriminator: nn.Module, real: Tensor, fake: Tensor, condition: Tensor, augment: Augmentation
) -> tuple[Tensor, Tensor]:
    """Return the logits of reals and fakes, in one pass."""
    logits = discriminator(torch.cat([augment(real), augment(fake)]), torch.cat([condition, condition]))
    real_logits, fake_logits = _at_least_float32(logits).chunk(2)
    return real_logits, fake_logits


def _squares(total: Tensor, *images: Tensor) -> Tensor:
    """Return the squared norm [B] of the gradient of ``total`` in each image, added up over the given batches."""
    gradients = torch.autograd.grad(total, images, create_graph=True)
    return torch.stack([_at_least_float32(each).square().flatten(1).sum(dim=1) for each in gradients]).sum(dim=0)


def _at_least_float32(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()
