"""The one application that the HTTP API and the page live in."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import HTMLResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from cutaway import __version__
from cutaway.errors import ServingError
from cutaway.serve import api_v1, api_v2
from cutaway.serve.answers import StatusAnswer
from cutaway.serve.classifier import Classifier
from cutaway.serve.docs_page import docs_page
from cutaway.serve.gate import WITHOUT_KEY, Gate
from cutaway.serve.keys import Keys
from cutaway.serve.limits import ServingLimits
from cutaway.serve.login import add_login
from cutaway.serve.observing import Failures, Metrics, Observer
from cutaway.serve.problems import described, handle_errors, problem
from cutaway.serve.root_path import UnderRootPath, checked_root_path, route_path
from cutaway.serve.slots import Slots
from cutaway.serve.uploads import make_room, upload_folder

__all__ = ["ServingLimits", "create_app"]

_CORS: dict[str, Any] = {
    "allow_methods": ["GET", "POST"],
    "allow_headers": [
        "Authorization",
        "Content-Type",
        "Inference-Header-Content-Length",
        "X-API-Key",
        "X-Request-ID",
    ],
    "expose_headers": ["Inference-Header-Content-Length", "Retry-After", "X-Request-ID"],
}


def create_app(
    classifier: Classifier,
    *,
    page: bool = True,
    tabs: Sequence[Any] = (),
    hosts: Collection[str] = (),
    name: str | None = None,
    limits: ServingLimits | None = None,
    keys: Collection[str] | None = None,
    origins: Collection[str] = (),
    root_path: str = "",
) -> FastAPI:
    """The whole application: `/v1/...`, `/v2...`, `/healthz`, `/readyz`, `/metrics`, `/docs`, and Gradio's page at `/`.

    Args:
        classifier: Loaded and warmed up.
        page: Whether to serve the page too.
        tabs: Further tabs of the page, see `page.build`.
        hosts: Host names that the server answers to, beside those of the loopback.
        name: Of the model in the Open Inference Protocol; by default its file's, without the ending.
        limits: How much one request may ask for.
        keys: API keys that open the server; None leaves it open.
        origins: Foreign web pages whose scripts may use the API (CORS), as `https://name`.
        root_path: Where a proxy shows the server, as `/classify`.

    Raises:
        ServingError: A key is too short, an origin or the root path is none.
    """
    root_path = checked_root_path(root_path)
    known_keys = None if keys is None else Keys(keys)
    check_origins(origins)
    limits = limits or ServingLimits()
    slots = Slots(limits.running, limits.waiting, time_limit=limits.time_limit)
    app = FastAPI(
        title="cutaway",
        version=__version__,
        summary=f"Classify pictures with {classifier.metadata.network}",
        docs_url=None,  # its scripts would come from another machine; ours has none
        redoc_url=None,
        openapi_url="/openapi.json",
        # Not by somebody's environment variables: what is measured goes where the person running it says.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        lifespan=_lifespan,
    )
    app.state.classifier, app.state.limits, app.state.slots = classifier, limits, slots
    app.state.ready = False
    metrics = Metrics(classifier, slots)
    handle_errors(app)
    _add_health(app)
    api_v1.add_routes(app, classifier, slots, limits)
    api_v2.add_routes(app, classifier, name or model_name(classifier.file_name), slots, limits)
    _add_descriptions(app, metrics)
    if known_keys is not None:
        add_login(app, known_keys)
        _describe_keys(app)
    own_routes = _refuse_other_methods(app)
    if page:
        upload_folder()  # before Gradio is imported: it reads its folder from the environment
        # Gradio takes seconds to import, and an API alone does without it.
        from cutaway.serve.page import build
        from cutaway.serve.page_mount import mount

        def built() -> Any:
            blocks = build(classifier, tabs, slots=slots, limits=limits.image)
            blocks.root_path = root_path
            return blocks

        mount(app, built, limits.image)
    app.add_middleware(Failures)  # the innermost: whatever goes out passes the others
    app.add_middleware(
        Gate,
        hosts=hosts,
        origins=origins,
        keys=known_keys,
        max_body_bytes=limits.max_body_bytes,
        own_routes=[*own_routes, "/v2/"],
        before_upload=make_room,
    )
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), **_CORS)
    app.add_middleware(Observer, metrics=metrics, routes=own_routes)
    if root_path:
        app.add_middleware(UnderRootPath, root_path=root_path)
    return app


def check_origins(origins: Collection[str]) -> None:
    """Refuses what no browser sends as an origin; `*` too, since each is to be named.

    Raises:
        ServingError: One is not of the form `https://name` or `https://name:port`.
    """
    for origin in origins:
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:]+\](:\d+)?", origin):
            raise ServingError(
                f"{origin[:100]!r} is not an origin.", hint="Write it as https://name or https://name:port."
            )


def model_name(file_name: str) -> str:
    """What the model in a file is called where a name must fit into an address."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePath(file_name).stem).strip("-.") or "model"


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.ready = True
    yield
    app.state.ready = False


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz", tags=["health"])
    async def health() -> StatusAnswer:
        """The process lives."""
        return StatusAnswer(status="ok")

    @app.get("/readyz", tags=["health"], responses=described(503))
    async def ready() -> StatusAnswer:
        """The network is loaded and warm, and the server is not going down."""
        if not app.state.ready:
            raise HTTPException(503, "The server is starting or going down.", headers={"Retry-After": "1"})
        return StatusAnswer(status="ready")


def _add_descriptions(app: FastAPI, metrics: Metrics) -> None:
    @app.get("/metrics", tags=["health"], response_class=PlainTextResponse)
    async def exposed() -> Response:
        """What was counted and measured since the start, as Prometheus reads it."""
        return metrics.exposition()

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(docs_page(app.openapi()))


def _describe_keys(app: FastAPI) -> None:
    """Says in the API's description which routes ask for a key."""
    document = app.openapi()  # made once, and kept by the application
    document.setdefault("components", {})["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    document["security"] = [{"bearer": []}, {"key": []}]
    refused = described(401)[401]
    for path, operations in document["paths"].items():
        for operation in operations.values():
            if path in WITHOUT_KEY:
                operation["security"] = []
            else:
                operation["responses"]["401"] = refused


class _OtherMethods:
    """Answers for the methods that a path does not take: the page, mounted at /, would say 404."""

    def __init__(self, path: str, methods: Collection[str]) -> None:
        self.path = path
        self._methods = ", ".join(sorted(methods))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self  # as FastAPI does, for whoever counts
        detail = f"{scope['method'][:20]} is not taken here, but {self._methods}."
        refusal = problem(405, "Method not allowed", detail, path=route_path(scope), headers={"Allow": self._methods})
        await refusal(scope, receive, send)


def _refuse_other_methods(app: FastAPI) -> list[str]:
    """Adds what answers for other methods; returns the paths of all routes, with their parameters in braces."""
    methods: dict[str, set[str]] = {}
    for route in app.routes:
        if isinstance(route, Route | APIRoute):
            methods.setdefault(route.path, set()).update(route.methods or ())
    for path, taken in methods.items():
        app.router.routes.append(Route(path, _OtherMethods(path, taken), include_in_schema=False))
    return list(methods)
