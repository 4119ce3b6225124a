from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cutaway.errors import ServingError
from cutaway.preprocessing.spec import Pixels
from cutaway.serve.classifier import Classifier
from cutaway.serve.micro_batches import MicroBatches, MicroBatching
from cutaway.serve.own_graph import Answers
from cutaway.serve.sessions import Stop, StoppedError, current_stop, stoppable

LONG = 30.0  # seconds that nobody really waits


class Watched:
    """A real graph whose runs are noted, and wait for `go_on`."""

    def __init__(self, graph: Any) -> None:
        self._graph = graph
        self.sizes: list[int] = []
        self.stops: list[Stop | None] = []
        self.inside, self.go_on = threading.Semaphore(0), threading.Event()

    def answers(
        self, seen: Sequence[Pixels], targets: npt.NDArray[np.int64], *, explain: bool, features: bool
    ) -> Answers:
        self.sizes.append(len(seen))
        self.stops.append(current_stop())
        self.inside.release()
        assert self.go_on.wait(LONG)
        return self._graph.answers(seen, targets, explain=explain, features=features)


class Asking:
    """Asks from threads of their own, and comes back when a request has joined a batch."""

    def __init__(self, batches: MicroBatches, threads: ThreadPoolExecutor) -> None:
        self._batches, self._threads = batches, threads

    def ask(self, *pictures: Pixels, explain: bool = False, stop: Stop | None = None) -> Future[Answers]:
        joined, before = threading.Event(), self._batches._joined

        def noted(*arguments: Any) -> Any:
            found = before(*arguments)
            joined.set()
            return found

        def work() -> Answers:
            with stoppable(stop or Stop()):
                return self._batches.answers(
                    pictures, np.full(len(pictures), -1, np.int64), explain=explain, features=False
                )

        self._batches._joined = noted  # type: ignore[method-assign]
        try:
            asked = self._threads.submit(work)
            assert joined.wait(LONG)
        finally:
            self._batches._joined = before  # type: ignore[method-assign]
        return asked


@pytest.fixture
def graph(model_path) -> Watched:
    return Watched(Classifier(model_path, threads=1)._graph)


@pytest.fixture
def threads():
    with ThreadPoolExecutor(16) as pool:
        yield pool


def picture(*colour: int) -> Pixels:
    return np.full((8, 8, 3), colour, np.uint8)


RED, GREEN, BLUE = picture(250, 0, 0), picture(0, 250, 0), picture(0, 0, 250)


def alone(graph: Watched, *pictures: Pixels) -> npt.NDArray[np.float32]:
    answers = graph._graph.answers(pictures, np.full(len(pictures), -1, np.int64), explain=True, features=False)
    return answers.probabilities


def test_pictures_asked_together_share_one_run_and_each_gets_its_own_answers(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=4, wait=LONG)), threads)
    graph.go_on.set()
    first = asking.ask(RED)
    second = asking.ask(GREEN, BLUE)
    third = asking.ask(RED)

    answers = [asked.result(LONG) for asked in (first, second, third)]

    assert graph.sizes == [4]
    for given, pictures in zip(answers, [(RED,), (GREEN, BLUE), (RED,)], strict=True):
        np.testing.assert_allclose(given.probabilities, alone(graph, *pictures), atol=1e-6)
        assert given.heatmaps is None


def test_random_pictures_of_many_requests_are_answered_as_without_batches(graph, threads) -> None:
    draw = np.random.default_rng(0)
    pictures = [draw.integers(0, 256, (8, 8, 3), dtype=np.uint8) for _ in range(64)]
    batches = MicroBatches(graph, MicroBatching(most=8))
    graph.go_on.set()

    def ask(number: int) -> Answers:
        targets = np.array([number % 4])
        return batches.answers([pictures[number]], targets, explain=True, features=False)

    answers = list(threads.map(ask, range(64)))

    assert sum(graph.sizes) == 64
    assert max(graph.sizes) <= 8
    for number, given in enumerate(answers):
        wanted = graph._graph.answers([pictures[number]], np.array([number % 4]), explain=True, features=False)
        np.testing.assert_allclose(given.probabilities, wanted.probabilities, atol=1e-6)
        assert given.heatmaps is not None
        np.testing.assert_allclose(given.heatmaps, wanted.heatmaps, atol=1e-6)
        np.testing.assert_array_equal(given.faint, wanted.faint)


def test_a_batch_fills_while_the_one_before_runs(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=8, wait=0)), threads)
    first = asking.ask(RED)
    assert graph.inside.acquire(timeout=LONG)
    waiting = [asking.ask(GREEN) for _ in range(5)]
    graph.go_on.set()

    for asked in (first, *waiting):
        asked.result(LONG)

    assert graph.sizes == [1, 5]


def test_what_asks_for_heat_maps_runs_apart(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=2, wait=LONG, runs=2)), threads)
    graph.go_on.set()
    asked = [asking.ask(RED, explain=explain) for explain in (False, True, False, True)]

    found = [each.result(LONG) for each in asked]

    assert graph.sizes == [2, 2]
    assert [each.heatmaps is not None for each in found] == [False, True, False, True]


