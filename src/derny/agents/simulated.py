"""A seeded pool of pretend Mesos agents, and the master between them and us. No sockets, clock or asyncio.

Time comes in with each call. One rule: what is reported depends on what was asked and when, never on how
often one polls. Nothing needs to be stored, since a task's life is a pure function (`agents.task`): after a
restart of the daemon, `Reconcile` brings each task to where it would be by now had it run all along, as a
real agent's would have. The loop (`runtime.loop`) is the only caller.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from derny.agents.link import Link, Outbox, hold
from derny.agents.task import Latencies, Task, draw, launched
from derny.core.commands import (
    Command,
    HostSeen,
    LoseHosts,
    PodReport,
    ReconnectAgents,
    ReportPods,
    SeeHosts,
)
from derny.core.effects import Effect, Kill, Launch, Reconcile, TakeDown
from derny.model.errors import NotFound
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.states import TaskState
from derny.model.timers import TimingWheel

REARM_S: Final = 600.0
"""Longer timers are set in steps, so that a killed task is not kept in the wheel until its own far end."""
ENDED_MAX: Final = 65_536
"""Ended runs that are remembered, to recognise a repeated launch: some seconds of the fastest churn."""

REASON_AGENT_UNKNOWN: Final = "REASON_AGENT_UNKNOWN"
REASON_AGENT_REMOVED: Final = "REASON_AGENT_REMOVED"
REASON_INVALID_OFFERS: Final = "REASON_INVALID_OFFERS"
REASON_RECONCILIATION: Final = "REASON_RECONCILIATION"


class Host(msgspec.Struct, gc=False):
    """An agent and what runs there. `free` and `ports` are what its tasks have left of it."""

    seen: HostSeen
    free: Resources
    ports: set[int]
    """Port numbers in use."""
    tasks: dict[PodId, Task]
    heard_at: float
    """When it last began to be heard."""
    registered: bool = False
    silent: bool = False
    down: bool = False
    """Taken down for maintenance: the master does not let it in."""
    due_at: float = math.inf
    """When it registers, or when the master gives it up."""
    held: dict[PodId, PodReport] = {}
    """While it is silent: the last thing it would have said of each pod."""


class SimulatedAgents:
    """All agents of a cluster, as the loop's `Agents`."""

    def __init__(self, hosts: Sequence[HostSeen], seed: int, latencies: Latencies, at: float) -> None:
        self._seed = seed
        self._latencies = latencies
        self._now = at
        self._hosts: dict[HostName, Host] = {}
        self._ended = _Ended()
        self._task_timers: TimingWheel[Task] = TimingWheel()
        self._host_timers: TimingWheel[Host] = TimingWheel()
        self._link = Link()
        self._news: list[SeeHosts | LoseHosts | ReconnectAgents] = []
        self._outbox = Outbox()
        self._begin(hosts, {}, at)

    def _begin(self, hosts: Sequence[HostSeen], lost_at: Mapping[HostName, float], at: float) -> None:
        """Let these agents be born: each registers in a while. Silent ones are given up at the time given."""
        born = [Host(seen, seen.capacity, set(), {}, at) for seen in hosts]
        for host in born:
            self._hosts[host.seen.name] = host
            if host.seen.name in lost_at:
                host.silent = host.registered = True
                host.due_at = lost_at[host.seen.name]
                self._host_timers.add(host.due_at, host)
        self._settle_hosts([host for host in born if host.silent], at)
        self._register([host for host in born if not host.silent], at)

    @property
    def next_wake(self) -> float | None:
        """When `poll` has something to do next; at once if it has already."""
        if (self._news or self._outbox) and not self._link.is_down:
            return self._now
        moments = (self._task_timers.next_due, self._host_timers.next_due)
        return min((moment for moment in moments if moment is not None), default=None)

    def perform(self, effects: Sequence[Effect], at: float) -> None:
        """Take orders. Repeats are harmless: a pod id is run once and killed once.

        A launch or a kill counts from the moment of its decision, even when it is delivered later.
        """
        self._advance(at)
        for effect in effects:
            if isinstance(effect, Launch | Kill) and self._link.is_down:
                continue  # A reconciliation tells it again when the link is up.
            if isinstance(effect, Launch):
                self._launch(effect)
            elif isinstance(effect, Kill):
                self._kill(effect)
            elif isinstance(effect, Reconcile):
                self._reconcile(effect, at)
            else:
                for name in effect.hosts:
                    self._set_down(name, isinstance(effect, TakeDown), at)

    def poll(self, at: float, most: int) -> list[Command]:
        """What has happened by `at`: hosts seen and lost, then at most so many reports, oldest first.

        What is left over keeps `next_wake` in the past. Nothing while the link is down.
        """
        self._advance(at)
        if self._link.is_down:
            return []
        commands: list[Command] = [*self._news]
        self._news = []
        if self._outbox:
            commands.append(ReportPods(self._outbox.take(most)))
        return commands

    def stop_agent(self, name: HostName, at: float) -> None:
        """Cut an agent off: it hears and works on, but neither its reports nor its heartbeats arrive.

        NotFound for a host that isn't ours. The time-out counts from its last heartbeat.
        """
        self._advance(at)
        host = self._host(name)
        if not host.silent:
            host.silent = True
            host.held = {}
            period_s = self._latencies.heartbeat_s
            phase = draw(self._seed, name, "heartbeat", (0.0, period_s))
            since_beat_s = min((at - phase) % period_s, at - host.heard_at)
            host.due_at = at - since_beat_s + self._latencies.lost_after_s
            self._host_timers.add(host.due_at, host)

    def start_agent(self, name: HostName, at: float) -> None:
        """Let an agent be heard again: it says what it held back, or registers if the master had removed it.

        NotFound for a host that isn't ours.
        """
        self._advance(at)
        host = self._host(name)
        if host.silent:
            host.silent = False
            host.due_at = host.heard_at = at
            for report in host.held.values():
                self._outbox.add(report, self._link)
            self._settle_hosts([host], at)

    def _host(self, name: HostName) -> Host:
        host = self._hosts.get(name)
        if host is None:
            raise NotFound(f"hostname {name!r} has no agent")
        return host

    def _advance(self, at: float) -> None:
        """Live through all that is due by `at`, slot by slot, since what happens may set the next timer."""
        self._now = max(self._now, at)
        while True:
            host_slot, task_slot = self._host_timers.next_due, self._task_timers.next_due
            if host_slot is not None and host_slot <= at and (task_slot is None or host_slot <= task_slot):
                self._settle_hosts(self._host_timers.due(host_slot), host_slot)
            elif task_slot is not None and task_slot <= at:
                for task in self._task_timers.due(task_slot):
                    self._wake(task, task_slot)
            else:
                return

    def _wake(self, task: Task, until: float) -> None:
        """A timer of this task has come. It has one at a time; only a kill sets one more, the last."""
        while task.next_at <= until:
            self._say(task.host, self._step(task))
        if task.next_at < math.inf and task.doom is None:
            self._task_timers.add(min(task.next_at, until + REARM_S), task)

    def _step(self, task: Task) -> PodReport:
        at = task.next_at
        report = task.step()
        if task.has_ended():
            self._bury(task, report, at)
        return report

    def _bury(self, task: Task, report: PodReport, at: float) -> None:
        """Give back what an ended task had, and remember its last report."""
        host = self._hosts[task.host]
        del host.tasks[task.pod]
        host.free = host.free.plus(task.template.demand)
        host.ports.difference_update(task.ports)
        self._ended.add(report, at)

    def _say(self, name: HostName, report: PodReport) -> None:
        """A status update of the agent: only the latest of a pod is kept while it can't be heard, with the
        latest result of its health check."""
        host = self._hosts[name]
        if host.silent:
            hold(host.held, report)
        else:
            self._outbox.add(report, self._link)

    def _launch(self, launch: Launch) -> None:
        task = self._accept(launch)
        if task is not None:
            self._task_timers.add(task.next_at, task)

    def _accept(self, launch: Launch) -> Task | None:
        """The new task; None for a repeat, and for one that is refused, which has been answered."""
        host, demand = self._hosts.get(launch.host), launch.template.demand
        if self._ended.answer_to(launch) is not None or (host is not None and launch.pod in host.tasks):
            return None
        if host is None:
            self._refuse(launch.pod, launch.at, "The host has no agent", REASON_AGENT_UNKNOWN)
        elif host.down or (host.silent and not host.registered):
            self._refuse(launch.pod, launch.at, "The host's agent was removed", REASON_AGENT_REMOVED)
        elif min(room := host.free.minus(demand)) < 0:
            self._refuse(
                launch.pod, launch.at, "The host has less left than the task wants", REASON_INVALID_OFFERS
            )
        elif launch.ports and not _ports_free(launch, host):
            self._refuse(
                launch.pod, launch.at, "The task wants ports that the host can't give", REASON_INVALID_OFFERS
            )
        else:
            host.free = room
            host.ports.update(launch.ports)
            task = host.tasks[launch.pod] = launched(launch, self._seed, self._latencies)
            return task
        return None

    def _refuse(self, pod: PodId, at: float, message: str, reason: str) -> None:
        """The master's own answer: the task is gone, or never was."""
        report = PodReport(pod, TaskState.LOST, message, reason)
        self._ended.add(report, at)
        self._outbox.add(report, self._link)

    def _kill(self, kill: Kill) -> None:
        host = self._hosts.get(kill.host)
        task = host.tasks.get(kill.pod) if host is not None else None
        if task is None:
            if kill.pod not in self._ended:
                self._refuse(kill.pod, kill.at, "Nothing is known of this task", REASON_RECONCILIATION)
            return
        while task.next_at <= kill.at:
            # Its timer may come up to a slot later than the moment, but what was before the kill counts.
            self._say(task.host, self._step(task))
        if not task.has_ended() and task.doom is None:
            task.kill(kill, self._seed, self._latencies)
            self._task_timers.add(task.next_at, task)

    def _reconcile(self, order: Reconcile, at: float) -> None:
        """Say where each task is, in the order in which they came there, then take the kills still owed."""
        if order.down is not None:
            down = frozenset(order.down)
            for name in self._hosts:
                self._set_down(name, name in down, at)
        launches, kills = self._link.passed(order)
        answers: list[tuple[float, HostName, PodReport]] = []
        living: list[Task] = []
        for launch in launches:
            host = self._hosts.get(launch.host)
            task = host.tasks.get(launch.pod) if host is not None else None
            if task is not None:
                answers.append((at, task.host, task.report()))
                living.append(task)
            elif (ended := self._ended.answer_to(launch)) is not None:
                # What a silent agent holds back is said when it is heard again, or overtaken by its loss.
                if host is None or launch.pod not in host.held:
                    self._outbox.add(_reconciled(ended), self._link)
            elif (task := self._accept(launch)) is not None:
                since, report = self._catch_up(task, launch.at, kills.get(launch.pod), at)
                answers.append((since, task.host, report))
                living.append(task)
        answers.sort(key=lambda answer: answer[0])
        for _, name, report in answers:
            self._say(name, _reconciled(report))
        # A reconciliation tells nothing of health, and of what went on unheard nothing else would.
        for task in living:
            if not task.has_ended() and (health := task.health()) is not None:
                self._say(task.host, health)
        for kill in kills.values():
            self._kill(kill)

    def _catch_up(
        self, task: Task, launched_at: float, kill: Kill | None, at: float
    ) -> tuple[float, PodReport]:
        """Live a task's life from its launch until now, unheard: when it last changed, and to what."""
        since, report = launched_at, task.report()
        if kill is not None:
            while task.next_at <= kill.at:
                since, report = task.next_at, self._step(task)
            if not task.has_ended():
                task.kill(kill, self._seed, self._latencies)
        while task.next_at <= at:
            since, report = task.next_at, self._step(task)
        if task.next_at < math.inf:
            self._task_timers.add(task.next_at, task)
        return since, report

    def _settle_hosts(self, hosts: Sequence[Host], at: float) -> None:
        """The master's part: agents that are due register, or are given up if they are silent."""
        seen: list[HostSeen] = []
        lost: list[Host] = []
        for host in hosts:
            if host.due_at > at:
                continue  # A timer of before the agent was stopped or started.
            host.due_at = math.inf
            if host.silent and host.registered:
                lost.append(host)
            elif not (host.silent or host.down or host.registered):
                seen.append(host.seen)
            host.registered = not (host.silent or host.down)
        if seen:
            self._news.append(SeeHosts(seen))
        if lost:
            self._news.append(LoseHosts([host.seen.name for host in lost]))
        for host in lost:
            self._lose_tasks(host, at, "The agent was silent for too long", REASON_AGENT_REMOVED)

    def _set_down(self, name: HostName, down: bool, at: float) -> None:
        """The master sends a host's agent away for maintenance, or lets it register again."""
        host = self._hosts.get(name)
        if host is None or host.down is down:
            return
        host.down = down
        if down:
            host.registered, host.due_at = False, math.inf
            self._lose_tasks(host, at, "The host was taken down for maintenance", REASON_AGENT_REMOVED)
        else:
            self._register([host], at)

    def _register(self, hosts: Sequence[Host], at: float) -> None:
        """Let them register in a while, as long as agents take for that."""
        for host in hosts:
            host.due_at = at + draw(
                self._seed, host.seen.name, "registration", self._latencies.registration_s
            )
            if host.due_at > at:
                self._host_timers.add(host.due_at, host)
        self._settle_hosts(hosts, at)

    def _lose_tasks(self, host: Host, at: float, why: str, reason: str) -> None:
        """The master gives up a host's tasks; the agent shuts them down without a word once it is back."""
        pods = [*host.tasks, *(pod for pod in host.held if pod not in host.tasks)]
        for pod in pods:
            report = PodReport(pod, TaskState.LOST, why, reason)
            task = host.tasks.get(pod)
            if task is not None:
                task.state, task.next_at = report.state, math.inf
                self._bury(task, report, at)
            self._outbox.add(report, self._link)
        host.held = {}


