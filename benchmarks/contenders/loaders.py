"""One pass over the images of benchmarks/loader.py: each contender in a process, in the environment that has it.

python benchmarks/contenders/loaders.py NAME FOLDER [S3-URI]

Writes its form of FOLDER/images.npy where there is none yet. A pass gathers every image once in shuffled order, in
batches. All make one pass that doesn't count, one in uint16 and one in float32 (0 to 1), and print images a second as
JSON. The clock starts when the first batch is there: what starts workers, fills buffers and opens files is not counted.
With an address in S3 there is one pass, all of it counted.
"""

import contextlib
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

SIDE, BATCH, SHARD = 128, 64, 2000
BUFFER = 2000
"""Samples in the shuffle buffers of those that shuffle by one."""
GETS = 8
KINDS = ("uint16", "float32")

_open = contextlib.ExitStack()
"""What stays open until the pass is over."""


def memmap(folder: Path) -> Callable[[], Iterable[Any]]:
    """A fancy index into a memory map: the limit."""
    mapped = np.load(folder / "images.npy", mmap_mode="r")

    def batches() -> Iterator[Any]:
        order = np.random.default_rng().permutation(len(mapped))
        for start in range(0, len(order), BATCH):
            yield mapped[order[start : start + BATCH]]

    return batches


def ours(folder: Path, uri: str = "") -> Callable[[], Iterable[Any]]:
    """Our order and our shards, with labels, subjects, attributes and spacings; from a folder or from S3."""
    from medgan_ray.dataset.batches import open_dataset

    uri = uri or f"{folder}/dataset"
    write_shards(folder, uri)
    split = open_dataset(uri).split("train")
    order = split.order(time.time_ns(), "benchmark")
    passes = 0

    def batches() -> Iterator[Any]:
        nonlocal passes
        for start in range(0, order.length, BATCH):
            count = min(BATCH, order.length - start)
            yield split.take(order.indices(passes * order.length + start, count)).image
        passes += 1

    return batches


def write_shards(folder: Path, uri: str) -> None:
    """Write the images as a dataset."""
    from medgan_ray.dataset.manifest import POINTER, Intensity, Manifest, SplitEntry, write_manifest
    from medgan_ray.dataset.shards import Samples, ShardWriter
    from medgan_ray.store import open_store

    store = open_store(uri)
    if store.exists(POINTER):
        return
    writer = ShardWriter(store, "train", "benchmark")
    images = np.load(folder / "images.npy", mmap_mode="r")
    for start in range(0, len(images), SHARD):
        part = images[start : start + SHARD]
        n = len(part)
        rest = np.zeros((n, 1), np.int32), np.zeros(n, np.int32), np.zeros((n, 4), np.int16), np.ones((n, 2))
        writer.add(Samples(part, *rest[:3], rest[3].astype(np.float32)))
    manifest = Manifest(
        modality="CT",
        size=(SIDE, SIDE),
        intensity=Intensity(unit="HU", low=-1024, high=3071, window=(0, 80)),
        splits={"train": SplitEntry(samples=len(images), subjects=len(images))},
        shards=tuple(writer.close()),
        content_digest="0" * 64,
    )
    write_manifest(store, manifest)


def gets(folder: Path, uri: str, keep: bool) -> Callable[[], Iterable[Any]]:
    """Plain parallel GETs of the dataset's shards by botocore, thrown away or written to files: no batches at all."""
    import botocore.config
    import botocore.session

    from medgan_ray.dataset.batches import open_dataset

    write_shards(folder, uri)
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    config = botocore.config.Config(max_pool_connections=GETS)
    client = botocore.session.get_session().create_client("s3", config=config)

    def get(entry: Any) -> Any:
        body = client.get_object(Bucket=bucket, Key=f"{prefix}/shards/{entry.sha256}.safetensors")["Body"]
        with (folder / entry.sha256 if keep else Path(os.devnull)).open("wb", buffering=0) as file:
            for piece in body.iter_chunks(1 << 20):  # cheaper than the whole body at once: its memory is used again
                file.write(piece)
        return range(entry.samples)

    shards = open_dataset(uri).manifest.shards
    return lambda: _in_threads(get, shards)


def _in_threads(get: Callable[[Any], Any], shards: Iterable[Any]) -> Iterator[Any]:
    with ThreadPoolExecutor(GETS) as pool:
        yield from pool.map(get, shards)


def webdataset(folder: Path, workers: int) -> Callable[[], Iterable[Any]]:
    """Tar files with the raw values, a buffer to shuffle in, batches made in the pipeline, WebLoader around it."""
    import webdataset

    tars = folder / "tars"
    if not tars.exists():
        tars.mkdir()
        with webdataset.ShardWriter(f"{tars}/%05d.tar", maxcount=SHARD, verbose=0) as writer:
            for number, image in enumerate(np.load(folder / "images.npy", mmap_mode="r")):
                writer.write({"__key__": f"{number:06}", "bin": image.tobytes()})
    urls = sorted(map(str, tars.glob("*.tar")))
    pipeline = webdataset.WebDataset(urls, shardshuffle=len(urls), seed=time.time_ns() % 2**31)
    pipeline = pipeline.shuffle(BUFFER).to_tuple("bin").batched(BATCH, collation_fn=_stacked)
    return lambda: webdataset.WebLoader(pipeline, batch_size=None, num_workers=workers)


