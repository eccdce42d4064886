"""Sane defaults, so that a test shows only what matters."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import msgspec

from derny.agents.operated import OperatedAgents
from derny.agents.task import Latencies
from derny.answers import queries
from derny.core import commands
from derny.core.audit import audit
from derny.core.effects import Effect, Kill, Launch
from derny.core.events import Event
from derny.core.machine import Machine
from derny.core.state import State
from derny.journal.store import Journal
from derny.model.ids import ROOT_POOL, HostName, JobId, PoolId
from derny.model.periods import Limits, Periods
from derny.model.records import Job, Pod, Workflow
from derny.model.resources import FDS, KINDS, Resources
from derny.model.rules import DEFAULT_PREEMPTING, Preempting
from derny.model.specs import (
    Command,
    Constraint,
    JobSpec,
    Labels,
    PodTemplate,
    PoolResource,
    PoolSpec,
    PortRequest,
    VolumeRequest,
    WorkflowSpec,
)
from derny.model.states import Gate, JobState, PodState, TaskState
from derny.runtime.clock import ManualClock
from derny.runtime.loop import Loop

POOL = PoolId("11111111-1111-4111-8111-111111111111")
JOB = JobId("aaaaaaaa-0000-4000-8000-000000000001")


def job_id(number: int) -> JobId:
    return JobId(f"aaaaaaaa-0000-4000-8000-{number:012d}")


def pool_id(number: int) -> PoolId:
    return PoolId(f"bbbbbbbb-0000-4000-8000-{number:012d}")


def amounts(
    cpu: float = 0, memory: float = 0, disk: float = 0, gpu: float = 0, revocable_cpu: float = 0
) -> Resources:
    """Resources from amounts as the wire has them."""
    return Resources(*(round(1000 * amount) for amount in (cpu, memory, disk, gpu, revocable_cpu)))


def a_template(
    cpu: float = 1,
    memory: float = 100,
    disk: float = 10,
    gpu: float = 0,
    ports: int = 0,
    run: str = "sleep 1000",
    static_ports: Sequence[int] = (),
    controller: bool = False,
    health_checked: bool = False,
    revocable: bool = False,
    constraint: Constraint | None = None,
    labels: Labels = (),
    fds: int = 0,
    volume: VolumeRequest | None = None,
    preemptible: bool | None = None,
) -> PodTemplate:
    """A pod that can't be preempted, unless it is revocable."""
    demand = amounts(0 if revocable else cpu, memory, disk, gpu, cpu if revocable else 0)
    facts = (demand, ports, run, static_ports, controller, health_checked, constraint, labels, fds, volume)
    return PodTemplate(
        demand,
        Command(run),
        container="main",
        ports=(
            *(PortRequest(f"port{n}", 0, f"PORT{n}") for n in range(ports)),
            *(PortRequest(f"static{n}", number) for n, number in enumerate(static_ports)),
        ),
        controller=controller,
        health_checked=health_checked,
        constraint=constraint,
        labels=labels,
        fds=fds,
        volume=volume,
        preemptible=revocable if preemptible is None else preemptible,
        revocable=revocable,
        digest=repr(facts).encode(),
    )


def a_job(
    count: int = 1,
    pool: PoolId = POOL,
    name: str = "job",
    priority: int = 0,
    template: PodTemplate | None = None,
    revocable: bool = False,
    others: dict[int, PodTemplate] | None = None,
    unavailable_max: int = 0,
) -> JobSpec:
    """A job of alike pods, but for the instances in `others`."""
    templates = (template or a_template(revocable=revocable), *(others or {}).values())
    template_of = {instance: index for index, instance in enumerate(others or {}, 1)}
    facts = (count, name, priority, revocable, unavailable_max, [t.digest for t in templates], template_of)
    return JobSpec(
        name,
        pool,
        count,
        b"",
        templates,
        template_of,
        priority,
        revocable,
        unavailable_max,
        digest=repr(facts).encode(),
    )