class _Ended:
    """The last reports of the runs that ended last, and when; at least half of ENDED_MAX of them."""

    def __init__(self) -> None:
        self._young: dict[PodId, tuple[float, PodReport]] = {}
        self._old: dict[PodId, tuple[float, PodReport]] = {}

    def add(self, report: PodReport, at: float) -> None:
        self._young[report.pod] = (at, report)
        if len(self._young) >= ENDED_MAX // 2:
            self._old, self._young = self._young, {}

    def __contains__(self, pod: PodId) -> bool:
        return pod in self._young or pod in self._old

    def answer_to(self, launch: Launch) -> PodReport | None:
        """How a launch that is a repeat has ended; None for a new one.

        One that was decided after the end is of another pod, whose job was deleted and created anew with its
        id.
        """
        at, report = self._young.get(launch.pod) or self._old.get(launch.pod) or (0.0, None)
        return report if launch.at <= at else None


def _ports_free(launch: Launch, host: Host) -> bool:
    """Whether each port is nobody's, and each that the scheduler picked is one that the agent offers."""
    first, last = host.seen.ports
    picked = [
        number for number, asked in zip(launch.ports, launch.template.ports, strict=False) if not asked.number
    ]
    return (
        len(launch.ports) == len(launch.template.ports) == len(set(launch.ports))
        and host.ports.isdisjoint(launch.ports)
        and all(first <= number <= last for number in picked)
    )


def _reconciled(report: PodReport) -> PodReport:
    return PodReport(
        report.pod,
        report.state,
        report.message,
        REASON_RECONCILIATION,
        report.exit_code,
        report.signal,
        report.host,
        containers=report.containers,
    )
