"""Where pods end up in a whole daemon with simulated agents, on virtual time, and after a crash.

The integration cases of behaviour, scheduler §6.5.
"""

from collections import Counter
from pathlib import Path

import pytest

from builders import Daemon, a_daemon, a_host, a_job, a_template, drive, job_id, running
from derny.core import commands
from derny.core.audit import audit
from derny.journal.store import Journal
from derny.model.ids import HostName
from derny.model.specs import Condition, Labels, PodTemplate, WorkflowSpec
from derny.model.states import PodState, WorkflowState
from derny.runtime.clock import ManualClock
from slow_constraints import every, on_host, on_pods

JOB, OTHER = job_id(1), job_id(2)
WEB: Labels = (("app", "web"),)
TEAM: Labels = (("peloton/exclusive", "team"),)
AWAY = on_pods(Condition.LESS_THAN, *WEB[0], 1)
FOR_TEAM = on_host(Condition.EQUAL, *TEAM[0], 1)


def states(daemon: Daemon, job: str = JOB) -> Counter[PodState]:
    return Counter(pod.state for pod in daemon.state.jobs[job].pods)  # type: ignore[index]  # a job id


def hosts(daemon: Daemon, job: str = JOB) -> list[str]:
    found = daemon.state.jobs[job].pods  # type: ignore[index]  # a job id
    return [str(pod.host) for pod in found if pod.state is PodState.RUNNING]


async def create(daemon: Daemon, job: str, count: int, template: PodTemplate) -> None:
    await daemon.loop.submit(commands.CreateJob(job, a_job(count, name=job, template=template)))  # type: ignore[arg-type]  # a job id


@pytest.mark.parametrize("constraint", [AWAY, on_pods(Condition.EQUAL, *WEB[0], 0)])
@pytest.mark.asyncio
async def test_four_pods_one_to_a_host_on_three_hosts(tmp_path: Path, constraint: object) -> None:
    clock = ManualClock()
    daemon = a_daemon(await Journal.open(tmp_path), clock, hosts=3)
    async with running(daemon):
        await daemon.begin()
        await create(daemon, JOB, 4, a_template(cpu=0.1, labels=WEB, constraint=constraint))  # type: ignore[arg-type]  # a constraint
        await drive(clock, lambda: states(daemon)[PodState.RUNNING] == 3)
        clock.advance(clock.now() + 30)
        await drive(clock, lambda: clock.idle.is_set())
        assert len(set(hosts(daemon))) == 3
        assert states(daemon)[PodState.RUNNING] == 3
    # A daemon that comes back knows as much, and what it forgot, the counts of labels, it counts again.
    again = a_daemon(await Journal.open(tmp_path), clock, hosts=3)
    await again.loop.recover()
    async with running(again):
        await create(again, OTHER, 1, a_template(cpu=0.1, labels=WEB, constraint=AWAY))
        await drive(clock, lambda: states(again, OTHER)[PodState.PLACING] == 1)
        assert states(again)[PodState.RUNNING] == 3
        assert audit(again.state) == []


@pytest.mark.asyncio
async def test_exclusive_hosts_are_for_those_who_ask_and_those_go_nowhere_else(tmp_path: Path) -> None:
    clock = ManualClock()
    daemon = a_daemon(await Journal.open(tmp_path), clock, hosts=2)
    async with running(daemon):
        await daemon.begin()
        await daemon.loop.submit(commands.SeeHosts([a_host(1, labels=TEAM)]))
        await create(daemon, JOB, 6, a_template(cpu=0.1))
        await create(daemon, OTHER, 3, a_template(cpu=0.1, labels=WEB, constraint=every(FOR_TEAM)))
        await drive(
            clock,
            lambda: (states(daemon)[PodState.RUNNING], states(daemon, OTHER)[PodState.RUNNING]) == (6, 3),
        )
        assert set(hosts(daemon)) == {"host-0"}
        assert set(hosts(daemon, OTHER)) == {"host-1"}


