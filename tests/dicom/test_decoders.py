"""The ladder of decoders: what is encoded comes back, bit for bit; stray bits don't."""

import hashlib
import io
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from medgan_ray.dicom import decoders, phantom
from medgan_ray.dicom.decoders import DEFLATED_FRAMES, keep_bits, stored_values
from medgan_ray.dicom.facts import Options, gather
from medgan_ray.dicom.parse import open_dicom
from medgan_ray.dicom.sandbox import Limits, Source, decode, decode_one

DRAWN = np.random.default_rng(3)


def scan(values: NDArray[np.generic], stored: int = 0, high: int = -1) -> Dataset:
    """Return a header over values [rows, columns] or [frames, rows, columns] as they are in memory."""
    dataset = phantom.to_dicom(next(phantom.draw("mr", 1, 1, 16, 0)), 0)
    bits = 8 * values.dtype.itemsize
    dataset.BitsAllocated, dataset.BitsStored = bits, stored or bits
    dataset.HighBit = high if high >= 0 else dataset.BitsStored - 1
    dataset.PixelRepresentation = int(values.dtype.kind == "i")
    dataset.Rows, dataset.Columns = values.shape[-2:]
    if values.ndim == 3:
        dataset.NumberOfFrames = len(values)
    dataset.PixelData = values.tobytes() + b"\0" * (values.nbytes % 2)
    dataset["PixelData"].VR = "OB" if bits <= 8 else "OW"
    return dataset


def decoded(dataset: Dataset, change: Callable[[bytes], bytes] = bytes) -> NDArray[np.generic]:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    data = change(buffer.getvalue())
    opened = open_dicom(data)
    return stored_values(opened, gather(opened))


@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4"])
@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_native_integers(kind: str, syntax: UID) -> None:
    info = np.iinfo(kind)
    values = DRAWN.integers(info.min, info.max, (2, 7, 5), np.dtype(kind), endpoint=True)
    dataset = scan(values)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = values.astype(values.dtype.newbyteorder(">")).tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    if syntax == ExplicitVRBigEndian:
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, implicit_vr=False, little_endian=False, enforce_file_format=True)
        data = buffer.getvalue()
        found = stored_values(open_dicom(data), gather(open_dicom(data)))
    else:
        found = decoded(dataset)
    np.testing.assert_array_equal(found, values)


def test_single_bits() -> None:
    values = DRAWN.integers(0, 2, (3, 5, 7)).astype(np.uint8)
    dataset = scan(values)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 1, 1, 0
    packed = np.packbits(values.ravel(), bitorder="little").tobytes()
    dataset.PixelData = packed + b"\0" * (len(packed) % 2)
    np.testing.assert_array_equal(decoded(dataset), values)


@pytest.mark.parametrize("kind", ["<u2", "<i2"])
@pytest.mark.parametrize("high", [11, 13, 15])
def test_old_overlays_are_masked_and_signs_extended(kind: str, high: int) -> None:
    low, top = (-2048, 2047) if kind == "<i2" else (0, 4095)
    values = DRAWN.integers(low, top, (6, 8), endpoint=True).astype(kind)
    kept = ((values.view("<u2") & 0xFFF) << (high - 11)).astype("<u2")
    stray = DRAWN.integers(0, 1 << 16, values.shape).astype("<u2") & ~np.uint16(0xFFF << (high - 11))
    dataset = scan((kept | stray).view(kind), 12, high)
    np.testing.assert_array_equal(decoded(dataset)[0], values)


@pytest.mark.parametrize("high", [23, 31])
def test_stray_bits_of_32(high: int) -> None:
    values = DRAWN.integers(-(1 << 23), 1 << 23, (6, 8)).astype("<i4")
    kept = (values.view("<u4") & 0xFFFFFF) << (high - 23)
    stray = DRAWN.integers(0, 1 << 32, values.shape).astype("<u4") & ~np.uint32(0xFFFFFF << (high - 23))
    np.testing.assert_array_equal(decoded(scan((kept | stray).view("<i4"), 24, high))[0], values)


def test_bits_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="bit"):
        keep_bits(np.zeros(2, np.uint16), 12, 16)


def test_floats() -> None:
    values = DRAWN.standard_normal((4, 6)).astype("<f4")
    dataset = scan(values.view("<u4"))
    del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
    dataset.FloatPixelData = values.tobytes()
    np.testing.assert_array_equal(decoded(dataset)[0], values)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.parametrize("kind", ["u1", "i2", "u2"])
def test_lossless_codecs(syntax: UID, kind: str) -> None:
    values = DRAWN.integers(0, 200, (3, 48, 64)).astype(kind) - (50 if kind == "i2" else 0)
    dataset = scan(values.astype(kind))
    dataset.compress(syntax, generate_instance_uid=False)
    np.testing.assert_array_equal(decoded(dataset), values)


def test_frames_deflated_one_by_one() -> None:
    values = DRAWN.integers(0, 9, (3, 20, 30)).astype("<i2")
    dataset = scan(values)
    frames = []
    for frame in values:
        packer = zlib.compressobj(wbits=-15)
        frames.append(packer.compress(frame.tobytes()) + packer.flush())
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    same_length = DEFLATED_FRAMES.encode() + b"\0"
    found = decoded(dataset, lambda data: data.replace(JPEG2000Lossless.encode(), same_length, 1))
    np.testing.assert_array_equal(found, values)


