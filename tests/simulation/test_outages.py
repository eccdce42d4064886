"""Outages of agents and of the link to them, through the whole daemon: what is asked for meanwhile takes
effect afterwards, also where the daemon was restarted in between, and nothing runs twice (jobs §14).
"""

import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from builders import RecordedAgents, a_host, a_job, a_template, job_id
from cluster import JOB, Cluster, a_cluster, a_service, name_of, the_same_again
from derny.core import commands
from derny.core.effects import Effect, Kill, Launch
from derny.model.errors import Refusal
from derny.model.ids import JobId, PodId, parse_pod_id
from derny.model.states import HostState, JobState, PodState, TaskState

pytestmark = pytest.mark.asyncio

S = PodState
Wish = Callable[[Cluster], Awaitable[object]]


def states(cluster: Cluster, job: JobId = JOB) -> list[PodState]:
    return [pod.state for pod in cluster.daemon.state.jobs[job].pods]


def runs(cluster: Cluster, job: JobId = JOB) -> list[int]:
    return [pod.run for pod in cluster.daemon.state.jobs[job].pods]


def tasks(cluster: Cluster) -> list[PodId]:
    """What agents really have, whatever anybody has heard of it."""
    return [pod for host in cluster.agents._hosts.values() for pod in host.tasks]


def check_that_nothing_runs_twice(cluster: Cluster) -> None:
    alive = Counter(parse_pod_id(pod)[:2] for pod in tasks(cluster))
    assert not [instance for instance, count in alive.items() if count > 1]


async def stop_job(cluster: Cluster) -> None:
    await cluster.daemon.loop.submit(commands.StopJob(JOB, cluster.version()))


async def start_job(cluster: Cluster) -> None:
    await cluster.daemon.loop.submit(commands.StartJob(JOB, cluster.version()))


async def restart_job_by_stop_and_start(cluster: Cluster) -> None:
    await stop_job(cluster)
    await cluster.passes(5)
    await start_job(cluster)


async def stop_pod(cluster: Cluster) -> None:
    await cluster.daemon.loop.submit(commands.StopPod(JOB, 1))


async def restart_pod(cluster: Cluster) -> None:
    await cluster.daemon.loop.submit(commands.RestartPod(JOB, 1))


async def start_pod(cluster: Cluster) -> None:
    await cluster.daemon.loop.submit(commands.StartPod(JOB, 1))


WISHES = [
    (stop_job, [S.KILLED] * 3, [1, 1, 1]),
    (restart_job_by_stop_and_start, [S.RUNNING] * 3, [2, 2, 2]),
    (stop_pod, [S.RUNNING, S.KILLED, S.RUNNING], [1, 1, 1]),
    (restart_pod, [S.RUNNING] * 3, [1, 2, 1]),
]


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize(("wish", "wanted", "wanted_runs"), WISHES)
async def test_what_is_asked_for_while_the_link_is_down_takes_effect_once_it_is_up(
    tmp_path: Path, wish: Wish, wanted: list[PodState], wanted_runs: list[int], restarted: bool
) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(a_cluster(tmp_path))
        await cluster.run(a_service(3))
        await cluster.disturb(cluster.agents.cut_link(cluster.now))
        await wish(cluster)
        await cluster.passes(200)
        assert len(tasks(cluster)) == 3, "no kill has reached an agent"
        assert S.KILLED not in states(cluster)
        assert runs(cluster) == [1, 1, 1]
        if restarted:
            clock = cluster.daemon.clock
            await stack.aclose()
            cluster = await stack.enter_async_context(the_same_again(tmp_path, clock))
            await cluster.passes(200)
            assert S.KILLED not in states(cluster)
        assert len(tasks(cluster)) == 3
        await cluster.disturb(cluster.agents.restore_link(cluster.now))
        await cluster.comes(lambda: (states(cluster), runs(cluster)) == (wanted, wanted_runs))
        await cluster.passes(60)
        assert (states(cluster), runs(cluster)) == (wanted, wanted_runs)
        check_that_nothing_runs_twice(cluster)


@pytest.mark.parametrize("restarted", [False, True])
async def test_stopped_pods_that_are_started_in_an_outage_come_up_after_it(
    tmp_path: Path, restarted: bool
) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(a_cluster(tmp_path))
        await cluster.run(a_service(3))
        await stop_job(cluster)
        await cluster.comes(lambda: states(cluster) == [S.KILLED] * 3)
        await cluster.disturb(cluster.agents.cut_link(cluster.now))
        await start_pod(cluster)
        await start_job(cluster)
        await cluster.passes(10)
        assert states(cluster) == [S.LAUNCHED] * 3
        if restarted:
            clock = cluster.daemon.clock
            await stack.aclose()
            cluster = await stack.enter_async_context(the_same_again(tmp_path, clock))
            await cluster.passes(10)
            assert states(cluster) == [S.LAUNCHED] * 3
        await cluster.disturb(cluster.agents.restore_link(cluster.now))
        await cluster.comes(lambda: states(cluster) == [S.RUNNING] * 3)
        assert runs(cluster) == [2, 2, 2]


