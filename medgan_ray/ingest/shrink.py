"""From a scan's values to images of the dataset's size, each with a note: what ingest's decoding processes do.

A slice of 512 x 512 pixels would cost a pipe, and the parent, more than decoding it did; and what is done here is done
by as many processes as there are.
"""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.sandbox import Step, Then, serve
from medgan_ray.ingest import clean, geometry
from medgan_ray.ingest.settings import IngestSettings

Size = tuple[int, int]


def step(size: Size, settings: IngestSettings) -> Step:
    """Return the step that makes images of ``size`` (height, width)."""
    return Step("medgan_ray.ingest.shrink", {"size": size, "settings": settings.model_dump(mode="json")})


def begin(told: dict[str, Any]) -> Then:
    """Return the function that a step's plain data stand for; see ``shrink``."""
    size, settings = (told["size"][0], told["size"][1]), IngestSettings.parse(told["settings"])
    return lambda facts, values: shrink(facts, values, size, settings)


def shrink(
    facts: Facts, values: NDArray[Any], size: Size, settings: IngestSettings
) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return images [frames, *size] in the unit of ``values`` [frames, H, W] (grey: 0 to 255), and a note of each.

    A note holds ``reason`` (why it is not taken, else empty), ``digest`` (of the image) and ``spacing`` (of the image,
    millimeters; NaN where unknown).
    """
    images, notes = np.empty((len(values), *size), np.float32), []
    for frame, image in enumerate(values):
        spacing = facts.spacings[frame] if frame < len(facts.spacings) else None
        part = geometry.crop(image.shape[0], image.shape[1], size, spacing)
        reason = clean.frame_reason(image, part, size)
        scale = 255 / 65535 if facts.unit == "grey" and facts.bits == 16 else 1.0
        wide = image[part].astype(np.float64)
        images[frame] = geometry.resize(wide if scale == 1 else wide * scale, size)
        notes.append(
            {
                "reason": "" if reason is None or reason in settings.keep else str(reason),
                "digest": hashlib.blake2b(images[frame].data, digest_size=8).hexdigest(),
                "spacing": geometry.spacing_after(spacing, part, size),
            }
        )
    return images, notes


if __name__ == "__main__":
    serve(begin)
