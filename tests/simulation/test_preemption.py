"""Peloton's integration tests of pools and preemption, lived through by a whole daemon on virtual time.

(Behaviour, scheduler §3.5 and §5; jobs §14, revocable jobs and pools.)
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from builders import Daemon, RecordedAgents, a_host, a_job, a_template, drive, job_id, pool_id, running
from derny.core import commands
from derny.core.audit import HELD, audit
from derny.core.effects import Kill
from derny.core.machine import Machine
from derny.journal.store import Journal
from derny.model.ids import ROOT_POOL, entity_version
from derny.model.periods import Limits, Periods
from derny.model.resources import NOTHING
from derny.model.rules import DEFAULT_PREEMPTING, Preempting
from derny.model.specs import PodTemplate, PoolResource, PoolSpec
from derny.model.states import PodState
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Loop

pytestmark = pytest.mark.asyncio

S = PodState
PERIODS = Periods()
UNTIL_EVICTED_S = PERIODS.preemption_s * PERIODS.preemption_cycles + PERIODS.eviction_s + 5
POOL = pool_id(1)

FIXED = a_template(0, 1000, 0)
PLAIN = a_template(0, 1000, 0, preemptible=True)
SLACK = a_template(1, 100, 0, revocable=True)


def a_daemon(journal: Journal, preempting: Preempting = DEFAULT_PREEMPTING) -> Daemon:
    """A cluster of 2000 MB with slack cpu."""
    clock, limits = ManualClock(), Limits()
    machine = Machine(PERIODS, limits, preempting=preempting)
    agents = RecordedAgents([a_host(0, 8, 2000, revocable_cpu=8)], 7, clock.now())
    return Daemon(Loop(machine, journal, agents, clock, limits), machine, journal, agents, clock)


@pytest_asyncio.fixture(params=[Preempting(), Preempting(by_priority=True)], ids=["", "by priority"])
async def daemon(request: pytest.FixtureRequest) -> AsyncIterator[Daemon]:
    """With a pool that reserves half of the memory. Afterwards all jobs are stopped and nothing is held."""
    daemon = a_daemon(await Journal.open(None), request.param)
    async with running(daemon):
        await drive(daemon.clock, lambda: bool(daemon.state.hosts))
        await daemon.loop.submit(commands.CreatePool(POOL, a_half("pool")))
        yield daemon
        assert audit(daemon.state) == []
        for job in daemon.state.jobs:
            await stop(daemon, job)
        await drive(daemon.clock, lambda: not daemon.state.tree.root.allocation.memory)
        assert {
            getattr(pool, held)
            for pool in daemon.state.tree.walk()
            for held in (*HELD, "demand", "slack_demand")
        } == {NOTHING}


def a_half(name: str) -> PoolSpec:
    memory = PoolResource("memory", 1_000_000, 2_000_000)
    cpu, disk = PoolResource("cpu", 4_000, 8_000), PoolResource("disk", 0, 10**8)
    return PoolSpec(name, ROOT_POOL, b"", (cpu, PoolResource("gpu"), memory, disk))


async def create(
    daemon: Daemon, number: int, template: PodTemplate, count: int = 1, priority: int = 0, pool: int = 1
) -> None:
    spec = a_job(count, pool_id(pool), f"job{number}", priority, template)
    await daemon.loop.submit(commands.CreateJob(job_id(number), spec))
    await daemon.clock.idle.wait()


async def stop(daemon: Daemon, job: str) -> None:
    found = daemon.state.jobs[job]  # type: ignore[index]  # a job's id
    version = entity_version(found.config, found.desired, found.workflow)
    await daemon.loop.submit(commands.StopJob(found.id, version))


async def passes(daemon: Daemon, seconds: float) -> None:
    end = daemon.clock.now() + seconds
    # Whoever was woken just now goes first.
    for _ in range(5):
        await asyncio.sleep(0)
    await daemon.clock.idle.wait()
    await drive(daemon.clock, lambda: daemon.clock.next is None or daemon.clock.next > end)
    daemon.clock.advance(end)
    await daemon.clock.idle.wait()


def states(daemon: Daemon, number: int) -> Counter[PodState]:
    return Counter(pod.state for pod in daemon.state.jobs[job_id(number)].pods)


async def test_revocable_pods_leave_when_a_hard_job_wants_their_memory(daemon: Daemon) -> None:
    """1000 MB that can't be preempted and a little revocable run; 1000 MB more come."""
    await create(daemon, 1, FIXED)
    await create(daemon, 2, a_template(1, 10, 0, revocable=True), 3)
    await passes(daemon, 5)
    assert (states(daemon, 1), states(daemon, 2)) == ({S.RUNNING: 1}, {S.RUNNING: 3})
    await create(daemon, 3, PLAIN)
    assert states(daemon, 3) == {S.PENDING: 1}
    await passes(daemon, UNTIL_EVICTED_S)
    assert states(daemon, 2)[S.RUNNING] == 0
    assert (states(daemon, 1), states(daemon, 3)) == ({S.RUNNING: 1}, {S.RUNNING: 1})
    await stop(daemon, job_id(3))
    await passes(daemon, 5)
    assert states(daemon, 2) == {S.RUNNING: 3}, "they come back when the job that was in the way is gone"


