"""Keeps libraries out of a decoding process that most files don't need: it starts in half of the time without them.

pydicom imports every decoder's library that is installed, the search for their entry points, and an HTTP client for
its test data. A process that reads hostile bytes is better off without the latter anyhow.
"""

import sys
from types import ModuleType
from typing import Any

_LIBRARIES = {
    "gdcm": ("gdcm",),
    "pyjpegls": ("jpeg_ls",),
    "pylibjpeg": ("pylibjpeg", "libjpeg", "openjpeg", "rle"),
}
"""By the name of pydicom's plug-in, what it imports."""

_NEVER = ("PIL.ImageCms",)
"""Color profiles: pixels are decoded as they are stored."""

_DOWNLOADS = "pydicom.data.download"


class _Nothing(ModuleType):
    """Stands for a module from which names are imported, and not used."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


def keep_out() -> None:
    """Make imports of these libraries fail, as if they were not installed; before pydicom is imported."""
    sys.modules[_DOWNLOADS] = _Nothing(_DOWNLOADS)
    for name in (*_NEVER, *(each for names in _LIBRARIES.values() for each in names)):
        sys.modules[name] = None  # type: ignore[assignment]


def let_in(plugin: str) -> None:
    """Let what a plug-in of pydicom needs be imported, if it was kept out."""
    for name in _LIBRARIES.get(plugin, ()):
        if sys.modules.get(name, ModuleType) is None:
            del sys.modules[name]
