"""Two hosts on one machine: network namespaces on a bridge, each with a link of its own that can be cut.

The namespace of the tests holds the S3 server; what it offers on loopback is passed on from the bridge's address. Needs
root and iproute2. Nothing here keeps to loopback: Ray listens on the hosts' own addresses and asks for its token.
"""

import contextlib
import dataclasses
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from medgan_ray.on_ray import session, timeouts

BIN = Path(sys.executable).parent
PORTS = {
    "node-manager-port": 6380,
    "object-manager-port": 6381,
    "dashboard-agent-grpc-port": 6382,
    "runtime-env-agent-port": 6383,
    "metrics-export-port": 6384,
    "dashboard-agent-listen-port": 6385,
    "min-worker-port": 20000,
    "max-worker-port": 20099,
}
HEAD_PORTS = {"port": 6379, "dashboard-port": 8265}


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclasses.dataclass
class Host:
    """A namespace with an address."""

    name: str
    link: str
    address: str
    environment: dict[str, str]

    def run(self, *words: str, **changed: str) -> subprocess.CompletedProcess[str]:
        """Run a command there and wait for its end."""
        return subprocess.run(
            ["ip", "netns", "exec", self.name, *words],
            env=self.environment | changed, capture_output=True, text=True, timeout=300,
        )  # fmt: skip

    def start(self, log: Path, *words: str) -> subprocess.Popen[bytes]:
        """Start a command there."""
        with log.open("wb") as file:
            command = ["ip", "netns", "exec", self.name, *words]
            return subprocess.Popen(command, env=self.environment, stdout=file, stderr=file)

    def cut(self, seconds: float) -> None:
        """Cut its link for some time."""
        _ip("link", "set", self.link, "down")
        time.sleep(seconds)
        _ip("link", "set", self.link, "up")

    def listening(self) -> set[int]:
        """Return the ports on which its processes listen to other hosts."""
        lines = self.run("ss", "-Hltn").stdout.splitlines()
        heard = [line.split()[3].rpartition(":") for line in lines]
        return {int(port) for address, _, port in heard if not address.startswith("127.")}

    def end(self) -> None:
        """Kill what runs there and take the namespace away."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True).stdout.split()
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)
        subprocess.run(["ip", "link", "del", self.link], capture_output=True)


@contextlib.contextmanager
def hosts(folder: Path, storage: dict[str, str], count: int = 2) -> Iterator[list[Host]]:
    """Yield hosts that reach each other and the S3 server that ``storage`` (AWS_*) describes."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("ss") is None:
        pytest.skip("needs root and iproute2")
    tag, net = f"mg{os.getpid() % 10000}", f"10.{77 + os.getpid() % 100}.{os.getpid() // 100 % 250}"
    made: list[Host] = []
    bridge = f"{tag}br"
    try:
        _ip("link", "add", bridge, "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.strip()}")
    try:
        _ip("address", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        with _passed_on(f"{net}.1", storage["AWS_ENDPOINT_URL"]) as endpoint:
            environment = _environment(
                folder, {**storage, "AWS_ENDPOINT_URL": endpoint, "AWS_ENDPOINT_URL_S3": endpoint}
            )
            for number in range(count):
                host = Host(f"{tag}{number}", f"{tag}v{number}", f"{net}.{number + 2}", environment)
                made.append(host)
                _plug(host, bridge)
            yield made
    finally:
        for host in made:
            host.end()
        subprocess.run(["ip", "link", "del", bridge], capture_output=True)


def _plug(host: Host, bridge: str) -> None:
    _ip("netns", "add", host.name)
    _ip("link", "add", host.link, "type", "veth", "peer", "name", "lan0", "netns", host.name)
    _ip("link", "set", host.link, "master", bridge, "up")
    for words in (["address", "add", f"{host.address}/24", "dev", "lan0"], ["link", "set", "lan0", "up"]):
        _ip("-netns", host.name, *words)
    _ip("-netns", host.name, "link", "set", "lo", "up")


def _environment(folder: Path, storage: dict[str, str]) -> dict[str, str]:
    names = ("HOME", "LANG", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    return {
        **{name: os.environ[name] for name in names if name in os.environ},
        **storage,
        **timeouts.CORE,
        "AWS_EC2_METADATA_DISABLED": "true",
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "MEDGAN_CACHE": str(folder / "cache"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(session.write_token(folder / "token")),
    }


@contextlib.contextmanager
def _passed_on(address: str, endpoint: str) -> Iterator[str]:
    """Pass on what comes to a port of ``address`` to an endpoint on loopback; yield the endpoint there."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    with socket.create_server((address, 0)) as server:

        def serve() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:  # closed
                    return
                threading.Thread(target=_relay, args=(near, (host, int(port))), daemon=True).start()

        listener = threading.Thread(target=serve, daemon=True)
        listener.start()
        yield f"http://{address}:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)
        listener.join()


def _relay(near: socket.socket, target: tuple[str, int]) -> None:
    with near, socket.create_connection(target) as far:
        back = threading.Thread(target=_copy, args=(far, near), daemon=True)
        back.start()
        _copy(near, far)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)
