"""How many requests may use the network at once, and how many may wait: one bound for the page and the API."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar, TypeVarTuple

from anyio import to_thread

from cutaway.errors import CutawayError
from cutaway.serve.sessions import Stop, stoppable

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


class TimeLimitError(CutawayError):
    """A request took longer than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(
            f"The answer took longer than {seconds:g} s, and was stopped.", hint="Send fewer or smaller pictures."
        )


class SlowBodyError(CutawayError):
    """A client took longer to send a request than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"The request did not arrive within {seconds:g} s.", hint="Send fewer or smaller pictures.")


class Slots:
    """A bounded semaphore that refuses instead of letting a queue grow.

    Args:
        running: Requests at work at once.
        waiting: Requests that may wait for a place beyond those; the next is refused.
        retry_after: Seconds that a refused request is told to wait.
        time_limit: Seconds that a request may be at work, and as many that it may take to arrive and to wait; None for
            no limit.

    Attributes:
        on_done: Called with the seconds that each request was at work, and the name of its model.
    """

    def __init__(
        self, running: int = 2, waiting: int = 32, *, retry_after: int = 1, time_limit: float | None = None
    ) -> None:
        if running < 1 or waiting < 0:
            raise ValueError(f"running must be at least 1 and waiting at least 0, not {running} and {waiting}")
        if time_limit is not None and time_limit <= 0:
            raise ValueError(f"time_limit must be more than 0 seconds, not {time_limit}")
        self._bound = running + waiting
        self._retry_after = retry_after
        self._time_limit = time_limit
        self.on_done: Callable[[float, str], None] = _ignore
        self._threads = ThreadPoolExecutor(running, thread_name_prefix="cutaway-request")
        self._semaphore = asyncio.Semaphore(running)
        self._idle = asyncio.Event()
        self._idle.set()
        self._taken = 0

    @property
    def bound(self) -> int:
        """Places to work and to wait in."""
        return self._bound

    @property
    def taken(self) -> int:
        """Requests at work or waiting."""
        return self._taken

    @asynccontextmanager
    async def admission(self, model: str = "") -> AsyncIterator[Admission]:
        """One of the places to work or to wait in, from before a request's body is read.

        So no more bodies are in memory than there are places, however many clients send.

        Args:
            model: Name of the one that is to work, for `on_done`.

        Raises:
            BusyError: Every place is taken.
        """
        self._count_in()
        admission = Admission(self, model)
        try:
            yield admission
        finally:
            if not admission.is_at_work:
                self._count_out()

    async def run(self, function: Callable[[*Arguments], T], *arguments: *Arguments, model: str = "") -> T:
        """`Admission.run`, for who has nothing to receive first."""
        async with self.admission(model) as admission:
            return await admission.run(function, *arguments)

    async def _acquire(self) -> None:
        try:
            async with asyncio.timeout(self._time_limit):
                await self._semaphore.acquire()
        except TimeoutError as error:
            raise BusyError(self._retry_after) from error

    def _leave(self) -> None:
        self._semaphore.release()
        self._count_out()

    def _count_in(self) -> None:
        if self._taken >= self._bound:
            raise BusyError(self._retry_after)
        self._taken += 1
        self._idle.clear()

    def _count_out(self) -> None:
        self._taken -= 1
        if not self._taken:
            self._idle.set()

    async def idle(self) -> None:
        """Returns when nobody is at work or waiting."""
        await self._idle.wait()


class Admission:
    """A request that has one of the places; made by `Slots.admission`.

    Attributes:
        is_at_work: Its function was started: from then on the place is given back when that returns.
    """

    def __init__(self, slots: Slots, model: str) -> None:
        self.is_at_work = False
        self._slots = slots
        self._model = model

    async def receive(self, body: Awaitable[T]) -> T:
        """What a client sends, if it does so within the time limit.

        Raises:
            SlowBodyError: It does not.
        """
        seconds = self._slots._time_limit
        try:
            async with asyncio.timeout(seconds) as limit:
                return await body
        except TimeoutError as error:
            if not limit.expired() or seconds is None:
                raise
            raise SlowBodyError(seconds) from error

    async def run(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Runs a function that computes in a thread, when its turn comes; once.

        Past its time, or when the caller is cancelled, the network that it runs is told to stop, and the caller goes on
        at once. The place stays taken until the function has really returned.

        Raises:
            BusyError: The turn did not come within the time limit.
            TimeLimitError: The function took too long.
        """
        slots = self._slots
        await slots._acquire()
        loop, stop, began = asyncio.get_running_loop(), Stop(), time.perf_counter()

        def leave(_: object) -> None:
            slots.on_done(time.perf_counter() - began, self._model)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts places any more
                loop.call_soon_threadsafe(slots._leave)

        def work() -> T:
            with stoppable(stop):
                return function(*arguments)

        try:
            future = slots._threads.submit(contextvars.copy_context().run, work)
        except RuntimeError:  # the system gives no further thread
            slots._semaphore.release()
            raise
        self.is_at_work = True
        future.add_done_callback(leave)
        try:
            async with asyncio.timeout(slots._time_limit) as limit:
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            if not limit.expired() or slots._time_limit is None:
                raise
            raise TimeLimitError(slots._time_limit) from error
        finally:
            stop.ask()


async def in_thread(function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    """Runs a function that computes in a thread of its own, so that the server goes on answering.

    Cancelled, it leaves the thread behind: `asyncio.to_thread` would hold up a server that is going down until the
    function returns, however long that takes.
    """
    return await to_thread.run_sync(function, *arguments, abandon_on_cancel=True)


def _ignore(_: float, __: str) -> None:
    """Nobody measures."""


def _seconds(count: int) -> str:
    return "a second" if count == 1 else f"{count} seconds"
