"""Labels as numbers that networks take: concatenated one-hots, each with a last column for "unknown"."""

from collections.abc import Sequence

import torch
from torch import Tensor

from medgan_ray.errors import InputError

UNKNOWN = -1


def width(classes: Sequence[int]) -> int:
    """Return the length of a condition for label sets of so many classes each; 0 if there are none."""
    return sum(count + 1 for count in classes)


def encode(labels: Tensor, classes: Sequence[int]) -> Tensor:
    """Return conditions float32 [B, ``width(classes)``] for labels int [B, L], -1 being unknown.

    Raises:
        InputError: if there isn't one column a label set, or a label is out of range.
    """
    if labels.ndim != 2 or labels.shape[1] != len(classes):
        raise InputError(f"labels of shape {list(labels.shape)}", "", f"give [B, {len(classes)}]: a column a label set")
    parts = []
    for column, count in enumerate(classes):
        values = labels[:, column].long()
        if bool(((values < UNKNOWN) | (values >= count)).any()):
            raise InputError(f"a label outside -1 to {count - 1}", f"label set {column}", "check the labels")
        known = torch.where(values == UNKNOWN, count, values)
        parts.append(torch.nn.functional.one_hot(known, count + 1).float())
    return torch.cat(parts, dim=1) if parts else labels.new_zeros((len(labels), 0), dtype=torch.float32)
