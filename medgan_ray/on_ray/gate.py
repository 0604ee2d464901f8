"""What a request passes first: its id, its key, its size and type. Refusals are problem JSON (RFC 9457)."""

import hashlib
import hmac
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException

from medgan_ray.on_ray.session import is_loopback

LARGEST_BODY = 64 * 1024
"""Bytes of a JSON request."""
OPEN = frozenset({"/", "/health", "/ready", "/docs", "/docs/oauth2-redirect", "/redoc", "/openapi.json"})
"""Paths that need no key."""
_REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return a refusal as RFC 9457 describes it."""
    body = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return JSONResponse(body, status, dict(headers or {}), media_type="application/problem+json")


def hash_key(key: str) -> str:
    """Return the form in which a key is kept: its SHA-256 in hex."""
    return hashlib.sha256(key.encode()).hexdigest()


class Gate:
    """ASGI middleware around the service.

    Args:
        app: the application.
        keys: SHA-256 of each API key; empty: none is asked for, and only loopback is answered.
        proxied: Ray Serve's proxy stands in front; it makes the request's id and puts it into the answer.
    """

    def __init__(self, app: Any, keys: tuple[str, ...], proxied: bool = False) -> None:
        self.app, self._keys, self._proxied = app, tuple(key.encode() for key in keys), proxied

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        given = headers.get("x-request-id", "")
        request_id = given if _REQUEST_ID.match(given) else uuid.uuid4().hex
        begun = False

        async def sign(message: Any) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                signed = MutableHeaders(scope=message)
                if not self._proxied:
                    signed["X-Request-Id"] = request_id
                signed["X-Content-Type-Options"] = "nosniff"
                signed.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refusal(scope, receive, sign)
            return
        try:
            await self.app(scope, _limited(receive), sign)
        except Exception:
            if not begun:
                await problem(500, f"unexpected; request {request_id}")(scope, receive, sign)
            raise

    def _refusal(self, scope: Any, headers: Headers) -> JSONResponse | None:
        if scope["path"] not in OPEN:
            refusal = self._refused_key(scope, headers)
            if refusal is not None:
                return refusal
        if scope["method"] != "POST":
            return None
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > LARGEST_BODY:
            return problem(413, f"the body is larger than {LARGEST_BODY} bytes")
        if headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            return problem(415, "send application/json")
        return None

    def _refused_key(self, scope: Any, headers: Headers) -> JSONResponse | None:
        if not self._keys:
            client = (scope.get("client") or ("127.0.0.1", 0))[0]
            return None if is_loopback(client) else problem(403, "without keys, only this machine is answered")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not key:
            return problem(401, "send 'Authorization: Bearer KEY'", {"WWW-Authenticate": "Bearer"})
        found = hash_key(key.strip()).encode()
        # All keys are compared, each in constant time, so that the time tells nothing.
        known = sum(hmac.compare_digest(found, each) for each in self._keys)
        return None if known else problem(403, "this key is not known here")


def _limited(receive: Any) -> Any:
    """Return ``receive`` that stops at the largest body."""
    read = 0

    async def limited() -> Any:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        if read > LARGEST_BODY:
            raise HTTPException(413, f"the body is larger than {LARGEST_BODY} bytes")
        return message

    return limited
