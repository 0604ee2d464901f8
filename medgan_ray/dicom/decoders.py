"""The ladder of decoders: for each transfer syntax those that read it, the most trusted first; the next if one fails.

Pillow (HPND), OpenJPEG, CharLS, pylibjpeg-rle and GDCM are permissive; ``pylibjpeg`` stands for libjpeg (GPL-3) where
the syntax is JPEG, and is there only if the extra ``libjpeg`` was installed. All of them are C: call this through
``sandbox`` alone.
"""

import functools
import importlib
import itertools
import tempfile
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
)

from medgan_ray.dicom import codestream, lean
from medgan_ray.dicom.facts import Facts, tag_of, value_of
from medgan_ray.dicom.refusals import Refused

DEFLATED_FRAMES = "1.2.840.10008.1.2.8.1"
"""Deflated Image Frame Compression (PS3.5 A.4.13), which pydicom does not know yet."""

GE_PRIVATE = "1.2.840.113619.5.2"
"""GE's implicit VR with pixels in big-endian order."""

_LITTLE = (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)
_JPEG = "1.2.840.10008.1.2.4."
_GDCM_FILE = "gdcm_file"
_LADDERS: dict[str, tuple[str, ...]] = {
    # Lossy 8-bit JPEG first by the decoder whose values are DCMTK's and GDCM's; 12 bits by GDCM alone.
    _JPEG + "50": ("pillow", "gdcm", _GDCM_FILE, "pylibjpeg"),
    _JPEG + "51": ("pillow", "gdcm", _GDCM_FILE, "pylibjpeg"),
    # JPEG lossless never by libjpeg first: it reads one file of the field's test sets differently from all others.
    _JPEG + "57": ("gdcm", _GDCM_FILE, "pylibjpeg"),
    _JPEG + "70": ("gdcm", _GDCM_FILE, "pylibjpeg"),
    _JPEG + "80": ("pyjpegls", "gdcm", "pylibjpeg"),
    _JPEG + "81": ("pyjpegls", "gdcm", "pylibjpeg"),
    _JPEG + "90": ("pylibjpeg", "gdcm", "pillow"),
    _JPEG + "91": ("pylibjpeg", "gdcm", "pillow"),
    _JPEG + "201": ("pylibjpeg",),
    _JPEG + "202": ("pylibjpeg",),
    _JPEG + "203": ("pylibjpeg",),
    "1.2.840.10008.1.2.5": ("pylibjpeg", "pydicom"),
    GE_PRIVATE: (_GDCM_FILE,),
}
_OTHER_JPEG = (_GDCM_FILE,)
"""The retired processes 6 and 8, 10 and 12, and their like (1.2.840.10008.1.2.4.52 to 66)."""

_PACKED_BITS = 12
"""ACR-NEMA packs two pixels of twelve bits into three bytes: GDCM unpacks them."""


def stored_values(dataset: FileDataset, facts: Facts) -> NDArray[Any]:
    """Return the stored values [frames, rows, columns(, samples)] in the file's own type, without stray bits.

    The byte order is the machine's.

    Raises:
        Refused: ``undecodable`` if no decoder reads them.
    """
    said = ""
    for rung in _rungs(facts):
        try:
            array = rung(dataset, facts)
            array = array.astype(array.dtype.newbyteorder("="), copy=False)  # what views it must not swap its bytes
            frames = array.reshape(facts.frames, facts.rows, facts.columns, facts.samples)
            return frames if facts.samples > 1 else frames[..., 0]
        except (KeyboardInterrupt, SystemExit, MemoryError, Refused):
            raise
        except BaseException as error:  # decoders raise whatever they trip over; panics of Rust are no Exception
            said = said or str(error)
    raise Refused("undecodable", said or f"no decoder for transfer syntax {facts.transfer_syntax}")


def _rungs(facts: Facts) -> list[Callable[[FileDataset, Facts], NDArray[Any]]]:
    syntax = facts.transfer_syntax
    if syntax == DEFLATED_FRAMES:
        return [_inflated]
    if facts.bits == _PACKED_BITS and syntax in (*_LITTLE, ExplicitVRBigEndian):
        return [_by_gdcm]
    names = _LADDERS.get(syntax)
    if names is None and syntax.startswith((_JPEG + "5", _JPEG + "6")):
        names = _OTHER_JPEG
    if names is None:
        return [_native]
    return [_by_gdcm if name == _GDCM_FILE else _plugin(name) for name in names]


