"""Small files that claim, or unpack to, far more than they are: each with the outcomes that it may have."""

import gzip
import io
import struct
import zipfile
import zlib
from collections.abc import Callable

import pydicom
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import UID, JPEG2000Lossless

from medgan_ray.dicom import phantom

JPEG = "1.2.840.10008.1.2.4."
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAMES = b"1.2.840.10008.1.2.8.1\0"
SIDE = 16384
"""Squared, as many samples as a file may claim."""

MEGABYTE = 1 << 20
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
_UNDEFINED = b"\xff\xff\xff\xff"


def scan(frames: list[bytes] | bytes, syntax: str = "", **changes: object) -> bytes:
    """Return a DICOM file around frames (compressed) or pixels (plain), with some attributes changed."""
    dataset = phantom.to_dicom(next(phantom.draw("xray", 1, 1, 16, 0)), 0)
    changes = {"BitsAllocated": 8, "BitsStored": 8, "HighBit": 7, "NumberOfFrames": 1} | changes
    for keyword, value in changes.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = frames if isinstance(frames, bytes) else encapsulate(frames)
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", not isinstance(frames, bytes)
    if syntax:
        dataset.file_meta.TransferSyntaxUID = UID(syntax)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def with_elements(elements: bytes, before: bytes = b"\x28\x00\x02\x00US") -> bytes:
    """Return a DICOM file with elements written into it in front of another one."""
    data = scan(bytes(256), Rows=16, Columns=16)
    at = data.index(before)
    return data[:at] + elements + data[at:]


def jpeg_2000(rows: int, columns: int, tile: int = 0, components: int = 1) -> bytes:
    """Return the codestream of 64 x 64 zeros that claims another size, tiles and number of components."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG2000", no_jp2=True)
    data = bytearray(buffer.getvalue())
    at = data.index(b"\xff\x51")
    struct.pack_into(">II", data, at + 6, columns, rows)
    struct.pack_into(">II", data, at + 22, tile or columns, tile or rows)
    struct.pack_into(">H", data, at + 38, components)
    return bytes(data)


def jpeg(rows: int, columns: int, kept: int = 400) -> bytes:
    """Return the beginning of a JPEG whose frame header claims a size."""
    buffer = io.BytesIO()
    Image.new("L", (64, 64)).save(buffer, "JPEG")
    data = bytearray(buffer.getvalue())
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, rows, columns)
    return bytes(data[:kept]) + b"\xff\xd9"


def jpeg_of_many_scans(side: int, scans: int) -> bytes:
    """Return a progressive JPEG that goes over its samples again and again."""
    buffer = io.BytesIO()
    Image.new("L", (side, side)).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    return data[:-2] + data[at : at + 12] * scans + data[-2:]


def jpeg_ls(rows: int, columns: int, body: bytes = bytes(50)) -> bytes:
    """Return a JPEG-LS that claims a size."""
    head = b"\xff\xd8\xff\xf7\0\x0b\x08" + struct.pack(">HH", rows, columns) + b"\1\1\x11\0"
    return head + b"\xff\xda\0\x08\1\1\0\0\0\0" + body + b"\xff\xd9"


def rle(rows: int, columns: int) -> bytes:
    """Return zeros, packed as tightly as RLE can."""
    return struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\0" * (rows * columns // 128)


def deflated_zeros(megabytes: int, end: bool = True) -> bytes:
    """Return raw deflate of zeros, a thousandth as long, made without packing all of them."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(bytes(MEGABYTE)) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * megabytes + (packer.flush() if end else b"")


def deflated_data_set() -> bytes:
    """Return a DICOM file whose data set inflates to a gigabyte."""
    data = scan(bytes(256)).replace(b"UI\x14\x001.2.840.10008.1.2.1\0", b"UI\x16\x001.2.840.10008.1.2.1.99")
    meta = 144 + int.from_bytes(data[140:144], "little") + 2
    longer = data[:140] + (meta - 144).to_bytes(4, "little") + data[144:meta]
    return longer + deflated_zeros(1024)


