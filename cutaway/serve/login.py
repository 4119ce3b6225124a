"""The page at `/login`, where a browser exchanges a key for a cookie."""

from __future__ import annotations

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from cutaway.serve.keys import SESSION_SECONDS, Keys, cookie_name

__all__ = ["add_login"]

_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>cutaway · Key</title>
<link rel="icon" href="data:,"><style>
:root { color-scheme: light dark; }
body { font: 16px/1.5 ui-sans-serif, system-ui, sans-serif; max-width: 24rem; margin: 20vh auto 0; padding: 0 1rem; }
input, button { font: inherit; width: 100%%; box-sizing: border-box; padding: .5rem; margin-top: .5rem; }
</style></head><body><main><h1>cutaway</h1><form method="post"><label for="key">This server asks for a key.</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus>
<button>Open</button><p role="alert">%s</p></form></main></body></html>"""


def add_login(app: FastAPI, keys: Keys) -> None:
    """Adds `/login` to the application."""

    @app.get("/login", include_in_schema=False)
    async def ask() -> HTMLResponse:
        return HTMLResponse(_PAGE % "")

    @app.post("/login", include_in_schema=False)
    async def enter(request: Request) -> Response:
        async with request.form(max_files=0, max_fields=4, max_part_size=4096) as form:
            key = form.get("key")
        if not isinstance(key, str) or not keys.is_key(key.strip()):
            return HTMLResponse(_PAGE % "That is not a key of this server.", 403)
        root = request.scope.get("root_path", "")
        entered = RedirectResponse(f"{root}/", 303)
        forwarded = request.headers.get("x-forwarded-proto", "")
        entered.set_cookie(
            cookie_name(request.headers),
            keys.session(),
            max_age=SESSION_SECONDS,
            path=root or "/",
            secure="https" in (request.url.scheme, forwarded),
            httponly=True,
            samesite="strict",
        )
        return entered
