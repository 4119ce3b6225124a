"""A server that is reached under a path of somebody else's, through a proxy."""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from cutaway.errors import ServingError

__all__ = ["UnderRootPath", "checked_root_path", "route_path"]


class UnderRootPath:
    """Tells the application the path that it is reached under, whether or not the proxy takes it off.

    Args:
        app: The application.
        root_path: Of `checked_root_path`.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on under the whole path."""
        if scope["type"] in ("http", "websocket"):
            root, path = self._root_path, scope["path"]
            if path != root and not path.startswith(f"{root}/"):
                path = root + path
                if scope.get("raw_path"):
                    scope = {**scope, "raw_path": root.encode() + scope["raw_path"]}
            scope = {**scope, "root_path": root, "path": path}
        await self._app(scope, receive, send)


def checked_root_path(text: str) -> str:
    """A path as `/a/b`, or nothing for none.

    Raises:
        ServingError: It is no path.
    """
    path = text.rstrip("/")
    if path and not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)+", path):
        raise ServingError(f"{text[:100]!r} is not a path such as /classify.", hint="Start it with a slash.")
    return path


def route_path(scope: Scope) -> str:
    """The path of a request below the root path."""
    root: str = scope.get("root_path", "")
    path: str = scope["path"]
    return path[len(root) :] if root and (path == root or path.startswith(f"{root}/")) else path
