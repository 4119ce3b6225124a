"""The HTTP API, and the one application that it and the page live in."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from cutaway import __version__
from cutaway.errors import CutawayError, ImageError, SettingsError
from cutaway.images import Limits, decode
from cutaway.serve.answers import (
    ClassifyAnswer,
    ModelAnswer,
    Problem,
    StatusAnswer,
    describe_model,
    describe_prediction,
)
from cutaway.serve.classifier import Classifier
from cutaway.serve.gate import Gate, problem
from cutaway.serve.slots import BusyError, Slots, in_thread
from cutaway.serve.uploads import make_room, upload_folder

Explain = Literal["none", "overlay", "numbers"]

_PROBLEM = {"application/problem+json": {"schema": Problem.model_json_schema()}}
_CLASSIFY_BODY = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["images"],
                "properties": {"images": {"type": "array", "items": {"type": "string", "format": "binary"}}},
            }
        },
        **{
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in ("image/*", "application/octet-stream")
        },
    },
}


@dataclass(frozen=True)
class ServingLimits:
    """How much one request may ask for.

    Attributes:
        max_body_bytes: Of a request, whatever it carries.
        max_images: Pictures in one request.
        image: Bytes and pixels of one picture.
        running: Requests that use the network at once.
        waiting: Requests that may wait for their turn beyond those; then 503.
    """

    max_body_bytes: int = 64 * 2**20
    max_images: int = 32
    image: Limits = field(default_factory=Limits)
    running: int = 2
    waiting: int = 32


def create_app(
    classifier: Classifier,
    *,
    page: bool = True,
    tabs: Sequence[Any] = (),
    hosts: Collection[str] = (),
    limits: ServingLimits | None = None,
) -> FastAPI:
    """The whole application: `/v1/...`, `/healthz`, `/readyz`, and Gradio's page at `/`.

    Args:
        classifier: Loaded and warmed up.
        page: Whether to serve the page too.
        tabs: Further tabs of the page, see `page.build`.
        hosts: Host names that the server answers to, beside those of the loopback.
        limits: How much one request may ask for.
    """
    limits = limits or ServingLimits()
    slots = Slots(limits.running, limits.waiting)
    app = FastAPI(
        title="cutaway",
        version=__version__,
        summary=f"Classify pictures with {classifier.metadata.network}",
        docs_url=None,  # its scripts would come from another machine
        redoc_url=None,
        openapi_url="/openapi.json",
        # Not by somebody's environment variables: what is measured goes where the person running it says.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        lifespan=_lifespan,
    )
    app.state.classifier, app.state.limits, app.state.slots = classifier, limits, slots
    app.state.ready = False
    _handle_errors(app)
    _add_routes(app)
    if page:
        upload_folder()  # before Gradio is imported: it reads its folder from the environment
        # Gradio takes seconds to import, and an API alone does without it.
        from cutaway.serve.page import build
        from cutaway.serve.page_mount import mount

        mount(app, lambda: build(classifier, tabs, slots=slots, limits=limits.image), limits.image)
    own_routes = ["/v1/model", "/v1/classify", "/healthz", "/readyz", "/openapi.json"]
    app.add_middleware(
        Gate, hosts=hosts, max_body_bytes=limits.max_body_bytes, own_routes=own_routes, before_upload=make_room
    )
    return app


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.ready = True
    yield
    app.state.ready = False


def _add_routes(app: FastAPI) -> None:
    classifier: Classifier = app.state.classifier
    busy: dict[int | str, dict[str, Any]] = {
        503: {"content": _PROBLEM, "description": "Every place is taken, or going down"}
    }

    @app.get("/healthz", tags=["health"])
    async def health() -> StatusAnswer:
        """The process lives."""
        return StatusAnswer(status="ok")

    @app.get("/readyz", tags=["health"], responses=busy)
    async def ready() -> StatusAnswer:
        """The network is loaded and warm, and the server is not going down."""
        if not app.state.ready:
            raise HTTPException(503, "The server is starting or going down.", headers={"Retry-After": "1"})
        return StatusAnswer(status="ready")

    @app.get("/v1/model", tags=["model"])
    async def model() -> ModelAnswer:
        """Classes, preprocessing, metrics, provenance and verification of the network."""
        return describe_model(classifier)

    described: dict[int | str, dict[str, Any]] = {
        status: {"content": _PROBLEM, "description": HTTPStatus(status).phrase} for status in (400, 413, 415, 422)
    }

    @app.post(
        "/v1/classify",
        tags=["model"],
        responses={**described, **busy},
        openapi_extra={"requestBody": _CLASSIFY_BODY},
    )
    async def classify(
        request: Request,
        top_k: Annotated[int, Query(ge=1, le=1000, description="How many classes to name")] = 5,
        explain: Annotated[
            Explain, Query(description="Heat-map: none, a PNG laid over the picture, or numbers")
        ] = "none",
        class_index: Annotated[int, Query(ge=-1, description="The class to explain; -1 is the top class")] = -1,
    ) -> ClassifyAnswer:
        """Classifies one or many pictures, sent as form field `images` or as the raw body."""
        limits: ServingLimits = app.state.limits
        if explain != "none" and not classifier.metadata.explains:
            raise HTTPException(422, "This network was exported without heat-maps: ask with explain=none.")
        if class_index >= len(classifier.classes):
            detail = f"There is no class {class_index}: they count from 0 to {len(classifier.classes) - 1}."
            raise HTTPException(422, detail)
        files = await _files(request, limits.max_images)
        async with app.state.slots.place():
            return await in_thread(_classify, classifier, files, limits.image, top_k, explain, class_index)

    # Without this the page, which is mounted at /, would answer for the other methods, and say 404.
    @app.api_route("/v1/classify", methods=["GET", "HEAD", "PUT", "PATCH", "DELETE"], include_in_schema=False)
    async def classify_takes_post_only() -> JSONResponse:
        return problem(405, "Method not allowed", "Send pictures with POST.", headers={"Allow": "POST"})


def _classify(
    classifier: Classifier,
    files: Sequence[tuple[str | None, bytes]],
    limits: Limits,
    top_k: int,
    explain: Explain,
    class_index: int,
) -> ClassifyAnswer:
    pictures = [_decoded(name, data, limits, alone=len(files) == 1) for name, data in files]
    predictions = classifier(pictures, top_k=top_k, explain=explain != "none", class_index=class_index)
    preprocessing = classifier.metadata.preprocessing
    results = [
        describe_prediction(prediction, picture, name, explain, preprocessing)
        for prediction, picture, (name, _) in zip(predictions, pictures, files, strict=True)
    ]
    milliseconds = sum(prediction.milliseconds for prediction in predictions)
    return ClassifyAnswer(results=results, bundle=classifier.metadata.bundle, milliseconds=milliseconds)


def _decoded(name: str | None, data: bytes, limits: Limits, *, alone: bool) -> Any:
    try:
        return decode(data, limits=limits)
    except ImageError as error:
        if alone:
            raise
        raise ImageError(f"{(name or 'A picture')[:100]}: {error.message}", hint=error.hint) from error


async def _files(request: Request, max_images: int) -> list[tuple[str | None, bytes]]:
    """Name and bytes of each picture of a request."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind.startswith("image/") or kind == "application/octet-stream":
        data = await request.body()
        if not data:
            raise HTTPException(422, "The body is empty: send the bytes of a picture.")
        return [(None, data)]
    if kind != "multipart/form-data":
        detail = f"{kind or 'A body without Content-Type'} is not taken: send a form with field images, or an image."
        raise HTTPException(415, detail)
    async with request.form(max_files=max_images + 1, max_fields=16) as form:
        sent = form.getlist("images")
        if not sent or any(not isinstance(part, UploadFile) for part in sent):
            raise HTTPException(422, "The form has no pictures: send each as a file in field images.")
        if len(sent) > max_images:
            raise HTTPException(413, f"More than {max_images} pictures in one request.")
        return [(part.filename, await part.read()) for part in sent if isinstance(part, UploadFile)]


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(HTTPException)
    async def http_error(_: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return problem(error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail), headers=headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = str(first["loc"][-1])
        detail = f"{where}: {first['msg']}, not {json.dumps(first.get('input'), default=str)[:100]}."
        return problem(422, "Wrong parameter", detail)

    @app.exception_handler(BusyError)
    async def busy(_: Request, error: BusyError) -> JSONResponse:
        return problem(503, "Busy", str(error), headers={"Retry-After": str(error.retry_after)})

    @app.exception_handler(CutawayError)
    async def refused(_: Request, error: CutawayError) -> JSONResponse:
        if isinstance(error, ImageError):
            return problem(422, "The picture cannot be used", str(error))
        if isinstance(error, SettingsError):
            return problem(422, "Wrong parameter", str(error))
        return problem(500, "The network could not answer", str(error))

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "Internal error", "Something went wrong in the server. Its log says more.")