def _stacked(samples: list[tuple[bytes]]) -> np.ndarray:
    joined = bytearray().join([sample[0] for sample in samples])
    return np.frombuffer(joined, np.uint16).reshape(-1, 1, SIDE, SIDE)


def mosaic(folder: Path, workers: int) -> Callable[[], Iterable[Any]]:
    """MDS shards of fixed-shape arrays, StreamingDataset with its default shuffle, StreamingDataLoader."""
    # Its __init__, which is left out, imports its vision datasets, and torchvision doesn't load beside a CPU's torch.
    sys.modules["streaming"] = importlib.util.module_from_spec(importlib.util.find_spec("streaming"))
    from streaming.base import MDSWriter, StreamingDataLoader, StreamingDataset
    from streaming.base.util import clean_stale_shared_memory

    shards = folder / "mds"
    if not shards.exists():
        columns = {"image": f"ndarray:uint16:1,{SIDE},{SIDE}"}
        with MDSWriter(out=str(shards), columns=columns, size_limit=1 << 26) as writer:
            for image in np.load(folder / "images.npy", mmap_mode="r"):
                writer.write({"image": np.asarray(image)})
    clean_stale_shared_memory()
    dataset = StreamingDataset(local=str(shards), shuffle=True, batch_size=BATCH)
    loader = StreamingDataLoader(dataset, batch_size=BATCH, num_workers=workers)
    return lambda: (batch["image"] for batch in loader)


def ray_data(folder: Path, form: str, materialize: bool) -> Callable[[], Iterable[Any]]:
    """Parquet, a local shuffle buffer, batches of numpy tensors or of Arrow bytes; the better form counts.

    Materialized: all of it lies in the object store (shared memory) before the first pass.
    """
    import ray.data

    from medgan_ray.on_ray import session

    _write_parquet(folder, form)
    _open.enter_context(session.local(cpus=2))
    ray.data.DataContext.get_current().enable_progress_bars = False
    found = ray.data.read_parquet(str(folder / f"parquet-{form}"))
    found = found.materialize() if materialize else found
    like = {"batch_size": BATCH, "local_shuffle_buffer_size": BUFFER, "prefetch_batches": 4}

    def tensors() -> Iterator[Any]:
        return (batch["image"] for batch in found.iter_batches(batch_format="numpy", **like))

    def joined() -> Iterator[Any]:
        return (_of_bytes(batch["image"]) for batch in found.iter_batches(batch_format="pyarrow", **like))

    return tensors if form == "tensor" else joined


def _of_bytes(column: Any) -> np.ndarray:
    """Return a column of bytes as an array, without a copy where the column is in one piece."""
    whole = column.combine_chunks()
    _, ends, values = whole.buffers()
    first = int(np.frombuffer(ends, np.int32)[whole.offset])
    return np.frombuffer(values, np.uint16, len(whole) * SIDE**2, first).reshape(-1, 1, SIDE, SIDE)


def _write_parquet(folder: Path, form: str) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    into = folder / f"parquet-{form}"
    if into.exists():
        return
    into.mkdir()
    images = np.load(folder / "images.npy", mmap_mode="r")
    for number, start in enumerate(range(0, len(images), SHARD)):
        part = images[start : start + SHARD]
        if form == "tensor":
            flat = pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), SIDE**2)
            column = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(pa.uint16(), part.shape[1:]), flat)
        else:
            column = pa.array([image.tobytes() for image in part], pa.binary())
        table = pa.table({"image": column})
        options = {"compression": "NONE", "use_dictionary": False, "row_group_size": SHARD // 4}
        parquet.write_table(table, into / f"{number:05}.parquet", **options)


def main() -> None:
    """Run what the command line names."""
    name, folder, where = sys.argv[1], Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""
    runs: dict[str, Callable[[], Callable[[], Iterable[Any]]]] = {
        "memmap": lambda: memmap(folder),
        "ours": lambda: ours(folder),
        "ours-s3": lambda: ours(folder, where),
        "gets": lambda: gets(folder, where, False),
        "gets-to-files": lambda: gets(folder, where, True),
        "webdataset-0": lambda: webdataset(folder, 0),
        "webdataset-2": lambda: webdataset(folder, 2),
        "mosaic-0": lambda: mosaic(folder, 0),
        "mosaic-2": lambda: mosaic(folder, 2),
        "ray": lambda: ray_data(folder, "tensor", False),
        "ray-materialized": lambda: ray_data(folder, "tensor", True),
        "ray-bytes": lambda: ray_data(folder, "bytes", False),
        "ray-bytes-materialized": lambda: ray_data(folder, "bytes", True),
    }
    with _open:
        run = runs[name]()
        if where:
            rates = {"uint16": _pass(run, "uint16", time.perf_counter())}
        else:
            _pass(run, "uint16")
            rates = {kind: _pass(run, kind) for kind in KINDS}
        print(json.dumps(rates))


def _pass(run: Callable[[], Iterable[Any]], kind: str, began: float = 0.0) -> float:
    """Return the images a second of a pass, from its first batch on, or from the moment given."""
    images, shape = 0, (1, SIDE, SIDE)
    for batch in run():
        values = np.asarray(batch)
        if kind == "float32":
            # Two steps are faster than np.multiply with dtype=float32, which casts through a small buffer.
            values = values.astype(np.float32)
            values *= np.float32(1 / 65535)
        images += len(values)
        if not began:
            images, began, shape = 0, time.perf_counter(), values.shape[1:]
    if shape != (1, SIDE, SIDE):
        raise SystemExit(f"error: batches of {shape}")
    return images / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