def deflated_frame(rows: int, columns: int, megabytes: int) -> bytes:
    """Return a DICOM file of one deflated frame that inflates to more than it claims."""
    data = scan([deflated_zeros(megabytes)], JPEG2000Lossless, Rows=rows, Columns=columns)
    return data.replace(JPEG2000Lossless.encode(), DEFLATED_FRAMES, 1)


def nested(tag: bytes, depth: int) -> bytes:
    """Return sequences in sequences, each of a length that is said and true."""
    inner = b""
    parts = []
    length = 0
    for _ in range(depth):
        parts.append(tag + b"SQ\0\0" + struct.pack("<I", length + 8) + _ITEM + struct.pack("<I", length))
        length += 20
    return b"".join(reversed(parts)) + inner


def nested_without_lengths(tag: bytes, depth: int) -> bytes:
    """Return sequences in sequences, none of which says where it ends."""
    return (tag + b"SQ\0\0" + _UNDEFINED + _ITEM + _UNDEFINED) * depth + (_ITEM_END + _SEQUENCE_END) * depth


def items(count: int, length: bool) -> bytes:
    """Return a sequence of very many empty items."""
    body = (_ITEM + b"\0\0\0\0") * count
    size, end = (struct.pack("<I", len(body)), b"") if length else (_UNDEFINED, _SEQUENCE_END)
    return b"\x28\x00\x00\x30SQ\0\0" + size + body + end


def fragments(count: int) -> bytes:
    """Return compressed pixels in very many fragments of nothing."""
    data = scan([bytes(8)], RLE, **SMALL)
    return data[: -len(_SEQUENCE_END)] + (_ITEM + b"\0\0\0\0") * count + _SEQUENCE_END


def table(tag: bytes, entries: int, data: bytes) -> bytes:
    """Return a sequence with a lookup table that says how many entries it has."""
    inner = b"\x28\x00\x02\x30US\6\0" + struct.pack("<HHH", entries, 0, 16)
    inner += b"\x28\x00\x06\x30OW\0\0" + struct.pack("<I", len(data)) + data
    item = _ITEM + struct.pack("<I", len(inner)) + inner
    return tag + b"SQ\0\0" + struct.pack("<I", len(item)) + item


def palette(data: bytes, segmented: str = "") -> bytes:
    """Return a picture with palettes of 65536 entries, of which these are the data."""
    changes: dict[str, object] = {"PhotometricInterpretation": "PALETTE COLOR", **SMALL}
    for color in ("Red", "Green", "Blue"):
        changes[f"{color}PaletteColorLookupTableDescriptor"] = [0, 0, 16]
        changes[f"{segmented}{color}PaletteColorLookupTableData"] = data
    return scan(bytes(256), **changes)


def segments(*again: tuple[int, ...]) -> bytes:
    """Return a segmented palette of 64 kB: a value, then the same segments again and again."""
    words = [0, 1, 5, *[word for segment in again for word in segment] * (32_000 // sum(map(len, again)))]
    return struct.pack(f"<{len(words)}H", *words)


def npz(header_shape: str, stored: bytes, claimed: int | None = None, kind: str = "|u1") -> bytes:
    """Return an archive with an array whose header claims a shape, and a directory that may claim a size."""
    head = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {header_shape}, }}".ljust(117) + "\n"
    member = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head.encode() + stored
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("image.npy", member)
    data = bytearray(buffer.getvalue())
    if claimed is not None:
        for at in (data.index(b"PK\3\4") + 22, data.index(b"PK\1\2") + 24):
            struct.pack_into("<I", data, at, claimed)
    return bytes(data)


def npz_in_npz() -> bytes:
    """Return an archive with an array of bytes that are an archive, and so on."""
    inner = bytes(100)
    for _ in range(20):
        inner = npz(f"({len(inner)},)", inner)
    return inner


def npz_of_many(members: int) -> bytes:
    """Return an archive with very many members of no bytes."""
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0) + b"a.npy"
    first = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 0, 0, 5, 0) + b"a.npy"
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 65535, 65535, len(entry) * members, len(first), 0)
    return first + entry * members + end


