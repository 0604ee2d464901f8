"""From stored values to the values of the modality: padding, modality transform, VOI, inversion, brightness.

Sources: DICOM PS3.3 C.7.5.1.1.2 (pixel padding), C.11.1 (modality LUT), C.11.2 (VOI LUT), C.7.6.3.1.2 (photometric
interpretation); ITU-R BT.601 (luma).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_color_lut

from medgan_ray.dicom.facts import Facts, frame_value, numbers, tag_of, text, value_of
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.uptake import suv_factor

PROJECTION_MODALITIES = ("CR", "DX", "MG", "XA", "RF", "PX", "IO", "RG")
GREY = ("MONOCHROME1", "MONOCHROME2")
COLOR = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
AIR_HU = -1000.0
MAX_SEGMENTED = 1 << 17
"""Entries and segments of a palette that is written in segments (PS3.3 C.7.9.2): a table has at most 65536 entries."""
LARGEST = 1e12
"""Rescaled values beyond this are nobody's measurement."""


def to_values(stored: NDArray[Any], dataset: Dataset, facts: Facts) -> tuple[NDArray[Any], str]:
    """Return values [frames, rows, columns] (int16 where that is exact, else float32) and their unit.

    Raises:
        Refused: ``no_rescale`` for CT without rescale, ``no_suv``, ``unsupported_pixels`` or ``broken_header``.
    """
    if facts.photometric not in GREY and facts.photometric:  # ACR-NEMA has none
        raise Refused("unsupported_pixels", facts.photometric)
    if stored.dtype.kind == "f" and not np.isfinite(stored).all():
        raise Refused("unsupported_pixels", "values that are no numbers")
    padding = _padding(stored, dataset)
    values, unit = _modality(stored, dataset, facts), "HU" if facts.modality == "CT" else "relative"
    dark = facts.photometric == "MONOCHROME1" or text(dataset, "PresentationLUTShape") == "INVERSE"
    if facts.modality in PROJECTION_MODALITIES:
        shown = _voi(values, dataset)
        if shown is not None:
            values, unit = shown, "voi"
    elif facts.modality == "PT":
        values, unit = values * np.float32(suv_factor(dataset)), "SUV"
    inverted = dark and unit in ("voi", "relative")  # measured values are what they are, however they are displayed
    if padding is not None:
        values = values if values.flags.writeable else values.copy()
        np.copyto(values, AIR_HU if unit == "HU" else _background(values[~padding], inverted), "unsafe", padding)
    return (_inverted(values, unit) if inverted else values), unit


def _padding(stored: NDArray[Any], dataset: Dataset) -> NDArray[np.bool_] | None:
    """Return which stored values are padding, (0028,0120) to (0028,0121); None if none is."""
    value, limit = value_of(dataset, "PixelPaddingValue"), value_of(dataset, "PixelPaddingRangeLimit")
    if not isinstance(value, int):
        return None
    first, last = _as_stored(value, stored.dtype), _as_stored(limit if isinstance(limit, int) else value, stored.dtype)
    mask = stored == first if first == last else (stored >= min(first, last)) & (stored <= max(first, last))
    return mask if mask.any() else None


def _as_stored(value: int, kind: np.dtype[Any]) -> int:
    """Return a padding value in the type of the stored ones: many headers write a negative one unsigned."""
    top = 1 << (8 * kind.itemsize)
    return value - top if kind.kind == "i" and top // 2 <= value < top else value


def _background(values: NDArray[Any], inverted: bool) -> float:
    """Return the value that shows as black."""
    if not values.size:
        return 0.0
    return float(values.max() if inverted else values.min())


def _inverted(values: NDArray[Any], unit: str) -> NDArray[Any]:
    if unit == "voi":
        return np.asarray(1 - values)
    # Not about the middle of its own range: the slices of a series share a scale.
    return np.asarray(-values.astype(np.float32))


