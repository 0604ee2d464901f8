"""Named tensors to safetensors bytes and back, and the digest that names weights."""

import hashlib
from collections.abc import Mapping

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from medgan_ray.errors import InputError


def to_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """Return safetensors bytes: the same bytes for the same names and values, on any device."""
    plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    return safetensors.torch.save(plain)


def from_bytes(data: bytes, where: str) -> dict[str, Tensor]:
    """Return the tensors that safetensors bytes hold.

    Raises:
        InputError: if the bytes are not safetensors.
    """
    try:
        return safetensors.torch.load(data)
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise InputError("not a safetensors file", where, str(error)) from None


def weights_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 over sorted names and the bytes of the tensors (row-major, little-endian)."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(name.encode() + b"\0" + str(value.dtype).encode() + str(tuple(value.shape)).encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