def _native(dataset: FileDataset, facts: Facts) -> NDArray[Any]:
    stored, high = value_of(dataset, "BitsStored"), value_of(dataset, "HighBit")
    plain = facts.samples == 1 and facts.bits in (8, 16, 32) and facts.transfer_syntax in _LITTLE
    if plain and tag_of("PixelData") in dataset:
        # What most files of an archive are, without the detours that all the others need.
        count = facts.rows * facts.columns * facts.frames
        kind = f"<{'i' if dataset.PixelRepresentation == 1 else 'u'}{facts.bits // 8}"
        array: NDArray[Any] = np.frombuffer(dataset.PixelData, kind, count)
        top = high if isinstance(high, int) and stored - 1 < high < facts.bits else stored - 1
        return array if stored == facts.bits else keep_bits(array, stored, top)
    decoder: Any = get_decoder(UID(facts.transfer_syntax))
    return np.asarray(decoder.as_array(dataset, raw=True, allow_excess_frames=False)[0])


def _plugin(name: str) -> Callable[[FileDataset, Facts], NDArray[Any]]:
    def decode(dataset: FileDataset, facts: Facts) -> NDArray[Any]:
        if name == "gdcm":
            _frames_for_gdcm(dataset, facts)
        decoder = _with_plugin(UID(facts.transfer_syntax), name)
        # Frames beyond those that the header claims are no part of what was checked.
        return np.asarray(decoder.as_array(dataset, raw=True, decoding_plugin=name, allow_excess_frames=False)[0])

    return decode


@functools.cache
def _with_plugin(syntax: UID, name: str) -> Any:
    """Return pydicom's decoder for a transfer syntax, with one of its plug-ins, if that is installed."""
    decoder: Any = get_decoder(syntax)
    if name not in decoder.available_plugins:
        lean.let_in(name)
        module = importlib.reload(importlib.import_module(f"pydicom.pixels.decoders.{name}"))
        decoder.remove_plugin(name)
        decoder.add_plugin(name, (module.__name__, "_decode_frame"))
    return decoder


def keep_bits(array: NDArray[Any], stored: int, high: int) -> NDArray[Any]:
    """Return integers of which only the ``stored`` bits that end at bit ``high`` count, sign-extended if signed."""
    width = 8 * array.dtype.itemsize
    if not 0 < stored <= high + 1 <= width:
        raise ValueError(f"{stored} bits that end at bit {high} of {width}")
    if array.dtype.kind == "u" and high == stored - 1:
        return np.asarray(array & array.dtype.type((1 << stored) - 1))
    return np.asarray((array << (width - 1 - high)) >> (width - stored))


def _inflated(dataset: FileDataset, facts: Facts) -> NDArray[Any]:
    """Return frames that are deflated one by one, each to no more bytes than it needs."""
    pixels = facts.rows * facts.columns * facts.samples
    limit = (pixels * facts.bits + 7) // 8
    options = {
        "rows": facts.rows, "columns": facts.columns, "samples_per_pixel": facts.samples, "number_of_frames": 1,
        "bits_allocated": facts.bits, "bits_stored": int(dataset.BitsStored), "pixel_keyword": "PixelData",
        "pixel_representation": int(dataset.PixelRepresentation), "photometric_interpretation": facts.photometric,
        "planar_configuration": int(dataset.get("PlanarConfiguration") or 0), "pixel_vr": "OW",
    }  # fmt: skip
    decoder: Any = get_decoder(ExplicitVRLittleEndian)
    frames = []
    for frame in itertools.islice(generate_frames(dataset.PixelData, number_of_frames=facts.frames), facts.frames):
        plain = zlib.decompressobj(-zlib.MAX_WBITS).decompress(frame, limit)
        if len(plain) < limit:
            raise Refused("truncated_pixels", f"{len(plain)} of {limit} bytes")
        frames.append(decoder.as_array(plain, raw=True, **options)[0])
    return np.stack(frames)


