"""Reads one scan (DICOM, PNG, JPEG, TIFF; told apart by content) into values with geometry, or refuses with a code.

The order of the transforms is that of the DICOM standard (PS3.3 C.11 and C.7.6.3): stored value, padding, modality
transform, VOI where the modality asks for it, inversion. Untrusted bytes: call this through ``sandbox`` alone.
"""

import hashlib
import warnings
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import ImplicitVRLittleEndian

from medgan_ray.dicom import codestream, transforms
from medgan_ray.dicom.facts import Facts, Options, gather, header_verdict, text
from medgan_ray.dicom.refusals import Refused

MAX_PIXELS = 1 << 28
"""Samples a file may claim, all frames together."""

GREY_TOLERANCE = 8
"""Color channels that differ by no more than this are a grey picture saved as color (JPEG rounds its chroma)."""


@dataclass(frozen=True)
class Scan:
    """What was read: facts from the header, and ``values`` [frames, rows, columns] in ``facts.unit``; or no values."""

    facts: Facts
    values: NDArray[Any] | None


def read_scan(data: bytes, options: Options) -> Scan:
    """Return the values and facts of a file.

    Args:
        data: the whole file.
        options: what to take. When only looking, what ingest would refuse stands in ``facts.verdict``, and ``values``
            is None for it.

    Raises:
        Refused: with a code of ``REFUSALS``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        picture = codestream.is_picture(data)
        return _read_picture(data, options) if picture else _read_dicom(data, options)


def _read_dicom(data: bytes, options: Options) -> Scan:
    dataset = open_dicom(data)
    facts = gather(dataset)
    if options.label_attribute:
        facts = facts.replace(label=text(dataset, options.label_attribute).strip())
    verdict = header_verdict(dataset, facts, options)
    if verdict and not options.inspect:
        raise Refused(verdict)
    if verdict == "no_pixels":
        return Scan(facts.replace(verdict=verdict), None)
    _check_budget(dataset, facts)
    stored = stored_values(dataset, data, facts)
    facts = facts.replace(stored_sha256=_digest(stored), frames=len(stored), verdict=verdict)
    if verdict:
        return Scan(facts, None)
    if stored.ndim == 4:
        values: NDArray[Any] = transforms.luma(transforms.to_rgb(stored, dataset))
        return Scan(facts.replace(unit="grey"), values)
    try:
        values, unit = transforms.to_values(stored, dataset, facts)
    except Refused as refusal:
        if not options.inspect:
            raise
        return Scan(facts.replace(verdict=refusal.code), None)
    return Scan(facts.replace(unit=unit), values)


def open_dicom(data: bytes) -> FileDataset:
    """Return the data set of a DICOM file, with or without preamble and file meta information.

    Raises:
        Refused: ``empty_file``, ``not_an_image`` or ``broken_header``.
    """
    if not data:
        raise Refused("empty_file")
    marked = data[128:132] == b"DICM"
    if not marked and not codestream.looks_like_dicom(data):
        raise Refused("not_an_image")
    try:
        dataset = pydicom.dcmread(BytesIO(data), force=not marked)
        dataset.get("PixelData")
        if "TransferSyntaxUID" not in dataset.file_meta:
            dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
            if dataset.original_encoding[0] is False:
                little = dataset.original_encoding[1]
                dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(
                    "1.2.840.10008.1.2.1" if little else "1.2.840.10008.1.2.2"
                )
    except MemoryError:
        raise
    except Exception as error:  # pydicom raises whatever its parsing trips over
        raise Refused("broken_header", str(error)) from None
    if not len(dataset):
        raise Refused("broken_header", "no elements")
    return dataset


def _check_budget(dataset: Dataset, facts: Facts) -> None:
    """Refuse claims that the bytes present cannot hold, before anything is allocated."""
    claimed = facts.rows * facts.columns * facts.frames * facts.samples
    if min(facts.rows, facts.columns, facts.frames, facts.samples, facts.bits) < 1:
        raise Refused("broken_header", "rows, columns, frames, samples and bits must be positive")
    if claimed > MAX_PIXELS:
        raise Refused("too_large", f"{claimed} pixels")
    syntax = pydicom.uid.UID(facts.transfer_syntax)
    needed = (claimed * facts.bits + 7) // 8
    present = len(dataset.get(_pixel_keyword(dataset)) or b"")
    if present == 0:
        raise Refused("no_pixels")
    if syntax.is_transfer_syntax and syntax.is_encapsulated:
        codestream.check_frame(dataset.PixelData, facts.rows, facts.columns, needed)
        return
    subsampled = facts.photometric == "YBR_FULL_422"
    if present < (needed * 2 // 3 if subsampled else needed):
        raise Refused("truncated_pixels", f"{present} of {needed} bytes")


def _pixel_keyword(dataset: Dataset) -> str:
    names = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
    return next((name for name in names if name in dataset), "PixelData")


def stored_values(dataset: FileDataset, data: bytes, facts: Facts) -> NDArray[Any]:
    """Return the stored values [frames, rows, columns(, samples)] in the file's own type.

    Raises:
        Refused: ``undecodable`` if no decoder reads them.
    """
    array: NDArray[Any] | None
    try:
        decoder = get_decoder(pydicom.uid.UID(facts.transfer_syntax))
        array, _ = decoder.as_array(dataset, raw=True)
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever they trip over
        array = None
        if facts.transfer_syntax.startswith(codestream.GDCM_SYNTAXES):
            array = codestream.read_with_gdcm(data, facts.rows, facts.columns, facts.frames, facts.samples)
        if array is None:
            raise Refused("undecodable", str(error)) from None
    shape = (-1, facts.rows, facts.columns, facts.samples) if facts.samples > 1 else (-1, facts.rows, facts.columns)
    return array.reshape(shape)


def _digest(stored: NDArray[Any]) -> str:
    """Return the SHA-256 of stored values, all frames, C order, little-endian."""
    little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(np.ascontiguousarray(little).data).hexdigest()


def _read_picture(data: bytes, options: Options) -> Scan:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(BytesIO(data), formats=("PNG", "JPEG", "TIFF")) as image:
            frames = getattr(image, "n_frames", 1)
            if image.width * image.height * frames > MAX_PIXELS:
                raise Refused("too_large", f"{image.width} x {image.height} x {frames}")
            values = np.stack([_picture_frame(image, index, options) for index in range(frames)])
    except (Refused, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise Refused("not_an_image", str(error)) from None
    except Image.DecompressionBombError as error:
        raise Refused("too_large", str(error)) from None
    except Exception as error:  # Pillow raises whatever its parsing trips over
        raise Refused("undecodable", str(error)) from None
    facts = Facts(
        kind="image", modality="OT", unit="grey", rows=values.shape[1], columns=values.shape[2], frames=frames,
        samples=1, bits=8 * values.dtype.itemsize, stored_sha256=_digest(values),
    )  # fmt: skip
    return Scan(facts, values)


def _picture_frame(image: Any, index: int, options: Options) -> NDArray[Any]:
    """Return one frame as uint8 or uint16 [H, W]."""
    if index:
        image.seek(index)
    if image.mode in ("P", "PA", "RGBA", "LA", "1"):
        image = image.convert({"LA": "L", "1": "L"}.get(image.mode, "RGB"))
    array: NDArray[Any] = np.asarray(image)
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
