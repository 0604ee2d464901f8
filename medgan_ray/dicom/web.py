"""Lists and fetches what a PACS holds, by DICOMweb (PS3.18: QIDO-RS and WADO-RS).

    ingest 'dicomweb+https://pacs.example/dicom-web?Modality=CT' heads       # or dicomweb+http://
    ingest 'dicomweb+https://pacs.example/dicom-web?StudyInstanceUID=1.2.3' heads

The query holds QIDO's own keys; those of series (Modality, SeriesInstanceUID, SeriesDescription, BodyPartExamined)
select series, the others studies. Credentials come from the environment alone: MEDGAN_DICOMWEB_TOKEN (a bearer
token), or MEDGAN_DICOMWEB_USER and MEDGAN_DICOMWEB_PASSWORD. Every wait is limited, every answer bounded; nothing is
redirected.
"""

import functools
import json
import os
import time
from collections.abc import Iterator
from email.message import Message
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

import urllib3
from urllib3.exceptions import HTTPError

from medgan_ray.dicom.refusals import Refused
from medgan_ray.dicom.sandbox import Source
from medgan_ray.errors import InputError, MedganError, StoreError, UsageError

SCHEMES = ("dicomweb+http://", "dicomweb+https://")
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ANSWER_LIMIT_S = 5.0, 60.0, 600.0
ATTEMPTS = 4
WAIT_S = 30
"""Between two tries, whatever the service asks for."""
PAGE = 1000
MAX_PAGES = 100_000
LIST_BYTES = 64 << 20
INSTANCE_BYTES = 1 << 30
CHUNK_BYTES = 1 << 20
_SERIES_KEYS = frozenset({"Modality", "SeriesInstanceUID", "SeriesDescription", "BodyPartExamined"})
_STUDY, _SERIES, _INSTANCE = "0020000D", "0020000E", "00080018"


def is_service(uri: str) -> bool:
    """Say whether a source is a DICOMweb service."""
    return uri.startswith(SCHEMES)


def instances(uri: str) -> Iterator[tuple[str, Source]]:
    """Yield ``study/series/instance`` (UIDs) and the source of each instance; it is fetched when it is decoded.

    Raises:
        UsageError: if the address holds credentials, or no host.
        InputError: if there is no such service, or the query fits nothing.
        StoreError: if the service can't be reached, refuses access or fails.
    """
    root, query = _parse(uri)
    of_series = {key: value for key, value in query if key in _SERIES_KEYS}
    of_studies = {key: value for key, value in query if key not in _SERIES_KEYS}
    empty = True
    for study in _search(f"{root}/studies", of_studies, _STUDY):
        for series in _search(f"{root}/studies/{study}/series", of_series, _SERIES):
            below = f"{root}/studies/{study}/series/{series}/instances"
            for instance in _search(below, {}, _INSTANCE):
                empty = False
                url = f"{below}/{instance}"
                yield f"{study}/{series}/{instance}", Source(url, fetch=functools.partial(fetch, url))
    if empty:
        raise InputError("the service holds nothing that the query fits", root, "loosen the query behind '?'")


def fetch(url: str) -> bytes:
    """Return an instance as the DICOM file that the service holds, in its own transfer syntax.

    Raises:
        Refused: ``unreadable`` if the service has it no more, ``too_large``.
        StoreError: if the service can't be reached, refuses access or fails.
    """
    wanted = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    status, kind, body = _get(url, wanted, INSTANCE_BYTES)
    if status in (404, 406, 410):
        raise Refused("unreadable", f"the DICOMweb service answers {status}")
    if status != 200:
        raise _failed(url, status)
    return _first_part(body, kind)


def _parse(uri: str) -> tuple[str, list[tuple[str, str]]]:
    try:
        parts = urlsplit(uri.removeprefix("dicomweb+"))
    except ValueError as error:
        raise UsageError(f"no address: {error}", uri, "give dicomweb+https://host/path") from None
    if parts.username is not None or parts.password is not None:
        fix = "set MEDGAN_DICOMWEB_TOKEN, or MEDGAN_DICOMWEB_USER and MEDGAN_DICOMWEB_PASSWORD, and leave them out here"
        raise UsageError("an address is no place for credentials", f"{parts.scheme}://{parts.hostname}", fix)
    if not parts.hostname:
        raise UsageError("no host", uri, "give dicomweb+https://host/path")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}", parse_qsl(parts.query)


def _search(url: str, query: dict[str, str], tag: str) -> Iterator[str]:
    """Yield the UIDs that QIDO finds, page by page; a service that knows no pages answers with one."""
    seen: set[str] = set()
    for _ in range(MAX_PAGES):
        page = urlencode(query | {"limit": str(PAGE), "offset": str(len(seen))})
        try:
            status, _, body = _get(f"{url}?{page}", "application/dicom+json", LIST_BYTES)
        except Refused as refusal:
            raise StoreError(f"the answer is too long: {refusal.detail}", url, "ask for less behind '?'") from None
        if status in (404, 405):
            raise InputError("no DICOMweb service here", url, "give the address that QIDO-RS has, such as …/dicom-web")
        if status not in (200, 204):
            raise _failed(url, status)
        new = [uid for uid in dict.fromkeys(_uids(body, tag, url)) if uid not in seen]
        yield from new
        seen.update(new)
        if not new:
            return


