"""Time behind one interface: waits end with the event or the moment, whichever is first."""

import asyncio
import time

import pytest

from derny.runtime.clock import ManualClock, RealClock

pytestmark = pytest.mark.asyncio


async def test_a_manual_clock_stands_still_until_it_is_told() -> None:
    clock = ManualClock(100.0)
    assert clock.now() == clock.now() == 100.0
    clock.advance(100.0)
    clock.advance(105.5)
    assert clock.now() == 105.5
    with pytest.raises(AssertionError, match="go back"):
        clock.advance(105.4)


async def test_a_wait_on_a_manual_clock_ends_at_its_moment_and_not_before() -> None:
    clock = ManualClock(100.0)
    waiter = asyncio.create_task(clock.wait(asyncio.Event(), 110.0))
    await clock.idle.wait()
    assert clock.next == 110.0
    clock.advance(109.9)
    assert not clock.idle.is_set()
    await clock.idle.wait()
    assert not waiter.done()
    clock.advance(110.0)
    await waiter
    assert not clock.idle.is_set()


async def test_a_wait_ends_with_the_event_without_time_passing() -> None:
    clock, event = ManualClock(100.0), asyncio.Event()
    waiter = asyncio.create_task(clock.wait(event, None))
    await clock.idle.wait()
    assert clock.next is None
    event.set()
    await waiter
    assert clock.now() == 100.0


@pytest.mark.parametrize("until", [99.0, 100.0])
async def test_a_moment_that_has_come_is_not_waited_for(until: float) -> None:
    clock = ManualClock(100.0)
    await clock.wait(asyncio.Event(), until)
    assert not clock.idle.is_set()


async def test_a_wait_that_is_given_up_leaves_nothing_behind() -> None:
    clock = ManualClock(100.0)
    before = len(asyncio.all_tasks())
    waiter = asyncio.create_task(clock.wait(asyncio.Event(), None))
    await clock.idle.wait()
    waiter.cancel()
    await asyncio.wait([waiter])
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == before


async def test_the_real_clock_never_goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told = iter([1000.0, 900.0, 1000.5])
    clock = RealClock()
    monkeypatch.setattr(time, "time", lambda: next(told))
    assert [clock.now() for _ in range(3)] == [1000.0, 1000.0, 1000.5]


async def test_the_real_clock_does_not_wait_for_what_is_past_or_set() -> None:
    clock, event = RealClock(), asyncio.Event()
    await asyncio.wait_for(clock.wait(event, clock.now() - 5), 10)
    await asyncio.wait_for(clock.wait(event, clock.now() + 0.001), 10)
    event.set()
    await asyncio.wait_for(clock.wait(event, None), 10)


async def test_a_real_wait_can_be_given_up() -> None:
    waiter = asyncio.create_task(RealClock().wait(asyncio.Event(), None))
    await asyncio.sleep(0)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
