"""The process in which a sweep trains: one run after the other, told by lines of JSON. Run by `processes`.

It outlives neither its sweep nor the sweep's order to stop: both save the run in hand first.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from cutaway.checkpoints.lock import only_writer
from cutaway.errors import BusyError, CutawayError, Interrupted
from cutaway.progress import Telling
from cutaway.settings import validated
from cutaway.train.keeping import KeptData
from cutaway.train.sweep.running import check, run

T = TypeVar("T")

_TOLD_EVERY_S = 0.2
_WAITS_FOR_OWNER_S = 60.0


class Answers:
    """Lines of JSON to the sweep."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()

    def send(self, kind: str, **content: Any) -> None:
        """Sends one line. Where nobody reads any more, the end of the tasks tells so too."""
        line = (json.dumps({"kind": kind} | content) + "\n").encode()
        with self._lock, suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._descriptor, line) :]

    def note(self, text: str) -> None:
        """Sends a sentence for people."""
        self.send("note", text=text)

    def track(self, items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
        """A `Track` whose progress the sweep shows."""
        if total is None and isinstance(items, Sized):
            total = len(items)
        told = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - told >= _TOLD_EVERY_S:
                told = time.monotonic()
                status = items.status() if isinstance(items, Telling) else ""
                self.send("progress", description=description, done=done, total=total, status=status)


def main() -> None:
    """Does what it is told until it is told no more."""
    # Libraries that print must not print into the answers, and processes that load pictures close `sys.stdin`.
    told, answers = os.dup(0), Answers(os.dup(1))
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    # Outside a training there is nothing to save.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    tasks: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(told, tasks), daemon=True).start()
    kept = KeptData()
    while (task := tasks.get())["do"] != "end":
        if not _do(task, answers, kept):
            return


def _read(descriptor: int, tasks: queue.SimpleQueue[dict[str, Any]]) -> None:
    # No file object: processes that are forked meanwhile would inherit its lock.
    rest = b""
    while read := os.read(descriptor, 2**16):
        *lines, rest = (rest + read).split(b"\n")
        for line in lines:
            tasks.put(json.loads(line))
    # The sweep is gone, however that came. A run in hand saves.
    os.kill(os.getpid(), signal.SIGTERM)


def _do(task: dict[str, Any], answers: Answers, kept: KeptData) -> bool:
    """Does one task; returns whether the process is fit for another."""
    try:
        if task["do"] == "check":
            runs = ((name, validated(values)) for name, values in task["runs"])
            check(runs, kept, allow_code=task["allow_code"], track=answers.track)
        else:
            _wait_for_owner(Path(task["settings"]["out"]), answers)
            run(
                task["settings"],
                allow_code=task["allow_code"],
                kept=kept,
                track=answers.track,
                on_note=answers.note,
            )
        answers.send("done")
    except Interrupted as interruption:
        answers.send("interrupted", signum=interruption.signum)
        return False
    except CutawayError as error:
        busy = isinstance(error, BusyError)
        answers.send("failed", message=error.message, hint=error.hint, traceback="", busy=busy, fit=True)
    except Exception as error:  # noqa: BLE001 - whatever it was, it is recorded, and the other runs go on
        first = next(iter(str(error).splitlines()), "")
        said = f"{type(error).__name__}: {first}" if first else type(error).__name__
        answers.send("failed", message=said, hint="", traceback=traceback.format_exc(), busy=False, fit=False)
        return False
    return True


def _wait_for_owner(directory: Path, answers: Answers) -> None:
    """Gives the process of a sweep that was killed the time to save; one that stays is the training's to tell of."""
    until = time.monotonic() + _WAITS_FOR_OWNER_S
    told = False
    while time.monotonic() < until:
        try:
            with only_writer(directory):
                return
        except BusyError as error:
            if not told:
                answers.note(f"{error.message} Waiting for it.")
                told = True
            time.sleep(0.2)


if __name__ == "__main__":
    main()
    # What a failed run left behind, such as threads of a library, must not hold up the sweep.
    sys.stderr.flush()
    os._exit(0)
