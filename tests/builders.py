"""Small datasets written straight to a store, for tests of what comes after ingest."""

import hashlib
from pathlib import Path

import numpy as np

from medgan_ray.dataset.manifest import Intensity, LabelSet, Manifest, SplitEntry, Synthetic, write_manifest
from medgan_ray.dataset.shards import Samples, ShardWriter
from medgan_ray.store import open_store
from medgan_ray.verbs.ingest import ingest_scans
from medgan_ray.verbs.phantom import make_phantoms
from medgan_ray.verbs.train import train

SIDES = (LabelSet(name="side", classes=("left", "right")),)
MADE = Synthetic(
    model="heads", weights="00" * 32, version=1, verdict="none", forced=None, label=None, seed=0, truncation=None
)
"""What a dataset says that a model has made."""
COUNTS = {"train": 120, "val": 24, "test": 24}


def write_dataset(
    uri: str,
    size: int = 32,
    counts: dict[str, int] | None = None,
    classes: tuple[str, ...] = (),
    shard_bytes: int = 0,
    sides: bool = False,
    pairs: bool = False,
    synthetic: bool = False,
) -> Manifest:
    """Write bright disks of random place and radius on a dark ground; return the manifest.

    Classes come in turn, which nothing shows; ``sides`` adds a label set that the picture does show; ``pairs``
    adds a second image of each, its negative. ``synthetic`` says that a model made them, and draws others.
    """
    counts = counts or COUNTS
    store, draw = open_store(uri), np.random.default_rng(8 if synthetic else 7)
    shards, splits, seen = [], {}, 0
    for split, count in counts.items():
        center, radius = draw.uniform(0.35, 0.65, (2, count, 1, 1)), draw.uniform(0.1, 0.3, (count, 1, 1))
        rows, columns = np.mgrid[0:size, 0:size] / size
        disks = (rows - center[0]) ** 2 + (columns - center[1]) ** 2 < radius**2
        values = 0.1 + 0.7 * disks + draw.normal(0, 0.02, disks.shape)
        turns = (np.arange(count) % max(1, len(classes))).astype(np.int32)[:, None][:, : len(classes[:1])]
        right = (center[1] > 0.5).astype(np.int32).reshape(count, 1)[:, : int(sides)]
        samples = Samples(
            image=(values.clip(0, 1) * 65535).astype(np.uint16)[:, None],
            label=np.concatenate([turns, right], 1),
            subject=np.arange(seen, seen + count, dtype=np.int32),
            attribute=np.zeros((count, 0), np.int16),
            spacing=np.full((count, 2), np.nan, np.float32),
            pair=(65535 - (values.clip(0, 1) * 65535).astype(np.uint16))[:, None] if pairs else None,
        )
        writer = ShardWriter(store, split, "recipe", shard_bytes or 64 * 2**20)
        writer.add(samples)
        shards += writer.close()
        splits[split] = SplitEntry(samples=count, subjects=count)
        seen += count
    manifest = Manifest(
        modality="CT",
        size=(size, size),
        intensity=Intensity(unit="HU", low=-1024, high=3071, window=(-1024, 3071)),
        labels=((LabelSet(name="label", classes=classes),) if classes else ()) + SIDES[: int(sides)],
        splits=splits,
        shards=tuple(shards),
        synthetic=MADE if synthetic else None,
        content_digest=hashlib.sha256("".join(entry.sha256 for entry in shards).encode()).hexdigest(),
    )
    write_manifest(store, manifest)
    return manifest


SMALL = {
    "batch": 8,
    "images": 96,
    "model": {"generator_width": 4, "discriminator_width": 4, "latent": 8},
    "train": {"checkpoint_images": 32, "log_images": 8, "figure_samples": 24},
}

RECOGNIZER = {
    "task": "recognize",
    "batch": 8,
    "images": 16,
    "model": {"recognizer_width": 8},
    "train": {"checkpoint_images": 16, "log_images": 8, "writers": []},
}


def trained_recognizer(folder: Path, kind: str = "ct", **ingest: object) -> tuple[str, str, str]:
    """Draw phantoms, ingest them and train on them, too shortly to learn; return scans, dataset and run."""
    scans, dataset, run = (str(folder / name) for name in ("scans", "data", "brains"))
    make_phantoms(scans, kind=kind, patients=12, slices=4, size=48)
    ingest_scans(scans, dataset, {"size": 32, "split": {"val": 0.3, "test": 0.1}, "ingest": {"workers": 1, **ingest}})
    train(dataset, run, RECOGNIZER)
    return scans, dataset, run
