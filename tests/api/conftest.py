"""The counter as clients see it: all services over real HTTP/2 without a port, on the real loop and machine.

Time stands still unless a test moves it. Agents run whatever they are told to, at once, and end it when
asked.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import pytest
import pytest_asyncio
from grpclib.exceptions import GRPCError
from grpclib.testing import ChannelFor

from derny.agents.simulated import SimulatedAgents
from derny.agents.task import Latencies
from derny.api.admin import AdminService
from derny.api.codec import GrpcCodec
from derny.api.gates import Guarded
from derny.api.hosts import HostService
from derny.api.insight import InsightService
from derny.api.jobs import JobService
from derny.api.pods import PodService
from derny.api.pools import ResourcePoolService
from derny.api.volumes import VolumeService
from derny.api.watch import WatchService
from derny.core.commands import Command, HostSeen, PodReport, ReportPods, SeeHosts
from derny.core.effects import Effect, Kill, Launch
from derny.core.machine import Machine
from derny.edge.call import status_of
from derny.journal.store import Journal
from derny.model.errors import Refusal
from derny.model.ids import HostName, PodId
from derny.model.periods import Limits, Periods
from derny.model.resources import Resources
from derny.model.states import TaskState
from derny.proto.derny.insight.v1 import InsightServiceStub
from derny.proto.mesos.v1 import CommandInfo
from derny.proto.peloton.api.v1alpha import respool
from derny.proto.peloton.api.v1alpha.admin.svc import AdminServiceStub
from derny.proto.peloton.api.v1alpha.host.svc import HostServiceStub
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, SlaSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import CreateJobRequest, JobServiceStub
from derny.proto.peloton.api.v1alpha.peloton import JobId, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec, ResourceSpec
from derny.proto.peloton.api.v1alpha.pod.svc import PodServiceStub
from derny.proto.peloton.api.v1alpha.watch.svc import WatchServiceStub
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Agents, Loop

POOL = "11111111-1111-4111-8111-111111111111"
JOB = "aaaaaaaa-0000-4000-8000-000000000001"
LIMITS = Limits(pods_per_job_max=1000)
SERVICES = (
    JobService,
    PodService,
    ResourcePoolService,
    HostService,
    VolumeService,
    WatchService,
    AdminService,
    InsightService,
)


class ObedientAgents:
    """Says RUNNING of every launch and KILLED of every kill, unless it is silent."""

    def __init__(self) -> None:
        self._reports: list[PodReport] = []
        self.silent = False

    @property
    def next_wake(self) -> float | None:
        return 0.0 if self._reports else None

    def perform(self, effects: Sequence[Effect], at: float) -> None:
        for effect in () if self.silent else effects:
            if isinstance(effect, Launch):
                self._reports.append(PodReport(effect.pod, TaskState.RUNNING))
            elif isinstance(effect, Kill):
                self._reports.append(PodReport(effect.pod, TaskState.KILLED))

    def poll(self, at: float, most: int) -> list[Command]:
        taken, self._reports = self._reports, []
        return [ReportPods(taken)] if taken else []


class Served:
    """A service whose refusals become statuses, as the server's one table says."""

    def __init__(self, service) -> None:
        self._service = service

    def __mapping__(self):
        async def answer(func, stream):
            try:
                await func(stream)
            except Refusal as refusal:
                raise GRPCError(status_of(refusal), str(refusal)) from None

        mapping = self._service.__mapping__()
        return {
            path: handler._replace(func=partial(answer, handler.func)) for path, handler in mapping.items()
        }


