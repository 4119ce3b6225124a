"""Mounting Gradio's page in an application with its doors closed.

A mounted Gradio app opens any file of the server: it never counts as launched, and only a launched one checks paths.
Worse, before a component's `preprocess` runs, any path or address in a request's data is copied or fetched into the
upload folder, from where everyone may read it. `guarded` closes that for the components of the page, `Page` for all.
"""

from __future__ import annotations

from abc import ABCMeta
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cutaway.images import Limits
from cutaway.serve.uploads import upload_folder

STATIC = Path(__file__).parent / "static"

_MAX_QUEUED = 64
_DONE = 'data: {"msg": "done"}\n\n'


def uploaded(path: str | None) -> Path:
    """A path that a browser sent, resolved, where it is a file that a browser uploaded.

    Raises:
        gr.Error: It is not.
    """
    folder = upload_folder()
    try:
        resolved = Path(path or "").resolve(strict=True)
    except (OSError, ValueError) as error:
        raise _not_uploaded() from error
    if not resolved.is_relative_to(folder) or not resolved.is_file():
        raise _not_uploaded()
    return resolved


def guarded(component: type[Any], **methods: Callable[..., Any]) -> type[Any]:
    """A kind of component that takes no file but an uploaded one, and fetches no address.

    Args:
        component: A Gradio component class.
        methods: Methods to replace besides.

    Returns:
        A subclass that the browser knows under the same name.
    """

    async def only_uploaded(self: Any, path: str | Path | None) -> str | None:
        return None if path is None else str(uploaded(str(path)))

    body = {"async_move_resource_to_block_cache": only_uploaded, "__module__": __name__, **methods}
    # Gradio's own metaclass would write a .pyi file beside this source: step over it. It only declares new events.
    return ABCMeta.__new__(type(component), component.__name__, (component,), body)


class Page:
    """Gradio's page as an application of its own, which answers while its `lifespan` lasts.

    Args:
        build: Makes the page, once its folder is set.
        limits: Of one uploaded picture.
        root: Path under which a browser reaches it, below the proxy's too; empty for `/`.
        on_end: Called when it answers no longer.

    Attributes:
        root: The same.
    """

    def __init__(
        self,
        build: Callable[[], gr.Blocks],
        limits: Limits,
        root: str = "",
        *,
        on_end: Callable[[], None] | None = None,
    ) -> None:
        upload_folder()
        self.root = root
        self._on_end = on_end
        self._blocks = blocks = build()
        blocks.root_path = root
        blocks.queue(max_size=_MAX_QUEUED, default_concurrency_limit=_MAX_QUEUED, api_open=False)
        self._around = around = FastAPI(openapi_url=None)
        gr.mount_gradio_app(
            around,
            blocks,
            path="/",
            theme=theme(),
            css_paths=[STATIC / "page.css"],
            favicon_path=str(STATIC / "favicon.png"),
            allowed_paths=[],
            max_file_size=limits.max_bytes,
            ssr_mode=False,
            show_error=False,
            enable_monitoring=False,
            mcp_server=False,
            pwa=False,
            run_history=False,
            footer_links=[],
        )
        blocks.has_launched = True  # so Gradio checks paths itself too
        route: Any = around.routes[-1]
        self._app = route.app
        self._quiet = _QuietProgress(self._app)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        await self._quiet(scope, receive, send)

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """While it lasts, questions are taken in turn."""
        async with self._around.router.lifespan_context(self._around):
            yield
        self.end_streams()
        self._blocks.close(verbose=False)  # or its queue would go on for ever
        if self._on_end is not None:
            self._on_end()

    def end_streams(self) -> None:
        """Ends the streams that open pages hold, which otherwise last as long as the page."""
        self._app.stop_event.set()


class _QuietProgress:
    """Answers a browser that asks how far an upload is which it never began, as it does when the file is too large.

    Gradio says 404, which every browser shows its visitor as an error in the console.
    """

    def __init__(self, page: ASGIApp) -> None:
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes a request on, and its answer back unless it is that one."""
        if not scope.get("path", "").endswith("/gradio_api/upload_progress"):
            await self._page(scope, receive, send)
            return
        unknown = False

        async def quietly(message: Message) -> None:
            nonlocal unknown
            if message["type"] == "http.response.start" and message["status"] == 404:
                unknown = True
                await Response(_DONE, media_type="text/event-stream")(scope, receive, send)
            elif not unknown:
                await send(message)

        await self._page(scope, receive, quietly)


def theme() -> gr.themes.Base:
    """Calm greys and one accent, in the fonts of the visitor's own system: nothing is fetched."""
    sans = ["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Liberation Sans", "sans-serif"]
    mono = ["ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace"]
    base = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo,
        secondary_hue=gr.themes.colors.indigo,
        neutral_hue=gr.themes.colors.slate,
        font=sans,
        font_mono=mono,
        radius_size=gr.themes.sizes.radius_lg,
    )
    # Base's subdued text has a contrast of 2.6 to 1 on white; people need 4.5.
    base.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_400",
    )
    return base


def _not_uploaded() -> gr.Error:
    return gr.Error("The picture is no longer here. Choose it again.", title="Picture not found", print_exception=False)
