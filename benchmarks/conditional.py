"""Claim: a label-conditional run makes images of the class that is asked for.

    python benchmarks/conditional.py ../shared/data/mednist out/conditional --images 150000

Trains on all classes, each as often as the others, with two workers, draws images of each class, and asks two
classifiers trained on real training scans which class they see: one sees the image, the other only what is brighter
than the image's own background (the backgrounds of this dataset's CT classes alone give them away). Prints both
confusion tables, the classifiers' accuracy on held-out real scans, and each class's sliced Wasserstein distance over
its own real-to-real floor.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from medgan_ray import ingest_scans, load_model, seeds
from medgan_ray.config import expand, from_words, merge
from medgan_ray.dataset.batches import open_dataset
from medgan_ray.engine.watch import to_signed
from medgan_ray.metrics.sliced import floor, sliced_wasserstein
from medgan_ray.on_ray.train import train

EACH = 200
BINS, MARGIN = 64, 0.1
"""Grays that are counted, and how far above the commonest one a pixel must be to count as no background."""
STEPS, BATCH = 600, 64


def main() -> None:
    """Train, classify and print the tables."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("scans", type=Path, nargs="?", default=Path("../shared/data/mednist"))
    words.add_argument("out", type=Path, nargs="?", default=Path("out/conditional"))
    words.add_argument("--images", type=int, default=150_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--workers", type=int, default=2)
    words.add_argument("options", nargs="*", help="key=value, such as model.generator_width=24")
    given = words.parse_args()
    options = {"images": given.images, "seed": given.seed, "workers": given.workers, "data.balance": "classes"}
    dataset, run = str(given.out / "dataset"), str(given.out / f"seed{given.seed}")
    if not (given.out / "dataset" / "dataset.json").exists():
        ingest_scans(str(given.scans), dataset, {"size": 64})
    began = time.monotonic()
    result = train(dataset, run, merge(expand(options), from_words(given.options)))
    print(f"trained {result.images} images in {time.monotonic() - began:.0f} s; figures {json.dumps(result.figures)}")
    _report(dataset, run)


def _report(dataset: str, run: str) -> None:
    opened, model = open_dataset(dataset), load_model(run)
    real = {split: opened.split(split).take(np.arange(len(opened.split(split)))) for split in ("train", "val", "test")}
    images = {split: to_signed(samples.image) for split, samples in real.items()}
    labels = {split: samples.label[:, 0] for split, samples in real.items()}
    fakes = [to_signed(model.sample(EACH, name, seed=1)) for name in model.classes]
    for title, view in (("whole image", _whole), ("only what is brighter than the background", _bright)):
        classifier = _train_classifier(view(images["train"]), labels["train"], len(model.classes))
        print(
            f"\n{title}: accuracy on real test scans "
            f"{np.mean(_predict(classifier, view(images['test'])) == labels['test']):.3f}"
        )
        table = np.array(
            [np.bincount(_predict(classifier, view(fake)), minlength=len(model.classes)) for fake in fakes]
        )
        print(f"{'asked / named':>14} " + " ".join(f"{name:>10}" for name in model.classes))
        for name, row in zip(model.classes, table, strict=True):
            print(f"{name:>14} " + " ".join(f"{count:>10}" for count in row))
        print(f"named as asked: {np.trace(table) / table.sum():.3f}")
    print(f"\n{'class':>14} {'n':>5} {'distance':>9} {'floor':>9} {'ratio':>6}")
    for code, (name, fake) in enumerate(zip(model.classes, fakes, strict=True)):
        held = np.concatenate([images[split][labels[split] == code] for split in ("val", "test")])
        pool = np.concatenate([held, images["train"][labels["train"] == code]])
        n = min(len(held), EACH)
        distance, least = sliced_wasserstein(fake[:n], held[:n]), floor(sliced_wasserstein, pool, n).mean
        print(f"{name:>14} {n:>5} {distance:9.4f} {least:9.4f} {distance / least:6.2f}")


def _whole(images: NDArray[np.float32]) -> NDArray[np.float32]:
    return images


def _bright(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what stands out above each image's own background (its commonest gray), 0 elsewhere."""
    levels = ((images.reshape(len(images), -1) + 1) * (BINS / 2)).astype(np.int64).clip(0, BINS - 1)
    counts = np.bincount((levels + BINS * np.arange(len(images))[:, None]).ravel(), minlength=BINS * len(images))
    background = (counts.reshape(-1, BINS).argmax(1) + 0.5) * (2 / BINS) - 1
    floor_of = (background + MARGIN).astype(np.float32)[:, None, None, None]
    return np.maximum(images - floor_of, 0) / (1 - floor_of)


def _train_classifier(images: NDArray[np.float32], labels: NDArray[np.int32], classes: int) -> nn.Module:
    """Return a small convolutional classifier trained on class-balanced batches."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(before, after, 3, 2, 1), nn.BatchNorm2d(after), nn.ReLU()]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, classes))
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    members = [np.flatnonzero(labels == code) for code in range(classes)]
    draw = seeds.generator("classifier")
    for _ in range(STEPS):
        codes = draw.integers(0, classes, BATCH)
        rows = [draw.choice(members[code]) for code in codes]
        loss = nn.functional.cross_entropy(network(torch.from_numpy(images[rows])), torch.from_numpy(codes))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def _predict(classifier: nn.Module, images: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.concatenate([classifier(torch.from_numpy(part)).argmax(1).numpy() for part in np.array_split(images, 20)])


if __name__ == "__main__":
    main()