class Counter:
    """The stubs of all services, and the shortest ways to use them."""

    def __init__(
        self, loop: Loop, machine: Machine, clock: ManualClock, agents: ObedientAgents, channel
    ) -> None:
        self.loop, self.machine, self.clock, self.agents, self.channel = loop, machine, clock, agents, channel
        self.limits = LIMITS
        self.jobs = JobServiceStub(channel)
        self.pods = PodServiceStub(channel)
        self.pools = respool.ResourcePoolServiceStub(channel)
        self.hosts = HostServiceStub(channel)
        self.insight = InsightServiceStub(channel)
        self.watches = WatchServiceStub(channel)
        self.admin = AdminServiceStub(channel)

    async def create(self, spec: JobSpec, job: str = JOB) -> str:
        """Create a job and let all that follows happen; returns its id."""
        created = await self.jobs.create_job(CreateJobRequest(JobId(job), spec))
        await self.rest()
        return created.job_id.value

    async def report(self, pod: str, state: TaskState, message: str = "", **ending) -> None:
        """Let an agent say something of a run, and all that follows happen."""
        await self.loop.submit(ReportPods([PodReport(PodId(pod), state, message, **ending)]))
        await self.rest()

    async def rest(self) -> None:
        """Until nothing more happens at this moment."""
        await self.clock.idle.wait()

    async def live(self, seconds: float) -> None:
        """Let time pass, with a stop at each moment at which something is due."""
        end = self.clock.now() + seconds
        while self.clock.next is not None and self.clock.next <= end:
            self.clock.advance(max(self.clock.next, self.clock.now()))
            # Whoever has just been woken goes first.
            for _ in range(5):
                await asyncio.sleep(0)
            await self.rest()
        await self.after(end - self.clock.now())

    async def after(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(self.clock.now() + seconds)
        await self.rest()


@asynccontextmanager
async def serving(
    agents_of: Callable[[list[HostSeen], ManualClock], Agents] | None = None, limits: Limits = LIMITS
) -> AsyncIterator[Counter]:
    """A daemon with four hosts; `agents_of` makes what runs them, else they do as they are told at once."""
    machine, clock = Machine(Periods(), limits), ManualClock()
    shape = Resources(64_000, 65_536_000, 1_000_000_000, 0, 4_000)
    seen = [HostSeen(HostName(f"host-{n}"), f"agent-{n}", f"10.0.0.{n}", shape) for n in range(4)]
    agents = agents_of(seen, clock) if agents_of is not None else ObedientAgents()
    journal = await Journal.open(None)
    loop = Loop(machine, journal, agents, clock, limits)
    running = asyncio.create_task(loop.run())
    async with ChannelFor(
        [Served(Guarded(kind(loop, limits), loop)) for kind in SERVICES], codec=GrpcCodec()
    ) as channel:
        await loop.submit(SeeHosts(seen))
        counter = Counter(loop, machine, clock, agents, channel)
        amounts = {"cpu": 256.0, "memory": 262_144.0, "disk": 4_000_000.0}
        spec = respool.ResourcePoolSpec(
            name="default",
            parent=ResourcePoolId("root"),
            resources=[respool.ResourceSpec(kind, amount, amount, 1) for kind, amount in amounts.items()],
        )
        await counter.pools.create_resource_pool(
            respool.CreateResourcePoolRequest(ResourcePoolId(POOL), spec)
        )
        await counter.rest()
        yield counter
    await loop.close()
    await running
    await journal.close()


@pytest_asyncio.fixture
async def cluster() -> AsyncIterator[Counter]:
    """With simulated agents, on virtual time."""
    async with serving(lambda seen, clock: SimulatedAgents(seen, 7, Latencies(), clock.now())) as served:
        yield served


@pytest_asyncio.fixture
async def counter() -> AsyncIterator[Counter]:
    async with serving() as served:
        yield served


def a_pod(run: str = "sleep 1000", **container) -> PodSpec:
    values = {"resource": ResourceSpec(cpu_limit=0.5, mem_limit_mb=32, disk_limit_mb=10)} | container
    return PodSpec(containers=[ContainerSpec(name="main", command=CommandInfo(value=run), **values)])


def a_job(count: int = 1, **fields) -> JobSpec:
    values = {"name": "hello", "default_spec": a_pod(), "sla": SlaSpec(preemptible=True)} | fields
    return JobSpec(instance_count=count, respool_id=ResourcePoolId(POOL), **values)


@pytest.fixture
def with_statuses():
    """Makes a service answer refusals with their statuses."""
    return Served


@pytest.fixture
def job_message():
    """Builds a JobSpec message that is accepted."""
    return a_job


@pytest.fixture
def pod_message():
    """Builds a PodSpec message that is accepted."""
    return a_pod


@pytest.fixture
def served():
    """Wraps a service so that its refusals become statuses."""
    return Served