def test_a_request_that_does_not_fit_begins_a_batch_and_sends_the_open_one_off(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=4, wait=LONG)), threads)
    graph.go_on.set()
    first = asking.ask(RED, GREEN)
    second = asking.ask(RED, GREEN, BLUE, RED, GREEN)  # more than a batch holds

    assert len(first.result(LONG).probabilities) == 2
    assert len(second.result(LONG).probabilities) == 5
    assert sorted(graph.sizes) == [2, 5]


@pytest.mark.parametrize("stopped", [0, 1], ids=["who leads", "who follows"])
def test_a_stopped_request_does_not_stop_the_run_of_others(graph, threads, stopped) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=2, wait=LONG)), threads)
    stops = [Stop(), Stop()]
    asked = [asking.ask(colour, stop=stop) for colour, stop in zip((RED, GREEN), stops, strict=True)]
    assert graph.inside.acquire(timeout=LONG)
    stops[stopped].ask()
    (together,) = graph.stops
    assert not together.asked
    graph.go_on.set()

    np.testing.assert_allclose(asked[0].result(LONG).probabilities, alone(graph, RED), atol=1e-6)
    np.testing.assert_allclose(asked[1].result(LONG).probabilities, alone(graph, GREEN), atol=1e-6)
    assert graph.sizes == [2]


def test_a_run_that_nobody_waits_for_is_stopped(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=2, wait=LONG)), threads)
    stops = [Stop(), Stop()]
    asked = [asking.ask(RED, stop=stop) for stop in stops]
    assert graph.inside.acquire(timeout=LONG)
    (together,) = graph.stops
    stops[0].ask()
    stops[0].ask()  # once more counts for nobody else
    assert not together.asked
    stops[1].ask()
    assert together.asked
    graph.go_on.set()

    for each in asked:
        with pytest.raises(StoppedError):
            each.result(LONG)
    assert graph.sizes == [2]


def test_a_request_stopped_before_its_run_is_left_out(graph, threads) -> None:
    asking = Asking(MicroBatches(graph, MicroBatching(most=8, wait=0)), threads)
    running = asking.ask(RED)
    assert graph.inside.acquire(timeout=LONG)
    stop = Stop()
    leading, following, last = asking.ask(GREEN, stop=stop), asking.ask(BLUE), asking.ask(RED)
    stop.ask()
    graph.go_on.set()

    with pytest.raises(StoppedError):
        leading.result(LONG)
    np.testing.assert_allclose(following.result(LONG).probabilities, alone(graph, BLUE), atol=1e-6)
    for each in (running, last):
        np.testing.assert_allclose(each.result(LONG).probabilities, alone(graph, RED), atol=1e-6)
    assert graph.sizes == [1, 2]


def test_a_picture_that_the_network_cannot_answer_fails_by_itself(make_model, threads) -> None:
    def edit(model: Any) -> None:
        """The mean colour's logarithm: of black it is not finite."""
        from onnx import helper

        node = next(node for node in model.graph.node if node.op_type == "MatMul")
        node.input[0] = "logarithm"
        place = list(model.graph.node).index(node)
        model.graph.node.insert(place, helper.make_node("Log", ["mean"], ["logarithm"]))

    watched = Watched(Classifier(make_model(edit), threads=1)._graph)
    watched.go_on.set()
    asking = Asking(MicroBatches(watched, MicroBatching(most=3, wait=LONG)), threads)
    grey = picture(100, 120, 140)
    good, bad, other = asking.ask(grey), asking.ask(picture(0, 0, 0)), asking.ask(grey)

    with pytest.raises(ServingError, match="not finite"):
        bad.result(LONG)
    for each in (good, other):
        np.testing.assert_allclose(each.result(LONG).probabilities, alone(watched, grey), atol=1e-6)
    assert watched.sizes == [3, 1, 1, 1]


def test_a_classifier_batches_what_several_threads_ask(model_path, threads) -> None:
    batching = Classifier(model_path, threads=1, micro_batching=MicroBatching(most=4, wait=LONG))
    plain = Classifier(model_path, threads=1)
    colours = [RED, GREEN, BLUE, RED]

    answered = list(threads.map(lambda colour: batching([colour], explain=False), colours))

    for colour, (prediction,) in zip(colours, answered, strict=True):
        (wanted,) = plain([colour], explain=False)
        assert prediction.top[0].label == wanted.top[0].label
        np.testing.assert_allclose(prediction.probabilities, wanted.probabilities, atol=1e-6)


@pytest.mark.parametrize("batching", [MicroBatching(0), MicroBatching(2, wait=-1), MicroBatching(2, runs=0)])
def test_refuses_what_cannot_be(graph, batching) -> None:
    with pytest.raises(ValueError, match="at least"):
        MicroBatches(graph, batching)
