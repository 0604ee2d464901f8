"""MONAI's Generator and Discriminator, of the widths of its MedNIST example, as networks of medgan-ray."""

import torch
from monai.networks.nets import Discriminator, Generator
from torch import Tensor, nn

from medgan_ray.models.catalog import ModelSettings, Networks, Shape


def generator(latent: int, shape: Shape) -> nn.Module:
    """Return a generator from noise [B, latent] to images [B, C, H, W] in [-1, 1]."""
    start = (latent, shape.height // 8, shape.width // 8)
    network = Generator(latent, start, channels=(32, 16, 8, shape.channels), strides=(2, 2, 2, 1))
    network.conv.add_module("activation", nn.Tanh())
    return network


def discriminator(shape: Shape) -> nn.Module:
    """Return a discriminator from images [B, C, H, W] to logits [B, 1]."""
    return Discriminator(
        tuple(shape), (8, 16, 32, 64, 1), (2, 2, 2, 2, 1), num_res_units=1, kernel_size=5, dropout=None, last_act=None
    )


class _Unconditional(nn.Module):
    """A generator that doesn't look at the condition [B, 0]."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, noise: Tensor, condition: Tensor) -> Tensor:
        images: Tensor = self.network(noise)
        return images


class _Judge(_Unconditional):
    """A discriminator that doesn't, with logits [B]."""

    def forward(self, images: Tensor, condition: Tensor) -> Tensor:
        return super().forward(images, condition).squeeze(1)


def build(settings: ModelSettings, shape: Shape, condition_width: int, seed: int) -> Networks:
    """Return the two networks, weights a pure function of the arguments."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Networks(_Unconditional(generator(settings.latent, shape)), _Judge(discriminator(shape)))
