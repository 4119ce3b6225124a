"""A sweep's hold on a process that trains for it."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import cutaway

Message = dict[str, Any]


class Worker:
    """A process of `worker`.

    Args:
        slot: From 0, a number for people to tell the processes apart.
        events: Gets (this, message) for each answer, and (this, None) at the process's end.
        threads: CPU threads of torch, where the settings leave it open; None for what torch takes by itself.
    """

    def __init__(self, slot: int, events: queue.SimpleQueue[Any], threads: int | None = None) -> None:
        self.slot = slot
        self._answered = False
        environment = dict(os.environ)
        package = str(Path(cutaway.__file__).parents[1])
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
        if threads is not None:
            environment["OMP_NUM_THREADS"] = str(threads)
        # A session of its own: Ctrl+C in a terminal reaches the sweep, which hands it on once.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cutaway.train.sweep.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._tasks: IO[bytes] = self._process.stdin
        arguments = (self._process.stdout, events)
        threading.Thread(target=self._read, args=arguments, daemon=True).start()

    def tell(self, task: Message) -> None:
        """Gives it something to do. Where it is gone, its end tells so."""
        with suppress(BrokenPipeError):
            self._tasks.write(json.dumps(task).encode() + b"\n")
            self._tasks.flush()

    def signal(self, signum: int) -> None:
        """Hands a signal on; one that only asks for a bundle is no use to a process that has not begun to answer."""
        if self._answered or signum != signal.SIGUSR1:
            self._process.send_signal(signum)

    def kill(self) -> None:
        """Ends it now, as far as it has not ended, and reaps it."""
        self._process.kill()
        self._process.wait()
        with suppress(OSError):
            self._tasks.close()

    def last_words(self) -> str:
        """How the process ended, in a sentence."""
        code = self._process.wait()
        if code < 0:
            name = signal.Signals(-code).name if -code in list(signal.Signals) else f"signal {-code}"
            because = " as the system does where memory runs out" if -code == signal.SIGKILL else ""
            return f"The process that trained it was ended by {name}{because}."
        return f"The process that trained it ended by itself, with code {code}."

    def _read(self, answers: IO[bytes], events: queue.SimpleQueue[Any]) -> None:
        for line in answers:
            self._answered = True  # it is past its start, in which a signal would end it
            with suppress(ValueError):
                events.put((self, json.loads(line)))
        events.put((self, None))