def _uids(body: bytes, tag: str, url: str) -> list[str]:
    """Return the UIDs of an answer; anything but digits and dots would not be one."""
    try:
        found = [str(item[tag]["Value"][0]) for item in json.loads(body or b"[]")]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        raise StoreError("the answer is not DICOM JSON", url, "give the address that QIDO-RS has") from None
    if any(not uid or uid.strip("0123456789.") or len(uid) > 64 for uid in found):
        raise StoreError("the answer holds a UID that is none", url, "look at the service's own log")
    return found


def _first_part(body: bytes, kind: str) -> bytes:
    """Return the first part of a multipart answer, or the whole body if it is not multipart."""
    message = Message()
    message["Content-Type"] = kind
    boundary = message.get_param("boundary")
    if not kind.lower().startswith("multipart/") or not isinstance(boundary, str):
        return body
    mark = b"--" + boundary.encode("latin-1", "replace")
    first = body.find(mark)
    gap = body.find(b"\r\n\r\n", first)
    end = body.find(b"\r\n" + mark, gap + 2)
    if min(first, gap, end) < 0 or body.find(b"\r\n" + mark + b"--", end) < 0:
        raise Refused("unreadable", "the DICOMweb service's answer is cut short")
    return body[gap + 4 : end]


def _failed(url: str, status: int) -> MedganError:
    if status in (401, 403):
        fix = "set MEDGAN_DICOMWEB_TOKEN, or MEDGAN_DICOMWEB_USER and MEDGAN_DICOMWEB_PASSWORD"
        return StoreError(f"the DICOMweb service refuses access ({status})", url, fix)
    if status == 400:
        return InputError(
            "the DICOMweb service does not understand the query (400)", url, "check what stands behind '?'"
        )
    return StoreError(f"the DICOMweb service answers {status}", url, "try again, or look at the service's own log")


def _get(url: str, accept: str, limit: int) -> tuple[int, str, bytes]:
    """Return status, media type and body of an answer of at most ``limit`` bytes; one that is cut short is asked again.

    Raises:
        Refused: ``too_large``.
        StoreError: if the service can't be reached, or breaks off each time.
    """
    tries = 0
    while True:
        tries += 1
        try:
            answer = _pool().request(
                "GET", url, headers={"Accept": accept, **_credentials()}, preload_content=False, redirect=False
            )
        except (HTTPError, OSError) as error:  # urllib3 has tried again
            reason = getattr(error, "reason", None) or error
            what = "can't be reached" if "onnect" in str(reason) else "failed"
            raise _lost(url, what, reason) from None
        try:
            body = b"" if answer.status != 200 else _read(answer, limit)
            return answer.status, answer.headers.get("Content-Type", ""), body
        except (HTTPError, OSError) as error:
            if tries == ATTEMPTS or isinstance(error, _TooLong):
                raise _lost(url, "broke off", error) from None
        finally:
            answer.close()  # what is left of it may never end


class _TooLong(OSError):
    pass


def _lost(url: str, what: str, error: object) -> StoreError:
    fix = "check the address and the network, and try again"
    return StoreError(f"the DICOMweb service {what}: {_short(error)}", url, fix)


def _read(answer: Any, limit: int) -> bytes:
    body, deadline = bytearray(), time.monotonic() + ANSWER_LIMIT_S
    while chunk := answer.read1(CHUNK_BYTES):  # as it comes: a service that drips must not outlast the limit
        body += chunk
        if len(body) > limit:
            raise Refused("too_large", f"more than {limit} bytes")
        if time.monotonic() > deadline:
            raise _TooLong(f"took longer than {ANSWER_LIMIT_S:g} s")
    return bytes(body)


def _short(error: object) -> str:
    return str(error).rpartition(">: ")[2] or type(error).__name__


def _credentials() -> dict[str, str]:
    token = os.environ.get("MEDGAN_DICOMWEB_TOKEN")
    if token:
        return {"Authorization": f"Bearer {token}"}
    user, password = os.environ.get("MEDGAN_DICOMWEB_USER"), os.environ.get("MEDGAN_DICOMWEB_PASSWORD")
    return dict(urllib3.make_headers(basic_auth=f"{user}:{password}")) if user and password else {}


@functools.cache
def _pool() -> urllib3.PoolManager:
    """Return the process's connections; tries are few, and made again only where an answer may come."""
    retries = urllib3.Retry(
        ATTEMPTS - 1, redirect=0, backoff_factor=0.2, status_forcelist=(429, 502, 503, 504), raise_on_status=False,
        retry_after_max=WAIT_S,
    )  # fmt: skip
    timeout = urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S)
    return urllib3.PoolManager(maxsize=16, retries=retries, timeout=timeout)
