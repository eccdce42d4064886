"""A daemon on virtual time, and short ways to let it live through something."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec

from builders import Daemon, RecordedAgents, a_daemon, a_host, a_job, a_template, drive, job_id, running
from derny.core import commands
from derny.core.audit import audit
from derny.journal.store import Journal
from derny.model.ids import HostName, JobId
from derny.model.specs import Constraint, JobSpec
from derny.model.states import HostState, PodState
from derny.runtime.clock import ManualClock

JOB = job_id(1)
S = PodState


class Cluster:
    """A daemon, and what was the worst that a job has been through."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.fewest: dict[JobId, int] = {}

    async def comes(self, condition: Callable[[], bool]) -> None:
        """Let time pass until it is so, and remember how few pods of each job ran meanwhile."""

        def looked() -> bool:
            for job in self.fewest:
                self.fewest[job] = min(self.fewest[job], self.running(job))
            return condition()

        await drive(self.daemon.clock, looked)
        assert audit(self.daemon.state) == []

    async def passes(self, seconds: float) -> None:
        clock = self.daemon.clock
        end = clock.now() + seconds
        await self.comes(lambda: clock.next is None or clock.next > end)
        clock.advance(end)
        await clock.idle.wait()

    async def run(self, spec: JobSpec, job: JobId = JOB) -> None:
        """Create a job and wait until all of it runs."""
        await self.daemon.loop.submit(commands.CreateJob(job, spec))
        await self.comes(lambda: self.running(job) == spec.instance_count)
        self.fewest[job] = spec.instance_count

    async def disturb(self, notes: dict[str, bytes]) -> None:
        """What was done to the agents is noted, as the simulator's service does."""
        await self.daemon.loop.submit(commands.NoteAgents(notes))

    async def drain(self, *numbers: int) -> None:
        await self.daemon.loop.submit(commands.StartMaintenance([name_of(n) for n in numbers]))

    async def bring_back(self, *numbers: int) -> None:
        await self.daemon.loop.submit(commands.CompleteMaintenance([name_of(n) for n in numbers]))

    def running(self, job: JobId = JOB) -> int:
        return self.daemon.state.jobs[job].counts[S.RUNNING] if job in self.daemon.state.jobs else 0

    def host(self, number: int) -> HostState:
        return self.daemon.state.hosts[name_of(number)].state

    def pods_on(self, number: int) -> int:
        return len(self.daemon.state.hosts[name_of(number)].pods)

    def version(self, job: JobId = JOB) -> str:
        found = self.daemon.state.jobs[job]
        return f"{found.config}-{found.desired}-{found.workflow}"

    @property
    def agents(self) -> RecordedAgents:
        return self.daemon.agents

    @property
    def now(self) -> float:
        return self.daemon.clock.now()

    def busiest(self) -> int:
        return max(range(len(self.daemon.state.hosts)), key=self.pods_on)


def name_of(number: int) -> HostName:
    return a_host(number).name


def a_service(
    count: int,
    limit: int = 0,
    cpu: float = 1,
    constraint: Constraint | None = None,
    labels: tuple[tuple[str, str], ...] = (),
    run: str = "sleep 1000000",
) -> JobSpec:
    """A job whose pods run until they are stopped, of which `limit` may be away (0: all of them)."""
    template = a_template(cpu=cpu, run=run, constraint=constraint, labels=labels)
    spec = a_job(count, template=template)
    return msgspec.structs.replace(spec, unavailable_max=limit)


@asynccontextmanager
async def a_cluster(directory: Path | None = None, hosts: int = 3) -> AsyncIterator[Cluster]:
    daemon = a_daemon(await Journal.open(directory), ManualClock(), hosts)
    async with running(daemon):
        await daemon.begin()
        yield Cluster(daemon)


@asynccontextmanager
async def the_same_again(directory: Path, clock: ManualClock, hosts: int = 3) -> AsyncIterator[Cluster]:
    """The daemon after a restart."""
    journal = await Journal.open(directory)
    daemon = a_daemon(journal, clock, hosts)
    try:
        await daemon.loop.recover()
    except BaseException:
        await journal.close()
        raise
    async with running(daemon):
        yield Cluster(daemon)
