"""From a scan's values to images of the dataset's size, each with a note: what ingest's decoding processes do.

A slice of 512 x 512 pixels would cost a pipe, and the parent, more than decoding it did; and what is done here is done
by as many processes as there are.
"""

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import Facts
from medgan_ray.dicom.terms import Step, Then
from medgan_ray.dicom.transforms import AIR_HU, PROJECTION_MODALITIES
from medgan_ray.ingest import clean, geometry, regions
from medgan_ray.ingest.reasons import Reason

if TYPE_CHECKING:
    from medgan_ray.ingest.settings import IngestSettings

Size = tuple[int, int]


@dataclass(frozen=True)
class Wanted:
    """What of the settings decides how a frame becomes an image, as plain data.

    A decoding process would take longer to import settings than to decode a hundred slices.

    Attributes:
        size: of the dataset's images, height and width.
        grid: of the images as they leave the process; see ``IngestSettings.grid``.
        keep, crop, spacing_mm, max_aspect, text: as in ``IngestSettings``.
    """

    size: Size
    grid: Size
    keep: tuple[str, ...]
    crop: str
    spacing_mm: tuple[float, float] | None
    max_aspect: float
    text: str

    @classmethod
    def of(cls, size: Size, settings: "IngestSettings") -> "Wanted":
        """Return what an ingest wants that makes images of ``size``."""
        asked = settings
        return cls(size, asked.grid(size), asked.keep, asked.crop, asked.spacing_mm, asked.max_aspect, asked.text)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> "Wanted":
        """Return what plain data stand for."""
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**known)


def step(size: Size, settings: "IngestSettings") -> Step:
    """Return the step that makes images of ``size`` (height, width)."""
    return Step("medgan_ray.ingest.shrink", asdict(Wanted.of(size, settings)))


def begin(told: dict[str, Any]) -> Then:
    """Return the function that a step's plain data stand for; see ``shrink``."""
    wanted = Wanted.from_json(told)
    return lambda facts, values: shrink(facts, values, wanted)


def shrink(facts: Facts, values: NDArray[Any], wanted: Wanted) -> tuple[NDArray[np.float32], list[dict[str, Any]]]:
    """Return an image of each frame in the unit of ``values`` [frames, H, W] (grey: 0 to 255), and a note of each.

    A note holds ``reason`` (why it is not taken, else empty), ``digest`` (of the image), ``spacing`` (of the image,
    millimeters; NaN where unknown), ``box`` (around the body, if series are cropped to it; else None) and ``masked``
    (whether text was blanked). Images have the size ``wanted.grid``.
    """
    images, notes = np.empty((len(values), *wanted.grid), np.float32), []
    for frame, image in enumerate(values):
        spacing = facts.spacings[frame] if frame < len(facts.spacings) else None
        seen = image
        image, reason = (image, None) if wanted.text == "keep" else _without_text(image, facts, wanted.text)
        masked = image is not seen
        if facts.modality in PROJECTION_MODALITIES and wanted.crop != "none":
            image = image[regions.field(image, facts.field)]
        images[frame], note = _fitted(image, facts, spacing, wanted)
        note["masked"] = masked
        if reason:  # goes before all others: nobody may see a thumbnail of it
            note["reason"] = str(reason)
        note["digest"] = hashlib.blake2b(images[frame].data, digest_size=8).hexdigest()
        notes.append(note)
    return images, notes


def _without_text(image: NDArray[Any], facts: Facts, asked: str) -> tuple[NDArray[Any], Reason | None]:
    """Return a frame [H, W] without text, and why it is not taken: text is refused, or can't be blanked (mask)."""
    from medgan_ray.dicom import burned  # not for those who keep text: it takes long to import

    if asked == "refuse":
        return image, Reason("burned_in_text") if burned.find_lines(image) else None
    frame = image.copy()
    boxes = burned.blank(frame, AIR_HU if facts.unit == "HU" else frame.min())
    if not boxes:
        return image, Reason("burned_in") if facts.burned_in else None
    return frame, Reason("burned_in_text") if (0, 0, *frame.shape) in boxes else None


def _fitted(
    image: NDArray[Any], facts: Facts, spacing: geometry.Spacing | None, wanted: Wanted
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return a frame [H, W] at the size of the grid, and its note."""
    part = geometry.crop(image.shape[0], image.shape[1], wanted.size, spacing)
    reasons = [clean.frame_reason(image, part, wanted.size, wanted.max_aspect)]
    scale = 255 / 65535 if facts.unit == "grey" and facts.bits == 16 else 1.0
    grid, box = wanted.grid, None
    if wanted.spacing_mm and spacing:
        steps = (wanted.spacing_mm[0] / spacing[0], wanted.spacing_mm[1] / spacing[1])
        reasons.append(Reason("too_small") if min(steps) < 0.5 else None)
        around = AIR_HU if facts.unit == "HU" else float(image.min()) * scale
        fitted = geometry.resample(image * scale, grid, steps, around)
        spacing_mm = wanted.spacing_mm
    else:
        reasons.append(Reason("no_spacing") if wanted.spacing_mm else None)
        inside = image[part]
        if wanted.crop == "body" and facts.modality not in PROJECTION_MODALITIES:
            box = regions.body(inside, facts.unit)
        fitted = geometry.resize(inside if scale == 1 else inside.astype(np.float64) * scale, grid)
        spacing_mm = geometry.spacing_after(spacing, part, grid)
    counted = [str(reason) for reason in reasons if reason and reason not in wanted.keep]
    return fitted, {"reason": counted[0] if counted else "", "spacing": spacing_mm, "box": box}
