"""What can happen to a run: each fault is a function that strikes a campaign once.

Bytes on a disk are altered between two attempts, as they are in life: what is open is served from memory.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from medgan_ray.artifacts import checkpoints
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.shards import shard_key
from tests.chaos.campaign import CALM_S, Campaign

Fault = Callable[[Campaign], None]
FULL_S = 6.0
DOWN_S = 4.0
ERRORS_S = 10.0


def kill_worker(campaign: Campaign) -> None:
    """kill -9 of one of the two workers."""
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(campaign.draw.choice(campaign.workers()), signal.SIGKILL)


def stop_worker(campaign: Campaign) -> None:
    """SIGSTOP of one of the two workers: it hangs and says nothing."""
    with contextlib.suppress(ProcessLookupError, IndexError):
        os.kill(campaign.draw.choice(campaign.workers()), signal.SIGSTOP)


def kill_driver(campaign: Campaign) -> None:
    """kill -9 of the command itself."""
    campaign.end_driver(signal.SIGKILL)


def terminate_driver(campaign: Campaign) -> None:
    """SIGTERM to the command, which makes a checkpoint first."""
    campaign.end_driver(signal.SIGTERM)


def truncate_checkpoint(campaign: Campaign) -> None:
    """The newest checkpoint is cut short while nobody runs."""
    name = campaign.newest_checkpoint()
    campaign.end_driver(signal.SIGKILL)
    _alter(campaign, name, lambda data: data[: campaign.draw.randrange(len(data))])


def flip_checkpoint(campaign: Campaign) -> None:
    """A bit of the newest checkpoint flips while nobody runs."""
    name = campaign.newest_checkpoint()
    campaign.end_driver(signal.SIGKILL)
    _alter(campaign, name, lambda data: _flipped(campaign, data))


def flip_shard(campaign: Campaign) -> None:
    """A bit of the dataset itself flips while nobody runs: the run stops with the shard's name until it is restored."""
    opened = open_dataset(campaign.dataset)
    read = [entry.sha256 for entry in opened.manifest.shards if entry.split == "train"]  # others have too few scans
    store, key = opened.store, shard_key(campaign.draw.choice(read))
    whole = store.read(key)
    campaign.end_driver(signal.SIGKILL)
    store.replace(key, _flipped(campaign, whole))
    _empty_cache(campaign)
    try:
        noted = len(campaign.events())
        campaign.begin()
        refused = lambda: any("refusal" in event for event in campaign.events()[noted:])  # noqa: E731
        deadline = time.monotonic() + CALM_S
        while not refused() and time.monotonic() < deadline:
            time.sleep(0.1)
        (said,) = [event["refusal"] for event in campaign.events()[noted:] if "refusal" in event]
        assert Path(key).stem in said, said
        assert campaign.driver is not None and campaign.driver.wait(60) == 4
    finally:
        store.replace(key, whole)


def flip_cached_shard(campaign: Campaign) -> None:
    """A bit of a cached shard flips while nobody runs: it is fetched once more."""
    campaign.end_driver(signal.SIGKILL)
    for path in _cached(campaign):
        path.write_bytes(_flipped(campaign, path.read_bytes()))


def truncate_ray_snapshot(campaign: Campaign) -> None:
    """Ray's own snapshots are cut short, and a worker is killed."""
    for path in campaign.scratch.rglob("*snapshot*.json"):
        with contextlib.suppress(OSError):
            path.write_bytes(path.read_bytes()[:7])
    kill_worker(campaign)


def fill_disk(campaign: Campaign) -> None:
    """The disk that holds the run, or the cache of a run on S3, is full for some seconds."""
    disk = campaign.folder / "disk"
    filler = disk / "filler"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    with contextlib.suppress(OSError), filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, free - 4096))
    time.sleep(FULL_S)
    filler.unlink(missing_ok=True)


def kill_server(campaign: Campaign) -> None:
    """kill -9 of the S3 server, which comes back after some seconds."""
    campaign.world.kill()
    time.sleep(DOWN_S)
    campaign.world.start()


def server_errors(campaign: Campaign) -> None:
    """Of all answers of the S3 server 5 % are 503, for some seconds."""
    proxy = campaign.world.proxy
    proxy.errors = 0.05
    time.sleep(ERRORS_S)
    proxy.errors = 0.0


ANYWHERE: dict[str, Fault] = {
    "worker killed": kill_worker,
    "worker stopped": stop_worker,
    "driver killed": kill_driver,
    "driver terminated": terminate_driver,
    "checkpoint cut short": truncate_checkpoint,
    "bit of checkpoint flipped": flip_checkpoint,
    "bit of shard flipped": flip_shard,
    "Ray's snapshot cut short": truncate_ray_snapshot,
    "disk full": fill_disk,
}
ON_S3: dict[str, Fault] = {
    "bit of cached shard flipped": flip_cached_shard,
    "S3 server killed": kill_server,
    "S3 answers 5 % errors": server_errors,
}


def _alter(campaign: Campaign, name: str, change: Callable[[bytes], bytes]) -> None:
    key = f"{checkpoints.FOLDER}/{name}/state.safetensors"
    campaign.run.replace(key, change(campaign.run.read(key)))


def _flipped(campaign: Campaign, data: bytes) -> bytes:
    altered = bytearray(data)
    altered[campaign.draw.randrange(len(data))] ^= 1 << campaign.draw.randrange(8)
    return bytes(altered)


def _cached(campaign: Campaign) -> Iterator[Path]:
    return (campaign.folder / "disk").rglob("*.safetensors")


def _empty_cache(campaign: Campaign) -> None:
    if campaign.world is not None:
        for path in list(_cached(campaign)):
            path.unlink()
