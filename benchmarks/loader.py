"""Claim: memory-mapped shards feed a training loop many times faster than Ray Data on one machine.

    python benchmarks/loader.py

Gathers uint16 batches of 64 in shuffled order from 10,000 images of 128x128 on the local disk, warm: our order and
shards, a bare memory map (the limit), and Ray Data over Parquet files of the same images with a local shuffle buffer.
Each is run three times, in turn; the table shows the median images/s.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.dataset.manifest import Intensity, Manifest, SplitEntry, write_manifest
from medgan_ray.dataset.shards import Samples, ShardWriter
from medgan_ray.on_ray import session
from medgan_ray.store import open_store

SIDE, BATCH, ROUNDS = 128, 64, 3


def main() -> None:
    """Write the images three ways, read them in turn and print the table."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--images", type=int, default=10_000)
    count = words.parse_args().images
    images = np.random.default_rng(0).integers(0, 65536, (count, 1, SIDE, SIDE), np.uint16)
    with tempfile.TemporaryDirectory() as folder, session.local(cpus=2):
        ways = {
            "bare memory map": _memmap(images, Path(folder)),
            "medgan-ray shards": _shards(images, f"{folder}/dataset"),
            "Ray Data, Parquet": _ray_data(images, f"{folder}/parquet"),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(ROUNDS + 1):
            for name, read in ways.items():
                began = time.perf_counter()
                seen = read()
                rates[name].append(seen / (time.perf_counter() - began))
    print(f"{count} images of {SIDE}x{SIDE}, batches of {BATCH}, median of {ROUNDS} warm passes")
    for name, values in rates.items():
        warm = sorted(values[1:])
        print(f"{name:>20} {warm[len(warm) // 2]:>10,.0f} images/s   ({warm[0]:,.0f} to {warm[-1]:,.0f})")


def _memmap(images: np.ndarray, folder: Path) -> Callable[[], int]:
    np.save(folder / "images.npy", images)
    mapped = np.load(folder / "images.npy", mmap_mode="r")

    def read() -> int:
        order = np.random.default_rng(1).permutation(len(mapped))
        return sum(len(mapped[order[start : start + BATCH]]) for start in range(0, len(order), BATCH))

    return read


def _shards(images: np.ndarray, uri: str) -> Callable[[], int]:
    store, count = open_store(uri), len(images)
    writer = ShardWriter(store, "train", "benchmark")
    for start in range(0, count, 1000):
        part = images[start : start + 1000]
        n = len(part)
        none = np.zeros((n, 0))
        writer.add(
            Samples(
                part, none.astype(np.int32), np.zeros(n, np.int32), none.astype(np.int16), np.ones((n, 2), np.float32)
            )
        )
    shards = writer.close()
    write_manifest(
        store,
        Manifest(
            modality="CT",
            size=(SIDE, SIDE),
            intensity=Intensity(unit="HU", low=-1024, high=3071, window=(0, 80)),
            splits={"train": SplitEntry(samples=count, subjects=count)},
            shards=tuple(shards),
            content_digest="0" * 64,
        ),
    )
    split = open_dataset(uri).split("train")
    order = split.order(0, "benchmark")
    position = 0

    def read() -> int:
        nonlocal position
        seen = 0
        while seen < count:
            seen += len(split.take(order.indices(position, min(BATCH, count - seen))))
            position += BATCH
        return seen

    return read


def _ray_data(images: np.ndarray, folder: str) -> Callable[[], int]:
    import ray.data

    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.from_numpy(np.array_split(images, 8)).write_parquet(folder)
    found = ray.data.read_parquet(folder)

    def read() -> int:
        batches = found.iter_batches(batch_size=BATCH, batch_format="numpy", local_shuffle_buffer_size=1024)
        return sum(len(batch["data"]) for batch in batches)

    return read


if __name__ == "__main__":
    main()
