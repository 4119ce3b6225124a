"""Errors as the HTTP API tells them: RFC 9457 in plain words, the same form for every one."""

from __future__ import annotations

import json
import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from cutaway.errors import CutawayError, ImageError, SettingsError
from cutaway.serve.answers import Problem
from cutaway.serve.models import UnknownModelError
from cutaway.serve.root_path import route_path
from cutaway.serve.sessions import StoppedError
from cutaway.serve.slots import BusyError, SlowBodyError, TimeLimitError
from cutaway.serve.wire_tensors import ProtocolError

__all__ = ["described", "handle_errors", "problem"]

_LOG = logging.getLogger(__name__)


def problem(
    status: int, title: str, detail: str, *, path: str = "", headers: dict[str, str] | None = None
) -> JSONResponse:
    """An error in the form of RFC 9457.

    Args:
        status: HTTP status code.
        title: What kind of problem, the same for every occurrence.
        detail: What is wrong this time and what to do, in plain words.
        path: Of the request. Clients of the Open Inference Protocol look for the words in `error`, so there it is too.
        headers: Further headers of the response.
    """
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if path == "/v2" or path.startswith("/v2/"):
        body["error"] = detail
    return JSONResponse(body, status, headers=headers, media_type="application/problem+json")


def described(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Problems of these statuses, as FastAPI's `responses` of a route takes them."""
    content = {"application/problem+json": {"schema": Problem.model_json_schema()}}
    return {status: {"content": content, "description": HTTPStatus(status).phrase} for status in statuses}


def handle_errors(app: FastAPI) -> None:
    """Lets the application answer every error with a problem."""

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers) if error.headers else None
        return _answer(request, error.status_code, HTTPStatus(error.status_code).phrase, str(error.detail), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = str(first["loc"][-1])
        detail = f"{where}: {first['msg']}, not {json.dumps(first.get('input'), default=str)[:100]}."
        return _answer(request, 422, "Wrong parameter", detail)

    @app.exception_handler(CutawayError)
    async def refused(request: Request, error: CutawayError) -> JSONResponse:
        if isinstance(error, BusyError):
            return _answer(request, 503, "Busy", str(error), {"Retry-After": str(error.retry_after)})
        if isinstance(error, SlowBodyError):
            return _answer(request, 408, "Too slow", str(error), {"Connection": "close"})
        if isinstance(error, TimeLimitError | StoppedError):
            return _answer(request, 504, "Time limit", str(error))
        if isinstance(error, UnknownModelError):
            return _answer(request, 404, "No such model", str(error))
        if isinstance(error, ProtocolError):
            return _answer(request, 400, "Bad request", str(error))
        if isinstance(error, ImageError):
            return _answer(request, 422, "The picture cannot be used", str(error))
        if isinstance(error, SettingsError):
            return _answer(request, 422, "Wrong parameter", str(error))
        _LOG.error("the network could not answer: %s", error)
        return _answer(request, 500, "The network could not answer", str(error))


def _answer(
    request: Request, status: int, title: str, detail: str, headers: dict[str, str] | None = None
) -> JSONResponse:
    return problem(status, title, detail, path=route_path(request.scope), headers=headers)
