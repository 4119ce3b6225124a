"""Watching the files of models: another that comes in the place of one is loaded beside it, checked, and then used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from cutaway.errors import CutawayError
from cutaway.serve.classifier import Classifier
from cutaway.serve.models import Models, Served
from cutaway.serve.slots import in_thread

__all__ = ["watch_files"]

LOG = logging.getLogger("cutaway.serve.watching")

_EVERY_SECONDS = 1.0


async def watch_files(
    models: Models, replace: Callable[[Served, Classifier], Awaitable[None]], count: Callable[[Served, bool], None]
) -> None:
    """Looks every second, for ever where any is watched.

    A file that cannot be used leaves the one before it in use, and is told once.

    Args:
        models: Those with a `watch` are looked at.
        replace: Lets a model answer by another classifier from then on.
        count: Told of each file whether it is used.
    """
    watched = [(served, served.watch) for served in models if served.watch is not None]
    while watched:
        await asyncio.sleep(_EVERY_SECONDS)
        for served, watch in watched:
            if not await in_thread(watch.has_changed):
                continue
            fields = {"model": served.name}
            try:
                await replace(served, await in_thread(watch.load))
            except CutawayError as error:
                count(served, False)
                LOG.warning(
                    "model %s: the new file is not used, the one before it still is: %s",
                    served.name,
                    error,
                    extra={"fields": fields},
                )
            except Exception:  # a fault of our own, told with its traceback; the watching goes on
                count(served, False)
                LOG.exception("model %s: the new file cannot be loaded", served.name, extra={"fields": fields})
            else:
                count(served, True)
                version = served.now.version
                LOG.info(
                    "model %s: version %s is in use",
                    served.name,
                    version,
                    extra={"fields": fields | {"version": version}},
                )