def a_host(
    number: int = 0,
    cpu: float = 8,
    memory: float = 32768,
    disk: float = 102400,
    gpu: float = 0,
    revocable_cpu: float = 0,
    ports: tuple[int, int] = (31000, 32000),
    labels: Labels = (),
    fds: int = FDS,
) -> commands.HostSeen:
    capacity = amounts(cpu, memory, disk, gpu, revocable_cpu)
    return commands.HostSeen(
        HostName(f"host-{number}"), f"agent-{number}", f"10.0.0.{number}", capacity, ports, labels, fds
    )


def a_pool(
    capacity: Resources, parent: PoolId = ROOT_POOL, name: str = "pool", part: float = 1.0
) -> PoolSpec:
    """A pool whose reservation and limit are that part of the capacity."""
    parts = {kind: int(capacity.of_kind(kind) * part) for kind in KINDS}
    return PoolSpec(name, parent, b"", tuple(PoolResource(k, a, a) for k, a in parts.items()))


AT_ONCE = Periods(steady_s=0)
"""Workflows are done with a pod as soon as it runs, so that nothing follows a second later."""


class Seen(NamedTuple):
    """All jobs and pods as clients see them."""

    jobs: dict[JobId, queries.JobView]
    pods: dict[tuple[JobId, int], queries.PodView]


def everything(state: State) -> Seen:
    """What clients would see now, of jobs of up to a hundred pods."""
    ids = queries.job_ids(state)
    pods = [view for job in ids for view in queries.pods_of(state, job, 0, 100)]
    return Seen(
        {view.id: view for view in queries.jobs_of(state, ids)},
        {(view.job, view.instance): view for view in pods},
    )


def a_pod_view(
    instance: int = 0,
    revision: int = 1,
    state: PodState = PodState.RUNNING,
    job: JobId = JOB,
    labels: Labels = (),
) -> queries.PodView:
    """A pod as clients see it."""
    bench = Bench(hosts=0)
    bench.create(a_job(1, template=a_template(labels=labels)), job)
    view = queries.pod_info(bench.machine.state, job, 0)
    return msgspec.structs.replace(view, instance=instance, revision=revision, state=state)


def a_job_view(
    job: JobId = JOB, revision: int = 1, state: JobState = JobState.RUNNING, labels: Labels = ()
) -> queries.JobView:
    """A job as clients see it."""
    bench = Bench(hosts=0)
    bench.create(msgspec.structs.replace(a_job(0), labels=labels), job)
    view = queries.job_info(bench.machine.state, job)
    return msgspec.structs.replace(view, revision=revision, state=state)


