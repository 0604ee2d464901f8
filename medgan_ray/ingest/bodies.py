"""Crops every series to the box around its body, the same for all of its slices, so that they stay in register."""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from medgan_ray.ingest import geometry, regions
from medgan_ray.ingest.frames import Recipe
from medgan_ray.ingest.records import Record


class Bodies:
    """The parts of decoded images that samples are cut from; nothing is cut unless ``ingest.crop=body`` asks for it."""

    def __init__(self, records: Sequence[Record], kept: Sequence[int], recipe: Recipe) -> None:
        self._records, self._recipe = records, recipe
        self._boxes: dict[str, regions.Box] = {}
        for position in kept:
            record = records[position]
            if record.box:
                known = self._boxes.get(record.together, record.box)
                self._boxes[record.together] = regions.union(known, record.box)

    def cut(self, positions: Sequence[int], images: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the samples [n, *size] that decoded images [n, *grid] hold."""
        size = self._recipe.size
        if self._recipe.grid == size and not self._boxes:
            return images
        samples = np.empty((len(images), *size), np.float32)
        for row, position in enumerate(positions):
            samples[row] = geometry.resize(images[row][self._part(self._records[position])].astype(np.float64), size)
        return samples

    def record(self, position: int) -> Record:
        """Return a record as it is after its image was cut: its pixels are of another size in millimeters."""
        record = self._records[position]
        if self._recipe.settings.crop != "body":
            return record
        return dataclasses.replace(
            record, spacing=geometry.spacing_after(record.spacing, self._part(record), self._recipe.size)
        )

    def _part(self, record: Record) -> regions.Part:
        return regions.around(self._boxes.get(record.together), self._recipe.grid)
