"""What every model does when it is opened: a network takes its weights and its place, and sees pixels in [-1, 1]."""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgan_ray.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


def device() -> torch.device:
    """Return where models answer: this process's GPU, else its CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def placed(network: Network, tensors: Mapping[str, Tensor], uri: str) -> Network:
    """Return a network with these weights, all of them and no others, on ``device``, never to be trained.

    Raises:
        InputError: if the weights are another network's, naming ``uri``.
    """
    try:
        network.load_state_dict(tensors)
    except RuntimeError:
        raise InputError("weights are of another network", uri, "train or publish again") from None
    return network.to(device()).requires_grad_(False).eval()


def pixels(stored: NDArray[np.uint16]) -> Tensor:
    """Return stored values 0…65535 as float32 in [-1, 1], on ``device``."""
    return torch.from_numpy(stored.astype(np.float32)).to(device()) / 32767.5 - 1