async def test_a_job_of_an_outage_longer_than_the_launch_timeout_comes_up_after_it() -> None:
    async with a_cluster() as cluster:
        await cluster.disturb(cluster.agents.cut_link(cluster.now))
        await cluster.daemon.loop.submit(commands.CreateJob(JOB, a_service(3)))
        await cluster.passes(1000)
        assert S.RUNNING not in states(cluster)
        await cluster.disturb(cluster.agents.restore_link(cluster.now))
        await cluster.comes(lambda: states(cluster) == [S.RUNNING] * 3)
        check_that_nothing_runs_twice(cluster)


async def test_what_ended_unheard_in_an_outage_is_heard_after_it() -> None:
    async with a_cluster() as cluster:
        await cluster.run(a_job(2, template=a_template(run="sleep 50; exit 3")))
        await cluster.disturb(cluster.agents.cut_link(cluster.now))
        await cluster.passes(100)
        assert states(cluster) == [S.RUNNING] * 2
        await cluster.disturb(cluster.agents.restore_link(cluster.now))
        await cluster.comes(lambda: states(cluster) == [S.FAILED] * 2)
        assert [pod.failures for pod in cluster.daemon.state.jobs[JOB].pods] == [1, 1]


@pytest.mark.parametrize("restarted", [False, True])
async def test_a_stop_during_an_agents_outage_takes_effect_when_it_is_given_up_or_back(
    tmp_path: Path, restarted: bool
) -> None:
    async with AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(a_cluster(tmp_path, hosts=1))
        await cluster.run(a_service(3))
        await cluster.disturb(cluster.agents.stop(name_of(0), cluster.now))
        await stop_job(cluster)
        await cluster.passes(5)
        assert states(cluster) == [S.KILLING] * 3
        if restarted:
            clock = cluster.daemon.clock
            await stack.aclose()
            cluster = await stack.enter_async_context(the_same_again(tmp_path, clock, hosts=1))
        await cluster.comes(lambda: states(cluster) == [S.KILLED] * 3)
        assert cluster.daemon.state.hosts[name_of(0)].lost
        await start_job(cluster)
        await cluster.passes(60)
        assert S.RUNNING not in states(cluster)
        await cluster.disturb(cluster.agents.start(name_of(0), cluster.now))
        await cluster.comes(lambda: states(cluster) == [S.RUNNING] * 3)
        check_that_nothing_runs_twice(cluster)


async def test_pods_of_a_dead_agent_run_elsewhere_and_its_own_are_ended_when_it_is_back() -> None:
    async with a_cluster(hosts=2) as cluster:
        await cluster.run(a_service(3))
        dead = cluster.busiest()
        count = cluster.pods_on(dead)
        await cluster.disturb(cluster.agents.stop(name_of(dead), cluster.now))
        await cluster.comes(lambda: cluster.pods_on(dead) == 0 and cluster.running() == 3)
        lost = [pod for pod in cluster.daemon.state.jobs[JOB].pods if pod.run == 2]
        assert len(lost) == count
        await cluster.disturb(cluster.agents.start(name_of(dead), cluster.now))
        await cluster.passes(60)
        assert cluster.pods_on(dead) == 0
        check_that_nothing_runs_twice(cluster)


async def test_a_restarted_machine_loses_its_pods_and_they_run_again() -> None:
    async with a_cluster(hosts=1) as cluster:
        await cluster.run(a_service(3))
        await cluster.disturb(cluster.agents.restart(name_of(0), cluster.now))
        await cluster.comes(lambda: runs(cluster) == [2, 2, 2] and cluster.running() == 3)
        assert not cluster.daemon.state.hosts[name_of(0)].lost


class Forgetful(RecordedAgents):
    """What passes the link is lost while `loses` is set, without anybody being told."""

    loses = False

    def perform(self, effects: Sequence[Effect], at: float) -> None:
        kept = [effect for effect in effects if not (self.loses and isinstance(effect, Launch | Kill))]
        super().perform(kept, at)

    def poll(self, at: float, most: int) -> list[commands.Command]:
        polled = super().poll(at, most)
        return [one for one in polled if not (self.loses and isinstance(one, commands.ReportPods))]


