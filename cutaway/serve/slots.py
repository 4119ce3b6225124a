"""How many requests may use the network at once, and how many may wait: one bound for the page and the API."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from anyio import to_thread

from cutaway.errors import CutawayError

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class BusyError(CutawayError):
    """Every place is taken, also those to wait in.

    Attributes:
        retry_after: Seconds after which it is worth trying again.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__("The server is busy: all its places are taken.", hint=f"Try again in {_seconds(retry_after)}.")
        self.retry_after = retry_after


class Slots:
    """A bounded semaphore that refuses instead of letting a queue grow.

    Args:
        running: Requests at work at once.
        waiting: Requests that may wait for a place beyond those; the next is refused.
        retry_after: Seconds that a refused request is told to wait.
    """

    def __init__(self, running: int = 2, waiting: int = 32, *, retry_after: int = 1) -> None:
        if running < 1 or waiting < 0:
            raise ValueError(f"running must be at least 1 and waiting at least 0, not {running} and {waiting}")
        self._bound = running + waiting
        self._retry_after = retry_after
        self._semaphore = asyncio.Semaphore(running)
        self._idle = asyncio.Event()
        self._idle.set()
        self._taken = 0

    @property
    def taken(self) -> int:
        """Requests at work or waiting."""
        return self._taken

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, waited for in turn.

        Raises:
            BusyError: Also the places to wait in are taken.
        """
        if self._taken >= self._bound:
            raise BusyError(self._retry_after)
        self._taken += 1
        self._idle.clear()
        try:
            async with self._semaphore:
                yield
        finally:
            self._taken -= 1
            if not self._taken:
                self._idle.set()

    async def idle(self) -> None:
        """Returns when nobody is at work or waiting."""
        await self._idle.wait()


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Runs a function that computes in a thread of its own, so that the server goes on answering.

    Cancelled, it leaves the thread behind: `asyncio.to_thread` would hold up a server that is going down until the
    function returns, however long that takes.
    """
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


def _seconds(count: int) -> str:
    return "a second" if count == 1 else f"{count} seconds"
