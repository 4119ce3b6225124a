"""What happens to the models while the server lives: it becomes ready, files are replaced, and all ends with it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from fastapi import FastAPI

from cutaway.serve.classifier import Classifier
from cutaway.serve.models import Loaded, Models, Served
from cutaway.serve.observing import Metrics
from cutaway.serve.slots import in_thread
from cutaway.serve.watching import watch_files

if TYPE_CHECKING:  # an API alone does without Gradio
    from cutaway.serve.pages import Pages

__all__ = ["Replacing"]


class Replacing:
    """The models of a server over its life.

    Args:
        models: That are served.
        metrics: Count what is loaded and refused.

    Attributes:
        models: That are served.
        pages: Of each model by its name; empty for an API alone.
    """

    def __init__(self, models: Models, metrics: Metrics) -> None:
        self.models = models
        self.pages: dict[str, Pages] = {}
        self._metrics = metrics

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """The application's: ready as long as it lasts."""
        for name, pages in self.pages.items():
            await pages.start(self.models.named(name)[1])
        watching = asyncio.create_task(watch_files(self.models, self.replace, self._metrics.reloaded))
        app.state.ready = True
        yield
        app.state.ready = False
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
        for pages in self.pages.values():
            await pages.stop()

    async def replace(self, served: Served, classifier: Classifier) -> None:
        """Lets a model answer by another classifier; what was asked before is answered by the one before.

        Raises:
            ServingError: There can be no page of it: the example pictures beside its file are of other classes.
        """
        before, pages = served.now, self.pages.get(served.name)
        loaded = Loaded(classifier, str(int(before.version) + 1))
        if pages is not None:
            loaded = await in_thread(pages.with_page, loaded)
            await pages.start(loaded)
        served.now = loaded
        if pages is not None:
            pages.retire(before.version)
