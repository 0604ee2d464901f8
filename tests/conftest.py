"""What every test shares: a clean environment, real scans where they lie beside the project, S3 on loopback."""

import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"

# Before torch, Ray or botocore are imported: two cores are shared by everything, and nothing of the caller's leaks in.
for _name in [name for name in os.environ if name.startswith(("AWS_", "MEDGAN_", "RAY_"))]:
    del os.environ[_name]
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    RAY_USAGE_STATS_ENABLED="0",
    AWS_EC2_METADATA_DISABLED="true",
    COLUMNS="120",
    NO_COLOR="1",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Say how many broken files are read, how many faults are drawn, and which."""
    parser.addoption("--fuzz-cases", type=int, help="how many mutations tests/dicom/test_fuzz.py reads, with a report")
    parser.addoption("--fuzz-first", type=int, default=0, help="the number of the first one")
    parser.addoption("--chaos-faults", type=int, default=1, help="how many faults tests/chaos draws")
    parser.addoption("--two-hosts", action="store_true", help="train on two network namespaces, minutes long")
    parser.addoption("--chaos-seed", type=int, default=0, help="what they are drawn by")


@pytest.fixture(scope="session", autouse=True)
def _private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests' caches and keys out of the user's own."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
            patch.setenv(name, str(tmp_path_factory.mktemp(name.lower())))
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("shards")))
        yield


def shared_data(name: str) -> Path:
    """Return a folder of real scans beside the project, or skip the test where there is none."""
    path = SHARED / "data" / name
    if not path.exists():
        pytest.skip(f"no real scans here: {path}")
    return path


@pytest.fixture(scope="session")
def mednist() -> Path:
    """Six folders of 8-bit JPEGs, 64 px: HeadCT 2,000, the others 400 each."""
    return shared_data("mednist")


@pytest.fixture(scope="session")
def ct_abdomen() -> Path:
    """A uniform CT series of an abdomen."""
    return shared_data("ct_series/abdomen")


@pytest.fixture(scope="session")
def ct_series() -> Path:
    """Three CT series: abdomen, head_gantry_tilt, head_jpeg_lossless."""
    return shared_data("ct_series")


@pytest.fixture(scope="session")
def brain_mri() -> Path:
    """JPEGs in class folders; labels.csv names near-duplicates."""
    return shared_data("brain_mri")


@pytest.fixture(scope="session")
def chest_xray() -> Path:
    """JPEGs with labels.csv: 140 patients, some under both labels."""
    return shared_data("chest_xray")


@pytest.fixture(scope="session")
def ct_multi_patient() -> Path:
    """CT slices, 47 of 13 patients."""
    return shared_data("ct_multi_patient")


@pytest.fixture(scope="session")
def dicom_corpus() -> Path:
    """DICOM files of many makers and their quirks; index.csv gives the hash of the stored values."""
    return shared_data("dicom_corpus")


def _free_base() -> int:
    """Return a port such that it and those the S3 server derives from it are free."""
    for base in range(21000 + os.getpid() % 997, 30000, 7):
        try:
            for offset in (0, 1, 2, 3, 4, 10002, 10003, 10004):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", base + offset))
        except OSError:
            continue
        return base
    raise RuntimeError("no free ports for the S3 server")


@pytest.fixture(scope="session")
def _s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    tool = SHARED / "tools" / "s3_server.sh"
    if not tool.exists() or shutil.which("bash") is None:
        pytest.skip("no S3 server tool beside the project")
    folder = tmp_path_factory.mktemp("s3")
    environment = {**os.environ, "XDG_CACHE_HOME": ""}
    started = subprocess.run(
        ["bash", tool, "start", folder, str(_free_base()), "scans"], capture_output=True, text=True, env=environment
    )
    try:
        if started.returncode:
            pytest.skip(f"the S3 server did not start: {started.stderr.strip()[-200:]}")
        words = started.stdout.replace("export ", "").split()
        yield dict(word.split("=", 1) for word in words)
    finally:
        subprocess.run(["bash", tool, "stop", folder], capture_output=True)


@pytest.fixture
def s3(_s3_server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> str:
    """A fresh prefix ``s3://scans/…`` on a real S3 server on loopback, with AWS_* set for it."""
    for name, value in _s3_server.items():
        monkeypatch.setenv(name, value)
    return f"s3://scans/{uuid.uuid4().hex}"
