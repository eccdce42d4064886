"""The examples by which Peloton's user guide and its integration tests explain elastic sharing.

A whole daemon lives through them on virtual time: demand comes from jobs, entitlements from its own cycle.
"""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from builders import Daemon, RecordedAgents, a_host, a_job, a_template, drive, job_id, pool_id, running
from derny.answers.pool_explanation import explained, facts_of
from derny.core import commands
from derny.core.audit import audit, fingerprint
from derny.core.machine import Machine
from derny.journal import codec
from derny.journal.store import Journal
from derny.model.ids import ROOT_POOL
from derny.model.periods import Limits, Periods
from derny.model.resources import NOTHING
from derny.model.specs import PoolResource, PoolSpec
from derny.model.states import PodState
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Loop

Story = Callable[[Daemon], Awaitable[None]]


def a_daemon(journal: Journal, hosts: int, cpu: float) -> Daemon:
    clock, limits = ManualClock(), Limits()
    # Nobody is preempted while the story is told: that is another one.
    machine = Machine(Periods(preemption_s=10_000), limits)
    agents = RecordedAgents([a_host(number, cpu) for number in range(hosts)], 7, clock.now())
    return Daemon(Loop(machine, journal, agents, clock, limits), machine, journal, agents, clock)


async def live(hosts: int, cpu: float, story: Story) -> None:
    """Tell a story on a cluster of so many hosts with so many cpus each; in the end all is as it began."""
    daemon = a_daemon(await Journal.open(None), hosts, cpu)
    async with running(daemon):
        await drive(daemon.clock, lambda: len(daemon.state.hosts) == hosts)
        await story(daemon)
        assert audit(daemon.state) == []
        for job in list(daemon.state.jobs):
            version = f"1-{daemon.state.jobs[job].desired}-1"
            await daemon.loop.submit(commands.DeleteJob(job, version, True))
        await drive(daemon.clock, lambda: not daemon.state.jobs)
        for pool in daemon.state.tree.walk():
            assert (pool.allocation, pool.slack, pool.demand, pool.slack_demand) == (NOTHING,) * 4
        assert audit(daemon.state) == []


async def make_pools(daemon: Daemon, reservation: float, limit: float, *names: str) -> None:
    for number, name in enumerate(names):
        memory, disk = (PoolResource(kind, 0, 10**7) for kind in ("memory", "disk"))
        cpu = PoolResource("cpu", round(1000 * reservation), round(1000 * limit))
        spec = PoolSpec(name, ROOT_POOL, b"", (cpu, PoolResource("gpu"), memory, disk))
        await daemon.loop.submit(commands.CreatePool(pool_id(number), spec))


async def run_pods(daemon: Daemon, number: int, count: int, pool: int) -> None:
    """A job of so many preemptible pods of one cpu each."""
    template = a_template(cpu=1, memory=1, disk=1, preemptible=True)
    spec = a_job(count, pool_id(pool), f"job{number}", template=template)
    await daemon.loop.submit(commands.CreateJob(job_id(number), spec))


async def passes(daemon: Daemon, seconds: float) -> None:
    end = daemon.clock.now() + seconds
    await drive(daemon.clock, lambda: daemon.clock.next is None or daemon.clock.next > end)
    daemon.clock.advance(end)
    await daemon.clock.idle.wait()


def entitled(daemon: Daemon) -> list[float]:
    return [pool.entitlement.cpu / 1000 for pool in daemon.state.tree.walk() if pool.id != ROOT_POOL]


def held(daemon: Daemon) -> list[float]:
    return [pool.allocation.cpu / 1000 for pool in daemon.state.tree.walk() if pool.id != ROOT_POOL]


def running_pods(daemon: Daemon, number: int) -> int:
    return daemon.state.jobs[job_id(number)].counts[PodState.RUNNING]


