from __future__ import annotations

import asyncio

import pytest

from cutaway.serve.slots import BusyError, Slots


def test_takes_turns_waits_and_refuses_the_next() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1, retry_after=3)
        order: list[str] = []
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def first() -> None:
            async with slots.place():
                order.append("first in")
                inside.set()
                await go_on.wait()
                order.append("first out")

        async def second() -> None:
            async with slots.place():
                order.append("second in")

        one = asyncio.create_task(first())
        await inside.wait()
        two = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert slots.taken == 2
        with pytest.raises(BusyError, match="busy") as refused:
            async with slots.place():
                pass
        assert refused.value.retry_after == 3
        go_on.set()
        await asyncio.gather(one, two)
        assert order == ["first in", "first out", "second in"]
        assert slots.taken == 0

    asyncio.run(scenario())


def test_a_place_is_given_back_after_an_error_and_after_a_cancelled_wait() -> None:
    async def scenario() -> None:
        slots = Slots(running=1, waiting=1)
        with pytest.raises(ZeroDivisionError):
            async with slots.place():
                1 / 0  # noqa: B018
        async with slots.place():

            async def wait() -> None:
                async with slots.place():
                    pytest.fail("there was no place")

            waiting = asyncio.create_task(wait())
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            assert slots.taken == 1
        assert slots.taken == 0

    asyncio.run(scenario())


def test_idle_returns_only_when_the_last_has_left() -> None:
    async def scenario() -> None:
        slots = Slots(running=2)
        await asyncio.wait_for(slots.idle(), 1)
        async with slots.place():
            waiting = asyncio.create_task(slots.idle())
            await asyncio.sleep(0)
            assert not waiting.done()
        await asyncio.wait_for(waiting, 1)

    asyncio.run(scenario())
