"""Whole files to break: the corpus where it lies beside the project, pydicom's own, and some written here."""

import gzip
import hashlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pydicom.data
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from medgan_ray.dicom import phantom
from tests.dicom.fuzzing.layout import DEFLATED, Layout, lay_out

MOST_BYTES = 600_000

DEFLATED_FRAMES = b"1.2.840.10008.1.2.8.1"

SYNTAXES = (
    *(b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.1", b"1.2.840.10008.1.2.2", DEFLATED, b"1.2.840.10008.1.2.5"),
    *(b"1.2.840.10008.1.2.4." + end for end in b"50 51 53 55 57 70 80 81 90 91 92 100 201 202 203".split()),
    *(DEFLATED_FRAMES, b"1.2.840.113619.5.2", b"1.2.840.10008.1.2.6.1", b"1.2.3", b""),
)


@dataclass(frozen=True)
class Seed:
    """A file in the form in which breaking it gets furthest: ``plain`` is unpacked, if ``packed`` is not empty."""

    name: str
    plain: bytes
    packed: bytes = b""

    @cached_property
    def layout(self) -> Layout:
        """Where things lie in ``plain``."""
        return lay_out(self.plain)

    def pack(self, broken: bytes) -> bytes:
        """Return broken ``plain`` bytes as the file that they would be."""
        if not self.packed:
            return broken
        if self.packed[:2] == b"\x1f\x8b":
            return gzip.compress(broken, 1, mtime=0)
        meta = _end_of_meta(self.packed)
        return broken[:meta] + _deflate(broken[meta:])


def gather_seeds(corpus: Path | None) -> list[Seed]:
    """Return all seeds, each content once, in the same order every time."""
    own = Path(pydicom.data.__file__).parent
    paths = sorted(path for path in own.rglob("*") if path.suffix in ("", ".dcm", ".gz") and path.is_file())
    if corpus is not None:
        paths += sorted(path for path in corpus.iterdir() if path.suffix not in (".csv", ".md"))
    files = [(path.name, path.read_bytes()) for path in paths if path.stat().st_size <= MOST_BYTES]
    seen: set[str] = set()
    seeds = []
    for name, data in [*_written(), *files]:
        digest = hashlib.sha256(data).hexdigest()
        if data and digest not in seen:
            seen.add(digest)
            seeds.append(Seed(name, *_unpacked(data)))
    return seeds


def _unpacked(data: bytes) -> tuple[bytes, bytes]:
    try:
        if data[:2] == b"\x1f\x8b":
            return gzip.decompress(data), data
        if DEFLATED in data[:2000]:
            meta = _end_of_meta(data)
            return data[:meta] + zlib.decompressobj(-15).decompress(data[meta:]), data
    except (OSError, zlib.error):
        pass
    return data, b""


def _deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(1, wbits=-15)
    return packer.compress(data) + packer.flush()


def _end_of_meta(data: bytes) -> int:
    return 144 + int.from_bytes(data[140:144], "little")


def _written() -> Iterator[tuple[str, bytes]]:
    """Yield small files of every kind that is read."""
    yield from _dicoms()
    values = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    affine = np.diag([2.0, 3, 4, 1])
    for name, kind in (("one.nii", nibabel.Nifti1Image), ("two.nii", nibabel.Nifti2Image)):
        image = kind(values, affine).to_bytes()
        yield name, image
        yield name + ".gz", gzip.compress(image, mtime=0)
    yield "floats.nii", nibabel.Nifti1Image(values.astype(np.float32), affine).to_bytes()
    for name, method in (("plain.npz", zipfile.ZIP_STORED), ("packed.npz", zipfile.ZIP_DEFLATED)):
        yield name, _npz({"image": values, "other": values[0].astype(np.float64)}, method)
    yield from _pictures()


def _npz(arrays: dict[str, NDArray[np.generic]], method: int) -> bytes:
    """Return an archive that is the same whenever it is written: NumPy's own holds the time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.save(member, array)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), member.getvalue(), method)
    return buffer.getvalue()


def _pictures() -> Iterator[tuple[str, bytes]]:
    grey = (np.arange(40 * 30) % 251).astype(np.uint8).reshape(40, 30)
    color = np.stack([grey, grey[::-1], grey[:, ::-1]], -1)
    pages = [Image.fromarray(grey), Image.fromarray(grey.T.copy())]
    forms: list[tuple[str, Image.Image, str, dict[str, object]]] = [
        ("grey.png", pages[0], "PNG", {}),
        ("deep.png", Image.fromarray(grey.astype(np.uint16) * 200), "PNG", {}),
        ("palette.png", pages[0].convert("P"), "PNG", {}),
        ("color.png", Image.fromarray(color), "PNG", {}),
        ("grey.jpg", pages[0], "JPEG", {}),
        ("progressive.jpg", Image.fromarray(color), "JPEG", {"progressive": True}),
        ("pages.tif", pages[0], "TIFF", {"save_all": True, "append_images": pages[:1] * 3}),
    ]
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        forms.append((f"{compression}.tif", pages[0], "TIFF", {"compression": compression}))
    for name, image, form, options in forms:
        buffer = io.BytesIO()
        image.save(buffer, form, **options)
        yield name, buffer.getvalue()


def _dicoms() -> Iterator[tuple[str, bytes]]:
    for kind in ("ct", "mr", "xray"):
        dataset = phantom.to_dicom(next(phantom.draw(kind, 1, 1, 32, 0)), 0)
        yield kind, _encoded(dataset)
        for syntax in (RLELossless, JPEG2000Lossless, JPEGLSLossless):
            packed = phantom.to_dicom(next(phantom.draw(kind, 1, 1, 32, 0)), 0)
            packed.compress(syntax, generate_instance_uid=False)
            yield f"{kind} {syntax.name}", _encoded(packed)
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    yield "deflated", _encoded(dataset)
    yield "frames deflated", _with_deflated_frames()
    yield "tables", _encoded(_with_tables())
    yield "enhanced", _encoded(_enhanced())
    yield "palette", _encoded(_palette())


def _encoded(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def _with_deflated_frames() -> bytes:
    values = (np.arange(3 * 20 * 30) % 9).astype("<i2").reshape(3, 20, 30)
    dataset = _over(values)
    dataset.PixelData = encapsulate([_deflate(frame.tobytes()) for frame in values])
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    return _encoded(dataset).replace(JPEG2000Lossless.encode(), DEFLATED_FRAMES + b"\0", 1)


def _over(values: NDArray[np.int16], kind: str = "mr") -> Dataset:
    dataset = phantom.to_dicom(next(phantom.draw(kind, 1, 1, 16, 0)), 0)
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = values.shape
    dataset.PixelData = values.tobytes()
    return dataset


def _with_tables() -> Dataset:
    """A radiograph whose values go through two tables."""
    dataset = phantom.to_dicom(next(phantom.draw("xray", 1, 1, 16, 0)), 0)
    tables = []
    for _ in range(2):
        item = Dataset()
        item.LUTDescriptor, item.ModalityLUTType = [4096, 0, 12], "US"
        item.LUTData = np.arange(4096, dtype="<u2").tobytes()
        tables.append(item)
    dataset.ModalityLUTSequence, dataset.VOILUTSequence = tables[:1], tables[1:]
    return dataset


def _enhanced() -> Dataset:
    """Four frames, each with a place and a rescale of its own."""
    dataset = _over(np.arange(4 * 8 * 8, dtype="<i2").reshape(4, 8, 8), "ct")
    groups = []
    for index in range(4):
        rescale, place, group = Dataset(), Dataset(), Dataset()
        rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = 1, -10 * index, "HU"
        place.ImagePositionPatient = [0, 0, 5 * index]
        group.PixelValueTransformationSequence, group.PlanePositionSequence = [rescale], [place]
        groups.append(group)
    dataset.PerFrameFunctionalGroupsSequence = groups
    return dataset


def _palette() -> Dataset:
    dataset = phantom.to_dicom(next(phantom.draw("mr", 1, 1, 16, 0)), 0)
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for name in ("Red", "Green", "Blue"):
        setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [4096, 0, 16])
        setattr(dataset, f"{name}PaletteColorLookupTableData", np.arange(4096, dtype="<u2").tobytes())
    return dataset
