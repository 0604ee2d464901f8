"""The HTTP service as a FastAPI application: models, keys, admission, problems (RFC 9457). Imports no Ray.

Every refusal is ``application/problem+json``. Requests are admitted here, by the images they ask for, before any queue.
"""

import asyncio
import io
import secrets
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from medgan_ray import __version__
from medgan_ray.errors import MedganError, UsageError, nearest
from medgan_ray.inference.encode import MEDIA_TYPES, SUFFIXES, encode
from medgan_ray.inference.model import Model, load_model
from medgan_ray.on_ray.gate import Gate, problem
from medgan_ray.on_ray.page import PAGE

MOST_IMAGES = 64
RETRY_S = 1
LARGEST_SEED = 2**63 - 1


class Ask(BaseModel):
    """What ``POST /v1/generate`` takes."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    model: str | None = None
    """Name of a model; may be left out where one alone is served."""
    n: Annotated[int, Field(ge=1, le=MOST_IMAGES, strict=True)] = 1
    """How many images."""
    label: str | None = None
    """One of the model's classes; left out, labels come as often as in the training scans."""
    seed: Annotated[int, Field(ge=0, le=LARGEST_SEED, strict=True)] | None = None
    """Names the images: the same seed gives the same ones. Random if left out, and returned in X-Seed."""
    truncation: Annotated[float, Field(ge=0, le=1)] | None = None
    """Less is surer and less varied: 0 is the mean image, 1 as trained. Only models of stylegan2 have it."""
    format: Literal["png", "npz", "dicom"] = "png"
    """png: 8 bits in the default window; npz, dicom: the full range."""


class Refusal(Exception):
    """A refusal with its HTTP status."""

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, dict(headers or {})


class Models:
    """The models of a service, opened in the background; each has made a sample before it counts as ready."""

    def __init__(self, uris: Mapping[str, str]) -> None:
        self._uris, self._open = dict(uris), dict[str, Model]()
        self.failure = ""
        threading.Thread(target=self._load, name="medgan-ray-load", daemon=True).start()

    @property
    def ready(self) -> bool:
        """Whether all are open."""
        return len(self._open) == len(self._uris)

    def get(self, name: str | None) -> Model:
        """Return the model of this name, or the only one.

        Raises:
            Refusal: 404 for an unknown name, 400 for none where there are several, 503 while it loads.
        """
        if name is None and len(self._uris) > 1:
            raise Refusal(400, f"several models are served, name one: {', '.join(sorted(self._uris))}")
        name = name or next(iter(self._uris))
        if name not in self._uris:
            raise Refusal(404, f"no model {name!r}: {nearest(name, self._uris)}")
        if name not in self._open:
            raise self.loading()
        return self._open[name]

    def loading(self) -> Refusal:
        """Return the refusal of a service that isn't ready."""
        return Refusal(503, self.failure or "models are loading", {"Retry-After": str(RETRY_S)})

    def described(self) -> list[dict[str, Any]]:
        """Return what ``GET /v1/models`` says of each."""
        return [_described(name, self._open.get(name)) for name in self._uris]

    def _load(self) -> None:
        for name, uri in self._uris.items():
            try:
                model = load_model(uri)
                model.sample(1)
            except MedganError as error:
                self.failure = str(error)
                return
            self._open[name] = model


class Admission:
    """Counts images that were asked for and not yet answered."""

    def __init__(self, most: int) -> None:
        self._most, self._count = most, 0

    @contextmanager
    def admitted(self, images: int) -> Iterator[None]:
        """Admit a request for so many images until the block ends.

        Raises:
            Refusal: 503 at once, where there would be too many.
        """
        if self._count + images > self._most:
            raise Refusal(503, f"{self._count} images are waited for already", {"Retry-After": str(RETRY_S)})
        self._count += images
        try:
            yield
        finally:
            self._count -= images


