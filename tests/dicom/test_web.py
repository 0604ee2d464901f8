"""DICOMweb: against a real Orthanc on loopback, and against a service that misbehaves."""

import contextlib
import http.server
import json
import pickle
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pydicom
import pytest
import urllib3
from pydicom.data import get_testdata_file

from medgan_ray.dicom import web
from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import decode
from medgan_ray.errors import InputError, StoreError, UsageError
from medgan_ray.ingest.sources import find

PLUGINS = Path("/usr/share/orthanc/plugins")
FILES = ("CT_small.dcm", "MR_small.dcm", "693_J2KI.dcm")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of an Orthanc that holds three studies and asks for a password."""
    program = shutil.which("Orthanc")
    if program is None or not (PLUGINS / "libOrthancDicomWeb.so").exists():
        pytest.skip("no Orthanc here: apt-get install orthanc orthanc-dicomweb")
    folder, port = tmp_path_factory.mktemp("orthanc"), free_port()
    plugin = str(PLUGINS / "libOrthancDicomWeb.so")
    sender, dicom_port = shutil.which("storescu"), free_port()
    settings = {"HttpPort": port, "RemoteAccessAllowed": False, "DicomServerEnabled": bool(sender), "Plugins": [plugin]}
    settings |= {"DicomPort": dicom_port, "DicomAlwaysAllowStore": True}
    settings |= {"StorageDirectory": str(folder / "db"), "IndexDirectory": str(folder / "db")}
    settings |= {"AuthenticationEnabled": True, "RegisteredUsers": {"reader": "secret"}}
    settings |= {"DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = (folder / "log").open("wb")
    process = subprocess.Popen([program, str(folder / "orthanc.json")], stdout=log, stderr=log)
    pool, headers = urllib3.PoolManager(retries=False), urllib3.make_headers(basic_auth="reader:secret")
    try:
        for _ in range(150):
            try:
                if pool.request("GET", f"http://127.0.0.1:{port}/system", headers=headers).status == 200:
                    break
            except urllib3.exceptions.HTTPError:
                assert process.poll() is None, (folder / "log").read_text()[-500:]
            time.sleep(0.1)
        for name in FILES:
            path = Path(str(get_testdata_file(name)))
            if sender and name == FILES[0]:  # as a scanner sends it; the others by REST
                subprocess.run([sender, "127.0.0.1", str(dicom_port), str(path)], check=True, timeout=60)
                continue
            data = path.read_bytes()
            assert pool.request("POST", f"http://127.0.0.1:{port}/instances", body=data, headers=headers).status == 200
        yield f"dicomweb+http://127.0.0.1:{port}/dicom-web"
    finally:
        pool.clear()
        process.terminate()
        process.wait(20)
        log.close()


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGAN_DICOMWEB_USER", "reader")
    monkeypatch.setenv("MEDGAN_DICOMWEB_PASSWORD", "secret")


@pytest.mark.usefixtures("reader")
def test_scans_of_a_pacs_are_those_of_its_files(orthanc: str) -> None:
    found = find([orthanc])
    assert len(found) == len(FILES)
    read = {item.facts.series: item for item in decode([item.source for item in found], 1) if item.facts}
    assert len(read) == len(FILES)
    for name in FILES:
        local = next(decode([item.source for item in find([str(get_testdata_file(name))])], 1))
        assert local.facts is not None and local.values is not None
        remote = read[local.facts.series]
        assert remote.facts == local.facts and np.array_equal(remote.values, local.values)  # type: ignore[arg-type]


@pytest.mark.usefixtures("reader")
def test_queries_and_pages(orthanc: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(list(web.instances(f"{orthanc}/?Modality=MR"))) == 1
    dataset = pydicom.dcmread(str(get_testdata_file("CT_small.dcm")))
    [(key, source)] = web.instances(f"{orthanc}?StudyInstanceUID={dataset.StudyInstanceUID}")
    assert key == f"{dataset.StudyInstanceUID}/{dataset.SeriesInstanceUID}/{dataset.SOPInstanceUID}"
    assert source.fetch and pickle.loads(pickle.dumps(source.fetch))() == source.fetch()
    monkeypatch.setattr(web, "PAGE", 1)
    assert len(list(web.instances(orthanc))) == len(FILES)
    with pytest.raises(InputError, match="nothing that the query fits"):
        find([f"{orthanc}?Modality=PT"])
    with pytest.raises(InputError, match="no DICOMweb service"):
        find([orthanc.replace("/dicom-web", "/elsewhere")])
    with pytest.raises(Refused, match="unreadable"):
        web.fetch(f"{orthanc.removeprefix('dicomweb+')}/studies/1/series/2/instances/3")


@pytest.mark.parametrize("variable", ["MEDGAN_DICOMWEB_PASSWORD", "MEDGAN_DICOMWEB_TOKEN", ""])
def test_wrong_credentials_are_said_so(orthanc: str, variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGAN_DICOMWEB_USER", "reader")
    if variable:
        monkeypatch.setenv(variable, "wrong")
    with pytest.raises(StoreError, match="refuses access") as error:
        find([orthanc])
    assert error.value.exit_code == 5 and "wrong" not in str(error.value)


def test_addresses_that_cannot_be_used_are_named() -> None:
    with pytest.raises(StoreError, match="can't be reached") as error:
        find([f"dicomweb+http://127.0.0.1:{free_port()}/dicom-web"])
    assert "\n" not in str(error.value) and error.value.exit_code == 5
    with pytest.raises(UsageError, match="no place for credentials") as usage:
        find(["dicomweb+https://reader:secret@127.0.0.1/dicom-web"])
    assert "secret" not in str(usage.value)
    with pytest.raises(UsageError, match="no host"):
        find(["dicomweb+http:///dicom-web"])


Answer = tuple[int, str, bytes]


@pytest.fixture
def service() -> Iterator[Callable[..., str]]:
    """Starts a service that gives the same answers to everybody; returns its address."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*answers: Answer, seen: list[dict[str, str]] | None = None) -> str:
        rest = list(answers)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if seen is not None:
                    seen.append(dict(self.headers))
                status, kind, body = rest.pop(0) if len(rest) > 1 else rest[0]
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Location", "http://127.0.0.1:1/")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    web._pool().clear()
    for server in servers:
        server.shutdown()
        server.server_close()