def nifti(shape: tuple[int, ...], kind: int, bits: int, body: bytes = b"") -> bytes:
    """Return a NIfTI file that claims a shape."""
    head = bytearray(352)
    struct.pack_into("<I", head, 0, 348)
    struct.pack_into("<8h", head, 40, len(shape), *shape, *[1] * (7 - len(shape)))
    struct.pack_into("<hh", head, 70, kind, bits)
    struct.pack_into("<8f", head, 76, *[1.0] * 8)
    struct.pack_into("<f", head, 108, 352)
    head[344:348] = b"n+1\0"
    return bytes(head) + body


def gzip_of_zeros(head: bytes, megabytes: int) -> bytes:
    """Return gzip of bytes and then zeros."""
    packer = zlib.compressobj(9, wbits=-15)
    start = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    return b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + start + deflated_zeros(megabytes)


def png(width: int, height: int) -> bytes:
    """Return a PNG that claims a size and holds a few rows of it."""
    return _png_chunks((b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(b"")))


def png_with_text(kind: bytes) -> bytes:
    """Return a small PNG with a text or color profile that unpacks to a hundred megabytes."""
    text = b"name\0\0" + zlib.compress(bytes(100 * MEGABYTE), 9)
    head = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    return _png_chunks(head, (kind, text), (b"IDAT", zlib.compress(bytes(20))), (b"IEND", b""))


def animated_png(frames: int) -> bytes:
    """Return a small PNG that claims very many frames."""
    head = (b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0))
    first = (b"fcTL", struct.pack(">IIIIIHHBB", 0, 4, 4, 0, 0, 1, 1, 0, 0))
    animation = (b"acTL", struct.pack(">II", frames, 0))
    return _png_chunks(head, animation, first, (b"IDAT", zlib.compress(bytes(20))), (b"IEND", b""))


def _png_chunks(*chunks: tuple[bytes, bytes]) -> bytes:
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return data


