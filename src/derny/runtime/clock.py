"""Time behind one interface: the wall clock, and a clock that only moves when it is told to.

One rule: nobody in the daemon asks the operating system for the time but `RealClock`. A virtual clock is
just another clock: since time is an input of the machine and of the simulated agents, a week passes in
seconds. Made by `app` or by a test; used by `runtime.loop`.
"""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since the epoch, and a way to wait for them."""

    def now(self) -> float: ...

    def not_before(self, at: float) -> None:
        """Never again let it be earlier than this, which has been written down as the past."""
        ...

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        """Return when the event is set or the time has come, whichever is first; None is never."""
        ...


class RealClock:
    """The wall clock. Never goes back: a step of the system's time backwards holds it still until it has
    caught up."""

    def __init__(self) -> None:
        self._latest = 0.0

    def now(self) -> float:
        self.not_before(time.time())
        return self._latest

    def not_before(self, at: float) -> None:
        self._latest = max(self._latest, at)

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        delay = None if until is None else max(until - self.now(), 0)
        try:
            async with asyncio.timeout(delay):
                await event.wait()
        except TimeoutError:
            pass


class ManualClock:
    """Stands still until `advance` is called. Waiters see every moment they asked for, in order.

    `idle` is set while somebody waits for a later moment and nothing else is going on: then it is safe to
    advance.
    """

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._now = start
        self._moved = asyncio.Event()
        self.idle = asyncio.Event()
        self.next: float | None = None
        """The earliest moment that the one waiter waits for."""

    def now(self) -> float:
        return self._now

    def not_before(self, at: float) -> None:
        if at > self._now:
            self.advance(at)

    def advance(self, to: float) -> None:
        """Let it be `to`, which is not in the past."""
        assert to >= self._now, f"time can't go back from {self._now} to {to}"
        self._now = to
        self.idle.clear()
        self._moved.set()

    async def wait(self, event: asyncio.Event, until: float | None) -> None:
        while not event.is_set() and (until is None or self._now < until):
            self.next = until
            self.idle.set()
            self._moved.clear()
            moved = asyncio.ensure_future(self._moved.wait())
            told = asyncio.ensure_future(event.wait())
            try:
                await asyncio.wait({moved, told}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                moved.cancel()
                told.cancel()
        self.idle.clear()
