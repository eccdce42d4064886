"""One turn after the other: durable first, then answers, then agents."""

import asyncio
from pathlib import Path

import pytest

from builders import JOB, POOL, Daemon, a_daemon, a_job, a_template, drive, job_id, running
from derny.answers import queries
from derny.core import commands, events
from derny.core.audit import audit
from derny.core.effects import Launch, Reconcile
from derny.journal import codec
from derny.journal.errors import JournalError
from derny.journal.store import Journal
from derny.model.errors import Exhausted, Exists, NotFound, Unavailable
from derny.model.periods import Limits
from derny.model.states import PodState
from derny.runtime.clock import ManualClock

pytestmark = pytest.mark.asyncio


class GatedJournal(Journal):
    """A journal on a slow disk: nothing is durable while the gate is shut. It can break, too."""

    gate: asyncio.Event
    broken = False

    async def append(self, at: float, events: bytes) -> int:
        await self.gate.wait()
        if self.broken:
            raise JournalError("The disk is full.")
        return await super().append(at, events)


async def gated(hosts: int = 4, limits: Limits | None = None) -> tuple[Daemon, GatedJournal]:
    journal = await GatedJournal.open(None)
    journal.gate = asyncio.Event()
    journal.gate.set()
    return a_daemon(journal, ManualClock(), hosts, limits=limits), journal


