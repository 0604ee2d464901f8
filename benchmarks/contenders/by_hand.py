"""A GAN's loop as a good engineer writes it by hand for one machine: plain PyTorch, no engine, everything in memory.

Networks are those of medgan_ray.models.catalog; the mathematics is that of our defaults: relativistic logistic loss,
R1 + R2 in every 4th step and 4 times as heavy, Adam (fused) for both networks, a moving average of the generator,
shifts of both kinds of image by whole pixels, bfloat16 where the processor has it, channels last. Other reals for the
generator than for the discriminator.
"""

import copy
from typing import Any

import torch
from steps import stored
from torch import Tensor
from torch.nn.functional import softplus

from medgan_ray.models.catalog import ModelSettings, Shape, build

PENALTY_EVERY, LARGEST_SHIFT = 4, 3


class Loop:
    """Networks, optimizers and data of a training."""

    def __init__(self, cell: dict[str, Any]) -> None:
        self.cell, self.steps = cell, 0
        settings = ModelSettings(
            name=cell["name"],
            latent=cell["latent"],
            generator_width=cell.get("width"),
            discriminator_width=cell.get("width"),
        )
        networks = build(settings, Shape(1, cell["size"], cell["size"]), 0, 0)
        self.generator, self.discriminator = (each.to(memory_format=torch.channels_last) for each in networks)
        self.average = copy.deepcopy(self.generator).requires_grad_(False)
        self.for_generator, self.for_discriminator = (
            torch.optim.Adam(each.parameters(), lr=1e-3, betas=(0.0, 0.99), eps=1e-8, fused=True)
            for each in (self.generator, self.discriminator)
        )
        self.images = torch.from_numpy(stored(cell)).float().div_(32767.5).sub_(1)
        self.order, self.taken = torch.randperm(len(self.images)), 0
        self.nothing = torch.zeros(cell["batch"], 0)
        self.bfloat16 = cell["precision"] == "auto" and torch.cpu._is_avx512_bf16_supported()
        self.losses = torch.zeros(2)

    def step(self) -> None:
        """Train the discriminator, then the generator."""
        batch, gamma, latent = self.cell["batch"], self.cell["gamma"], self.cell["latent"]
        penalized = self.steps % PENALTY_EVERY == 0 and gamma > 0
        self.steps += 1

        real = self._reals().requires_grad_(penalized)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            with torch.no_grad():
                fake = self.generator(torch.randn(batch, latent), self.nothing).float()
            fake.requires_grad_(penalized)
            logits = self.discriminator(self._augmented(torch.cat([real, fake])), self.nothing.repeat(2, 1))
            for_real, for_fake = logits.float().chunk(2)
            loss = softplus(for_fake - for_real).mean()
            if penalized:
                slopes = torch.autograd.grad(logits.sum(), (real, fake), create_graph=True)
                penalty = sum(slope.float().square().sum() for slope in slopes) / batch
                loss = loss + PENALTY_EVERY * gamma / 2 * penalty
        self.for_discriminator.zero_grad(set_to_none=True)
        loss.backward()
        self.for_discriminator.step()
        self.losses[0] += loss.detach()

        real = self._reals()
        self.discriminator.requires_grad_(False)
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            fake = self.generator(torch.randn(batch, latent), self.nothing).float()
            with torch.no_grad():
                for_real = self.discriminator(self._augmented(real), self.nothing).float()
            for_fake = self.discriminator(self._augmented(fake), self.nothing).float()
            loss = softplus(for_real - for_fake).mean()
        self.for_generator.zero_grad(set_to_none=True)
        loss.backward()
        self.for_generator.step()
        self.discriminator.requires_grad_(True)
        self.losses[1] += loss.detach()

        with torch.no_grad():
            torch._foreach_lerp_(list(self.average.parameters()), list(self.generator.parameters()), 0.001)

    def log(self) -> list[float]:
        """Return the mean losses since the last call."""
        means = (self.losses / self.cell["steps"]).tolist()
        self.losses.zero_()
        return means

    def _reals(self) -> Tensor:
        batch = self.cell["batch"]
        if self.taken + batch > len(self.order):
            self.order, self.taken = torch.randperm(len(self.images)), 0
        self.taken += batch
        rows = self.order[self.taken - batch : self.taken]
        return self.images[rows].contiguous(memory_format=torch.channels_last)

    def _augmented(self, images: Tensor) -> Tensor:
        """Return images, a share of them shifted by up to 3 pixels down and across, borders replicated."""
        chance = self.cell["augment"]
        if not chance:
            return images
        count, _, height, width = images.shape
        moved = torch.rand(count, 1) < chance
        steps = torch.randint(-LARGEST_SHIFT, LARGEST_SHIFT + 1, (count, 2)) * moved
        rows = (torch.arange(height) + steps[:, :1]).clamp(0, height - 1)
        columns = (torch.arange(width) + steps[:, 1:]).clamp(0, width - 1)
        images = images.gather(2, rows[:, None, :, None].expand(-1, images.shape[1], -1, width))
        return images.gather(3, columns[:, None, None, :].expand(-1, images.shape[1], height, -1))
