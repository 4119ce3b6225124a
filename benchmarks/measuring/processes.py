"""Servers as processes of their own: started on a free port of this machine, waited for, weighed, and ended."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

_SECONDS_TO_START = 120.0
_SECONDS_TO_END = 30.0
_PAGE_BYTES, _TICKS = os.sysconf("SC_PAGE_SIZE"), os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A running server.

    Attributes:
        seconds_to_ready: From its start to its first answer to a picture.
    """

    def __init__(self, words: Sequence[object], is_ready: Callable[[], bool], log: Path) -> None:
        began = time.perf_counter()
        with log.open("wb") as file:
            # In a group of its own, so that the workers of some servers end with them.
            self._process = subprocess.Popen(
                [str(word) for word in (sys.executable, *words)],
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            while not is_ready():
                if self._process.poll() is not None or time.perf_counter() - began > _SECONDS_TO_START:
                    raise RuntimeError(f"{words[0]} did not start: {log.read_text()[-1000:]}")
                time.sleep(0.02)
        except BaseException:  # also an interrupt, of which another group is not told
            self.end()
            raise
        self.seconds_to_ready = time.perf_counter() - began

    @property
    def resident_bytes(self) -> int:
        """Memory of the process and of its workers; Linux only."""
        return sum(int((folder / "statm").read_text().split()[1]) for folder in self._folders()) * _PAGE_BYTES

    @property
    def cpu_seconds(self) -> float:
        """Of all cores together, of the process and of its workers; Linux only."""
        return sum(sum(map(int, _fields(folder)[11:13])) for folder in self._folders()) / _TICKS

    def _folders(self) -> list[Path]:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if int(_fields(folder)[2]) == self._process.pid:
                    found.append(folder)
        return found

    def end(self) -> None:
        """Ends it and its workers, kindly first."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_SECONDS_TO_END)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def _fields(folder: Path) -> list[str]:
    """Of a process's status, from the third on; the second is its name."""
    return (folder / "stat").read_text().rpartition(")")[2].split()


@contextlib.contextmanager
def running(words: Sequence[object], is_ready: Callable[[], bool], log: Path) -> Iterator[Server]:
    """A server for as long as the context lasts."""
    server = Server(words, is_ready, log)
    try:
        yield server
    finally:
        server.end()
