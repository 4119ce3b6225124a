"""Micro-batching: what several requests ask at the same moment goes through the network in one run.

A request's thread that finds no batch to join begins one and leads it: it waits for others until the batch is full or
a short time is over, then for its turn, runs the network and hands each request its own part. Until the run begins,
others may join. A request stands and falls by itself all the same: whoever is stopped is left out, or left behind by a
run that goes on for the others, and where the network refuses a batch, each request is run alone and told of its own
fault.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from cutaway.preprocessing.spec import Pixels
from cutaway.serve.own_graph import Answers
from cutaway.serve.sessions import Stop, StoppedError, current_stop, stoppable

__all__ = ["MicroBatches", "MicroBatching"]


class MicroBatching(NamedTuple):
    """How requests are put together.

    Attributes:
        most: Pictures in one run.
        wait: Seconds that the first request of a batch waits for others.
        runs: Runs at once; while one is awaited, the batch goes on filling.
    """

    most: int
    wait: float = 0.002
    runs: int = 1


class Graph(Protocol):
    """What is run: `OwnGraph` or `ForeignGraph`."""

    def answers(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], *, explain: bool, features: bool
    ) -> Answers:
        """As of `OwnGraph`."""


class _How(NamedTuple):
    """What requests must agree on to share a run."""

    explain: bool
    features: bool


class _Request:
    """What one request asks, and where its answer will be."""

    def __init__(self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64]) -> None:
        self.seen, self.targets, self.stop = seen, targets, current_stop()
        self.answers: Future[Answers] = Future()


class _Batch:
    """Requests that will share a run."""

    def __init__(self) -> None:
        self.requests: list[_Request] = []
        self.is_full = threading.Event()

    @property
    def size(self) -> int:
        return sum(len(request.seen) for request in self.requests)


class MicroBatches:
    """A graph whose `answers` may be called from many threads at once, and runs what they ask together.

    Args:
        graph: That is run.
        batching: How requests are put together.
    """

    def __init__(self, graph: Graph, batching: MicroBatching) -> None:
        if batching.most < 1 or batching.runs < 1 or batching.wait < 0:
            raise ValueError(f"most and runs must be at least 1 and wait at least 0, not {batching}")
        self._graph, self._batching = graph, batching
        self._turns = threading.Semaphore(batching.runs)
        self._lock = threading.Lock()
        self._open: dict[_How, _Batch] = {}

    def answers(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], *, explain: bool, features: bool
    ) -> Answers:
        """As of `OwnGraph`; a request of more pictures than a batch holds is run by itself."""
        how, request = _How(explain, features), _Request(seen, targets)
        batch, leads = self._joined(how, request)
        if leads:
            batch.is_full.wait(self._batching.wait)
            with self._turns:
                self._run(self._closed(how, batch), how)
        return request.answers.result()

    def _joined(self, how: _How, request: _Request) -> tuple[_Batch, bool]:
        """The batch that a request is in from now on, and whether it leads it."""
        with self._lock:
            batch = self._open.get(how)
            leads = batch is None or batch.size + len(request.seen) > self._batching.most
            if batch is None or leads:
                if batch is not None:
                    batch.is_full.set()
                batch = self._open[how] = _Batch()
            batch.requests.append(request)
            if batch.size >= self._batching.most:
                batch.is_full.set()
        return batch, leads

    def _closed(self, how: _How, batch: _Batch) -> list[_Request]:
        """The requests of a batch that nobody can join any more."""
        with self._lock:
            if self._open.get(how) is batch:
                del self._open[how]
        return batch.requests

    def _run(self, requests: Sequence[_Request], how: _How) -> None:
        """Answers each request, whatever becomes of the others."""
        wanted = []
        for request in requests:
            if request.stop is not None and request.stop.asked:
                request.answers.set_exception(StoppedError())
            else:
                wanted.append(request)
        if not wanted:
            return
        try:
            answers = self._together(wanted, how)
        # Whatever it is, it belongs to a request, whose thread raises it.
        except BaseException as error:  # noqa: BLE001
            if len(wanted) == 1:
                wanted[0].answers.set_exception(error)
                return
            for request in wanted:
                self._run([request], how)
            return
        start = 0
        for request in wanted:
            request.answers.set_result(_part(answers, start, start + len(request.seen)))
            start += len(request.seen)

    def _together(self, requests: Sequence[_Request], how: _How) -> Answers:
        """One run, which stops when nobody waits for it any more."""
        together = _StopOfAll(len(requests))
        with ExitStack() as stack:
            for request in requests:
                if request.stop is not None:
                    stack.enter_context(request.stop.telling(together.ask_for_one))
            stack.enter_context(stoppable(together))
            return self._graph.answers(
                [picture for request in requests for picture in request.seen],
                np.concatenate([request.targets for request in requests]),
                explain=how.explain,
                features=how.features,
            )


class _StopOfAll(Stop):
    """A wish that counts when so many have it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._missing = count
        self._counting = threading.Lock()

    def ask_for_one(self) -> None:
        with self._counting:
            self._missing -= 1
            is_last = not self._missing
        if is_last:
            self.ask()


def _part(answers: Answers, start: int, end: int) -> Answers:
    """What was answered of some pictures of a batch."""
    part = slice(start, end)
    return Answers(
        answers.probabilities[part],
        None if answers.heatmaps is None else answers.heatmaps[part],
        None if answers.faint is None else answers.faint[part],
        {layer: values[part] for layer, values in answers.features.items()},
    )