def test_a_service_that_stumbles_is_asked_again(service: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MEDGAN_DICOMWEB_TOKEN", "token")
    seen: list[dict[str, str]] = []
    body = b'preamble\r\n--x"y\r\nContent-Type: application/dicom\r\n\r\nDI\r\nCM\r\n--x"y--\r\n'
    kind = 'multipart/related; type="application/dicom"; boundary="x\\"y"'
    url = service((503, "", b""), (200, kind, body), seen=seen)
    assert web.fetch(url) == b"DI\r\nCM"
    assert [headers["Authorization"] for headers in seen] == ["Bearer token"] * 2
    assert web.fetch(service((200, "application/dicom", b"DICM"))) == b"DICM"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((503, "", b""), "answers 503"),
        ((302, "", b""), "answers 302"),
        ((200, "text/html", b"<html>"), "not DICOM JSON"),
        ((200, "application/json", b'[{"0020000D": {"Value": ["../../1"]}}]'), "a UID that is none"),
    ],
)
def test_answers_that_are_none_are_named(service: Callable[..., str], answer: Answer, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        find([f"dicomweb+{service(answer)}/dicom-web"])


def test_answers_are_bounded(service: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "INSTANCE_BYTES", 100)
    for answer, code in (
        ((200, "application/dicom", bytes(101)), "too_large"),
        ((200, "multipart/related; boundary=b", b"--b\r\n\r\ncut"), "unreadable"),
        ((404, "", b""), "unreadable"),
    ):
        with pytest.raises(Refused) as error:
            web.fetch(service(answer))
        assert error.value.code == code
    with pytest.raises(StoreError, match="answers 500"):
        web.fetch(service((500, "", b"")))


def raw(*answers: bytes, drip: bool = False) -> Iterator[str]:
    """Start a service that sends bytes as they are, one answer a connection, the last to all others; perhaps slowly."""
    server, rest = socket.create_server(("127.0.0.1", 0)), list(answers)
    stopped = threading.Event()

    def serve() -> None:
        while not stopped.is_set():
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    connection.recv(1 << 16)
                    connection.sendall(rest.pop(0) if len(rest) > 1 else rest[0])
                    while drip and not stopped.wait(0.05):
                        connection.sendall(b"5\r\nbytes\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.getsockname()[1]}"
    stopped.set()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join(5)


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Type: application/dicom\r\nContent-Length: 4\r\n\r\nDICM"
CHUNKED = b" OK\r\nContent-Type: application/dicom\r\nTransfer-Encoding: chunked\r\n\r\n"


def test_an_answer_that_breaks_off_is_asked_for_again() -> None:
    """One lost connection in hours must not end an ingest."""
    for url in raw(WHOLE[:-2], WHOLE):
        assert web.fetch(url) == b"DICM"
    for url in raw(WHOLE[:-2]):
        with pytest.raises(StoreError, match="the DICOMweb service broke off"):
            web.fetch(url)


def test_answers_that_never_end_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web, "ANSWER_LIMIT_S", 0.3)
    for url in raw(b"HTTP/1.1 200" + CHUNKED, drip=True):
        with pytest.raises(StoreError, match="took longer"):
            web.fetch(url)
    for url in raw(b"HTTP/1.1 404" + CHUNKED, drip=True):
        with pytest.raises(Refused, match="unreadable"):
            web.fetch(url)


def test_a_service_does_not_say_how_long_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    busy = b"HTTP/1.1 503 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    for url in raw(busy, WHOLE):
        assert web.fetch(url) == b"DICM"
    assert waits and max(waits) <= web.WAIT_S


def test_lists_are_bounded_and_addresses_must_be_some(
    service: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "LIST_BYTES", 100)
    with pytest.raises(StoreError, match="too long"):
        find([f"dicomweb+{service((200, 'application/json', bytes(101)))}/dicom-web"])
    with pytest.raises(UsageError, match="no address"):
        find(["dicomweb+http://[::1/dicom-web"])