def build(models: Models, keys: tuple[str, ...], max_images: int, wait_s: float, proxied: bool = False) -> Any:
    """Return the ASGI application.

    Args:
        models: what is served.
        keys: SHA-256 of each API key, in hex; empty: none is asked for, and only loopback is answered.
        max_images: images asked for and not yet answered, beyond which the answer is 503.
        wait_s: how long a request may wait for its turn, seconds.
        proxied: Ray Serve's proxy stands in front.
    """
    app = FastAPI(title="medgan-ray", version=__version__, description="Synthetic scans. Not a medical device.")
    _tell(app, models)
    _generate(app, models, Admission(max_images), wait_s)
    _explain(app)
    return Gate(app, keys, proxied)


def _tell(app: FastAPI, models: Models) -> None:
    """Add the routes that say how things stand."""

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Answer while the process lives."""
        return {"status": "alive"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Answer once every model is open and has made a sample."""
        if not models.ready:
            raise models.loading()
        return {"status": "ready"}

    @app.get("/v1/models")
    async def list_models() -> dict[str, Any]:
        """Return the models: names, versions, classes, sizes, cards."""
        return {"models": models.described()}

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        """Return a page to try it in a browser."""
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": f"{policy}; img-src blob:"})


def _generate(app: FastAPI, models: Models, admission: Admission, wait_s: float) -> None:
    """Add the route that makes images, one request at a time."""
    turn = asyncio.Lock()

    @app.post("/v1/generate", response_class=Response)
    async def generate(ask: Ask) -> Response:
        """Return synthetic images: one file for n = 1, else a zip; npz holds all images in one file."""
        model = models.get(ask.model)
        if ask.truncation is not None and not model.truncates:
            raise Refusal(422, "this model has no truncation: leave it out")
        try:
            model.code(ask.label)
        except UsageError as error:
            raise Refusal(422, str(error)) from None
        seed = secrets.randbelow(LARGEST_SEED) if ask.seed is None else ask.seed
        with admission.admitted(ask.n):
            try:
                await asyncio.wait_for(turn.acquire(), wait_s)
            except TimeoutError:
                raise Refusal(408, f"no turn within {wait_s:g} s") from None
            try:
                body, name = await asyncio.to_thread(_files, model, ask, seed)
            finally:
                turn.release()
        return _answer(body, name, ask, {"X-Model-Version": model.version, "X-Seed": str(seed)})


def _explain(app: FastAPI) -> None:
    """Turn every way of failing into problem JSON."""

    @app.exception_handler(Refusal)
    async def refused(_: Request, error: Refusal) -> JSONResponse:
        return problem(error.status, error.detail, error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return problem(400, f"{place}: {first['msg']}" if place else first["msg"])

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> JSONResponse:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(MedganError)
    async def known(_: Request, error: MedganError) -> JSONResponse:
        return problem(error.http_status, str(error))


def _files(model: Model, ask: Ask, seed: int) -> tuple[bytes, str]:
    """Return the body and its file name."""
    images = model.sample(ask.n, ask.label, seed, truncation=ask.truncation)
    files = encode(model, images, ask.format, seed=seed, label=ask.label, truncation=ask.truncation)
    if len(files) == 1:
        return files[0][1], f"{model.name}-{seed}{SUFFIXES[ask.format]}"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in files:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue(), f"{model.name}-{seed}.zip"


def _answer(body: bytes, name: str, ask: Ask, headers: dict[str, str]) -> Response:
    kind = "application/zip" if name.endswith(".zip") else MEDIA_TYPES[ask.format]
    safe = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
    return Response(body, media_type=kind, headers={**headers, "Content-Disposition": f'attachment; filename="{safe}"'})


def _described(name: str, model: Model | None) -> dict[str, Any]:
    if model is None:
        return {"name": name, "state": "loading"}
    card, release = model.card, model.card.release
    return {
        "name": name,
        "state": "ready",
        "version": model.version,
        "classes": list(model.classes),
        "size": list(model.size),
        "channels": card.channels,
        "modality": card.modality,
        "unit": model.intensity.unit,
        "can": ["generate"],
        "formats": list(SUFFIXES),
        "release": release.version if release else None,
        "verdict": release.verdict if release else None,
        "forced": release.forced if release else None,
        "card": card.model_dump(mode="json"),
    }
