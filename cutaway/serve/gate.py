"""What every request passes before anything reads it: host, origin, key, body size, Gradio's open doors, headers.

Pure ASGI, so that a body is counted while it comes in, also on Gradio's routes, and streams stay streams.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Callable, Collection
from http import HTTPStatus
from urllib.parse import urlsplit

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.serve.keys import Keys
from cutaway.serve.problems import problem
from cutaway.serve.root_path import route_path
from cutaway.serve.slots import BusyError, SlowBodyError, in_thread

LOCAL_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})

# All that Gradio's page asks for. Its other routes (calls by name, a proxy, files by URL, recordings, an editor)
# are doors that nobody here needs.
_GRADIO_ROUTES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/pwa_icon(/\d+)?|/robots\.txt"
    r"|/(assets|static|svelte)/.+"
    r"|/gradio_api/(theme\.css|app_id/?|startup-events|upload|upload_progress|queue/join|queue/data|cancel|reset/?)"
    r"|/gradio_api/heartbeat/[A-Za-z0-9]+"
    r"|/gradio_api/file=/.+"
)
_PAGE = re.compile(r"(/models/[A-Za-z0-9_][A-Za-z0-9._-]*)?(/page-\d+)?(?=/)")
"""Before the page's routes, where a server has several models, or watches their files."""
_LOGIN = "/login"
WITHOUT_KEY = frozenset({"/healthz", "/readyz", "/v2/health/live", "/v2/health/ready", _LOGIN})
# Of some others that Python knows comes text that nobody can write again, or an error that nobody foresees.
_CHARSETS = frozenset({"utf-8", "utf8", "us-ascii"})
_UPLOAD = "/gradio_api/upload"
_UPLOADED_FILE = "/gradio_api/file="

# Gradio's templates are compiled in the browser, hence 'unsafe-eval'. Nothing may come from another machine.
_PAGE_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self' data: blob:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)
# What a visitor uploaded is never run, even when it is opened by itself.
_FILE_POLICY = "default-src 'none'; img-src 'self'; sandbox"