class Bench:
    """A machine with hosts and a pool, its time, and short ways to drive it. Audits after every step."""

    def __init__(
        self,
        hosts: int = 4,
        periods: Periods | None = None,
        limits: Limits | None = None,
        part: float = 1.0,
        preempting: Preempting = DEFAULT_PREEMPTING,
        **shape: float,
    ) -> None:
        self.periods, self.limits = periods or AT_ONCE, limits or Limits()
        self.preempting = preempting
        self.machine = Machine(self.periods, self.limits, preempting=preempting)
        self.at = 1000.0
        self.log: list[Event] = []
        self.turns: list[tuple[float, list[Event]]] = []
        self.effects: list[Effect] = []
        self._obeyed = 0
        if hosts:
            self.do(commands.SeeHosts([a_host(n, **shape) for n in range(hosts)]))  # type: ignore[arg-type]  # `ports` is no part of a shape
        self.do(commands.CreatePool(POOL, a_pool(self.machine.state.tree.capacity, part=part)))

    def do(self, command: commands.Command) -> list[Event]:
        """Handle a command; returns its events."""
        events = self.machine.handle(command, self.at)
        self._keep(events)
        return events

    def advance(self, budget: int = 100) -> tuple[list[Event], bool]:
        """One sweep."""
        events, more = self.machine.advance(self.at, budget)
        self._keep(events)
        return events, more

    def settle(self, budget: int = 100) -> list[Event]:
        """Advance, at this very moment, until nothing more is owed; returns the events."""
        done: list[Event] = []
        for _ in range(10_000):
            events, more = self.advance(budget)
            done += events
            if not more:
                state = self.machine.state
                owing = bool(state.dirty_pods or state.dirty_jobs)
                assert not owing or Gate.GOAL_STATE_ENGINE in state.closed
                return done
        raise AssertionError("the machine does not come to rest")

    def after(self, seconds: float) -> list[Event]:
        """Let time pass, then settle."""
        self.at += seconds
        return self.settle()

    def live(self, seconds: float) -> list[Event]:
        """Let time pass, stopping at each moment at which something is owed."""
        end, done = self.at + seconds, []
        while (wake := self.machine.next_wake) is not None and wake <= end:
            self.at = max(self.at, wake)
            done += self.settle()
        self.at = end
        return done + self.settle()

    def report(
        self, state: TaskState, *instances: int, job: JobId = JOB, code: int = 0, run: int | None = None
    ) -> list[Event]:
        """Agents report these instances' current runs; settles after."""
        pods = self.job(job).pods
        reports = [
            commands.PodReport(f"{job}-{i}-{run or pods[i].run}", state, f"said {state.name}", exit_code=code)  # type: ignore[arg-type]  # spelled out on purpose
            for i in instances
        ]
        events = self.do(commands.ReportPods(reports))
        return events + self.settle()

    def obey(self, launch: TaskState = TaskState.RUNNING, kill: TaskState = TaskState.KILLED) -> list[Event]:
        """Agents carry out all effects that they have not seen yet, and say so; until none is left."""
        done: list[Event] = []
        while self._obeyed < len(self.effects):
            fresh = self.effects[self._obeyed :]
            self._obeyed = len(self.effects)
            reports = [
                commands.PodReport(effect.pod, launch if isinstance(effect, Launch) else kill)
                for effect in fresh
                if isinstance(effect, Launch | Kill)
            ]
            done += self.do(commands.ReportPods(reports)) + self.settle()
        return done

    def create(self, spec: JobSpec, job: JobId = JOB) -> Job:
        """Create a job and settle."""
        self.do(commands.CreateJob(job, spec))
        self.settle()
        return self.job(job)

    def running(self, spec: JobSpec, job: JobId = JOB) -> Job:
        """Create a job and let agents run all of it."""
        self.create(spec, job)
        self.report(TaskState.RUNNING, *range(spec.instance_count), job=job)
        return self.job(job)

    def replace(self, spec: JobSpec, job: JobId = JOB, opaque: str = "", **workflow: int) -> list[Event]:
        """Replace a job's configuration; settles after."""
        how = WorkflowSpec(**workflow)  # type: ignore[arg-type]  # numbers and booleans, as its fields are
        return self.do(commands.ReplaceJob(job, self.version(job), spec, how, opaque)) + self.settle()

    def restart(self, *ranges: tuple[int, int], job: JobId = JOB, **workflow: int) -> list[Event]:
        """Restart pods of a job; settles after."""
        how = WorkflowSpec(**workflow)  # type: ignore[arg-type]  # as above
        return self.do(commands.RestartJob(job, self.version(job), how, ranges)) + self.settle()

    def workflow(self, job: JobId = JOB) -> Workflow:
        return self.job(job).workflows[-1]

    def start(self, job: JobId = JOB) -> list[Event]:
        return self.do(commands.StartJob(job, self.version(job))) + self.settle()

    def stop(self, job: JobId = JOB) -> list[Event]:
        return self.do(commands.StopJob(job, self.version(job))) + self.settle()

    def delete(self, job: JobId = JOB, force: bool = False) -> list[Event]:
        return self.do(commands.DeleteJob(job, self.version(job), force)) + self.settle()

    def job(self, job: JobId = JOB) -> Job:
        return self.machine.state.jobs[job]

    def pod(self, instance: int = 0, job: JobId = JOB) -> Pod:
        return self.job(job).pods[instance]

    def states(self, job: JobId = JOB) -> list[PodState]:
        return [pod.state for pod in self.job(job).pods]

    def version(self, job: JobId = JOB) -> str:
        found = self.job(job)
        return f"{found.config}-{found.desired}-{found.workflow}"

    def replayed(self) -> Machine:
        """A new machine that was told all events so far."""
        machine = Machine(self.periods, self.limits, preempting=self.preempting)
        for at, events in self.turns:
            machine.replay(at, events)
        return machine

    def _keep(self, events: list[Event]) -> None:
        self.log += events
        if events:
            self.turns.append((self.at, events))
        effects = self.machine.take_effects()
        for gate, kind in ((Gate.KILL, Kill), (Gate.LAUNCH, Launch)):
            passed = [effect for effect in effects if isinstance(effect, kind)]
            assert not passed or gate not in self.machine.state.closed
        self.effects += effects
        wrong = audit(self.machine.state)
        assert not wrong, wrong


