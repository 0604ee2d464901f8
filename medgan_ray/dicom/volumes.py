"""Reads NIfTI (.nii, .nii.gz) and NPZ files, told by content, into frames with geometry, or refuses with a code.

Orientation of NIfTI: the axes are turned to the nearest of right-anterior-superior, then each axial slice is a frame,
from feet to head, shown as radiology does: the patient's front is on top, the right side on the left. Positions and
directions are DICOM's (left-posterior-superior), so that what is checked of a DICOM series is checked of a volume.
Neither format says what its values mean, so that their unit is relative, nor whose they are: a volume is a patient of
its own unless a table says otherwise. Untrusted bytes: call this through ``sandbox`` alone.
"""

import hashlib
import math
import zipfile
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgan_ray.dicom.facts import FARTHEST_MM, Facts, Options, spacing
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.transforms import LARGEST

if TYPE_CHECKING:
    from medgan_ray.dicom.read import Scan

MAX_VALUES = 1 << 28
MAX_FRAMES = 1 << 16
MAX_BYTES = 512 << 20
"""Unpacked bytes of one volume."""
MAX_MEMBERS = 10_000
"""Arrays in one NPZ."""
MAX_GZIP_MEMBERS = 1 << 16
"""Parts of one gzip file: bgzip writes one for 64 kB."""
_GZIP_BYTES = 1 << 14
_HEADER_BYTES = 544
_NPY_HEADER = 10_000
_ZIP, _ZIP_ENTRY, _GZIP = b"PK\x03\x04", b"PK\x01\x02", b"\x1f\x8b"


def is_volume(data: bytes) -> bool:
    """Say whether the bytes are a NIfTI file (one file, perhaps in gzip) or an NPZ."""
    if data[:4] == _ZIP:
        return data[30:286].partition(b".npy")[1] != b""
    return _is_nifti(data) or (data[:2] == _GZIP and _is_nifti(_unzip(data, _HEADER_BYTES, whole=False)))


def read_volume(data: bytes, options: Options) -> "Scan":
    """Return the frames [frames, rows, columns] and geometry of a volume; modality OT, unit ``relative``.

    Values are the file's own with its scale and offset (NIfTI's ``scl_slope`` and ``scl_inter``) applied; what is not
    finite becomes the least finite value. Of an NPZ, the array named ``image`` is read, else the first of 2 to 4
    dimensions: [rows, columns], [frames, rows, columns] or [volumes, frames, rows, columns].

    Raises:
        Refused: ``too_large``, ``truncated_pixels``, ``broken_header``, ``unsupported_pixels``, ``undecodable`` or
            ``no_pixels``.
    """
    from medgan_ray.dicom.read import Scan

    try:
        stored, values, geometry = _read_npz(data) if data[:4] == _ZIP else _read_nifti(data)
    except (Refused, MemoryError):
        raise
    except Exception as error:  # libraries raise whatever their parsing trips over
        raise Refused("broken_header", str(error)) from None
    name = hashlib.sha256(data).hexdigest()
    facts = Facts(
        kind="volume", modality="OT", unit="relative", rows=values.shape[1], columns=values.shape[2],
        frames=len(values), samples=1, bits=8 * stored.dtype.itemsize, patient=name, series=name, **geometry,
    )  # fmt: skip
    if options.inspect:
        little = stored.astype(stored.dtype.newbyteorder("<"), copy=False)
        facts = facts.replace(stored_sha256=hashlib.sha256(little.tobytes("C")).hexdigest())
    return Scan(facts, _plain(values))


def _is_nifti(data: bytes) -> bool:
    first = data[:4]
    if first in (b"\x5c\x01\x00\x00", b"\x00\x00\x01\x5c"):
        return data[344:348] == b"n+1\x00"
    return first in (b"\x1c\x02\x00\x00", b"\x00\x00\x02\x1c") and data[4:8] == b"n+2\x00"