def _modality(stored: NDArray[Any], dataset: Dataset, facts: Facts) -> NDArray[Any]:
    """Return stored values through the modality LUT, or rescaled, each frame by its own numbers."""
    tables = value_of(dataset, "ModalityLUTSequence")
    if tables:
        return _look_up(stored, tables[0])[0]
    shared = tag_of("PerFrameFunctionalGroupsSequence") not in dataset
    lines = [_line(dataset, frame, facts) for frame in range(1 if shared else len(stored))]
    if len(set(lines)) == 1:
        return _rescaled(stored, *lines[0])
    frames = [_rescaled(frame, *line) for frame, line in zip(stored, lines, strict=True)]
    return np.stack(frames)


def _line(dataset: Dataset, frame: int, facts: Facts) -> tuple[float, float]:
    """Return slope and intercept of a frame, (0028,1053) and (0028,1052)."""
    group = "PixelValueTransformationSequence"
    try:
        slope = numbers([frame_value(dataset, frame, group, "RescaleSlope")], 1)
        intercept = numbers([frame_value(dataset, frame, group, "RescaleIntercept")], 1)
    except Exception as error:  # pydicom parses values when they are asked for, and raises whatever that trips over
        raise Refused("broken_header", str(error)) from None
    if slope is None or intercept is None:
        if facts.modality == "CT":
            raise Refused("no_rescale")
        return 1.0, 0.0
    return slope[0], intercept[0]


def _rescaled(stored: NDArray[Any], slope: float, intercept: float) -> NDArray[Any]:
    """Return int16 where nothing is lost by it (half the bytes to hand over), else float32."""
    ends = [float(stored.min()), float(stored.max())]
    results = [end * slope + intercept for end in ends]
    if max(map(abs, results)) > LARGEST:
        raise Refused("broken_header", "the rescale slope or intercept is absurd")
    whole = stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer()
    if whole and min(ends + results) >= -32768 and max(ends + results) <= 32767:
        if slope == 1 and stored.dtype.itemsize == 2:
            return stored.view(np.int16) if intercept == 0 else stored.view(np.int16) + np.int16(intercept)
        return np.asarray(stored.astype(np.int16) * np.int16(slope) + np.int16(intercept))
    if slope == 1 and intercept == 0:
        return stored.astype(np.float32)
    return (stored * slope + intercept).astype(np.float32)


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
    if first > 32767 and (values.dtype.kind == "i" or values.min() < 0):
        first -= 65536
    index = np.clip(values.astype(np.int64) - first, 0, entries - 1)
    return raw[index].astype(np.float32), float(2 ** min(max(bits, 1), 16) - 1)


def _voi(values: NDArray[Any], dataset: Dataset) -> NDArray[np.float32] | None:
    """Return values from 0 to 1 as the display shows them; None where the file doesn't say, for each frame."""
    tables = value_of(dataset, "VOILUTSequence")
    if tables:
        shown, highest = _look_up(np.rint(values), tables[0])
        return np.asarray(np.minimum(shown / highest, 1), np.float32)  # entries may have more bits than they say
    shared = "PerFrameFunctionalGroupsSequence" not in dataset
    windows = [_window_of(dataset, frame) for frame in range(1 if shared else len(values))]
    known = [each for each in windows if each is not None]
    if len(known) < len(windows):
        return None
    if len(set(known)) == 1:
        return window(values, *known[0])
    return np.stack([window(frame, *each) for frame, each in zip(values, known, strict=True)])


def _window_of(dataset: Dataset, frame: int) -> tuple[float, float, str] | None:
    """Return center, width and function of a frame: (0028,1050), (0028,1051) and (0028,1056), of several the first."""
    names = ("WindowCenter", "WindowWidth", "VOILUTFunction")
    try:
        found = [frame_value(dataset, frame, "FrameVOILUTSequence", name) for name in names]
        first = [each[0] if hasattr(each, "append") or isinstance(each, (list, tuple)) else each for each in found]
        center, width = float(first[0]), float(first[1])
    except Exception:  # pydicom parses values when they are asked for, and raises whatever that trips over
        return None
    return (center, width, str(first[2] or "LINEAR")) if abs(center) <= LARGEST and abs(width) <= LARGEST else None


