"""Faults change no bit: after any number of them the weights are those of a run that nothing happened to.

make chaos FAULTS=100      draws so many, several a run, by turns of a local run and one on S3; prints a table
"""

import collections
import contextlib
import dataclasses
import json
import os
import random
import shutil
import statistics
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.builders import write_dataset
from tests.chaos.campaign import Campaign, Strike, Unrecovered
from tests.chaos.faults import ANYWHERE, ON_S3
from tests.conftest import SHARED
from tests.faults import FaultProxy

A_RUN = 4
DISK = 64 * 2**20
S3_TOOL = SHARED / "tools" / "s3_server.sh"


class Server:
    """The S3 server of a campaign and the proxy before it."""

    def __init__(self, folder: Path, port: int) -> None:
        self._folder, self._port = folder, port
        self.environment = self.start()
        self.proxy = FaultProxy(self.environment["AWS_ENDPOINT_URL"])

    def start(self) -> dict[str, str]:
        """Start it, or start it again with what it holds."""
        words = self._tool("start", str(self._port), "scans").replace("export ", "").split()
        return dict(word.split("=", 1) for word in words)

    def kill(self) -> None:
        """kill -9."""
        self._tool("kill")

    def _tool(self, *words: str) -> str:
        command = ["bash", str(S3_TOOL), words[0], str(self._folder), *words[1:]]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def drawn_by(seed: int) -> random.Random:
    """Return draws that repeat: faults are no secret."""
    return random.Random(seed)  # noqa: S311


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The weights of a run that nothing happens to."""
    folder = tmp_path_factory.mktemp("undisturbed")
    write_dataset(str(folder / "data"))
    calm = Campaign(folder, str(folder / "data"), str(folder / "run"), drawn_by(0), {})
    calm.begin()
    return calm.finish()


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of its own at ``folder``/disk, where this process may mount one."""
    disk = folder / "disk"
    disk.mkdir(parents=True)
    mount = shutil.which("mount")
    mounted = mount and not subprocess.run([mount, "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", disk]).returncode
    try:
        yield disk
    finally:
        if mounted:
            subprocess.run(["umount", "-l", disk], check=True)


@pytest.mark.chaos
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_faults_change_no_bit(
    undisturbed: str, tmp_path: Path, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = request.config.getoption("--chaos-faults")
    seed = request.config.getoption("--chaos-seed")
    draw, struck, has_server = drawn_by(seed), [], S3_TOOL.exists()
    for number in range(-(-wanted // A_RUN)):
        folder, on_s3 = tmp_path / f"run{number}", has_server and number % 2 == 1
        with small_disk(folder) as disk, contextlib.ExitStack() as stack, capsys.disabled():
            campaign = _campaign(folder, disk, draw, on_s3, stack)
            struck += _struck(campaign, draw, min(A_RUN, wanted - len(struck)), undisturbed, disk)
    with capsys.disabled():
        print("\n" + table(struck))
    assert len(struck) == wanted and all(strike.survived for strike in struck)


def _campaign(folder: Path, disk: Path, draw: random.Random, on_s3: bool, stack: contextlib.ExitStack) -> Campaign:
    if not on_s3:
        write_dataset(str(folder / "data"))
        return Campaign(folder, str(folder / "data"), str(disk / "run"), draw, {})
    server = Server(folder / "s3", 20_000 + os.getpid() % 5_000)
    stack.callback(server.kill)
    stack.enter_context(server.proxy)
    addresses = dict.fromkeys(("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"), server.proxy.url)
    environment = {**server.environment, **addresses, "MEDGAN_CACHE": str(disk / "cache")}
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    for name, value in environment.items():
        patch.setenv(name, value)
    write_dataset("s3://scans/data")
    return Campaign(folder, "s3://scans/data", "s3://scans/run", draw, environment, server)


def _struck(campaign: Campaign, draw: random.Random, count: int, weights: str, disk: Path) -> list[Strike]:
    """Strike a run so many times; all of it counts as lost if the run ends otherwise than one in calm."""
    known = {**ANYWHERE, **(ON_S3 if campaign.world is not None else {})}
    if not os.path.ismount(disk):
        del known["disk full"]
    struck, same = [], False
    campaign.begin()
    try:
        for name in draw.sample(sorted(known), count):
            struck.append(campaign.strike(name, known[name]))
        same = campaign.finish() == weights
    except Unrecovered as error:  # the next run may tell more
        print(error, flush=True)
        struck += [Strike(f"not struck after {name}", False, 0, 0.0)] * (count - len(struck))
    finally:
        campaign.end_driver(9)
    struck = [dataclasses.replace(strike, survived=strike.survived and same) for strike in struck]
    for strike in struck:
        print(json.dumps(vars(strike)), flush=True)
    return struck


def table(struck: list[Strike]) -> str:
    """Return what became of each kind of fault."""
    by_fault: dict[str, list[Strike]] = collections.defaultdict(list)
    for strike in struck:
        by_fault[strike.fault].append(strike)
    lines = [f"{'fault':<28} {'times':>5} {'survived':>8} {'images repeated':>16} {'seconds to recover':>22}"]
    for fault, strikes in sorted(by_fault.items()):
        seconds: list[Any] = [strike.seconds for strike in strikes]
        repeated = [strike.repeated for strike in strikes]
        lines.append(
            f"{fault:<28} {len(strikes):>5} {sum(strike.survived for strike in strikes):>8} "
            f"{statistics.median(repeated):>8.0f} (≤ {max(repeated):.0f}) "
            f"{statistics.median(seconds):>12.1f} (≤ {max(seconds):.1f})"
        )
    return "\n".join(lines)
