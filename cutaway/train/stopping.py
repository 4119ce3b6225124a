"""A signal asks for the end; the batch in hand is finished first."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@dataclass
class StopRequest:
    """Which signal asked for the end, if any."""

    signum: int | None = field(default=None)


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Notes SIGTERM and SIGINT instead of dying of them; a second one has its usual effect.

    Outside the main thread Python cannot receive signals, and the request stays empty.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[int, signal._HANDLER] = {}

    def note(signum: int, frame: FrameType | None) -> None:
        request.signum = signum
        signal.signal(signum, previous[signum])

    watched: int
    for watched in (signal.SIGTERM, signal.SIGINT):
        previous[watched] = signal.signal(watched, note)
    try:
        yield request
    finally:
        for watched, handler in previous.items():
            signal.signal(watched, handler)
