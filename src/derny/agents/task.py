"""The life of one simulated task, from its launch to its end, as Mesos' command executor would report it.

One rule: pure. A life follows from (seed, pod id, launch, command, kill) alone, so that it can be lived
again after a restart of the daemon and comes out the same. Called by `agents.simulated`, which has the
timers.

    launch ──▶ STARTING ──▶ RUNNING ──command──▶ FINISHED | FAILED
    kill: SIGTERM ──▶ KILLED; a container that ignores it ──grace period──▶ SIGKILL ──▶ KILLED
"""

import math
from typing import Final
from zlib import crc32

import msgspec

from derny.agents.behaviour import Behaviour, plan
from derny.core.commands import PodReport
from derny.core.effects import Kill, Launch
from derny.model.ids import HostName, PodId
from derny.model.specs import PodTemplate
from derny.model.states import TaskState

REASON_EXIT: Final = "REASON_COMMAND_EXECUTOR_FAILED"

_MESSAGES: Final = {
    TaskState.STAGING: "Task is on its way to the agent",
    TaskState.STARTING: "Executor is starting the container",
    TaskState.RUNNING: "Container is running",
}


class Latencies(msgspec.Struct, frozen=True):
    """How long things take, in seconds. A pair is the least and the most; the seed picks."""

    start_s: tuple[float, float] = (0.1, 0.3)
    """From a launch to RUNNING; STARTING comes half-way."""
    kill_s: tuple[float, float] = (0.1, 0.3)
    """From SIGTERM to the end of a container that obeys it."""
    registration_s: tuple[float, float] = (0.0, 0.0)
    """From the birth of the agents to an agent's registration."""
    heartbeat_s: float = 15.0
    lost_after_s: float = 75.0
    """Silence after which the master removes an agent: five pings of 15 s, as Mesos has it."""


class Task(msgspec.Struct, gc=False):
    """A run that has been launched. Hundreds of thousands rest in memory: a field must earn its place."""

    pod: PodId
    host: HostName
    template: PodTemplate
    behaviour: Behaviour
    ports: tuple[int, ...]
    running_at: float
    next_at: float
    """When its state changes next; infinity for never."""
    state: TaskState = TaskState.STAGING
    doom: PodReport | None = None
    """How it ends at `next_at`, once a kill has settled that."""

    def report(self) -> PodReport:
        """Where it is now, for a task that has not ended."""
        return PodReport(self.pod, self.state, _MESSAGES[self.state], host=self.host)

    def step(self) -> PodReport:
        """Go through the change of state that is due at `next_at`."""
        if self.doom is None and self.state is TaskState.STAGING:
            self.state = TaskState.STARTING
            self.next_at = self.running_at
            return self.report()
        if self.doom is None and self.state is TaskState.STARTING:
            self.state = TaskState.RUNNING
            self.next_at = self.running_at + self.behaviour.runs_s
            return self.report()
        last = self.doom or self._own_end()
        self.state = last.state
        self.next_at = math.inf
        return last

    def has_ended(self) -> bool:
        state = self.state
        return not (state is TaskState.RUNNING or state is TaskState.STARTING or state is TaskState.STAGING)

    def _own_end(self) -> PodReport:
        code = self.behaviour.exit_code
        message = f"Command exited with status {code}"
        if code:
            return PodReport(self.pod, TaskState.FAILED, message, REASON_EXIT, code, host=self.host)
        return PodReport(self.pod, TaskState.FINISHED, message, host=self.host)

    def kill(self, kill: Kill, seed: int, latencies: Latencies) -> None:
        """Settle its end: its own exit, SIGTERM or SIGKILL, whichever is first. The first kill stands."""
        if self.doom is not None:
            return
        started = self.state is TaskState.RUNNING
        deaf = started and kill.at >= self.running_at + self.behaviour.deaf_after_s
        term_at = math.inf if deaf else kill.at + draw(seed, kill.pod, "kill", latencies.kill_s)
        killed_at = kill.at + kill.grace_s
        exit_at = self.next_at if started else math.inf
        self.next_at = min(exit_at, term_at, killed_at)
        if self.next_at == exit_at:
            signal, message = "", f"Command exited with status {self.behaviour.exit_code}"
        else:
            signal = "Terminated" if term_at <= killed_at else "Killed"
            message = f"Command terminated with signal {signal}"
        # Mesos' executor calls whatever ends after a kill KILLED, an exit of its own as well.
        self.doom = PodReport(self.pod, TaskState.KILLED, message, signal=signal, host=self.host)


def launched(launch: Launch, seed: int, latencies: Latencies) -> Task:
    """The task of a launch, at the moment of the launch."""
    latency_s = draw(seed, launch.pod, "start", latencies.start_s)
    running_at = launch.at + latency_s
    starting_at = launch.at + latency_s / 2
    template = launch.template
    behaviour = plan(template.command, template.environment)
    return Task(launch.pod, launch.host, template, behaviour, launch.ports, running_at, starting_at)


def draw(seed: int, name: str, purpose: str, span: tuple[float, float]) -> float:
    """A number of the span, always the same for the same seed, name and purpose, whenever it is asked for.

    The bits are those of SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
    """
    bits = (seed * 0x9E3779B97F4A7C15 + crc32(name.encode(), crc32(purpose.encode()))) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    least, most = span
    return least + (bits ^ bits >> 31) / 2**64 * (most - least)