def _unzip(data: bytes, limit: int, *, whole: bool = True) -> bytes:
    """Return at most ``limit`` unpacked bytes.

    Raises:
        Refused: ``truncated_pixels`` if gzip is broken and what it holds is wanted whole.
    """
    unpacked, packed, members = bytearray(), BytesIO(data), 0
    unpacker, rest = zlib.decompressobj(31), b""
    try:
        while len(unpacked) < limit and (rest or (rest := packed.read(_GZIP_BYTES))):
            unpacked += unpacker.decompress(rest, limit - len(unpacked))
            rest = unpacker.unused_data or unpacker.unconsumed_tail
            if unpacker.eof:
                unpacker, members = zlib.decompressobj(31), members + 1
            if members > MAX_GZIP_MEMBERS:
                raise Refused("too_large", f"more than {MAX_GZIP_MEMBERS} parts")
    except zlib.error as error:
        if whole and len(unpacked) < limit:
            raise Refused("truncated_pixels", str(error)) from None
    return bytes(unpacked)


def _check_shape(shape: tuple[int, ...], itemsize: int) -> int:
    """Return the bytes that an array takes, or refuse it."""
    if not 2 <= len(shape) <= 4 or min(shape) < 1:
        raise Refused("unsupported_pixels", f"an array of shape {shape}")
    count = math.prod(shape)
    if count > MAX_VALUES or count * itemsize > MAX_BYTES:
        raise Refused("too_large", f"{count} values of {itemsize} bytes")
    return count * itemsize


def _check_frames(values: NDArray[Any]) -> None:
    if len(values) > MAX_FRAMES:
        raise Refused("too_large", f"{len(values)} frames")


def _read_nifti(data: bytes) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Return stored values as they lie in the file, frames, and their geometry."""
    import nibabel

    library: Any = nibabel
    packed = data[:2] == _GZIP
    start = _unzip(data, _HEADER_BYTES) if packed else data[:_HEADER_BYTES]
    second = start[4:8] == b"n+2\x00"
    kind = library.Nifti2Image if second else library.Nifti1Image
    header: Any = kind.header_class(start[: 540 if second else 348], check=False)
    dtype, shape = header.get_data_dtype(), tuple(int(side) for side in header.get_data_shape())
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise Refused("unsupported_pixels", f"values of type {dtype}")
    shape = shape[:-1] if len(shape) == 5 and shape[-1] == 1 else shape
    needed = _check_shape(shape, dtype.itemsize) + int(header["vox_offset"])
    if needed > MAX_BYTES + (1 << 20) or int(header["vox_offset"]) < len(header.binaryblock):
        raise Refused("broken_header", f"pixels at byte {int(header['vox_offset'])}")
    whole = _unzip(data, needed) if packed else data
    if len(whole) < needed:
        raise Refused("truncated_pixels", f"{len(whole)} of {needed} bytes")
    stored = np.frombuffer(whole, dtype, math.prod(shape), int(header["vox_offset"])).reshape(shape, order="F")
    slope, inter = header.get_slope_inter()
    values = stored if (slope, inter) in ((None, None), (1.0, 0.0)) else stored * np.float32(slope) + np.float32(inter)
    return stored, *_axial(values, np.asarray(header.get_best_affine(), np.float64))


def _axial(values: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return frames [n, rows, columns] of a volume [i, j(, k(, t))] and their geometry in DICOM's directions."""
    import nibabel.orientations

    turning: Any = nibabel.orientations
    if values.ndim == 2:
        values = values[:, :, None]
    linear = affine[:3, :3]
    if not np.isfinite(affine).all() or abs(np.linalg.det(linear)) < 1e-9 or np.abs(affine).max() > FARTHEST_MM:
        raise Refused("broken_header", "an affine that is none")
    turn = turning.io_orientation(affine)
    affine = affine @ turning.inv_ornt_aff(turn, values.shape[:3])
    values = turning.apply_orientation(values, turn)[::-1, ::-1]
    # From the far corner, so that rows run from right to left and columns from front to back.
    corner = affine @ [values.shape[0] - 1, values.shape[1] - 1, 0, 1]
    to_dicom = np.asarray([-1.0, -1.0, 1.0])
    steps = affine[:3, :3] * to_dicom[:, None]
    lengths = np.linalg.norm(steps, axis=0)
    along = np.concatenate([-steps[:, 0] / lengths[0], -steps[:, 1] / lengths[1]])
    if spacing(lengths[:2]) is None:
        raise Refused("broken_header", f"voxels of {lengths[0]:g} x {lengths[1]:g} mm")
    depth = values.shape[2]
    places = corner[:3] * to_dicom + np.arange(depth)[:, None] * steps[:, 2]
    times = values.shape[3] if values.ndim == 4 else 1
    frames = np.moveaxis(values.reshape(*values.shape[:3], times), (3, 2, 1, 0), (0, 1, 2, 3))
    frames = frames.reshape(-1, *frames.shape[2:])
    _check_frames(frames)
    return frames, {
        "positions": tuple(tuple(place) for place in np.round(places, 6).tolist()) * times,
        "orientations": (tuple(np.round(along, 9).tolist()),) * len(frames),
        "spacings": ((float(lengths[1]), float(lengths[0])),) * len(frames),
    }


