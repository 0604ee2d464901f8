"""A torch process group for Ray Train workers whose rendezvous listens where it should: loopback on one machine.

Ray's own ``TorchConfig`` lets rank 0's TCPStore listen on all interfaces. Here rank 0 binds the socket itself, on
127.0.0.1 for an instance of one machine and on the node's address on a cluster, and hands it to the store.
"""

import dataclasses
import datetime
import fcntl
import os
import socket
import struct
from typing import Any

import ray
import ray.train
import torch.distributed
from ray.train.backend import Backend
from ray.train.torch import TorchConfig

from medgan_ray.on_ray import session

SHUTDOWN_WAIT_S = 2
_SIOCGIFADDR = 0x8915  # Linux: the IPv4 address of an interface


@dataclasses.dataclass
class ProcessGroupConfig(TorchConfig):  # type: ignore[misc]
    """Ray's ``TorchConfig`` (gloo on CPUs, NCCL where workers have GPUs) with our rendezvous; one worker needs none.

    ``timeout_s`` is how long a collective may wait for a rank that hangs, seconds.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        """The class that Ray Train calls at the start and the end of a worker group."""
        return ProcessGroup


class ProcessGroup(Backend):  # type: ignore[misc]
    """Joins the workers of a group, and parts them."""

    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        """Let rank 0 listen, then all ranks join."""
        world = len(worker_group)
        if world == 1:
            return
        address = worker_group.execute_single(0, _listen)
        kind, timeout_s = backend_config.backend or "gloo", float(backend_config.timeout_s)
        ray.get([worker_group.execute_single_async(r, _join, r, world, address, kind, timeout_s) for r in range(world)])

    def on_shutdown(self, worker_group: Any, backend_config: ProcessGroupConfig) -> None:
        """Part the ranks; one that doesn't answer soon is killed, or Ray would wait for it once more."""
        workers = worker_group.get_workers()
        parting = {worker.execute_async(_part): worker for worker in workers}
        _, silent = ray.wait(list(parting), num_returns=len(parting), timeout=SHUTDOWN_WAIT_S)
        for answer in silent:
            ray.kill(parting[answer].actor)


_listening: list[socket.socket] = []


def _listen() -> tuple[str, int]:
    host = session.node_host()
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(1024)
    _listening.append(listener)
    return host, int(listener.getsockname()[1])


def _join(rank: int, world: int, address: tuple[str, int], kind: str, timeout_s: float) -> None:
    host, port = address
    timeout = datetime.timedelta(seconds=timeout_s)
    listener = _listening.pop().detach() if rank == 0 else None
    store = torch.distributed.TCPStore(  # type: ignore[attr-defined]
        host, port, world, rank == 0, timeout, wait_for_workers=False, master_listen_fd=listener
    )
    if kind == "gloo" and (interface := interface_of(session.node_host())):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", interface)
    os.environ["LOCAL_RANK"] = str(ray.train.get_context().get_local_rank())
    torch.distributed.init_process_group(kind, store=store, rank=rank, world_size=world, timeout=timeout)


def interface_of(address: str) -> str | None:
    """Return the network interface that has this IPv4 address; None if there is none.

    Gloo listens on the address of the host's name otherwise, which is a loopback address on many hosts.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(probe, _SIOCGIFADDR, struct.pack("256s", name.encode()))
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return None


def _part() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