async def test_revocable_pods_have_a_fifth_of_the_reservation(daemon: Daemon) -> None:
    await create(daemon, 1, SLACK, 3)
    await passes(daemon, 5)
    assert states(daemon, 1) == {S.RUNNING: 2, S.PENDING: 1}
    leaf = daemon.state.tree.pools[POOL]
    assert leaf.slack.memory == 200_000 and leaf.allocation == leaf.slack


async def test_a_full_reservation_makes_others_of_the_kind_wait_and_nobody_else(daemon: Daemon) -> None:
    await create(daemon, 1, FIXED)
    await create(daemon, 2, FIXED)
    await create(daemon, 3, PLAIN)
    await passes(daemon, 5)
    assert [states(daemon, n) for n in (1, 2, 3)] == [{S.RUNNING: 1}, {S.PENDING: 1}, {S.RUNNING: 1}]
    await stop(daemon, job_id(1))
    await passes(daemon, 5)
    assert [states(daemon, n) for n in (1, 2, 3)] == [{S.KILLED: 1}, {S.RUNNING: 1}, {S.RUNNING: 1}]


async def test_a_borrower_gives_back_with_notice_and_each_run_is_killed_once(daemon: Daemon) -> None:
    await daemon.loop.submit(commands.CreatePool(pool_id(2), a_half("other")))
    small = a_template(0, 100, 0, preemptible=True)
    await create(daemon, 1, small, 20)
    await passes(daemon, 5)
    assert states(daemon, 1) == {S.RUNNING: 20}
    await create(daemon, 2, small, 20, pool=2)
    seen: set[PodState] = set()
    for _ in range(int(UNTIL_EVICTED_S) + 10):
        await passes(daemon, 1)
        seen |= set(states(daemon, 1))
    assert (states(daemon, 1), states(daemon, 2)) == ({S.RUNNING: 10, S.PENDING: 10},) * 2
    assert seen >= {S.PREEMPTING, S.PENDING}
    killed = Counter(effect.pod for effect in daemon.agents.asked if isinstance(effect, Kill))
    assert set(killed.values()) == {1} and len(killed) == 10


async def test_a_crash_during_a_notice_takes_nothing_back_and_the_debt_is_paid_later(
    tmp_path: Path,
) -> None:
    daemon = a_daemon(await Journal.open(tmp_path))
    small = a_template(0, 100, 0, preemptible=True)
    async with running(daemon):
        await drive(daemon.clock, lambda: bool(daemon.state.hosts))
        for number in (1, 2):
            await daemon.loop.submit(commands.CreatePool(pool_id(number), a_half(f"pool{number}")))
        await create(daemon, 1, small, 20)
        await passes(daemon, 5)
        await create(daemon, 2, small, 20, pool=2)
        await drive(daemon.clock, lambda: states(daemon, 1)[S.PREEMPTING] > 0)
    again = a_daemon(await Journal.open(tmp_path))
    await again.loop.recover()
    assert states(again, 1) == {S.RUNNING: 10, S.PREEMPTING: 10} and audit(again.state) == []
    async with running(again):
        await passes(again, UNTIL_EVICTED_S + 10)
        assert (states(again, 1), states(again, 2)) == ({S.RUNNING: 10, S.PENDING: 10},) * 2


@pytest.mark.parametrize(
    ("preempting", "expected"),
    [
        (Preempting(), ({S.RUNNING: 4}, {S.PENDING: 1})),
        (Preempting(by_priority=True), ({S.RUNNING: 2, S.PENDING: 2}, {S.RUNNING: 1})),
    ],
)
async def test_a_higher_priority_displaces_only_where_that_is_switched_on(
    preempting: Preempting, expected: tuple[dict[PodState, int], dict[PodState, int]]
) -> None:
    daemon = a_daemon(await Journal.open(None), preempting)
    async with running(daemon):
        await drive(daemon.clock, lambda: bool(daemon.state.hosts))
        await daemon.loop.submit(commands.CreatePool(POOL, a_half("pool")))
        await create(daemon, 1, a_template(0, 500, 0, preemptible=True), 4)
        await passes(daemon, 5)
        await create(daemon, 2, PLAIN, priority=7)
        await passes(daemon, PERIODS.preemption_s + PERIODS.eviction_s + 5)
        assert (states(daemon, 1), states(daemon, 2)) == expected
        await passes(daemon, 300)
        assert (states(daemon, 1), states(daemon, 2)) == expected, "and so it stays"
