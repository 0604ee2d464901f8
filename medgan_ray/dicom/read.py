"""Reads a scan (DICOM, NIfTI, NPZ, PNG, JPEG, TIFF; by content) into values with geometry, or refuses with a code.

The order of the transforms is that of the DICOM standard (PS3.3 C.11 and C.7.6.3): stored value, padding, modality
transform, VOI where the modality asks for it, inversion. Untrusted bytes: call this through ``sandbox`` alone.
"""

import functools
import hashlib
import itertools
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from medgan_ray.dicom import codestream, decoders, transforms
from medgan_ray.dicom.facts import MAX_FRAMES, Facts, Options, gather, header_verdict, tag_of, text, value_of
from medgan_ray.dicom.header import SliceHeader, gather_slices
from medgan_ray.dicom.parse import PIXEL_KEYWORDS, open_dicom
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.volumes import is_volume, read_volume

MAX_PICTURE_FRAMES = 1 << 12
"""Pages of a TIFF, which can be a hundred bytes each, but take half a millisecond."""

GREY_TOLERANCE = 8
"""Color channels that differ by no more than this are a grey picture saved as color (JPEG rounds its chroma)."""


@dataclass(frozen=True)
class Scan:
    """What was read: facts from the header, and ``values`` [frames, rows, columns] in ``facts.unit``; or no values.

    ``slices`` has the header of each frame, where they were asked for and the file is DICOM.
    """

    facts: Facts
    values: NDArray[Any] | None
    slices: tuple[SliceHeader, ...] = ()


