"""The page of one model while the model may be replaced: who has it open is answered by one file or the other.

Each load of the model has a page of its own, of which the browser asks everything under `/page-VERSION`. When another
takes its place, that one finishes what it was asked, and tells in words whoever goes on asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from urllib.parse import quote

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.types import Receive, Scope, Send

from cutaway.images import Limits
from cutaway.serve.models import Loaded, Models, Served
from cutaway.serve.page import Asking, Link, build_asking
from cutaway.serve.page_mount import Page
from cutaway.serve.problems import problem
from cutaway.serve.root_path import route_path
from cutaway.serve.slots import Slots

__all__ = ["Pages", "mount_pages"]

_PREFIX = re.compile(r"/page-(\d+)(?=/)")
_ASKING = "/gradio_api/queue/join"
_ANSWER = "/gradio_api/queue/data"
_BEATING = "/gradio_api/heartbeat/"
# A browser that has asked comes back for the answer in a request of its own.
_GAP_SECONDS = 10.0
# A request that never ends must not keep a file's network in memory for ever.
_LONGEST_SECONDS = 600.0


def mount_pages(app: FastAPI, models: Models, slots: Slots, limits: Limits, root_path: str) -> dict[str, Pages]:
    """Mounts the page of the one model at `/`, or of several at `/models/NAME`; routes declared after it are lost.

    Args:
        app: The application.
        models: That it serves.
        slots: Shared with the API.
        limits: Of one uploaded picture.
        root_path: Where a proxy shows the server.

    Returns:
        Those of each model by its name.

    Raises:
        ServingError: The example pictures beside a model's file are damaged.
    """
    names, mounted = models.names, dict[str, Pages]()
    for served in models:
        place = f"/models/{served.name}" if len(names) > 1 else ""
        others = [Link(name, f"{root_path}/models/{name}/", name == served.name) for name in names if len(names) > 1]
        pages = Pages(served, f"{root_path}{place}", others, slots, limits)
        served.now = pages.with_page(served.now)
        mounted[served.name] = pages
        app.state.end_streams.append(pages.end_streams)
        app.mount(place or "/", pages)
    return mounted


class Pages:
    """Answers with the page in use; ASGI.

    Args:
        served: The model.
        root: Path under which a browser reaches this, below the proxy's too.
        others: The pages of all models, where there are several.
        slots: Shared with the API.
        limits: Of one uploaded picture.
    """

    def __init__(self, served: Served, root: str, others: Sequence[Link], slots: Slots, limits: Limits) -> None:
        self._served = served
        self._root = root
        self._others = others
        self._slots = slots
        self._limits = limits
        self._open: dict[str, _Open] = {}
        self._leaving: set[asyncio.Task[None]] = set()

    def with_page(self, loaded: Loaded) -> Loaded:
        """The same with a page, which does not answer yet.

        Raises:
            ServingError: The example pictures beside the file are damaged.
        """
        asking = Asking(loaded.classifier, self._slots, self._limits, self._served.name)
        page = Page(
            lambda: build_asking(asking, loaded.tabs, self._others),
            self._limits,
            self._root if self._served.watch is None else f"{self._root}/page-{loaded.version}",
            on_end=asking.release,
        )
        return replace(loaded, page=page)

    async def start(self, loaded: Loaded) -> None:
        """Lets the page of what was loaded answer, before it is in use."""
        assert loaded.page is not None
        opened = _Open(loaded.page)
        await opened.stack.enter_async_context(loaded.page.lifespan())
        self._open[loaded.version] = opened

    def retire(self, version: str) -> None:
        """Lets the page of a version go, which is no longer in use, once it has answered."""
        leaving = asyncio.create_task(self._leave(version))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)

    async def _leave(self, version: str) -> None:
        await asyncio.sleep(_GAP_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_SECONDS):
                while not self._open[version].idle.is_set():
                    await self._open[version].idle.wait()
        await self._open.pop(version).stack.aclose()

    async def stop(self) -> None:
        """Ends all of them, with the server."""
        for leaving in self._leaving:
            leaving.cancel()
        for opened in self._open.values():
            await opened.stack.aclose()

    def end_streams(self) -> None:
        """Ends the streams that open pages hold."""
        for opened in self._open.values():
            opened.page.end_streams()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        now, path = self._served.now.version, route_path(scope)
        found = _PREFIX.match(path)
        version = found[1] if found else now
        if found:
            path = path[found.end() :]
        is_gone = version not in self._open
        if version != now and path == "/":
            await RedirectResponse(f"{self._root}/", 303)(scope, receive, send)
        elif version != now and (path == _ASKING or (path == _ANSWER and is_gone)):
            detail = "The model was replaced since this page was opened. Reload the page."
            await problem(409, "The page is of another model", detail)(scope, receive, send)
        else:  # the rest is the same for all of them
            opened = self._open[now if is_gone else version]
            answer = opened.page if path.startswith(_BEATING) else opened.counted
            await answer(_under(scope, opened.page.root, path), receive, send)


def _under(scope: Scope, root: str, path: str) -> Scope:
    """The request as Gradio knows it, which has the whole path of its page before each of its own."""
    raw = {"raw_path": quote(root + path).encode()} if "raw_path" in scope else {}
    return {**scope, "root_path": root, "path": root + path, **raw}


class _Open:
    """A page that answers, and how many requests it has under way."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.stack = AsyncExitStack()
        self.idle = asyncio.Event()
        self.idle.set()
        self._under_way = 0

    async def counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        self._under_way += 1
        self.idle.clear()
        try:
            await self.page(scope, receive, send)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self.idle.set()
