"""What an operator sees of the server: a number for every request, one line of log each, and metrics for Prometheus.

Nothing of a picture is logged or counted by name: neither its bytes nor the name of its file.
"""

from __future__ import annotations

import json
import logging
import re
import time
import uuid
from collections.abc import Collection
from typing import TextIO

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.serve import watching
from cutaway.serve.models import Models, Served
from cutaway.serve.problems import problem
from cutaway.serve.root_path import route_path
from cutaway.serve.slots import Slots

__all__ = ["Failures", "Metrics", "Observer", "log_reloads", "log_requests"]

_LOG = logging.getLogger("cutaway.serve.requests")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_HUNG_UP = 499
"""Counted as the status where a client went away unanswered, as other servers do."""
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """What is counted, in a registry of its own.

    Args:
        models: That are served.
        slots: That page and API share; their work is measured from here on.
    """

    def __init__(self, models: Models, slots: Slots) -> None:
        self._registry = registry = CollectorRegistry()
        self._requests = Counter(
            "cutaway_requests", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self._seconds = Histogram(
            "cutaway_request_seconds",
            "From a request's first byte to its answer's last",
            ["route"],
            buckets=_SECONDS,
            registry=registry,
        )
        work = Histogram(
            "cutaway_work_seconds",
            "Decoding, classifying and drawing, without the time waited for a place",
            ["model"],
            buckets=_SECONDS,
            registry=registry,
        )
        slots.on_done = lambda seconds, model: work.labels(model).observe(seconds)
        Gauge("cutaway_places_taken", "Requests at work or waiting", registry=registry).set_function(
            lambda: slots.taken
        )
        Gauge("cutaway_places", "Places to work and to wait in", registry=registry).set(slots.bound)
        self._model = Info("cutaway_model", "The networks that are served", ["model"], registry=registry)
        self._reloads = Counter(
            "cutaway_reloads",
            "Files that came in the place of a served one: loaded, or refused",
            ["model", "result"],
            registry=registry,
        )
        for served in models:
            work.labels(served.name)
            self._describe(served)
            for result in ("loaded", "refused"):
                self._reloads.labels(served.name, result)
        ProcessCollector(registry=registry)

    def reloaded(self, served: Served, is_good: bool) -> None:
        """Counts a file that came in the place of a served one."""
        self._reloads.labels(served.name, "loaded" if is_good else "refused").inc()
        self._describe(served)

    def _describe(self, served: Served) -> None:
        now = served.now
        self._model.labels(served.name).info(
            {
                "network": now.classifier.metadata.network,
                "bundle": now.classifier.metadata.bundle,
                "device": now.classifier.device,
                "version": now.version,
            }
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request."""
        self._requests.labels(method if method in _METHODS else "other", route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def exposition(self) -> Response:
        """All of it, as Prometheus reads it."""
        return Response(generate_latest(self._registry), media_type=CONTENT_TYPE_LATEST)


class Observer:
    """Numbers, times, counts and logs every request.

    The number is taken from `X-Request-ID` where a proxy has given a sane one, and sent back under that name.

    Args:
        app: Everything else.
        metrics: Counts here.
        routes: Paths, with their parameters in braces, that are counted by themselves; the rest is `other`.
    """

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = frozenset(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        given = Headers(scope=scope).get("x-request-id", "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        scope["request_id"] = request_id
        status = _HUNG_UP

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, numbered)
        finally:
            seconds = time.perf_counter() - began
            route = getattr(scope.get("route"), "path", "")
            route = route if route in self._routes else "other"
            self._metrics.answered(scope["method"], route, status, seconds)
            fields = {
                "request_id": request_id,
                "method": scope["method"][:20],
                "path": scope["path"][:200],
                "status": status,
                "milliseconds": round(seconds * 1000, 1),
            }
            _LOG.info("request", extra={"fields": fields})


class Failures:
    """Logs what nobody foresaw, and answers without its innards.

    Args:
        app: Where it happens.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        has_begun = False

        async def watched(message: Message) -> None:
            nonlocal has_begun
            has_begun = has_begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except ClientDisconnect:
            pass  # nobody is there to be answered
        except Exception as error:
            if has_begun and isinstance(error.__cause__, HTTPException):
                await send({"type": "http.response.body"})  # Gradio's streams tell a client's mistakes themselves
                return
            if scope["type"] != "http" or has_begun:
                raise  # uvicorn logs it and closes the connection
            _LOG.exception("a request failed", extra={"fields": {"request_id": scope.get("request_id")}})
            detail = "Something went wrong in the server. Its log says more."
            await problem(500, "Internal error", detail, path=route_path(scope))(scope, receive, send)


class JsonLines(logging.Formatter):
    """A JSON object a line: time, level, message, and the fields that a record brings."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        line = {"time": moment, "level": record.levelname.lower(), "message": record.getMessage()}
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Words(logging.Formatter):
    """A line in words, in which nothing that a file says steers the terminal or begins a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, and those of a traceback after it."""
        lines = [record.getMessage()]
        if record.exc_info:
            lines += self.formatException(record.exc_info).split("\n")
        return "\n".join(map(_harmless, lines))


def _harmless(text: str) -> str:
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def log_requests(stream: TextIO) -> None:
    """Writes a line for each request, and whatever else this process logs as a warning, as JSON."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    logging.getLogger().addHandler(handler)
    _LOG.setLevel(logging.INFO)
    watching.LOG.setLevel(logging.INFO)


def log_reloads(stream: TextIO) -> None:
    """Writes a line in words for each file that came in the place of a served one."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Words())
    watching.LOG.addHandler(handler)
    watching.LOG.setLevel(logging.INFO)