def _read_npz(data: bytes) -> tuple[NDArray[Any], NDArray[Any], dict[str, Any]]:
    """Return stored values, frames, and no geometry, of the array ``image`` or the first of 2 to 4 dimensions."""
    if data.count(_ZIP_ENTRY) > MAX_MEMBERS:  # before the directory is parsed
        raise Refused("too_large", f"more than {MAX_MEMBERS} members")
    with zipfile.ZipFile(BytesIO(data)) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        for info in sorted(members, key=lambda info: info.filename != "image.npy"):
            if info.flag_bits & 1:
                raise Refused("undecodable", "encrypted")
            stored = _read_npy(archive, info)
            if stored is not None:
                frames = stored[None] if stored.ndim == 2 else stored.reshape(-1, *stored.shape[-2:])
                _check_frames(frames)
                return stored, frames, {}
    raise Refused("no_pixels", "no array of 2 to 4 dimensions")


def _read_npy(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> NDArray[Any] | None:
    """Return an array, or None if it has not 2 to 4 dimensions; its header is held against the directory first."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_column, dtype = read(file, max_header_size=_NPY_HEADER)
        if not 2 <= len(shape) <= 4 and info.filename != "image.npy":
            return None
        if dtype.kind not in "biuf" or dtype.itemsize > 8:
            raise Refused("unsupported_pixels", f"values of type {dtype}")
        needed = _check_shape(shape, dtype.itemsize)
        if info.file_size < needed:
            raise Refused("truncated_pixels", f"{info.file_size} of {needed} bytes")
        raw = file.read(needed)
    if len(raw) < needed:
        raise Refused("truncated_pixels", f"{len(raw)} of {needed} bytes")
    return np.frombuffer(raw, dtype).reshape(shape, order="F" if by_column else "C")


def _plain(values: NDArray[Any]) -> NDArray[Any]:
    """Return values as uint8, int16, uint16 or float32, finite."""
    if values.dtype.kind == "b":
        return values.astype(np.uint8)
    if values.dtype.newbyteorder("=") in (np.uint8, np.int16, np.uint16):
        return values.astype(values.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):
        plain = values.astype(np.float32)
    good = np.isfinite(plain)
    if np.abs(plain[good]).max(initial=0) > LARGEST:
        raise Refused("unsupported_pixels", "values beyond all measure")
    if not good.any():
        raise Refused("unsupported_pixels", "no finite value")
    return plain if good.all() else np.where(good, plain, plain[good].min())
