from __future__ import annotations

import asyncio
import threading

import pytest

from cutaway.serve.slots import BusyError, Slots, TimeLimitError


def test_takes_turns_waits_and_refuses_the_next() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1, retry_after=3)
        order: list[str] = []
        inside, go_on, loop = asyncio.Event(), threading.Event(), asyncio.get_running_loop()

        def first() -> None:
            order.append("first in")
            loop.call_soon_threadsafe(inside.set)
            go_on.wait(30)
            order.append("first out")

        one = asyncio.create_task(slots.run(first))
        await inside.wait()
        two = asyncio.create_task(slots.run(order.append, "second in"))
        await asyncio.sleep(0)
        assert slots.taken == 2
        with pytest.raises(BusyError, match="busy") as refused:
            await slots.run(int)
        assert refused.value.retry_after == 3
        go_on.set()
        await asyncio.gather(one, two)
        assert order == ["first in", "first out", "second in"]
        await asyncio.wait_for(slots.idle(), 5)
        assert slots.taken == 0

    asyncio.run(scenario())


def test_a_place_is_given_back_after_an_error_and_after_a_cancelled_wait() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1)
        with pytest.raises(ZeroDivisionError):
            await slots.run(divmod, 1, 0)
        await asyncio.wait_for(slots.idle(), 5)
        go_on = threading.Event()
        working = asyncio.create_task(slots.run(go_on.wait, 30))
        waiting = asyncio.create_task(slots.run(pytest.fail, "there was no place"))
        await asyncio.sleep(0)
        assert slots.taken == 2
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert slots.taken == 1
        go_on.set()
        await working
        await asyncio.wait_for(slots.idle(), 5)
        assert slots.taken == 0

    asyncio.run(scenario())


def test_idle_returns_only_when_the_last_has_left() -> None:
    async def scenario() -> None:
        slots = Slots(running=2)
        await asyncio.wait_for(slots.idle(), 1)
        go_on = threading.Event()
        working = asyncio.create_task(slots.run(go_on.wait, 30))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(slots.idle())
        await asyncio.sleep(0)
        assert not waiting.done()
        go_on.set()
        await asyncio.wait_for(waiting, 5)
        assert await working

    asyncio.run(scenario())


def test_what_runs_past_its_time_keeps_its_place_until_it_has_returned() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=0, time_limit=0.05)
        go_on = threading.Event()
        with pytest.raises(TimeLimitError, match=r"0\.05 s"):
            await slots.run(go_on.wait, 30)
        assert slots.taken == 1
        with pytest.raises(BusyError):
            await slots.run(int)
        go_on.set()
        await asyncio.wait_for(slots.idle(), 5)
        assert await slots.run(int, "7") == 7
        assert slots.taken == 0

    asyncio.run(scenario())


def test_a_caller_that_gives_up_leaves_its_place_taken_until_the_work_is_done() -> None:
    async def scenario() -> None:
        slots = Slots(running=1)
        entered, go_on = asyncio.Event(), threading.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(entered.set)
            go_on.wait(30)

        caller = asyncio.create_task(slots.run(work))
        await entered.wait()
        caller.cancel()
        await asyncio.gather(caller, return_exceptions=True)
        assert slots.taken == 1
        go_on.set()
        await asyncio.wait_for(slots.idle(), 5)

    asyncio.run(scenario())


def test_nobody_waits_longer_than_the_time_limit() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1, time_limit=0.05)
        go_on = threading.Event()
        working = asyncio.create_task(slots.run(go_on.wait, 30))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await slots.run(int)
        assert slots.taken == 1
        await asyncio.gather(working, return_exceptions=True)
        go_on.set()
        await asyncio.wait_for(slots.idle(), 5)
        assert await slots.run(int, "7") == 7

    asyncio.run(scenario())


def test_a_place_is_given_back_where_the_system_gives_no_thread(monkeypatch) -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=0)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _refuse)
            with pytest.raises(RuntimeError, match="no thread"):
                await slots.run(int)
        assert slots.taken == 0
        assert await asyncio.wait_for(slots.run(int, "7"), 5) == 7

    asyncio.run(scenario())


def _refuse(_: threading.Thread) -> None:
    raise RuntimeError("no thread")


def test_an_error_of_the_work_comes_through() -> None:
    async def scenario() -> None:
        slots = Slots()
        with pytest.raises(ZeroDivisionError):
            await slots.run(divmod, 1, 0)
        with pytest.raises(TimeoutError) as raised:  # its own, and not the limit's
            await slots.run(_time_out)
        assert not isinstance(raised.value, TimeLimitError)
        assert slots.taken == 0

    asyncio.run(scenario())


def _time_out() -> None:
    raise TimeoutError