async def replaced_in_place(daemon: Daemon, count: int) -> None:
    """A new configuration for all pods of a job at once, each on the host that it is on."""
    job = daemon.state.jobs[JOB]
    version = f"{job.config}-{job.desired}-{job.workflow}"
    spec = a_job(count, name=JOB, template=a_template(cpu=6, run="sleep 2000"))
    await daemon.loop.submit(commands.ReplaceJob(JOB, version, spec, WorkflowSpec(in_place=True)))


@pytest.mark.asyncio
@pytest.mark.parametrize("loses_a_host", [False, True])
async def test_an_update_in_place_leaves_pods_on_their_hosts(tmp_path: Path, loses_a_host: bool) -> None:
    """Behaviour, jobs §8.7: thirty at once, while another job would like their room. A host that is lost
    meanwhile does not keep the update from its end."""
    clock = ManualClock()
    daemon = a_daemon(await Journal.open(tmp_path), clock, hosts=31)
    async with running(daemon):
        await daemon.begin()
        await create(daemon, JOB, 30, a_template(cpu=6))
        await drive(clock, lambda: states(daemon)[PodState.RUNNING] == 30)
        before = hosts(daemon)
        await create(daemon, OTHER, 1, a_template(cpu=7))
        await drive(clock, lambda: states(daemon, OTHER)[PodState.RUNNING] == 1)
        await replaced_in_place(daemon, 30)
        if loses_a_host:
            await daemon.loop.submit(commands.StopJob(OTHER, "1-1-1"))
            await drive(clock, lambda: states(daemon, OTHER)[PodState.KILLED] == 1)
            await daemon.loop.submit(commands.LoseHosts([HostName(before[0])]))
        workflow = daemon.state.jobs[JOB].workflows[-1]
        await drive(clock, lambda: workflow.state is WorkflowState.SUCCEEDED)
        await drive(clock, lambda: states(daemon)[PodState.RUNNING] == 30)
        after = hosts(daemon)
        assert [pod.run for pod in daemon.state.jobs[JOB].pods] == [2] * 30
        assert after[loses_a_host:] == before[loses_a_host:]
        assert (after[0] == before[0]) is not loses_a_host
        assert not daemon.state.holds.of
        assert audit(daemon.state) == []


@pytest.mark.asyncio
async def test_a_job_stopped_in_mid_update_in_place_leaves_its_hosts_to_another_update(
    tmp_path: Path,
) -> None:
    """Behaviour, jobs §8.7: the other's larger pods find no room until then."""
    clock = ManualClock()
    daemon = a_daemon(await Journal.open(tmp_path), clock, hosts=2)
    async with running(daemon):
        await daemon.begin()
        await create(daemon, JOB, 2, a_template(cpu=6))
        await create(daemon, OTHER, 2, a_template(cpu=2))
        await drive(clock, lambda: states(daemon)[PodState.RUNNING] == 2)
        await drive(clock, lambda: states(daemon, OTHER)[PodState.RUNNING] == 2)
        await replaced_in_place(daemon, 2)
        larger = a_job(2, name=OTHER, template=a_template(cpu=4, run="sleep 2000"))
        await daemon.loop.submit(commands.ReplaceJob(OTHER, "1-1-1", larger, WorkflowSpec(in_place=True)))
        theirs = daemon.state.jobs[OTHER].workflows[-1]
        await drive(clock, lambda: bool(daemon.state.holds.of))
        assert not theirs.finished
        await daemon.loop.submit(commands.StopJob(JOB, "2-1-2"))
        await drive(clock, lambda: theirs.state is WorkflowState.SUCCEEDED)
        await drive(clock, lambda: states(daemon, OTHER)[PodState.RUNNING] == 2)
        assert states(daemon)[PodState.KILLED] == 2
        assert not daemon.state.holds.of
        assert audit(daemon.state) == []
