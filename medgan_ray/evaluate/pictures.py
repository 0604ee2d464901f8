"""Pictures of an evaluation: generated scans by class, held-out real ones, and the pairs that lie nearest."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dataset.batches import Dataset
from medgan_ray.dataset.manifest import Intensity
from medgan_ray.report import Panel

if TYPE_CHECKING:
    from medgan_ray.inference.model import Model

SHOWN, A_CLASS, CLASSES = 32, 8, 6
COLUMNS = 4
PAIRS_A_ROW = 8
SEED = 1
"""Names the generated scans that are shown."""


def wanted(classes: Sequence[str]) -> list[tuple[str, int]]:
    """Return the classes that are shown and how many scans of each; an empty name where there is but one kind."""
    return [(name, A_CLASS) for name in classes[:CLASSES]] if len(classes) > 1 else [("", SHOWN)]


def generated(model: "Model") -> list[Panel]:
    """Return a panel a class, not selected."""
    panels = []
    for name, count in wanted(model.classes):
        images = model.intensity.display(model.sample(count, name or None, seed=SEED))
        panels.append(Panel(caption=name or "generated", images=images[:, 0], columns=COLUMNS))
    return panels


def real(dataset: Dataset, caption: str) -> list[Panel]:
    """Return a panel a class of scans from the test split (val or train where that is empty): for private pages."""
    split = next((part for part in map(dataset.split, ("test", "val", "train")) if len(part)), dataset.split("train"))
    samples = split.take(split.order(0, "comparison").indices(0, len(split)))
    classes = dataset.manifest.classes
    panels = []
    for code, (_, count) in enumerate(wanted(classes)):
        images = samples.image[samples.label[:, 0] == code] if len(classes) > 1 else samples.image
        shown = dataset.manifest.intensity.display(images[:count])[:, 0]
        panels.append(Panel(caption=caption, images=shown, columns=COLUMNS))
    return panels


def pairs(upper: NDArray[np.uint16], lower: NDArray[np.uint16], intensity: Intensity) -> list[Panel]:
    """Return one panel in which each of the first images stands above its partner, both uint16 [n, C, H, W]."""
    if not len(upper):
        return []
    rows = [each[start : start + PAIRS_A_ROW] for start in range(0, len(upper), PAIRS_A_ROW) for each in (upper, lower)]
    filled = [np.concatenate([row, np.zeros((PAIRS_A_ROW - len(row), *row.shape[1:]), row.dtype)]) for row in rows]
    shown = intensity.display(np.concatenate(filled))[:, 0]
    return [Panel(caption="generated above, training scan below", images=shown, columns=PAIRS_A_ROW)]
