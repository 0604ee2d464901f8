"""Samples to files: PNG in the model's default window, npz and DICOM over the full range."""

import io
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgan_ray.dicom.provenance import Provenance, SeriesIds
from medgan_ray.dicom.write import Rescale, secondary_capture
from medgan_ray.errors import UsageError
from medgan_ray.inference.model import Model

Format = Literal["png", "npz", "dicom"]
SUFFIXES: dict[Format, str] = {"png": ".png", "npz": ".npz", "dicom": ".dcm"}
MEDIA_TYPES: dict[Format, str] = {
    "png": "image/png",
    "npz": "application/octet-stream",
    "dicom": "application/dicom",
}


def encode(
    model: Model,
    images: NDArray[np.uint16],
    form: Format,
    *,
    seed: int,
    label: str | None,
    start: int = 0,
    series: SeriesIds | None = None,
    truncation: float | None = None,
) -> list[tuple[str, bytes]]:
    """Return (name, bytes) of each image; one npz holds all images.

    Args:
        model: what made the images.
        images: uint16 [n, C, H, W] over ``model.intensity``.
        form: png (8 bits, default window), npz (values in the modality's unit, float32) or dicom (16 bits).
        seed: the seed they were made with.
        label: the label asked for.
        start: the number of the first image.
        series: UIDs shared by DICOM files of several calls; fresh ones without.
        truncation: the truncation asked for.
    """
    if form not in SUFFIXES:
        raise UsageError(f"format {form!r}", "", "known: dicom, npz, png")
    labels = model.labels_of(len(images), label, seed, start)
    if form == "npz":
        return [(f"{start:06d}.npz", _npz(model, images, seed, labels, start, truncation))]
    if form == "png":
        files = [_png(shown) for shown in model.intensity.display(images[:, 0])]
    else:
        ids = series or SeriesIds.fresh()
        files = [
            _dicom(
                model, image, Provenance(model.name, model.card.weights, seed, start + i, labels[i], truncation), ids
            )
            for i, image in enumerate(images)
        ]
    return [(f"{start + i:06d}{SUFFIXES[form]}", data) for i, data in enumerate(files)]


def _png(shown: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(shown).save(buffer, "PNG")
    return buffer.getvalue()


def _npz(
    model: Model,
    images: NDArray[np.uint16],
    seed: int,
    labels: list[str | None],
    start: int,
    truncation: float | None,
) -> bytes:
    intensity = model.intensity
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        image=intensity.values(images),
        unit=np.array(intensity.unit),
        label=np.array([label or "" for label in labels]),
        seed=np.array(seed),
        first=np.array(start),
        model=np.array(model.card.weights),
        synthetic=np.array(True),
        truncation=np.array(1.0 if truncation is None else truncation),
    )
    return buffer.getvalue()


def _dicom(model: Model, image: NDArray[np.uint16], provenance: Provenance, series: SeriesIds) -> bytes:
    intensity = model.intensity
    low, high = intensity.window
    return secondary_capture(
        image[0],
        modality=model.card.modality,
        rescale=Rescale((intensity.high - intensity.low) / 65535, intensity.low, intensity.unit),
        window=((low + high) / 2, high - low),
        spacing=model.card.spacing,
        provenance=provenance,
        series=series,
    )