def _by_gdcm(dataset: FileDataset, facts: Facts) -> NDArray[Any]:
    """Return the stored values as GDCM reads a file: any JPEG, packed bits, GE's syntax."""
    lean.let_in("gdcm")
    import gdcm

    plain = _pixels_alone(dataset, facts)
    # Has no name: a process that is killed here leaves no scan behind.
    with tempfile.TemporaryFile() as file:
        file.write(plain)
        file.seek(0)
        reader = gdcm.ImageReader()
        reader.SetFileName(f"/dev/fd/{file.fileno()}")
        if not reader.Read():
            raise ValueError("GDCM does not read it")
        image = reader.GetImage()
        form = image.GetPixelFormat()
        kind = {
            gdcm.PixelFormat.UINT8: "u1", gdcm.PixelFormat.INT8: "i1", gdcm.PixelFormat.UINT16: "u2",
            gdcm.PixelFormat.INT16: "i2", gdcm.PixelFormat.UINT12: "u2", gdcm.PixelFormat.INT12: "i2",
        }.get(form.GetScalarType())  # fmt: skip
        count = facts.rows * facts.columns * facts.frames * facts.samples
        if kind is None or image.GetBufferLength() != count * int(kind[1]):
            raise ValueError("GDCM reads another number of values than the header gives")
        buffer = image.GetBuffer().encode("utf-8", "surrogateescape")
    array = np.frombuffer(buffer, kind)
    if array.size != count:
        raise ValueError("GDCM reads another number of values than the header gives")
    stored = int(dataset.get("BitsStored") or form.GetBitsStored())
    planar = facts.samples > 1 and image.GetPlanarConfiguration() == 1
    if planar:
        array = array.reshape(facts.frames, facts.samples, -1).swapaxes(1, 2)
    return keep_bits(array, stored, stored - 1) if stored < 8 * array.dtype.itemsize else array


def _frames_for_gdcm(dataset: FileDataset, facts: Facts) -> list[bytes]:
    """Return the frames of JPEG and its kin, unless GDCM would end the process over them."""
    frames = list(itertools.islice(generate_frames(dataset.PixelData, number_of_frames=facts.frames), facts.frames))
    if facts.bits > 16 or any(codestream.frame_shape(frame) is None for frame in frames):
        raise ValueError("no JPEG that GDCM reads")
    return frames


def _pixels_alone(dataset: FileDataset, facts: Facts) -> bytes:
    """Return a DICOM file of nothing but pixels and what describes them.

    GDCM parses a file by itself and allocates what its lengths claim: it never sees the file as it came.
    """
    kept = Dataset()
    for keyword in ("PlanarConfiguration", "PixelRepresentation"):
        setattr(kept, keyword, int(dataset.get(keyword) == 1))
    for keyword in ("BitsStored", "HighBit"):
        if isinstance(dataset.get(keyword), int):
            setattr(kept, keyword, dataset[keyword].value)
    kept.SamplesPerPixel, kept.PhotometricInterpretation = facts.samples, facts.photometric or "MONOCHROME2"
    kept.NumberOfFrames, kept.BitsAllocated = facts.frames, facts.bits
    kept.Rows, kept.Columns = facts.rows, facts.columns
    kept.SOPClassUID, kept.SOPInstanceUID = SecondaryCaptureImageStorage, "2.25.1"
    kept.file_meta = FileMetaDataset()
    kept.file_meta.TransferSyntaxUID = UID(facts.transfer_syntax)
    pixels, encapsulated = dataset.PixelData, facts.transfer_syntax.startswith(_JPEG)
    if encapsulated:
        pixels = encapsulate(_frames_for_gdcm(dataset, facts))
    kept.PixelData = pixels
    kept["PixelData"].VR, kept["PixelData"].is_undefined_length = "OB" if encapsulated else "OW", encapsulated
    buffer = BytesIO()
    implicit = facts.transfer_syntax in (ImplicitVRLittleEndian, GE_PRIVATE)
    little = facts.transfer_syntax != ExplicitVRBigEndian
    pydicom.dcmwrite(buffer, kept, implicit_vr=implicit, little_endian=little, enforce_file_format=True)
    return buffer.getvalue()
