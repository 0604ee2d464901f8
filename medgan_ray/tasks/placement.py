"""Where a task's networks compute and how: device, arithmetic, memory layout, and pixels as they see them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan_ray.models.augment import Augment


class Placement:
    """A device with the arithmetic that ``train.precision`` names.

    Attributes:
        device: the process's GPU, else its CPU.
        dtype: the type of parameters.
        autocast: whether to compute in bfloat16 where that is safe.
    """

    def __init__(self, precision: str) -> None:
        """Look at the machine: a CPU without bfloat16 instructions emulates them many times slower, so auto looks."""
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda", torch.cuda.current_device()) if gpu else torch.device("cpu")
        self.dtype, self.autocast = torch.float32, precision == "bfloat16"
        if precision == "auto":
            self.autocast = torch.cuda.is_bf16_supported() if gpu else torch.cpu._is_avx512_bf16_supported()
        elif precision == "float64":
            self.dtype = torch.float64

    def place(self, network: nn.Module) -> None:
        """Move a network here, convolutions' weights channels last, which the kernels are fastest on.

        ``contiguous`` leaves weights of one channel as they are, which are laid out both ways; the layer behind them
        then answers channels first, and its backward pass takes twice as long.
        """
        network.to(self.device, self.dtype)
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.to(memory_format=torch.channels_last)

    def tensor(self, values: NDArray[np.float32]) -> Tensor:
        """Return values as a tensor here."""
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, self.dtype)

    def augmented(
        self, augment: Augment, images: Tensor, positions: NDArray[np.int64], probability: float, *keys: str | int
    ) -> Tensor:
        """Return images [n, C, H, W] under augmentation; image i depends on (keys, positions[i]) and its pixels."""
        noise = augment.draw_noise(positions, images.shape[1], *keys)
        draws = self.tensor(augment.draw(positions, *keys))
        return augment.apply(images, draws, probability, None if noise is None else self.tensor(noise))

    def images(self, stored: NDArray[np.uint16]) -> Tensor:
        """Return stored values 0…65535 as images in [-1, 1]."""
        images = self.tensor(stored.astype(np.float32))
        return images.mul_(2 / 65535).sub_(1).contiguous(memory_format=torch.channels_last)
