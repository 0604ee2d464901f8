"""One Ray instance for all tests of this room, and a look at what listens."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from medgan_ray.on_ray import session
from tests import processes


@pytest.fixture(scope="session")
def ray_instance() -> Iterator[Path]:
    """A local Ray instance with two CPU slots; yields its scratch folder."""
    with session.local(cpus=2) as scratch:
        yield scratch


@pytest.fixture
def listening() -> Callable[[], dict[str, set[str]]]:
    """A function that returns the addresses on which this process and its descendants listen, with who listens."""
    return _listening


def _hosts_by_inode() -> dict[str, str]:
    hosts = {}
    for table in ("tcp", "tcp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":  # LISTEN
                hosts[fields[9]] = _readable(fields[1].partition(":")[0])
    return hosts


def _readable(words: str) -> str:
    """Return an address of /proc/net/tcp{,6}: words of 32 bits, each in the machine's order."""
    octets = b"".join(bytes.fromhex(words[i : i + 8])[::-1] for i in range(0, len(words), 8))
    if len(octets) == 16 and octets.startswith(bytes(10) + b"\xff\xff"):
        octets = octets[12:]
    return ".".join(map(str, octets)) if len(octets) == 4 else octets.hex(":", 2)


def _listening() -> dict[str, set[str]]:
    hosts, found = _hosts_by_inode(), {}
    for pid in [os.getpid(), *processes.descendants(os.getpid())]:
        try:
            name = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")[:60]
            links = [str(link.readlink()) for link in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        for link in links:
            host = hosts.get(link.removeprefix("socket:[").removesuffix("]"))
            if host:
                found.setdefault(host, set()).add(name)
    return found


@pytest.fixture
def descendants() -> Callable[[], list[int]]:
    """A function that returns the processes below this one."""
    return lambda: processes.descendants(os.getpid())