def read_scan(data: bytes, options: Options, tell: Callable[[int], None] = lambda samples: None) -> Scan:
    """Return the values and facts of a file.

    Args:
        data: the whole file.
        options: what to take. When only looking, what ingest would refuse stands in ``facts.verdict``, and ``values``
            is None for it.
        tell: is told how many samples a DICOM file claims, before a decoder is asked for them.

    Raises:
        Refused: with a code of ``REFUSALS``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if codestream.is_picture(data):
            return _together(_read_picture(data, options), data)
        if data[128:132] != b"DICM" and is_volume(data):
            if not options.volumes:
                raise Refused("not_an_image", "a volume")
            return read_volume(data, options)
        return _together(_read_dicom(data, options, tell), data)


def _together(scan: Scan, data: bytes) -> Scan:
    """Return a scan whose frames are known to belong together: a stack that names nobody is a series of its own."""
    facts = scan.facts
    if facts.frames == 1 or any(name.strip() for name in (facts.patient, facts.study, facts.series)):
        return scan
    return Scan(facts.replace(series=hashlib.sha256(data).hexdigest()), scan.values)


def _read_dicom(data: bytes, options: Options, tell: Callable[[int], None]) -> Scan:
    dataset = open_dicom(data, (options.label_attribute, options.group_attribute), whole=options.headers)
    facts = gather(dataset)
    asked = {"label": options.label_attribute, "group": options.group_attribute}
    facts = facts.replace(**{name: text(dataset, keyword).strip() for name, keyword in asked.items() if keyword})
    verdict = header_verdict(dataset, facts, options)
    if not options.inspect:
        if verdict:
            raise Refused(verdict)
        scan = _values(_stored(dataset, facts, options, tell), dataset, facts)
        return replace(scan, slices=_slices(dataset, scan.facts)) if options.headers else scan
    if verdict == "no_pixels":
        return Scan(facts.replace(verdict=verdict), None)
    try:
        stored = _stored(dataset, facts, options, tell)
    except Refused:
        if not verdict:
            raise
        # The number of frames is a mere claim: no place is listed for each.
        return Scan(facts.replace(verdict=verdict, positions=(), orientations=(), spacings=()), None)
    facts = facts.replace(stored_sha256=_digest(stored), frames=len(stored), verdict=verdict)
    if verdict:
        return Scan(facts, None)
    try:
        return _values(stored, dataset, facts)
    except Refused as refusal:
        return Scan(facts.replace(verdict=refusal.code), None)


def _slices(dataset: FileDataset, facts: Facts) -> tuple[SliceHeader, ...]:
    pixels = dataset.get(next(name for name in PIXEL_KEYWORDS if name in dataset)) or b""
    return gather_slices(dataset, facts, len(pixels))


def _stored(dataset: FileDataset, facts: Facts, options: Options, tell: Callable[[int], None]) -> NDArray[Any]:
    _check_budget(dataset, facts, options.max_pixels)
    tell(facts.rows * facts.columns * facts.frames * facts.samples)
    return decoders.stored_values(dataset, facts)


def _values(stored: NDArray[Any], dataset: FileDataset, facts: Facts) -> Scan:
    facts = facts.replace(frames=len(stored))
    if facts.samples > 1 or facts.photometric == "PALETTE COLOR":
        return Scan(facts.replace(unit="grey", bits=8), transforms.brightness(stored, dataset, facts))
    values, unit = transforms.to_values(stored, dataset, facts)
    return Scan(facts.replace(unit=unit), values)


def _check_budget(dataset: FileDataset, facts: Facts, max_pixels: int) -> None:
    """Refuse claims that the bytes present cannot hold, before anything is allocated."""
    if min(facts.rows, facts.columns, facts.frames, facts.samples, facts.bits) < 1:
        raise Refused("broken_header", "rows, columns, frames, samples and bits must be positive")
    claimed = facts.rows * facts.columns * facts.frames * facts.samples
    if claimed > max_pixels or facts.frames > MAX_FRAMES:
        raise Refused("too_large", f"{claimed} pixels in {facts.frames} frames")
    keyword = next(name for name in PIXEL_KEYWORDS if tag_of(name) in dataset)
    if keyword == "PixelData":
        for needed in ("BitsStored", "PixelRepresentation"):
            if not isinstance(value_of(dataset, needed), int):
                raise Refused("broken_header", f"no {needed}")
    pixels = value_of(dataset, keyword) or b""
    if not pixels:
        raise Refused("no_pixels")
    needed_bytes = (claimed * facts.bits + 7) // 8
    if facts.transfer_syntax == decoders.DEFLATED_FRAMES or _is_encapsulated(facts.transfer_syntax):
        deflated = facts.transfer_syntax == decoders.DEFLATED_FRAMES
        expansion = codestream.DEFLATE_EXPANSION if deflated else codestream.RLE_EXPANSION
        shape = (facts.rows, facts.columns, facts.samples)
        codestream.check_frames(pixels, shape, facts.frames, needed_bytes // facts.frames, expansion)
        return
    subsampled = facts.photometric == "YBR_FULL_422"
    if len(pixels) < (needed_bytes * 2 // 3 if subsampled else needed_bytes):
        raise Refused("truncated_pixels", f"{len(pixels)} of {needed_bytes} bytes")


@functools.lru_cache(maxsize=256)
def _is_encapsulated(syntax: str) -> bool:
    uid = pydicom.uid.UID(syntax)
    return uid.is_transfer_syntax and uid.is_encapsulated


def _digest(stored: NDArray[Any]) -> str:
    """Return the SHA-256 of stored values, all frames, C order, little-endian."""
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).hexdigest()


def _read_picture(data: bytes, options: Options) -> Scan:
    from PIL import Image, UnidentifiedImageError

    codestream.check_scans(data)
    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
            values = np.stack(list(_picture_frames(image, options)))
    except (Refused, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Refused("not_an_image", str(error)) from None
    except Image.DecompressionBombError as error:
        raise Refused("too_large", str(error)) from None
    except Exception as error:  # Pillow raises whatever its parsing trips over
        raise Refused("undecodable", str(error)) from None
    facts = Facts(
        kind="image", modality="OT", unit="grey", rows=values.shape[1], columns=values.shape[2], frames=len(values),
        samples=1, bits=8 * values.dtype.itemsize, stored_sha256=_digest(values) if options.inspect else "",
    )  # fmt: skip
    return Scan(facts, values)


def _picture_frames(image: Any, options: Options) -> Iterator[NDArray[Any]]:
    """Yield frame after frame: to count those of a TIFF first would be to go through all of it."""
    for index in itertools.count():
        if index:
            try:
                image.seek(index)
            except EOFError:
                return
        if index >= MAX_PICTURE_FRAMES or image.width * image.height * (index + 1) > options.max_pixels:
            raise Refused("too_large", f"{image.width} x {image.height}, {index + 1} frames or more")
        yield _picture_frame(image, options)


def _picture_frame(image: Any, options: Options) -> NDArray[Any]:
    """Return one frame as uint8 or uint16 [H, W]."""
    if image.mode not in ("L", "RGB", "F") and not image.mode.startswith("I"):
        image = image.convert({"LA": "L", "1": "L"}.get(image.mode, "RGB"))
    array: NDArray[Any] = np.asarray(image)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.ndim == 3:
        wide = array.astype(np.int16)
        if np.ptp(wide[..., :3], axis=-1).max() > GREY_TOLERANCE and not options.luma:
            raise Refused("color")
        return transforms.luma(wide[..., :3])
    if array.dtype == np.int32 and array.min() >= 0 and array.max() <= 65535:
        array = array.astype(np.uint16)
    if array.dtype not in (np.uint8, np.uint16):
        raise Refused("unsupported_pixels", f"{image.mode} pictures")
    return array
