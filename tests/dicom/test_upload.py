"""Uploads: counted before they are looked at, decoded elsewhere, refused with a status and without repeating them."""

import io
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmwrite

from medgan_ray.dicom import phantom
from medgan_ray.dicom.facts import Options
from medgan_ray.dicom.sandbox import Limits
from medgan_ray.dicom.upload import Uploads
from medgan_ray.errors import BrokenInput, InputError, InputTooLarge, UnknownType
from tests.canaries import CANARY
from tests.dicom.test_sandbox import children

SCANS = [phantom.encode(each, 0) for each in phantom.draw("ct", 4, 1, 32, 0)]


def changed(**attributes: object) -> bytes:
    dataset = phantom.to_dicom(next(phantom.draw("ct", 1, 1, 32, 0)), 0)
    for name, value in attributes.items():
        setattr(dataset, name, value)
    buffer = io.BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def picture(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def nifti() -> bytes:
    import nibabel

    image = nibabel.Nifti1Image(np.zeros((4, 4, 4), np.int16), np.eye(4))  # type: ignore[no-untyped-call]
    data: bytes = image.to_bytes()
    return data


@pytest.fixture(scope="module")
def uploads():
    with Uploads(max_pixels=64 * 64, limits=Limits(file_s=5.0, file_bytes=20_000)) as opened:
        yield opened


def test_dicom_and_pictures_are_read_by_content(uploads: Uploads) -> None:
    scan = uploads.read(SCANS[0])
    assert scan.facts is not None and (scan.facts.kind, scan.facts.unit) == ("dicom", "HU")
    assert scan.values is not None and scan.values.shape == (1, 32, 32)
    shown = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64)
    values = uploads.read(picture(shown)).values
    assert values is not None and np.array_equal(values[0], shown)


@pytest.mark.parametrize(
    ("data", "kind", "status"),
    [
        (b"", BrokenInput, 400),
        (SCANS[0][:-500], BrokenInput, 400),
        (changed(Rows=64, Columns=64), BrokenInput, 400),
        (CANARY.encode() * 100, UnknownType, 415),
        (nifti(), UnknownType, 415),
        (changed(PhotometricInterpretation=CANARY[:9]), UnknownType, 415),
        (changed(Rows=65535, Columns=65535), InputTooLarge, 413),
        (changed(NumberOfFrames=5), InputTooLarge, 413),
        (picture(np.zeros((65, 64), np.uint8)), InputTooLarge, 413),
        (bytes(20_001), InputTooLarge, 413),
        (changed(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), InputError, 422),
        (changed(SOPClassUID="1.2.840.10008.5.1.4.1.1.481.2"), InputError, 422),
        (picture(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)), InputError, 422),
    ],
)
def test_refusals_have_a_status_and_repeat_nothing(
    uploads: Uploads, data: bytes, kind: type[InputError], status: int
) -> None:
    with pytest.raises(InputError) as refusal:
        uploads.read(data)
    assert type(refusal.value) is kind and refusal.value.http_status == status
    assert CANARY[:9] not in str(refusal.value) and "ingest" not in str(refusal.value)
    assert uploads.read(SCANS[0]).values is not None, "the next one is read"


def test_options_say_what_is_taken() -> None:
    with Uploads(Options(luma=True, volumes=True, inspect=True)) as uploads:
        assert uploads.read(picture(np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8))).values is not None
        with pytest.raises(UnknownType):
            uploads.read(nifti())


def test_too_many_bytes_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("medgan_ray.dicom.sandbox.subprocess.Popen", lambda *_, **__: pytest.fail("a process"))
    with Uploads(limits=Limits(file_bytes=100)) as uploads, pytest.raises(InputTooLarge, match="100 bytes"):
        uploads.read(bytes(101))


def test_one_that_hangs_is_refused_and_the_next_is_read() -> None:
    """An upload that takes longer than its limit costs its process, and nobody else."""
    others = set(children())
    with Uploads(limits=Limits(file_s=2.0)) as uploads:
        assert uploads.read(SCANS[0]).values is not None
        (hanging,) = set(children()) - others
        os.kill(int(hanging.name), signal.SIGSTOP)
        with pytest.raises(InputTooLarge, match="longer"):
            uploads.read(SCANS[0])
        assert uploads.read(SCANS[0]).values is not None
    assert set(children()) == others


def test_many_threads_share_the_processes() -> None:
    expected = [each.values for each in phantom.draw("ct", 4, 1, 32, 0)]
    with Uploads(workers=2) as uploads, ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda index: (index, uploads.read(SCANS[index % 4])), range(16)))
    for index, outcome in found:
        assert outcome.values is not None
        assert np.abs(outcome.values[0] - expected[index % 4]).max() <= 0.5
    with pytest.raises(InputError):
        uploads.read(SCANS[0])
