"""Holds resized images in a temporary file between the two passes of ingest, so that memory does not grow with them."""

import tempfile
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spool:
    """Images of one shape, appended one by one and read back by position; the file goes with the object."""

    def __init__(self, size: tuple[int, int], dtype: Any) -> None:
        self.size, self._dtype = size, np.dtype(dtype)
        self._bytes = size[0] * size[1] * self._dtype.itemsize
        # Unlinked at once: real pixels must not outlive an interrupted run.
        self._file = tempfile.TemporaryFile(prefix="medgan-ingest-")  # noqa: SIM115 - closed by close()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, image: NDArray[Any]) -> None:
        """Add one image [H, W]."""
        self._file.write(np.ascontiguousarray(image, self._dtype).data)
        self._count += 1

    def read(self, positions: Sequence[int]) -> NDArray[Any]:
        """Return images [n, H, W] at the given positions."""
        images = np.empty((len(positions), *self.size), self._dtype)
        for row, position in enumerate(positions):
            self._file.seek(position * self._bytes)
            self._file.readinto(images[row].data)
        self._file.seek(0, 2)
        return images

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