def test_twelve_packed_bits() -> None:
    """ACR-NEMA's way: two pixels in three bytes, little end first."""
    values = DRAWN.integers(0, 4096, (8, 16)).astype(np.uint32)
    pairs = values.reshape(-1, 2)
    joined = (pairs[:, 0] | pairs[:, 1] << 12).astype("<u4")
    dataset = scan(values.astype("<u2"), 12)
    dataset.BitsAllocated = 12
    dataset.PixelData = joined.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    np.testing.assert_array_equal(decoded(dataset)[0], values)


def test_the_next_rung_reads_what_the_first_ones_cannot() -> None:
    """12-bit JPEG Extended: neither Pillow nor pydicom's GDCM plug-in takes it."""
    path = get_testdata_file("JPEG-lossy.dcm", download=False)
    assert isinstance(path, str)
    data = Path(path).read_bytes()
    opened = open_dicom(data)
    found = stored_values(opened, gather(opened))
    assert found.shape == (1, 1024, 256)
    by_dcmtk = "d30242775a414c01d616447854ebe3f2b20259822894bcd6891f879bcdcbf313"
    assert hashlib.sha256(found.astype("<u2").tobytes()).hexdigest() == by_dcmtk


def test_all_rungs_failing_has_a_code() -> None:
    """In a disposable process: GDCM ends its own on some of this."""
    dataset = scan(np.zeros((8, 8), np.uint8))
    dataset.PixelData = encapsulate([b"\xff\xd8 no jpeg at all"])
    dataset["PixelData"].is_undefined_length = True
    sources = []
    for syntax in ("50", "51", "53", "57", "70", "80", "90", "201"):
        dataset.file_meta.TransferSyntaxUID = UID("1.2.840.10008.1.2.4." + syntax)
        buffer = io.BytesIO()
        pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
        sources.append(Source(syntax, fetch=partial(bytes, buffer.getvalue())))
    assert {outcome.source.name: outcome.refusal for outcome in decode(sources, 1)} == dict.fromkeys(
        [source.name for source in sources], "undecodable"
    )


def test_libjpeg_is_never_needed_and_always_last() -> None:
    ladders = [decoders._LADDERS[f"1.2.840.10008.1.2.4.{end}"] for end in ("50", "51", "57", "70", "80", "81")]
    assert all(ladder[-1] == "pylibjpeg" and len(ladder) > 1 for ladder in ladders)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("syntax", [ExplicitVRBigEndian, RLELossless, JPEG2000Lossless])
def test_frames_beyond_the_claim_are_not_read(syntax: UID) -> None:
    """They are no part of what was checked against the limits."""
    values = DRAWN.integers(0, 200, (3, 48, 64)).astype("u2")
    dataset = scan(values)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = values.astype(">u2").tobytes()
        dataset.file_meta.TransferSyntaxUID = syntax
    else:
        dataset.compress(syntax, generate_instance_uid=False)
    dataset.NumberOfFrames = 2
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, little_endian=syntax != ExplicitVRBigEndian, implicit_vr=False)
    opened = open_dicom(buffer.getvalue())
    np.testing.assert_array_equal(stored_values(opened, gather(opened)), values[:2])


def test_deflated_frames_beyond_the_claim_are_not_read() -> None:
    values = DRAWN.integers(0, 9, (3, 20, 30)).astype("<i2")
    dataset = scan(values)
    frames = [zlib.compress(frame.tobytes(), wbits=-15) for frame in values]
    dataset.PixelData, dataset.NumberOfFrames = encapsulate(frames), 2
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    same_length = DEFLATED_FRAMES.encode() + b"\0"
    found = decoded(dataset, lambda data: data.replace(JPEG2000Lossless.encode(), same_length, 1))
    np.testing.assert_array_equal(found, values[:2])


def test_gdcm_meets_nothing_but_pixels() -> None:
    """It takes the lengths of this file's header for others, and allocates a gigabyte before it notices."""
    path = get_testdata_file("SC_rgb_jpeg.dcm", download=False)
    assert isinstance(path, str)
    data = bytearray(Path(path).read_bytes())
    at = data.index(b"\x28\x00\x03\x01\x02\x00\x00\x00") + 8
    data[at : at + 2] = b"\x02\x00"  # no Pixel Representation: every decoder before GDCM refuses it
    limits, options = Limits(memory_bytes=900 << 20), Options(luma=True, secondary=True)
    outcome = decode_one(Source("misread", fetch=partial(bytes, data)), options, limits)
    assert outcome.refusal == "" and outcome.values is not None and outcome.values.shape == (1, 256, 256)


def test_a_panic_is_a_decoder_that_fails() -> None:
    """The first decoder of RLE panics on a run of 33 where 16 bytes are left; the next one reads what it can."""
    whole, over = b"\x0f" + bytes(16) + b"\x80", b"\x20" + bytes(33)
    dataset = scan(np.zeros((4, 4), "u2"))
    dataset.PixelData = encapsulate([struct.pack("<16I", 2, 64, 64 + len(whole), *[0] * 13) + whole + over])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = RLELossless
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    outcome = decode_one(Source("panic", fetch=buffer.getvalue))
    assert outcome.refusal == "" and outcome.values is not None and not outcome.values.any()