async def test_what_the_link_loses_heals_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launch, kill or report is repeated by anybody, but for the comparison of all pods."""
    monkeypatch.setattr("builders.RecordedAgents", Forgetful)
    async with a_cluster() as cluster:
        assert isinstance(cluster.agents, Forgetful)
        await cluster.run(a_service(2))
        await cluster.run(a_job(2, name="short", template=a_template(run="sleep 30; exit 1")), job_id(2))
        cluster.agents.loses = True
        await stop_job(cluster)
        await cluster.daemon.loop.submit(commands.CreateJob(job_id(3), a_service(2)))
        await cluster.passes(40)
        assert states(cluster) == [S.KILLING] * 2
        assert states(cluster, job_id(2)) == [S.RUNNING] * 2
        assert states(cluster, job_id(3)) == [S.LAUNCHED] * 2
        cluster.agents.loses = False
        # The launch time-out and the comparison both come within the minute.
        await cluster.passes(60)
        assert states(cluster) == [S.KILLED] * 2
        assert [pod.failures for pod in cluster.daemon.state.jobs[job_id(2)].pods] == [1, 1]
        assert states(cluster, job_id(3)) == [S.RUNNING] * 2
        check_that_nothing_runs_twice(cluster)


COUNTS = {job_id(1): 6, job_id(2): 4}


class Chaos:
    """One random life: everything that can go wrong does, at any moment."""

    def __init__(self, seed: int, directory: Path, stack: AsyncExitStack) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        self.stack = stack
        self.cluster: Cluster

    async def begin(self) -> None:
        self.cluster = await self.stack.enter_async_context(a_cluster(self.directory, hosts=5))
        for job, count in COUNTS.items():
            await self.cluster.run(a_service(count, limit=int(job == JOB)), job)

    async def step(self) -> None:
        cluster, chance = self.cluster, self.chance
        agents, now, name = cluster.agents, cluster.now, name_of(chance.randrange(5))
        kind = chance.choice(
            [
                "cut",
                "restore",
                "stop",
                "start",
                "start",
                "boot",
                "drain",
                "back",
                "back",
                "job",
                "pod",
                "daemon",
            ]
        )
        if kind == "cut":
            await cluster.disturb(agents.cut_link(now))
        elif kind == "restore":
            await cluster.disturb(agents.restore_link(now))
        elif kind == "stop":
            await cluster.disturb(agents.stop(name, now))
        elif kind == "start":
            await cluster.disturb(agents.start(name, now))
        elif kind == "boot":
            await cluster.disturb(agents.restart(name, now))
        elif kind == "drain":
            await cluster.daemon.loop.submit(commands.StartMaintenance([name]))
        elif kind == "back":
            await cluster.daemon.loop.submit(commands.CompleteMaintenance([name]))
        elif kind == "daemon":
            clock = cluster.daemon.clock
            await self.stack.aclose()
            self.cluster = await self.stack.enter_async_context(the_same_again(self.directory, clock, 5))
        else:
            await self.ask(kind)
        await self.cluster.passes(chance.choice([0.0, 0.15, 1.0, 12.0, 90.0]))
        check_that_nothing_runs_twice(self.cluster)

    async def ask(self, kind: str) -> None:
        job = self.chance.choice(list(COUNTS))
        version = self.cluster.version(job)
        wishes = {
            "job": (commands.StopJob(job, version), commands.StartJob(job, version)),
            "pod": (commands.StopPod(job, 0), commands.StartPod(job, 0), commands.RestartPod(job, 1)),
        }
        try:
            await self.cluster.daemon.loop.submit(self.chance.choice(wishes[kind]))
        except Refusal as refusal:
            assert str(refusal)

    async def end(self) -> None:
        """All is mended, and all runs."""
        cluster = self.cluster
        await cluster.disturb(cluster.agents.restore_link(cluster.now))
        for number in range(5):
            await cluster.disturb(cluster.agents.start(name_of(number), cluster.now))
        names = [a_host(number).name for number in range(5)]
        await cluster.daemon.loop.submit(commands.CompleteMaintenance(names))
        for job in COUNTS:
            await cluster.daemon.loop.submit(commands.StartJob(job, cluster.version(job)))
            await cluster.daemon.loop.submit(commands.StartPod(job, 0))
        await cluster.comes(lambda: all(cluster.running(job) == count for job, count in COUNTS.items()))
        await cluster.passes(100)
        assert all(cluster.running(job) == count for job, count in COUNTS.items())
        assert {host.state for host in cluster.daemon.state.hosts.values()} == {HostState.UP}
        assert {job.state for job in cluster.daemon.state.jobs.values()} == {JobState.RUNNING}
        check_that_nothing_runs_twice(cluster)
        running = [
            task
            for host in cluster.agents._hosts.values()
            for task in host.tasks.values()
            if task.state is TaskState.RUNNING
        ]
        assert len(running) == sum(COUNTS.values()), "agents run nothing else"


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_goes_wrong_nothing_runs_twice_and_all_comes_right(tmp_path: Path, seed: int) -> None:
    async with AsyncExitStack() as stack:
        chaos = Chaos(seed, tmp_path, stack)
        await chaos.begin()
        for _ in range(25):
            await chaos.step()
        await chaos.end()
