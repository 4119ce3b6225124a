"""The one application that the HTTP API and the page live in."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import FileResponse, HTMLResponse, PlainTextResponse, RedirectResponse, Response
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
from cutaway.serve.gate import WITHOUT_KEY, Gate, SecurityHeaders
from cutaway.serve.keys import Keys
from cutaway.serve.limits import ServingLimits
from cutaway.serve.login import add_login
from cutaway.serve.models import Loaded, Models, Served, model_name
from cutaway.serve.observing import Failures, Metrics, Observer
from cutaway.serve.problems import described, handle_errors, problem
from cutaway.serve.replacing import Replacing
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
    models: Classifier | Sequence[Served],
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

    With several models each has a page of its own at `/models/NAME/`, and `/` leads to the first.

    Args:
        models: One, or several under their names; loaded and warmed up.
        page: Whether to serve the page too.
        tabs: Further tabs of the page of one, see `page.build`; several bring their own.
        hosts: Host names that the server answers to, beside those of the loopback.
        name: Of one model; by default its file's, without the ending. Several bring theirs.
        limits: How much one request may ask for.
        keys: API keys that open the server; None leaves it open.
        origins: Foreign web pages whose scripts may use the API (CORS), as `https://name`.
        root_path: Where a proxy shows the server, as `/classify`.

    Raises:
        ServingError: A key is too short, a host, an origin, the root path or a model's name is none, or two names are
            the same.
    """
    root_path = checked_root_path(root_path)
    known_keys = None if keys is None else Keys(keys)
    check_hosts(hosts)
    check_origins(origins)
    limits = limits or ServingLimits()
    slots = Slots(limits.running, limits.waiting, time_limit=limits.time_limit)
    if isinstance(models, Sequence):
        served = Models(models)
    else:
        served = Models([Served(name or model_name(models.file_name), Loaded(models, tabs=tabs))])
    metrics = Metrics(served, slots)
    replacing = Replacing(served, metrics)
    networks = dict.fromkeys(each.now.classifier.metadata.network for each in served)
    app = FastAPI(
        title="cutaway",
        version=__version__,
        summary=f"Classify pictures with {', '.join(networks)}",
        docs_url=None,  # its scripts would come from another machine; ours has none
        redoc_url=None,
        openapi_url="/openapi.json",
        # Not by somebody's environment variables: what is measured goes where the person running it says.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        lifespan=replacing.lifespan,
    )
    app.state.models, app.state.limits, app.state.slots = served, limits, slots
    app.state.ready, app.state.end_streams = False, []
    handle_errors(app)
    _add_health(app)
    api_v1.add_routes(app, served, slots, limits)
    api_v2.add_routes(app, served, slots, limits)
    _add_descriptions(app, metrics)
    if known_keys is not None:
        add_login(app, known_keys)
        _describe_keys(app)
    if page and len(served) > 1:
        _lead_to_pages(app, served)
    own_routes = _refuse_other_methods(app)
    if page:
        upload_folder()  # before Gradio is imported: it reads its folder from the environment
        # Gradio takes seconds to import, and an API alone does without it.
        from cutaway.serve.pages import mount_pages

        replacing.pages |= mount_pages(app, served, slots, limits.image, root_path)
    app.add_middleware(Failures)  # the innermost: whatever goes out passes the others
    app.add_middleware(
        Gate,
        hosts=hosts,
        origins=origins,
        keys=known_keys,
        max_body_bytes=limits.max_body_bytes,
        time_limit=limits.time_limit,
        own_routes=[*own_routes, "/v2/"],
        max_uploads=slots.bound,
        before_upload=make_room,
    )
    if origins:
        app.add_middleware(CORSMiddleware, allow_origins=list(origins), **_CORS)
        app.add_middleware(SecurityHeaders)  # it answers itself where a browser asks whether it may ask
    app.add_middleware(Observer, metrics=metrics, routes=own_routes)
    if root_path:
        app.add_middleware(UnderRootPath, root_path=root_path)
    return app


def check_hosts(hosts: Collection[str]) -> None:
    """Refuses what no request names as its host; `*` too, since each is to be named.

    Raises:
        ServingError: One is more than a name, or none.
    """
    for host in hosts:
        if re.search(r"[/*@\s]|^[^:]+:\d*$", host):
            raise ServingError(
                f"{host[:100]!r} is not the name of a host.",
                hint="Write it as www.example.org, without https:// or a port.",
            )


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


def _add_health(app: FastAPI) -> None:
    @app.get("/healthz", tags=["health"])
    async def health() -> StatusAnswer:
        """The process lives."""
        return StatusAnswer(status="ok")

    @app.get("/readyz", tags=["health"], responses=described(503))
    async def ready() -> StatusAnswer:
        """All networks are loaded and warm, and the server is not going down."""
        if not app.state.ready:
            raise HTTPException(503, "The server is starting or going down.", headers={"Retry-After": "1"})
        return StatusAnswer(status="ready")


def _lead_to_pages(app: FastAPI, models: Models) -> None:
    """Leads `/` to the first model's page, and the name of each without a slash to its own; with their icon."""

    def lead(path: str, name: str) -> None:
        @app.api_route(path, methods=["GET", "HEAD"], include_in_schema=False)
        async def to_page(request: Request) -> RedirectResponse:
            return RedirectResponse(f"{request.scope.get('root_path', '')}/models/{name}/", 303)

    @app.get("/favicon.ico", include_in_schema=False)
    async def icon() -> FileResponse:
        return FileResponse(Path(__file__).parent / "static" / "favicon.png")

    lead("/", models.names[0])
    for name in models.names:
        lead(f"/models/{name}", name)


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
