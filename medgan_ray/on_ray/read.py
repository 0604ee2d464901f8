"""A dataset as a ``ray.data.Dataset``, for whatever else a Ray program wants to do with it.

Training does not go this way: it maps the shards into memory, which is far faster a step.
"""

from typing import TYPE_CHECKING, Any

from medgan_ray.dataset.batches import open_dataset
from medgan_ray.on_ray import session
from medgan_ray.on_ray.train import absolute

if TYPE_CHECKING:
    import ray.data

BLOCK = 1024


def read_dataset(uri: str, split: str = "train") -> "ray.data.Dataset":
    """Return the samples of a split, one row each: ``image`` uint16 [C, H, W] and ``label`` int32 [L].

    Args:
        uri: URI of a dataset.
        split: train, val or test.

    Raises:
        InputError: if the dataset is missing or corrupt.
    """
    uri = absolute(uri)
    count = len(open_dataset(uri).split(split))
    before = session.prepare(session.on_loopback())
    try:
        import ray.data

        starts = list(range(0, count, BLOCK))
        return ray.data.from_items(starts).flat_map(_rows, fn_args=(uri, split, count))
    finally:
        session.restore(before)


def _rows(row: dict[str, int], uri: str, split: str, count: int) -> list[dict[str, Any]]:
    import numpy as np

    start = row["item"]
    taken = open_dataset(uri).split(split).take(np.arange(start, min(start + BLOCK, count)))
    return [{"image": image, "label": label} for image, label in zip(taken.image, taken.label, strict=True)]
