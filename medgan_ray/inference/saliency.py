"""Maps of what a recognizer's answer rests on: how much it weakens where a patch of the scan is blanked.

Occlusion (Zeiler and Fergus, "Visualizing and understanding convolutional networks", ECCV 2014) by captum: no
gradients, nothing drawn at random, and in units that mean something, nats of log-odds. A map tells of the network, not
of the patient: it shows where the answer changes, not where disease is.
"""

import io
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from medgan_ray.inference import networks
from medgan_ray.inference.recognizer import Recognizer
from medgan_ray.store import Store

PATCHES = 8
"""A patch is so many times smaller than the scan, and moves by half of itself."""
FULL = 2.0
"""Nats at which the overlay is fully red; weaker maps look weak."""
AT_ONCE = 16
_RED = np.array([255.0, 40.0, 0.0])
_OPAQUE = 0.65


def saliency_map(model: Recognizer, image: NDArray[np.uint16], index: int, code: int) -> NDArray[np.float32]:
    """Return by how many nats each place holds up the lead of a class over all others, float32 [H, W].

    Negative where blanking a place strengthens the class. Blanked patches get the scan's mean.

    Args:
        model: the recognizer.
        image: uint16 [C, H, W] over its intensity map.
        index: of the label set.
        code: of the class.
    """
    from captum.attr import Occlusion  # takes a second, and draws in matplotlib

    channels, height, width = image.shape
    pixels = networks.pixels(image[None])
    patch = (channels, max(2, height // PATCHES), max(2, width // PATCHES))
    with torch.inference_mode():
        found = Occlusion(lambda shown: model.lead(shown, index)[:, code]).attribute(
            pixels,
            sliding_window_shapes=patch,
            strides=(channels, max(1, patch[1] // 2), max(1, patch[2] // 2)),
            baselines=float(pixels.mean()),
            perturbations_per_eval=AT_ONCE,
        )
    held: NDArray[np.float32] = found[0].sum(0).float().cpu().numpy() / channels
    return held


def write_maps(
    model: Recognizer, images: NDArray[np.uint16], names: Sequence[str], codes: NDArray[np.int64], store: Store
) -> list[str]:
    """Write ``NAME.png`` for each scan: the scan, and beside it its map for a class of the first label set.

    Args:
        model: the recognizer.
        images: uint16 [n, C, H, W].
        names: of the files, without their ending.
        codes: of the class of each scan, such as the one that is named, [n].
        store: where they go; they show patients.

    Returns:
        The keys of what was written.
    """
    keys = [f"{name}.png" for name in names]
    for key, image, code in zip(keys, images, codes.tolist(), strict=True):
        store.replace(key, overlay(model, image, saliency_map(model, image, 0, code)))
    return keys


def overlay(model: Recognizer, image: NDArray[np.uint16], found: NDArray[np.float32]) -> bytes:
    """Return the scan, and beside it the scan with its map in red, as one PNG in the model's default window."""
    gray = model.card.intensity.display(image).mean(0)
    shown = np.repeat(gray[..., None], 3, axis=2)
    weight = (found / FULL).clip(0, 1)[..., None] * _OPAQUE
    beside = np.concatenate([shown, shown * (1 - weight) + _RED * weight], axis=1)
    buffer = io.BytesIO()
    Image.fromarray(beside.round().astype(np.uint8)).save(buffer, format="PNG")
    return buffer.getvalue()
