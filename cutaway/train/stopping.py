"""Signals to a training: end after the batch in hand, or save and go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TypeVar

from cutaway.progress import Track

T = TypeVar("T")


class StopEarly(Exception):  # noqa: N818 - it is not an error
    """Leaves work that is not needed any more, such as a validation, once a signal asked for the end."""


@dataclass
class StopRequest:
    """What signals asked for.

    Attributes:
        signum: The signal that asked for the end, if any.
        save: Whether SIGUSR1 asked for a bundle, as cluster schedulers do ahead of time.
    """

    signum: int | None = None
    save: bool = False

    def watching(self, track: Track) -> Track:
        """A `Track` that raises `StopEarly` between two items once the end was asked for."""

        def tracked(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
            for item in track(items, description, total):
                if self.signum is not None:
                    raise StopEarly
                yield item

        return tracked


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Notes SIGTERM, SIGINT and SIGUSR1 instead of dying of them; a second SIGTERM or SIGINT has its usual effect.

    Outside the main thread Python cannot receive signals, and the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[int, signal._HANDLER] = {}

    def end(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, previous[signum])

    def save(signum: int, frame: FrameType | None) -> None:
        request.save = True

    watched: int
    for watched in (signal.SIGTERM, signal.SIGINT):
        previous[watched] = signal.signal(watched, end)
    previous[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, save)
    try:
        yield request
    finally:
        for watched, handler in previous.items():
            signal.signal(watched, handler)
