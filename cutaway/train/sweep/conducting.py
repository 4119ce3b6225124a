"""Trains the runs of a sweep, whatever becomes of one of them, and goes on where it was."""

from __future__ import annotations

import os
import queue
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType
from typing import Any

from cutaway.checkpoints.lock import only_writer
from cutaway.durable import replace_text
from cutaway.errors import CutawayError, Interrupted, SettingsError
from cutaway.settings.sweep import SweepSettings, read_sweep, sweep_to_yaml
from cutaway.train.sweep.outcomes import Failure, forget_failure, is_to_measure, record_failure, state_of
from cutaway.train.sweep.plan import Plan, PlannedRun, expand, in_short, key_of
from cutaway.train.sweep.processes import Worker

SWEEP_FILE = "sweep.yaml"


@dataclass(frozen=True)
class Changes:
    """What differs from the sweep that was in the directory before.

    Attributes:
        new: Runs that it had not.
        gone: Names of directories whose runs are no longer in it.
    """

    new: tuple[PlannedRun, ...]
    gone: tuple[str, ...]


class Watcher:
    """Is told how a sweep goes. Each method may be left as it is."""

    def begins(self, plan: Plan, pending: Sequence[PlannedRun], changes: Changes | None) -> None:
        """Before anything is trained; `changes` where the directory holds an earlier sweep that was another."""

    def run_begins(self, run: PlannedRun) -> None:
        """A run starts, or goes on."""

    def run_notes(self, run: PlannedRun, text: str) -> None:
        """A sentence of a run."""

    def progress(self, slot: int, what: str, done: int, total: int | None) -> None:
        """How far a process has come with what it does."""

    def run_ends(self, run: PlannedRun, failure: Failure | None) -> None:
        """A run is finished, or failed."""


def sweep(
    settings: SweepSettings,
    *,
    jobs: int = 1,
    retry: bool = False,
    allow_code: Collection[str] = (),
    watcher: Watcher | None = None,
) -> tuple[PlannedRun, ...]:
    """Trains every run of a sweep that is not finished, and measures those again that are asked for other views.

    Each process trains one run after the other and keeps the data between them. A run that fails, or takes its process
    with it, is recorded in its directory, and the rest goes on.

    Args:
        settings: The sweep.
        jobs: So many runs at a time, each in a process with its share of the CPU's threads.
        retry: Try those runs again that failed before.
        allow_code: As for `train`; the modules are looked for in the current directory too.
        watcher: Is told how it goes.

    Returns:
        The runs that failed, now or before.

    Raises:
        CutawayError: A run cannot be trained with its settings; nothing was begun. Or another sweep is at work here.
        Interrupted: SIGTERM or SIGINT came; the runs in hand were saved.
    """
    watcher = watcher or Watcher()
    plan = located(expand(settings), settings.out)
    with only_writer(settings.out):
        states = {run.key: state_of(run.settings.out) for run in plan.runs}
        again = ("not begun", "unfinished", "failed") if retry else ("not begun", "unfinished")
        pending = [
            run
            for run in plan.runs
            if states[run.key] in again or (states[run.key] == "finished" and is_to_measure(run.settings))
        ]
        watcher.begins(plan, pending, _changes(settings.out, plan))
        conductor = _Conductor(
            pending, jobs, watcher, settings.out / SWEEP_FILE, sweep_to_yaml(settings), tuple(allow_code)
        )
        if pending:
            conductor.conduct()
        else:
            conductor.write_down()
    return tuple(run for run in plan.runs if run in conductor.failed or state_of(run.settings.out) == "failed")


def located(plan: Plan, out: Path) -> Plan:
    """The plan with the directories that its runs have already: one is a run's by the key at the end of its name."""
    there = {key: path for path in sorted(out.iterdir()) if (key := key_of(path))} if out.is_dir() else {}
    return replace(
        plan,
        runs=tuple(
            replace(run, settings=run.settings.model_copy(update={"out": there.get(run.key, run.settings.out)}))
            for run in plan.runs
        ),
    )


def _changes(out: Path, plan: Plan) -> Changes | None:
    try:
        before = {run.key for run in expand(read_sweep(out / SWEEP_FILE)).runs}
    except SettingsError:
        return None  # there was none, or one of another version's settings
    now = {run.key for run in plan.runs}
    gone = (path.name for path in sorted(out.iterdir()) if (key_of(path) or "") in before - now)
    changes = Changes(tuple(run for run in plan.runs if run.key not in before), tuple(gone))
    return changes if before != now else None