async def drive(clock: ManualClock, until: Callable[[], bool], most: int = 1_000_000) -> None:
    """Until a thing is so, move the clock to whatever is waited for, whenever nothing else is going on."""
    for _ in range(most):
        if until():
            return
        await asyncio.wait_for(clock.idle.wait(), 60)
        # Whoever has just been woken goes first, a loop that was handed a command above all.
        for _ in range(5):
            await asyncio.sleep(0)
        if until():
            return
        if not clock.idle.is_set():
            continue
        assert clock.next is not None, "nobody waits for a later moment, so it will never be so"
        clock.advance(max(clock.next, clock.now()))
    raise AssertionError("it has not become so")


class RecordedAgents(OperatedAgents):
    """Simulated agents, and all that was asked of them and said by them."""

    def __init__(self, hosts: Sequence[commands.HostSeen], seed: int, at: float) -> None:
        super().__init__(hosts, seed, Latencies(), at)
        self.asked: list[Effect] = []
        self.said: list[commands.PodReport] = []

    def perform(self, effects: Sequence[Effect], at: float) -> None:
        self.asked += effects
        super().perform(effects, at)

    def poll(self, at: float, most: int) -> list[commands.Command]:
        polled = super().poll(at, most)
        self.said += [
            report
            for command in polled
            if isinstance(command, commands.ReportPods)
            for report in command.reports
        ]
        return polled


class Daemon(NamedTuple):
    """All of a daemon but its counter."""

    loop: Loop
    machine: Machine
    journal: Journal
    agents: RecordedAgents
    clock: ManualClock

    @property
    def state(self) -> State:
        return self.machine.state

    async def begin(self) -> None:
        """Wait for the hosts, and make a pool of all that they have."""
        await drive(self.clock, lambda: bool(self.state.hosts))
        await self.loop.submit(commands.CreatePool(POOL, a_pool(self.state.tree.capacity)))


def a_daemon(
    journal: Journal,
    clock: ManualClock,
    hosts: int = 4,
    seed: int = 7,
    limits: Limits | None = None,
    periods: Periods | None = None,
) -> Daemon:
    """A daemon on virtual time, not running yet."""
    limits = limits or Limits()
    machine = Machine(periods or Periods(), limits)
    agents = RecordedAgents([a_host(number) for number in range(hosts)], seed, clock.now())
    return Daemon(Loop(machine, journal, agents, clock, limits), machine, journal, agents, clock)


@asynccontextmanager
async def running(daemon: Daemon) -> AsyncIterator["asyncio.Task[None]"]:
    """The daemon's loop runs for the length of the block; then it is closed and so is its journal."""
    task = asyncio.create_task(daemon.loop.run())
    try:
        yield task
        if not task.done():
            await asyncio.wait_for(daemon.loop.close(), 60)
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])
        await daemon.journal.close()