@pytest.mark.asyncio
async def test_the_guides_three_pools_lend_and_claim_back() -> None:
    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 20, 100, "rp1", "rp2", "rp3")
        await asyncio.gather(*(run_pods(daemon, number, (10, 80, 80)[number], number) for number in range(3)))
        await passes(daemon, 10)
        assert entitled(daemon) == [10, 45, 45], "figure 2"
        assert held(daemon) == [10, 45, 45]
        assert [running_pods(daemon, number) for number in range(3)] == [10, 45, 45]
        lender = explained(facts_of(daemon.state, pool_id(0))).kinds[0]
        assert lender.lent == 10_000
        assert [(loan.path, loan.amount) for loan in lender.gets_back_from] == [
            ("/rp2", 5000),
            ("/rp3", 5000),
        ]
        await run_pods(daemon, 3, 40, 0)
        await passes(daemon, 0.001)
        assert entitled(daemon) == pytest.approx([100 / 3] * 3, abs=0.01), "figure 3"
        borrower = explained(facts_of(daemon.state, pool_id(1))).kinds[0]
        assert [(loan.path, loan.amount) for loan in borrower.gives_back_to] == [("/rp1", 11_667)]

    await live(10, 10, story)


@pytest.mark.asyncio
async def test_a_pool_borrows_all_until_its_sibling_asks_for_its_half() -> None:
    """Peloton's integration test of preemption: two pools that reserve 6 of 12."""

    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 6, 12, "a", "b")
        await run_pods(daemon, 0, 12, 0)
        await passes(daemon, 10)
        assert (entitled(daemon), held(daemon)) == ([12, 0], [12, 0])
        await run_pods(daemon, 1, 12, 1)
        await passes(daemon, 0.001)
        assert entitled(daemon) == [6, 6]
        assert held(daemon) == [12, 0], "only preemption takes from those who run"

    await live(3, 4, story)


@pytest.mark.asyncio
async def test_a_job_in_a_quiet_cluster_is_admitted_in_the_turn_in_which_it_comes() -> None:
    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 0, 12, "a", "b", "c")
        await run_pods(daemon, 0, 11, 1)
        assert held(daemon) == [0, 11, 0]

    await live(3, 4, story)


@pytest.mark.asyncio
async def test_hosts_that_go_and_come_back_change_what_pools_may_hold_at_once() -> None:
    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 0, 12, "a", "b")
        await passes(daemon, 1)
        assert entitled(daemon) == [6, 6]
        await daemon.loop.submit(commands.LoseHosts([a_host(0).name]))
        assert entitled(daemon) == [4, 4]
        await daemon.loop.submit(commands.SeeHosts([a_host(0, 4)]))
        assert entitled(daemon) == [6, 6]

    await live(3, 4, story)


@pytest.mark.asyncio
async def test_a_restarted_daemon_calculates_before_it_admits_anybody() -> None:
    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 6, 12, "a", "b")
        await run_pods(daemon, 0, 12, 0)
        await passes(daemon, 10)
        await run_pods(daemon, 1, 12, 1)
        await passes(daemon, 10)
        again = a_daemon(await Journal.open(None), 3, 4)
        async for chunk in daemon.journal.read():
            for _revision, at, blob in chunk:
                again.machine.replay(at, codec.decode(blob))
        assert fingerprint(again.state) == fingerprint(daemon.state)
        assert entitled(again) == [0, 0], "what is derived is not kept"
        again.machine.advance(daemon.clock.now(), 1000)
        assert entitled(again) == entitled(daemon) == [6, 6]
        assert held(again) == [12, 0]
        await again.journal.close()

    await live(3, 4, story)


@pytest.mark.asyncio
async def test_a_job_of_many_pods_gets_through_though_each_slice_asks_for_more() -> None:
    async def story(daemon: Daemon) -> None:
        await make_pools(daemon, 0, 1000, "a", "b")
        await run_pods(daemon, 0, 900, 0)
        await asyncio.wait_for(drive(daemon.clock, lambda: running_pods(daemon, 0) == 900), 60)
        assert daemon.clock.now() - daemon.state.jobs[job_id(0)].created_at < 2, "no slice waits for a period"

    await live(10, 100, story)
