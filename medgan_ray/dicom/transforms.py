"""From stored values to the values of the modality: padding, modality transform, VOI, inversion, brightness.

Sources: DICOM PS3.3 C.7.5.1.1.2 (pixel padding), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric
interpretation); ITU-R BT.601 (luma).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import convert_color_space

from medgan_ray.dicom.facts import Facts, frame_value, numbers, text
from medgan_ray.dicom.refusals import Refused

PROJECTION_MODALITIES = ("CR", "DX", "MG", "XA", "RF", "PX", "IO", "RG")
AIR_HU = -1000.0
LARGEST = 1e12
"""Rescaled values beyond this are nobody's measurement."""


def to_values(stored: NDArray[Any], dataset: Dataset, facts: Facts) -> tuple[NDArray[Any], str]:
    """Return values [frames, rows, columns] (int16 where that is exact, else float32) and their unit.

    Raises:
        Refused: ``no_rescale`` for CT without rescale, ``unsupported_pixels`` or ``broken_header``.
    """
    if facts.photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise Refused("unsupported_pixels", facts.photometric)
    padding = _padding(stored, dataset)
    values = np.stack([_modality(frame, dataset, index, facts) for index, frame in enumerate(stored)])
    unit = "HU" if facts.modality == "CT" else "relative"
    inverted = facts.photometric == "MONOCHROME1" or text(dataset, "PresentationLUTShape") == "INVERSE"
    if facts.modality in PROJECTION_MODALITIES:
        shown = _voi(values, dataset)
        if shown is not None:
            values, unit = shown, "voi"
    if padding is not None:
        # The background is what shows as black.
        low, high = (values[~padding].min(), values[~padding].max()) if not padding.all() else (0, 0)
        values[padding] = AIR_HU if unit == "HU" else (high if inverted else low)
    if inverted:
        values = (1 - values) if unit == "voi" else (values.max() + values.min() - values)
    return _narrow(values), unit


def _padding(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Return which stored values are padding, (0028,0120) to (0028,0121)."""
    value, limit = dataset.get("PixelPaddingValue"), dataset.get("PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    other = limit if isinstance(limit, int) else value
    mask = (stored >= min(value, other)) & (stored <= max(value, other))
    return mask if mask.any() else None


def _modality(frame: NDArray[Any], dataset: Dataset, index: int, facts: Facts) -> NDArray[np.float32]:
    tables = dataset.get("ModalityLUTSequence")
    if tables:
        return _look_up(frame, tables[0])[0]
    group = "PixelValueTransformationSequence"
    try:
        slope = numbers([frame_value(dataset, index, group, "RescaleSlope")], 1)
        intercept = numbers([frame_value(dataset, index, group, "RescaleIntercept")], 1)
    except Exception as error:  # pydicom parses values when they are asked for, and raises whatever that trips over
        raise Refused("broken_header", str(error)) from None
    if slope is None or intercept is None:
        if facts.modality == "CT":
            raise Refused("no_rescale")
        return frame.astype(np.float32)
    values = frame.astype(np.float64) * slope[0] + intercept[0]
    if np.abs(values).max() > LARGEST:
        raise Refused("broken_header", "the rescale slope or intercept is absurd")
    return np.asarray(values, np.float32)


def _look_up(values: NDArray[Any], table: Dataset) -> tuple[NDArray[np.float32], float]:
    """Return looked-up values and the table's largest possible output."""
    try:
        entries, first, bits = (int(item) for item in table.LUTDescriptor)
        entries = entries or 65536
        data = table.LUTData
        raw = np.frombuffer(data, "<u2") if isinstance(data, bytes) else np.asarray(data, np.uint16)
    except Exception as error:  # a broken table
        raise Refused("broken_header", f"LUT: {error}") from None
    if raw.size * 2 == entries and bits <= 8:
        raw = raw.view(np.uint8).astype(np.uint16)
    if raw.size < entries or entries < 1:
        raise Refused("broken_header", "LUT is shorter than its descriptor says")
    if first > 32767 and np.issubdtype(values.dtype, np.signedinteger):
        first -= 65536
    index = np.clip(values.astype(np.int64) - first, 0, entries - 1)
    return raw[index].astype(np.float32), float(2 ** min(max(bits, 1), 16) - 1)


def _voi(values: NDArray[np.float32], dataset: Dataset) -> NDArray[np.float32] | None:
    """Return values from 0 to 1 as the display shows them; None where the file doesn't say."""
    tables = dataset.get("VOILUTSequence")
    if tables:
        shown, highest = _look_up(np.rint(values), tables[0])
        return np.asarray(shown / highest, np.float32)
    center, width = (_first_number(dataset, name) for name in ("WindowCenter", "WindowWidth"))
    if center is None or width is None:
        return None
    return window(values, center, width, text(dataset, "VOILUTFunction") or "LINEAR")


def _first_number(dataset: Dataset, keyword: str) -> float | None:
    try:
        return float(text(dataset, keyword).split("\\")[0])
    except ValueError:
        return None


def window(values: NDArray[Any], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    """Return values mapped to 0…1 by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Raises:
        Refused: ``broken_header`` for a width that the function does not allow.
    """
    if width < 1 if function == "LINEAR" else width <= 0:
        raise Refused("broken_header", f"window width {width}")
    wide = values.astype(np.float64)
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (wide - center) / width, -60, 60)))
    elif function == "LINEAR_EXACT":
        shown = (wide - center) / width + 0.5
    else:
        shown = (wide - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.clip(shown, 0, 1).astype(np.float32)


def to_rgb(stored: NDArray[Any], dataset: Dataset) -> NDArray[Any]:
    """Return color values [frames, rows, columns, 3] as RGB; JPEG 2000's own color transforms are already undone."""
    photometric = text(dataset, "PhotometricInterpretation")
    if stored.shape[-1] != 3 or stored.dtype != np.uint8:
        raise Refused("unsupported_pixels", f"{photometric} {stored.dtype}")
    if photometric in ("YBR_FULL", "YBR_FULL_422"):
        return np.stack([convert_color_space(frame, "YBR_FULL", "RGB") for frame in stored])
    return stored


def luma(color: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the brightness (ITU-R BT.601) of 8-bit color values [..., 3]."""
    weighted = color[..., 0] * 0.299 + color[..., 1] * 0.587 + color[..., 2] * 0.114
    return np.rint(weighted).clip(0, 255).astype(np.uint8)


def _narrow(values: NDArray[np.float32]) -> NDArray[Any]:
    """Return int16 where nothing is lost: half the bytes to hand over."""
    if values.size and values.min() >= -32768 and values.max() <= 32767:
        narrow = values.astype(np.int16)
        if np.array_equal(narrow, values):
            return narrow
    return values