@dataclass
class _Conductor:
    """Hands runs to processes and listens to them. One thread does all of it; others only read pipes."""

    pending: list[PlannedRun]
    jobs: int
    watcher: Watcher
    file: Path
    text: str
    allow_code: tuple[str, ...]
    failed: list[PlannedRun] = field(default_factory=list)
    _events: queue.SimpleQueue[Any] = field(default_factory=queue.SimpleQueue)
    _workers: dict[Worker, PlannedRun | None] = field(default_factory=dict)
    _signum: int | None = None

    def conduct(self) -> None:
        """Trains all that is pending."""
        self._todo = deque(self.pending)
        try:
            with _signals_to(self._events):
                first = self._start_worker(0)
                self._check(first)
                self.write_down()
                for slot in range(1, min(self.jobs, len(self.pending))):
                    self._start_worker(slot)
                for worker in list(self._workers):
                    self._next_run(worker)
                while self._workers:
                    self._hear()
        finally:
            for worker in self._workers:
                worker.kill()
        if self._signum is not None:
            raise Interrupted(self._signum, "The sweep stopped; the same command goes on from there.")

    def write_down(self) -> None:
        """Leaves the sweep's file beside its runs."""
        replace_text(self.file, self.text)

    def _check(self, worker: Worker) -> None:
        runs = [(f"Run {run.number} ({in_short(run.overrides)})", _plain(run)) for run in self.pending]
        worker.tell({"do": "check", "runs": runs, "allow_code": self.allow_code})
        while True:
            source, message = self._events.get()
            if source is None:
                raise Interrupted(message, "The sweep stopped before its first run.")
            if message is None:
                raise CutawayError(f"The runs could not be checked. {worker.last_words()}")
            if message["kind"] == "failed":
                raise CutawayError(message["message"], hint=message["hint"])
            if message["kind"] == "done":
                return
            self._tell_of(worker, message)

    def _hear(self) -> None:
        worker, message = self._events.get()
        if worker is None:
            self._stop(message)
        elif message is None:
            self._bury(worker)
        elif message["kind"] == "interrupted":
            self._stop(message["signum"])
            self._workers[worker] = None
        elif message["kind"] in ("done", "failed"):
            self._end_run(worker, message)
        else:
            self._tell_of(worker, message)

    def _stop(self, signum: int) -> None:
        if signum != signal.SIGUSR1:  # which only asks for a bundle
            if self._signum is not None:
                return
            self._signum = signum
            self._todo.clear()
        for worker, run in self._workers.items():
            if run is not None:
                worker.signal(signum)

    def _end_run(self, worker: Worker, message: dict[str, Any]) -> None:
        run = self._workers[worker]
        assert run is not None
        failure = None
        if message["kind"] == "failed":
            failure = Failure(message["message"], message["hint"], message["traceback"])
            if not message["busy"]:  # another process's run is not a failed one
                record_failure(run.settings.out, failure)
        self._close(run, failure)
        if message.get("fit", True):
            self._next_run(worker)
        else:
            self._workers[worker] = None  # its end starts another

    def _bury(self, worker: Worker) -> None:
        """A process ended: as it was told to, after a failure that it was not fit to go on from, or out of turn."""
        run = self._workers.pop(worker)
        worker.kill()
        if run is not None and self._signum is None:
            failure = Failure(worker.last_words())
            record_failure(run.settings.out, failure)
            self._close(run, failure)
        if self._todo:
            self._next_run(self._start_worker(worker.slot))

    def _close(self, run: PlannedRun, failure: Failure | None) -> None:
        if failure is not None:
            self.failed.append(run)
        self.watcher.run_ends(run, failure)

    def _next_run(self, worker: Worker) -> None:
        if not self._todo:
            self._workers[worker] = None
            worker.tell({"do": "end"})
            return
        run = self._todo.popleft()
        self._workers[worker] = run
        forget_failure(run.settings.out)
        self.watcher.run_begins(run)
        worker.tell({"do": "train", "settings": _plain(run), "allow_code": self.allow_code})

    def _tell_of(self, worker: Worker, message: dict[str, Any]) -> None:
        run = self._workers[worker]
        if message["kind"] == "progress":
            name = f"run {run.number}, " if run else ""
            status = f"  {message['status']}" if message["status"] else ""
            what = f"{name}{message['description']}{status}"
            self.watcher.progress(worker.slot, what, message["done"], message["total"])
        elif message["kind"] == "note" and run is not None:
            self.watcher.run_notes(run, message["text"])

    def _start_worker(self, slot: int) -> Worker:
        worker = Worker(slot, self._events, _share_of_threads(self.jobs))
        self._workers[worker] = None
        return worker


def _plain(run: PlannedRun) -> dict[str, Any]:
    return run.settings.model_dump(mode="json")


def _share_of_threads(jobs: int) -> int | None:
    """CPU threads for each process; None leaves them as they are, also where a person has set them."""
    if jobs == 1 or "OMP_NUM_THREADS" in os.environ:
        return None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // jobs)


@contextmanager
def _signals_to(events: queue.SimpleQueue[Any]) -> Iterator[None]:
    """Puts (None, signal) among the events instead of dying of it; a second of a kind has its usual effect."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous: dict[int, Any] = {}

    def stop(signum: int, frame: FrameType | None) -> None:
        signal.signal(signum, previous[signum])
        events.put((None, signum))

    def save(signum: int, frame: FrameType | None) -> None:
        events.put((None, signum))

    signum: int
    for signum, handler in ((signal.SIGINT, stop), (signal.SIGTERM, stop), (signal.SIGUSR1, save)):
        previous[signum] = signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, handler in previous.items():
            signal.signal(signum, handler)
