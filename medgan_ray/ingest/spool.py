"""Holds images in files without a name between two passes, so that memory does not grow with them.

Real pixels must not outlive an interrupted run, however it was ended.
"""

import builtins
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from medgan_ray.store import Entry, LocalStore


class Spool:
    """Images of one shape, appended one by one and read back by position; the file goes with the object."""

    def __init__(self, size: tuple[int, int], dtype: Any) -> None:
        self.size, self._dtype = size, np.dtype(dtype)
        self._bytes = size[0] * size[1] * self._dtype.itemsize
        # Unlinked at once.
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


class Nameless(LocalStore):
    """A store for the parts of decoded images (``parts``) of one process; each key takes a descriptor."""

    def __init__(self) -> None:
        super().__init__("nameless")
        self._files: dict[str, BinaryIO] = {}

    def path(self, key: str = "") -> Path:
        """Return a path that opens ``key`` in this process."""
        return Path(f"/dev/fd/{self._files[key].fileno()}")

    def read(self, key: str) -> bytes:
        """Return the bytes of ``key``."""
        with self.path(key).open("rb") as file:
            return file.read()

    def list(self, prefix: str = "") -> builtins.list[Entry]:
        """Return all keys, sorted."""
        return [Entry(key, 0) for key in sorted(self._files)]

    def create(self, key: str, data: bytes) -> bool:
        """Keep bytes under ``key``."""
        file = tempfile.TemporaryFile(prefix="medgan-part-")  # noqa: SIM115 - closed by close()
        file.write(data)
        file.flush()
        self._files[key] = file
        return True

    def upload(self, key: str, path: Path) -> None:
        """Keep an open file under ``key``, which may have lost its name."""
        self._files[key] = path.open("rb")

    def close(self) -> None:
        """Remove the files."""
        for file in self._files.values():
            file.close()