async def breathe() -> None:
    """Let everybody go on who can without the disk."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_write_is_answered_with_its_events_once_it_is_durable() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        answer = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        assert JOB in daemon.state.jobs
        assert not answer.done()
        revision = daemon.loop.revision
        journal.gate.set()
        assert await answer == [events.JobCreated(JOB, a_job())]
        assert daemon.loop.revision > revision


async def test_agents_are_told_once_the_turn_is_durable() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        answer = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        assert daemon.state.jobs[JOB].pods[0].state is PodState.LAUNCHED
        assert daemon.agents.asked == []
        journal.gate.set()
        await answer
        assert [type(effect) for effect in daemon.agents.asked] == [Launch]


async def test_a_read_that_saw_what_is_not_durable_yet_waits_for_it() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        answer = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        seen = asyncio.create_task(daemon.loop.read(lambda state: queries.job_info(state, JOB).version))
        await breathe()
        assert not seen.done()
        journal.gate.set()
        assert await seen == "1-1-1"
        await answer


async def test_a_read_of_what_is_durable_waits_for_nothing_and_may_refuse() -> None:
    daemon, _journal = await gated()
    assert await daemon.loop.read(queries.job_ids) == []
    with pytest.raises(NotFound):
        await daemon.loop.read(lambda state: queries.job_info(state, JOB))
    await daemon.journal.close()


async def test_a_refusal_waits_for_the_turn_on_which_it_rests() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        twice = [asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job()))) for _ in range(2)]
        await breathe()
        assert not any(answer.done() for answer in twice)
        journal.gate.set()
        await twice[0]
        with pytest.raises(Exists):
            await twice[1]


async def test_the_command_of_a_caller_that_went_away_stands() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        gone = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        refused = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        gone.cancel()
        refused.cancel()
        await breathe()
        journal.gate.set()
        await daemon.loop.submit(commands.CreateJob(job_id(2), a_job()))
        assert await daemon.loop.read(queries.job_ids) == [JOB, job_id(2)]


async def test_a_full_inbox_takes_no_more_and_says_which_limit() -> None:
    daemon, _journal = await gated(limits=Limits(inbox_max=2))
    waiting = [asyncio.create_task(daemon.loop.submit(commands.SeeHosts([]))) for _ in range(2)]
    await breathe()
    with pytest.raises(Exhausted, match="inbox_max"):
        await daemon.loop.submit(commands.SeeHosts([]))
    async with running(daemon):
        await asyncio.gather(*waiting)
        assert await daemon.loop.submit(commands.SeeHosts([])) == []


async def test_closing_finishes_what_waits_and_takes_no_more() -> None:
    daemon, journal = await gated(limits=Limits(batch_max=1))
    async with running(daemon) as run:
        await daemon.begin()
        journal.gate.clear()
        waiting = [
            asyncio.create_task(daemon.loop.submit(commands.CreateJob(job_id(number), a_job())))
            for number in range(3)
        ]
        await breathe()
        closing = asyncio.create_task(daemon.loop.close())
        await breathe()
        assert not closing.done()
        with pytest.raises(Unavailable):
            await daemon.loop.submit(commands.SeeHosts([]))
        journal.gate.set()
        await closing
        await run
        assert [answer.result() for answer in waiting] == [
            [events.JobCreated(job_id(number), a_job())] for number in range(3)
        ]


async def test_a_failed_commit_ends_the_loop_and_nobody_is_told_ok() -> None:
    daemon, journal = await gated()
    async with running(daemon) as run:
        await daemon.begin()
        journal.gate.clear()
        journal.broken = True
        answer = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        read = asyncio.create_task(daemon.loop.read(queries.job_ids))
        await breathe()
        journal.gate.set()
        with pytest.raises(JournalError, match="disk is full"):
            await run
        await breathe()
        assert not answer.done() or answer.cancelled() or answer.exception()
        assert read.cancelled()
        assert daemon.agents.asked == []
        with pytest.raises(Unavailable):
            await asyncio.wait_for(daemon.loop.submit(commands.SeeHosts([])), 5)
        await asyncio.wait_for(daemon.loop.close(), 5)
        answer.cancel()


async def test_the_loop_wakes_when_time_alone_owes_a_step() -> None:
    """A pod that fails after 5 s has its second run after 30 s of back-off, the third after 60 more."""
    daemon, _journal = await gated()
    async with running(daemon):
        await daemon.begin()
        begun = daemon.clock.now()
        template = a_template(run="sleep 5; exit 3")
        await daemon.loop.submit(commands.CreateJob(JOB, a_job(template=template)))
        runs: list[float] = []

        def third_run() -> bool:
            pod = daemon.state.jobs[JOB].pods[0]
            if pod.run > len(runs):
                runs.append(daemon.clock.now() - begun)
            return pod.run == 3

        await drive(daemon.clock, third_run)
        assert [round(at) for at in runs] == [0, 35, 100]


async def test_condition_is_waited_for_until_it_is_durable() -> None:
    daemon, _journal = await gated()
    async with running(daemon):
        await daemon.begin()
        reached = asyncio.create_task(
            daemon.loop.until(
                lambda state: JOB in state.jobs and state.jobs[JOB].counts[PodState.RUNNING] == 3
            )
        )
        await daemon.loop.submit(commands.CreateJob(JOB, a_job(3)))
        await drive(daemon.clock, reached.done)
        assert await daemon.loop.read(lambda state: state.jobs[JOB].counts[PodState.RUNNING]) == 3


@pytest.mark.parametrize("count", [2_000, pytest.param(50_000, marks=pytest.mark.slow)])
async def test_turns_are_bounded_and_reads_are_served_in_between(count: int) -> None:
    """No turn of a large job concerns more pods, of one kind of event, than the budget."""
    limits = Limits(entities_per_turn=500)
    daemon = a_daemon(await Journal.open(None), ManualClock(), hosts=count // 8, limits=limits)
    async with running(daemon):
        await daemon.begin()
        await daemon.loop.submit(commands.CreateJob(JOB, a_job(count, template=a_template(disk=0))))
        seen: set[int] = set()

        async def look() -> None:
            while len(seen) <= count // 500 or daemon.state.jobs[JOB].counts[PodState.RUNNING] < count:
                seen.add(await daemon.loop.read(lambda state: queries.job_info(state, JOB).revision))
                await asyncio.sleep(0)

        looking = asyncio.create_task(look())
        await drive(daemon.clock, lambda: daemon.state.jobs[JOB].counts[PodState.RUNNING] == count)
        looking.cancel()
        assert len(seen) > count // 500
        assert audit(daemon.state) == []
        async for chunk in daemon.journal.read():
            for _revision, _at, blob in chunk:
                _check_turn(codec.decode(blob), 500)


def _check_turn(turn: list[events.Event], budget: int) -> None:
    for kind in {type(event) for event in turn}:
        alike = [event for event in turn if type(event) is kind]
        pods = sum(len(getattr(event, "instances", ())) for event in alike)
        pods += sum(event.end - event.first for event in alike if isinstance(event, events.PodsCreated))
        assert pods <= budget, (kind, pods)


async def test_recovery_replays_all_turns_and_reconciles_the_agents(tmp_path: Path) -> None:
    clock = ManualClock()
    first = a_daemon(await Journal.open(tmp_path), clock)
    assert await first.loop.recover() == 0
    assert first.agents.asked == []
    async with running(first):
        await first.begin()
        await first.loop.submit(commands.CreateJob(JOB, a_job(2)))
        await drive(clock, lambda: first.state.jobs[JOB].counts[PodState.RUNNING] == 2)
    second = a_daemon(await Journal.open(tmp_path), clock)
    assert await second.loop.recover() == second.loop.revision == first.loop.revision
    (order,) = second.agents.asked
    assert isinstance(order, Reconcile)
    assert [launch.pod for launch in order.launches] == [f"{JOB}-0-1", f"{JOB}-1-1"]
    assert second.state.tree.pools[POOL].allocation == first.state.tree.pools[POOL].allocation
    await second.journal.close()


async def test_long_looks_take_turns_one_slice_in_a_round() -> None:
    """However many look: so whoever wants something short waits for one slice at a time."""
    daemon, _journal = await gated()
    async with running(daemon):
        await daemon.begin()
        rounds, looks = 0, []

        async def count() -> None:
            nonlocal rounds
            while True:
                rounds += 1
                await asyncio.sleep(0)

        async def look(reader: int) -> None:
            for _ in range(5):
                await daemon.loop.scan(lambda state: looks.append((rounds, reader)))

        counting = asyncio.create_task(count())
        await asyncio.gather(*(look(reader) for reader in range(10)))
        counting.cancel()
        assert len({when for when, _ in looks}) == len(looks) == 50
        # First come, first served: nobody looks twice while another waits.
        assert [reader for _, reader in looks] == [*range(10)] * 5


async def test_a_look_at_what_is_not_durable_yet_is_answered_when_it_is() -> None:
    daemon, journal = await gated()
    async with running(daemon):
        await daemon.begin()
        journal.gate.clear()
        creating = asyncio.create_task(daemon.loop.submit(commands.CreateJob(JOB, a_job())))
        await breathe()
        look = asyncio.create_task(daemon.loop.scan(lambda state: JOB in state.jobs))
        await breathe()
        assert not look.done()
        journal.gate.set()
        assert await look
        await creating