def tiff(changes: dict[int, int], pages: int = 1) -> bytes:
    """Return a TIFF of 8 x 8 with some tags changed, its directory given again and again."""
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "TIFF")
    data = bytearray(buffer.getvalue())
    (at,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in changes:
            struct.pack_into("<HII", data, entry + 2, 4, 1, changes[tag])
    directory = bytes(data[at : at + 2 + 12 * count])
    if pages > 1:
        struct.pack_into("<I", data, at + len(directory), len(data))
    for page in range(1, pages):
        following = len(data) + len(directory) + 4 if page + 1 < pages else 0
        data += directory + struct.pack("<I", following)
    return bytes(data)


def gzip_of_nothing(parts: int) -> bytes:
    """Return a NIfTI header in gzip, followed by very many empty parts."""
    empty = gzip.compress(b"", 1, mtime=0)
    return gzip.compress(nifti((4, 4, 4), 2, 8), mtime=0) + empty * parts


Bomb = tuple[Callable[[], bytes], tuple[str, ...]]

PER_FRAME, VOI, SHARED = b"\x00\x52\x30\x92", b"\x28\x00\x10\x30", b"\x00\x52\x29\x92"
SMALL = {"Rows": 16, "Columns": 16}
LARGE = {"Rows": SIDE, "Columns": SIDE}
MOST = {"Rows": 65535, "Columns": 65535}
BOMBS: dict[str, Bomb] = {
    "65535 x 65535 x a million": (lambda: scan(bytes(99), **MOST, NumberOfFrames=10**6), ("too_large",)),
    "the same, compressed": (lambda: scan([bytes(99)], RLE, **MOST, NumberOfFrames=10**6), ("too_large",)),
    "two billion frames": (lambda: scan(bytes(99), Rows=1, Columns=1, NumberOfFrames=2**31 - 1), ("too_large",)),
    "65535 samples": (lambda: scan(bytes(256), **SMALL, SamplesPerPixel=65535), ("truncated_pixels",)),
    "bits without end": (lambda: scan(bytes(256), **SMALL, BitsAllocated=65535), ("truncated_pixels",)),
    "JPEG 2000 of gigapixels": (lambda: scan([jpeg_2000(2**31, 2**31)], JPEG + "90", **SMALL), ("header_lies",)),
    "JPEG 2000, header agrees": (lambda: scan([jpeg_2000(65535, 65535)], JPEG + "90", **MOST), ("too_large",)),
    "JPEG 2000, just allowed": (
        lambda: scan([jpeg_2000(SIDE, SIDE)], JPEG + "90", **LARGE), ("undecodable", "over_memory")
    ),
    "JPEG 2000 of a pixel a tile": (
        lambda: scan([jpeg_2000(SIDE, SIDE, 1)], JPEG + "90", **LARGE), ("undecodable", "over_memory")
    ),
    "JPEG 2000 of 16384 components": (
        lambda: scan([jpeg_2000(64, 64, 0, 16384)], JPEG + "90", Rows=64, Columns=64, SamplesPerPixel=16384),
        ("undecodable", "over_memory"),
    ),
    "HTJ2K, just allowed": (
        lambda: scan([jpeg_2000(SIDE, SIDE)], JPEG + "201", **LARGE), ("undecodable", "over_memory")
    ),
    "JPEG that lies": (lambda: scan([jpeg(65500, 65500)], JPEG + "50", **SMALL), ("header_lies",)),
    "JPEG, header agrees": (lambda: scan([jpeg(SIDE, SIDE)], JPEG + "50", **LARGE), ("truncated_pixels",)),
    "JPEG of a thousand scans": (
        lambda: scan([jpeg_of_many_scans(2048, 1000)], JPEG + "50", Rows=2048, Columns=2048), ("too_large",)
    ),
    "JPEG lossless that lies": (lambda: scan([jpeg(65500, 65500)], JPEG + "70", **SMALL), ("header_lies",)),
    "JPEG-LS that lies": (lambda: scan([jpeg_ls(65500, 65500)], JPEG + "80", **SMALL), ("header_lies",)),
    "JPEG-LS of few bytes": (
        lambda: scan([jpeg_ls(4096, 4096)], JPEG + "80", Rows=4096, Columns=4096), ("undecodable",)
    ),
    "RLE that cannot be": (lambda: scan([rle(64, 64)], RLE, **LARGE), ("truncated_pixels",)),
    "RLE at its tightest": (lambda: scan([rle(4096, 4096)], RLE, Rows=4096, Columns=4096), ("",)),
    "RLE of segments beyond the end": (
        lambda: scan([struct.pack("<16I", 15, *[2**32 - 1] * 15) + bytes(64)], RLE, **SMALL), ("undecodable",)
    ),
    "deflated gigabyte": (deflated_data_set, ("too_large",)),
    "deflated frame of a gigabyte": (lambda: deflated_frame(16, 16, 1024), ("",)),
    "deflated frame that is short": (lambda: deflated_frame(8192, 8192, 63), ("truncated_pixels",)),
    "10,000 sequences with lengths": (lambda: with_elements(nested(VOI, 10_000)), ("broken_header",)),
    "10,000 groups of frames with lengths": (
        lambda: with_elements(nested(SHARED, 10_000), b"\xe0\x7f\x10\x00"), ("",)
    ),
    "10,000 sequences without": (lambda: with_elements(nested_without_lengths(VOI, 10_000)), ("broken_header",)),
    "half a million items": (lambda: with_elements(items(500_000, False)), ("too_large",)),
    "half a million items with a length": (lambda: with_elements(items(500_000, True)), ("too_large",)),
    "two million elements": (lambda: with_elements(b"\x09\x00\x01\x00SH\0\0" * 2 * 10**6), ("too_large",)),
    "half a million fragments": (lambda: fragments(500_000), ("too_large",)),
    "an element of four gigabytes": (
        lambda: with_elements(b"\x28\x00\x01\x00UN\0\0\xf0\xff\xff\xff"), ("no_pixels",)
    ),
    "a table of 65536 entries in two bytes": (lambda: with_elements(table(VOI, 0, b"ab")), ("broken_header",)),
    "a table of nothing": (lambda: with_elements(table(b"\x28\x00\x00\x30", 0, b"")), ("broken_header",)),
    "a palette of 65536 entries in two bytes": (lambda: palette(b"ab"), ("broken_header",)),
    "a segmented palette of lines": (lambda: palette(segments((1, 65535, 7)), "Segmented"), ("broken_header",)),
    "a segmented palette that repeats itself": (
        lambda: palette(segments((1, 65535, 7), (2, 2, 0, 0)), "Segmented"), ("broken_header",)
    ),
    "a segmented palette within itself": (
        lambda: palette(segments((2, 65535, 0, 0)), "Segmented"), ("broken_header",)
    ),
    "an overlay of gigapixels": (
        lambda: with_elements(
            b"\x00\x60\x10\x00US\2\0\xff\xff\x00\x60\x11\x00US\2\0\xff\xff\x00\x60\x00\x30OW\0\0\2\0\0\0\0\0",
            b"\xe0\x7f\x10\x00",
        ), ("",)
    ),
    "offsets beyond the end": (
        lambda: with_offsets([0, 2**32 - 8, 2**32 - 2]), ("truncated_pixels",)
    ),
    "NPZ of a gigabyte": (lambda: npz("(1024, 1024, 1024)", bytes(10)), ("too_large",)),
    "NPZ of numbers beyond numbers": (lambda: npz("(99999999999999999999, 2)", bytes(10)), ("too_large",)),
    "NPZ whose directory lies": (
        lambda: npz("(16384, 16384)", bytes(10), SIDE * SIDE + 128), ("truncated_pixels",)
    ),
    "NPZ in NPZ": (npz_in_npz, ("unsupported_pixels",)),
    "NPZ of 100,000 members": (lambda: npz_of_many(100_000), ("too_large",)),
    "NIfTI of terapixels": (lambda: nifti((32767, 32767, 32767), 4, 16), ("too_large",)),
    "NIfTI in gzip, a gigabyte of zeros": (
        lambda: gzip_of_zeros(nifti((8, 8, 8), 2, 8), 1024), ("",)
    ),
    "NIfTI in gzip that claims a gigabyte": (
        lambda: gzip_of_zeros(nifti((1024, 1024, 1024), 2, 8), 1024), ("too_large",)
    ),
    "NIfTI in gzip of 100,000 parts": (lambda: gzip_of_nothing(100_000), ("too_large",)),
    "PNG of gigapixels": (lambda: png(65535, 65535), ("too_large",)),
    "PNG with a text of 100 MB": (lambda: png_with_text(b"zTXt"), ("undecodable",)),
    "PNG with a color profile of 100 MB": (lambda: png_with_text(b"iCCP"), ("undecodable",)),
    "PNG of a billion frames": (lambda: animated_png(10**9), ("undecodable",)),
    "JPEG file of gigapixels": (lambda: jpeg(65500, 65500), ("too_large",)),
    "JPEG file of a thousand scans": (lambda: jpeg_of_many_scans(2048, 1000), ("too_large",)),
    "TIFF of gigapixels": (lambda: tiff({256: 2**31, 257: 2**31}), ("too_large",)),
    "TIFF of strips beyond the end": (
        lambda: tiff({273: 2**32 - 9, 279: 2**32 - 1}), ("undecodable",)
    ),
    "TIFF of 20,000 pages": (lambda: tiff({}, 20_000), ("too_large",)),
}  # fmt: skip


def with_offsets(offsets: list[int]) -> bytes:
    """Return two frames of JPEG under an offset table that is none."""
    data = scan([jpeg(16, 16, 4000)] * 2, JPEG + "50", **SMALL, NumberOfFrames=2)
    at = data.index(_ITEM) + 4
    length = int.from_bytes(data[at : at + 4], "little")
    lies = struct.pack(f"<{len(offsets)}I", *offsets)
    return data[:at] + struct.pack("<I", len(lies)) + lies + data[at + 4 + length :]