class Gate:
    """Refuses foreign hosts and origins, wrong keys, large bodies, and Gradio's routes that the page does not use.

    Args:
        app: The application behind the gate.
        hosts: Names that the server answers to, beside this machine's own loopback names. Addresses in numbers are
            always answered: only a name can be pointed here by somebody else's name server. Pages of these names are
            not foreign, so that a proxy may hand on another Host.
        origins: Foreign pages that may use `own_routes`, as `https://name`.
        keys: Without one of them nothing is answered but whether the server lives and is ready; None asks for none.
        max_body_bytes: Of one request.
        time_limit: Seconds that a body for the page or the login may take to arrive; the API bounds its own.
        own_routes: Paths, and prefixes ending in a slash (`/` is a path), of the application that are not Gradio's.
        max_uploads: To the page at once; further ones are told to come back.
        before_upload: Called in a thread before each upload to the page.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str] = (),
        origins: Collection[str] = (),
        keys: Keys | None = None,
        max_body_bytes: int,
        time_limit: float,
        own_routes: Collection[str],
        max_uploads: int = 32,
        before_upload: Callable[[], None] | None = None,
    ) -> None:
        self._app = app
        self._named_hosts = frozenset(host.lower() for host in hosts)
        self._hosts = LOCAL_HOSTS | self._named_hosts
        self._origins = frozenset(origins)
        self._keys = keys
        self._max_body_bytes = max_body_bytes
        self._time_limit = time_limit
        self._before_upload = before_upload
        self._max_uploads, self._uploads = max_uploads, 0
        self._exact = frozenset(own_routes)
        self._prefixes = tuple(route for route in own_routes if route.endswith("/") and route != "/")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it here."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = route_path(scope)
        refusal = self._refusal(scope, path)
        if refusal is not None:
            await refusal(scope, receive, _with_headers(send, path))
            return
        if _page_path(path) != _UPLOAD:
            await self._pass(scope, receive, send, path)
        elif self._uploads < self._max_uploads:
            self._uploads += 1
            try:
                if self._before_upload is not None:
                    await in_thread(self._before_upload)
                await self._pass(scope, receive, send, path)
            finally:
                self._uploads -= 1
        else:
            busy = problem(503, "Busy", str(BusyError(1)), path=path, headers={"Retry-After": "1"})
            busy.headers["connection"] = "close"
            await busy(scope, receive, _with_headers(send, path))

    async def _pass(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        receive = _counted(receive, self._max_body_bytes)
        if path == _LOGIN or not self._is_own(path):
            receive = _in_time(receive, self._time_limit)
        await self._app(scope, receive, _with_headers(send, path))

    def _is_own(self, path: str) -> bool:
        return path in self._exact or path.startswith(self._prefixes)

    def _refusal(self, scope: Scope, path: str) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self._answers_to(host):
            detail = f"This server does not answer for the host {host[:100]!r}. Name it when starting the server."
            return problem(400, "Unknown host", detail, path=path)
        is_own = self._is_own(path)
        origin = headers.get("origin")
        if origin is not None and not self._is_welcome(origin, host, is_own):
            return problem(403, "Foreign origin", f"Pages of {origin[:100]!r} may not use this server.", path=path)
        if self._keys is not None and path not in WITHOUT_KEY and not self._keys.admit(headers):
            return _key_needed(scope, path, headers)
        length = headers.get("content-length", "0")
        if not length.isascii() or not length.isdigit():
            return problem(400, "Bad request", "Content-Length is not a number.", path=path)
        if int(length[:19]) > self._max_body_bytes:
            refused = problem(413, HTTPStatus(413).phrase, too_large(self._max_body_bytes), path=path)
            refused.headers["connection"] = "close"
            return refused
        charset = _charset(headers)
        if charset not in _CHARSETS:
            detail = f"The charset {charset[:100]!r} is not taken: send the form in UTF-8."
            return problem(415, HTTPStatus(415).phrase, detail, path=path)
        if is_own or _GRADIO_ROUTES.fullmatch(_page_path(path)):
            return None
        return problem(404, "Not found", f"There is nothing at {path[:200]!r}.", path=path)

    def _is_welcome(self, origin: str, host: str, is_own: bool) -> bool:
        try:
            name = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return name == host.lower() or name in self._named_hosts or (is_own and origin in self._origins)

    def _answers_to(self, host: str) -> bool:
        try:
            parts = urlsplit(f"//{host}")
            name = (parts.hostname or "").rstrip(".")
        except ValueError:
            return False
        if parts.netloc != host or "@" in host:  # it goes into addresses that a browser is led to
            return False
        if name in self._hosts:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


class SecurityHeaders:
    """Tells browsers what to keep to, also with what is answered before the gate.

    Args:
        app: Everything else.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on."""
        await self._app(scope, receive, _with_headers(send, route_path(scope)) if scope["type"] == "http" else send)


def _charset(headers: Headers) -> str:
    """That a form says it is in."""
    kind, options = parse_options_header(headers.get("content-type"))
    is_form = kind.startswith((b"multipart/", b"application/x-www-form-urlencoded"))
    return options.get(b"charset", b"utf-8").decode("latin-1").lower() if is_form else "utf-8"


def _page_path(path: str) -> str:
    """A path below the page that it is of."""
    found = _PAGE.match(path)
    return path[found.end() :] if found else path


def _key_needed(scope: Scope, path: str, headers: Headers) -> Response:
    """A browser that opens a page is led to where it can give a key; one that has it open is told how to come there."""
    if scope["method"] == "GET" and "text/html" in headers.get("accept", ""):
        return RedirectResponse(f"{scope.get('root_path', '')}/login", 303)
    is_open = _page_path(path).startswith("/gradio_api/")
    how = "reload the page and log in with it." if is_open else "send it as Authorization: Bearer KEY."
    detail = f"This server asks for a key: {how}"
    return problem(401, "Key needed", detail, path=path, headers={"WWW-Authenticate": "Bearer"})


def too_large(max_body_bytes: int) -> str:
    """The sentence for a body beyond the limit."""
    return f"The request is larger than {max_body_bytes / 2**20:.4g} MiB, the most this server takes at once."


def _counted(receive: Receive, max_body_bytes: int) -> Receive:
    """Passes the body on and stops it where it grows too large, whatever its header claimed."""
    received = 0

    async def count() -> Message:
        nonlocal received
        message = await receive()
        if message["type"] == "http.request":
            received += len(message.get("body", b""))
            if received > max_body_bytes:
                raise HTTPException(413, too_large(max_body_bytes))
        return message

    return count


def _in_time(receive: Receive, seconds: float) -> Receive:
    """Passes the body on and gives it up where it does not arrive in time."""
    ends = asyncio.get_running_loop().time() + seconds
    more = True

    async def wait() -> Message:
        nonlocal more
        if not more:  # whoever listens for the client's going away may do so for as long as a stream lasts
            return await receive()
        try:
            async with asyncio.timeout_at(ends):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, str(SlowBodyError(seconds)), {"Connection": "close"}) from error
        more = bool(message.get("more_body", False))
        return message

    return wait


def _with_headers(send: Send, path: str) -> Send:
    is_file = _page_path(path).startswith(_UPLOADED_FILE)

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["x-content-type-options"] = "nosniff"
            # Without a referrer, a browser would not name the origin of a form that it sends either.
            headers["referrer-policy"] = "same-origin" if path == _LOGIN else "no-referrer"
            headers["x-frame-options"] = "DENY"
            headers["cross-origin-opener-policy"] = "same-origin"
            headers["cross-origin-resource-policy"] = "same-origin"
            headers["permissions-policy"] = "camera=(self), microphone=(), geolocation=()"
            headers["content-security-policy"] = _FILE_POLICY if is_file else _PAGE_POLICY
            if is_file or path.startswith(("/v1/", "/v2/", _LOGIN)):
                headers["cache-control"] = "no-store"
        await send(message)

    return add
