"""The ranks of a run: sums, shared words and partition of work, by torch.distributed where there are several."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.distributed as distributed
from numpy.typing import NDArray
from torch import Tensor


class Ranks:
    """This process's place among the ranks; with one rank every call is the identity."""

    def __init__(self) -> None:
        several = distributed.is_available() and distributed.is_initialized()
        self.rank = distributed.get_rank() if several else 0
        self.world = distributed.get_world_size() if several else 1
        cuda = several and distributed.get_backend() == "nccl"
        self._device = torch.device("cuda", torch.cuda.current_device()) if cuda else torch.device("cpu")

    def positions(self, start: int, batch: int) -> NDArray[np.int64]:
        """Return this rank's positions p of the global batch at ``start``: those with (p - start) mod world = rank."""
        return np.arange(start + self.rank, start + batch, self.world, dtype=np.int64)

    def sum(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return the tensors summed over the ranks, by one flat all-reduce."""
        if self.world == 1:
            return list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        parts = torch.split(flat, [tensor.numel() for tensor in tensors])
        return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]

    def most(self, values: Sequence[float]) -> list[float]:
        """Return the greatest of each value over the ranks."""
        if self.world == 1:
            return list(values)
        tensor = torch.tensor(list(values), dtype=torch.float64, device=self._device)
        distributed.all_reduce(tensor, distributed.ReduceOp.MAX)
        return tensor.tolist()

    def share_text(self, text: str) -> str:
        """Return rank 0's text on every rank (as bytes: nothing is pickled)."""
        if self.world == 1:
            return text
        data = text.encode()
        length = torch.tensor([len(data)], dtype=torch.int64, device=self._device)
        distributed.broadcast(length, 0)
        buffer = torch.zeros(int(length.item()), dtype=torch.uint8, device=self._device)
        if self.rank == 0 and data:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        distributed.broadcast(buffer, 0)
        return bytes(buffer.cpu().numpy()).decode()

    def gather_rows(self, rows: NDArray[np.float32], total: int) -> NDArray[np.float32]:
        """Return all ranks' rows interleaved: row i comes from rank i mod world, as ``positions`` hands them out."""
        if self.world == 1:
            return rows
        each = -(-total // self.world)
        mine = torch.zeros((each, *rows.shape[1:]), device=self._device)
        mine[: len(rows)] = torch.from_numpy(rows)
        parts = [torch.empty_like(mine) for _ in range(self.world)]
        distributed.all_gather(parts, mine)
        return torch.stack(parts, 1).flatten(0, 1)[:total].cpu().numpy()