def window(values: NDArray[Any], center: float, width: float, function: str = "LINEAR") -> NDArray[np.float32]:
    """Return values mapped to 0…1 by a window (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    Raises:
        Refused: ``broken_header`` for a width that the function does not allow.
    """
    if width < 1 if function == "LINEAR" else width <= 0:
        raise Refused("broken_header", f"window width {width}")
    wide = values.astype(np.float32)
    if function == "SIGMOID":
        shown = 1 / (1 + np.exp(np.clip(-4 * (wide - center) / width, -60, 60)))
    elif function == "LINEAR_EXACT":
        shown = (wide - center) / width + 0.5
    else:
        shown = (wide - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return np.asarray(np.clip(shown, 0, 1), np.float32)


def brightness(stored: NDArray[Any], dataset: Dataset, facts: Facts) -> NDArray[np.uint8]:
    """Return the brightness [frames, rows, columns], 0 to 255, of color or palette values.

    JPEG 2000's own color transforms are already undone; of YBR_FULL the brightness is a channel: nothing is converted.

    Raises:
        Refused: ``unsupported_pixels`` or ``broken_header``.
    """
    if facts.photometric == "PALETTE COLOR":
        try:
            for name in ("Red", "Green", "Blue", "Alpha"):
                _check_segments(dataset, name)
            color = apply_color_lut(stored, dataset)
        except Exception as error:  # a broken table
            raise Refused("broken_header", f"palette: {error}") from None
        return luma(color[..., :3], 8 * color.dtype.itemsize)
    if facts.photometric not in COLOR or stored.shape[-1] != 3 or stored.dtype.kind != "u":
        raise Refused("unsupported_pixels", f"{facts.photometric} {stored.dtype}")
    bits = int(value_of(dataset, "BitsStored") or facts.bits)
    if facts.photometric.startswith("YBR_FULL"):
        luminance = stored[..., 0]
        return luminance if luminance.dtype == np.uint8 and bits == 8 else _to_8_bits(luminance, bits)
    return luma(stored, bits)


def _check_segments(dataset: Dataset, name: str) -> None:
    """Raise if a segmented palette unpacks to more than a table holds: a few bytes can ask for gigabytes."""
    data = dataset.get(f"Segmented{name}PaletteColorLookupTableData")
    if data:
        kind = "<u1" if dataset[f"{name}PaletteColorLookupTableDescriptor"].value[2] == 8 else "<u2"
        words = np.frombuffer(data, kind, len(data) // np.dtype(kind).itemsize)
        if _segmented_entries(words, 0, len(words)) > MAX_SEGMENTED:
            raise ValueError("its segments have too many entries")


def _segmented_entries(words: NDArray[Any], at: int, segments: int, inner: bool = False) -> int:
    """Return how many entries and segments there are, or more than ``MAX_SEGMENTED``."""
    total, pointer = 0, 4 if words.dtype.itemsize == 1 else 2
    while segments and at + 1 < len(words) and total <= MAX_SEGMENTED:
        code, length = int(words[at]), int(words[at + 1])
        at, segments = at + 2, segments - 1
        if code == 2:  # again some segments that were there before, but none of this kind
            if inner:
                return MAX_SEGMENTED + 1
            start = int.from_bytes(words[at : at + pointer].tobytes(), "little")
            total, at = total + _segmented_entries(words, start, length, inner=True), at + pointer
        else:  # values as they are, or a line to a value
            total, at = total + length, at + (length if code == 0 else 1)
        total += 1
    return total


def luma(color: NDArray[Any], bits: int = 8) -> NDArray[np.uint8]:
    """Return the brightness (ITU-R BT.601) of color values [..., 3] of so many bits, 0 to 255."""
    wide = np.float32 if bits <= 8 else np.float64
    weighted = color[..., 0] * wide(0.299) + color[..., 1] * wide(0.587) + color[..., 2] * wide(0.114)
    return _to_8_bits(weighted, bits)


def _to_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    return np.asarray(np.rint(values * (255 / (2**bits - 1))).clip(0, 255), np.uint8)
