"""The loop: inbox → machine → journal → answers → watchers → effects. The only place where the machine meets
time and disk.

One turn, always in this order: take what waits, decide, make it durable, then answer callers, tell
watchers, hand effects to agents. Nobody ever sees what a crash could take back: writes are answered once
they are durable, and so are reads that looked at what is not yet. A failed commit ends the daemon, since
memory would be ahead of the disk. Made by `app`; called by `api` through `submit` and `read`.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

import msgspec
from anyio import CancelScope

from derny.answers import queries
from derny.core.commands import Command
from derny.core.effects import Effect
from derny.core.events import Event
from derny.core.machine import Machine, Terms
from derny.core.state import State
from derny.journal import codec
from derny.journal.store import Journal
from derny.model.errors import Exhausted, Refusal, Unavailable
from derny.model.periods import Limits
from derny.runtime.clock import Clock
from derny.runtime.watch import Watches

T = TypeVar("T")

ORDERING_S: Final = 0.005
"""How long agents take orders without a pause: what a container will do is counted out when it is ordered,
and a long script takes long."""


class Agents(Protocol):
    """Whatever runs pods. The loop owns this interface; `agents` fits it."""

    @property
    def next_wake(self) -> float | None:
        """When `poll` will have something; None when only an effect can cause it."""
        ...

    def perform(self, effects: Sequence[Effect], at: float) -> None:
        """Take effects, each at least once; repeats are ignored by pod id."""
        ...

    def poll(self, at: float, most: int) -> list[Command]:
        """What agents have to say by `at`, at most so many reports at once; the rest keeps `next_wake` in
        the past."""
        ...


class _Waiting(msgspec.Struct, eq=False):
    """A command in the inbox, and what its caller waits for."""

    command: Command
    answer: asyncio.Future[list[Event]]


class Loop:
    """One machine, one journal, one set of agents, one turn at a time."""

    def __init__(
        self, machine: Machine, journal: Journal, agents: Agents, clock: Clock, limits: Limits
    ) -> None:
        self.clock = clock
        self.watches = Watches(limits)
        self._machine = machine
        self._journal = journal
        self._agents = agents
        self._limits = limits
        self._inbox: deque[_Waiting] = deque()
        self._batch: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._closing = False
        self._ended = asyncio.Event()
        self._changed = asyncio.Event()
        self._more = True
        self._committing: asyncio.Future[None] | None = None
        self._scanning = asyncio.Lock()

    @property
    def revision(self) -> int:
        """Number of the last durable turn that had events."""
        return self._journal.last_revision

    @property
    def state(self) -> State:
        """The state as it is at this moment, durable or not: for what is never told, as gates."""
        return self._machine.state

    @property
    def terms(self) -> Terms:
        """What the machine goes by, for explanations."""
        return self._machine.terms

    async def submit(self, command: Command) -> list[Event]:
        """What the command caused, once it is durable. Raises its Refusal; Exhausted, Unavailable: not
        taken at all.

        A caller that goes away loses the answer only: the command stands all the same.
        """
        if self._closing or self._ended.is_set():
            raise Unavailable("the daemon is shutting down")
        if len(self._inbox) >= self._limits.inbox_max:
            raise Exhausted(f"{len(self._inbox)} requests wait already (limit inbox_max); try again later")
        answer: asyncio.Future[list[Event]] = asyncio.get_running_loop().create_future()
        self._inbox.append(_Waiting(command, answer))
        self._wake.set()
        return await answer

    async def read(self, query: Callable[[State], T]) -> T:
        """The query's answer, given once everything that it may have seen is durable."""
        found = query(self._machine.state)
        if self._committing is not None:
            await asyncio.shield(self._committing)
        return found

    async def scan(self, look: Callable[[State], T]) -> T:
        """As `read`, for one slice of a long look, a few milliseconds at most.

        Slices of all callers take turns, one in each round of the event loop, first come first served:
        however many long looks there are, whoever does something short waits for one slice at a time.
        """
        async with self._scanning:
            await asyncio.sleep(0)
            found = look(self._machine.state)
        if self._committing is not None:
            await asyncio.shield(self._committing)
        return found

    async def until(self, condition: Callable[[State], bool]) -> None:
        """Return once a durable state fulfils the condition, which is looked at after every turn that had
        events."""
        while not await self.read(condition):
            if self._ended.is_set():
                raise Unavailable("the daemon has ended")
            await self._changed.wait()

    async def recover(self) -> int:
        """Replay the journal and let agents be compared with it; returns the number of turns."""
        turns = 0
        async for chunk in self._journal.read():
            for revision, at, blob in chunk:
                self._machine.replay(at, codec.decode(blob))
                self.watches.remember(
                    revision, at, queries.changes(self._machine.state, *self._machine.take_changed())
                )
                self.clock.not_before(at)
                turns += 1
        if turns:
            at = self.clock.now()
            for order in self._machine.reconciliation():
                self._agents.perform([order], at)
        return turns

    async def run(self) -> None:
        """Turn after turn until `close` has been called and the last turn is done."""
        try:
            while not self._closing or self._inbox:
                await self.turn()
                if not self._is_busy():
                    await self._journal.checkpoint()
                    await self.clock.wait(self._wake, self._next_wake())
                self._wake.clear()
        finally:
            self._ended.set()
            self._changed.set()
            for waiting in (*self._batch, *self._inbox):
                _answer(
                    waiting.answer, None, Unavailable("the daemon ends; whether this was kept is not known")
                )

    async def close(self) -> None:
        """Take no more commands; return once those that wait have been answered and the last turn is done."""
        self._closing = True
        self._wake.set()
        await self._ended.wait()

    async def turn(self) -> None:
        """One turn: at most a batch of commands, and one bounded sweep."""
        at = self.clock.now()
        events: list[Event] = []
        for command in self._agents.poll(at, self._limits.entities_per_turn):
            events += self._machine.handle(command, at)
        heard_all = not _has_come(self._agents.next_wake, at)
        self._batch = self._take_batch()
        answers = [self._decide(waiting, at, events) for waiting in self._batch]
        # What agents have said long since comes first: a pod must not be given up while its report waits.
        # Without new orders the agents run out of things to say, so nothing starves.
        self._more = True
        if heard_all:
            advanced, self._more = self._machine.advance(at, self._limits.entities_per_turn)
            events += advanced
        changes = queries.changes(self._machine.state, *self._machine.take_changed())
        if events:
            await self._commit(at, events)
        for answer in answers:
            answer()
        if events:
            await self.watches.publish(self.revision, at, changes)
            self._changed.set()
            self._changed = asyncio.Event()
        await self._order(self._machine.take_effects(), at)
        if not events:
            # A turn without a commit has not let anybody else run yet.
            await asyncio.sleep(0)

    async def _order(self, effects: Sequence[Effect], at: float) -> None:
        began = time.perf_counter()
        for effect in effects:
            self._agents.perform([effect], at)
            if time.perf_counter() - began > ORDERING_S:
                await asyncio.sleep(0)
                began = time.perf_counter()

    def _take_batch(self) -> list[_Waiting]:
        return [self._inbox.popleft() for _ in range(min(len(self._inbox), self._limits.batch_max))]

    def _decide(self, waiting: _Waiting, at: float, events: list[Event]) -> Callable[[], None]:
        """Decide a command, add its events, and return how to answer once they are durable.

        A refusal waits for the commit too: it may rest on what was decided earlier in the same turn.
        """
        try:
            decided = self._machine.handle(waiting.command, at)
        except Refusal as refusal:
            return partial(_answer, waiting.answer, None, refusal)
        events += decided
        return partial(_answer, waiting.answer, decided, None)

    async def _commit(self, at: float, events: list[Event]) -> None:
        self._committing = asyncio.get_running_loop().create_future()
        try:
            # Shutdown finishes the batch: a commit that is given up half-way would put memory ahead of
            # the disk.
            with CancelScope(shield=True):
                await self._journal.append(at, codec.encode(events))
            self._committing.set_result(None)
        finally:
            # Readers of a turn that could not be kept are told so by the end of the daemon.
            if not self._committing.done():
                self._committing.cancel()
            self._committing = None

    def _is_busy(self) -> bool:
        return self._more or bool(self._inbox) or self._closing

    def _next_wake(self) -> float | None:
        wakes = [wake for wake in (self._machine.next_wake, self._agents.next_wake) if wake is not None]
        return min(wakes, default=None)


def _has_come(moment: float | None, at: float) -> bool:
    return moment is not None and moment <= at


def _answer(
    answer: asyncio.Future[list[Event]], decided: list[Event] | None, refusal: Refusal | None
) -> None:
    """Unless the caller has gone away: it was cancelled at its deadline, and the command stands all the
    same."""
    if answer.done():
        return
    if refusal is not None:
        answer.set_exception(refusal)
    else:
        answer.set_result(decided or [])
