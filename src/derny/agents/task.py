"""The life of one simulated task, from its launch to its end, as Mesos' command executor would report it.

One rule: pure. A run follows from (seed, pod id, launch, commands, kill) alone, so that it can be lived
again after a restart of the daemon and comes out the same. What its containers do is in `agents.life`. Called
by `agents.simulated`, which has the timers.

    launch ──▶ STARTING ──▶ RUNNING ──commands──▶ FINISHED | FAILED
    kill: SIGTERM ──▶ KILLED; a container that ignores it ──grace period──▶ SIGKILL ──▶ KILLED
"""

import math
from typing import Final
from zlib import crc32

import msgspec

from derny.agents.life import Life, Moment, life_of
from derny.core.commands import PodReport
from derny.core.effects import Kill, Launch
from derny.model.ids import HostName, PodId
from derny.model.specs import PodTemplate
from derny.model.states import TaskState

_MESSAGES: Final = {
    TaskState.STAGING: "Task is on its way to the agent",
    TaskState.STARTING: "Executor is starting the container",
    TaskState.RUNNING: "Container is running",
}


_ALIVE: Final = frozenset({TaskState.STARTING, TaskState.RUNNING})


class Latencies(msgspec.Struct, frozen=True):
    """How long things take, in seconds. A pair is the least and the most; the seed picks."""

    start_s: tuple[float, float] = (0.1, 0.3)
    """From a launch to its first container's start; STARTING comes half-way."""
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
    life: Life
    ports: tuple[int, ...]
    began_at: float
    """When its first container starts, and its life with it."""
    next_at: float
    """When something happens to it next; infinity for never."""
    state: TaskState = TaskState.STAGING
    lived: int = 0
    """How many moments of its life are over."""
    doom: PodReport | None = None
    """How it ends at `next_at`, once a kill has settled that."""

    def report(self) -> PodReport:
        """Where it is now, for a task that has not ended."""
        moment = self.life.moment(self.lived - 1) if self.lived else None
        if moment is None:
            return PodReport(self.pod, self.state, _MESSAGES[self.state], host=self.host)
        return PodReport(
            self.pod, self.state, _MESSAGES[self.state], host=self.host, containers=moment.containers
        )

    def health(self) -> PodReport | None:
        """What its health check found last, for a task that has not ended; None before it has found anything.

        Agents report changes alone, so this is to be said to those who may have missed one.
        """
        for number in range(self.lived - 1, -1, -1):
            moment = self.life.moment(number)
            if moment is not None and moment.healthy is not None:
                return self._told(moment)
        return None

    def step(self) -> PodReport:
        """Go through what is due at `next_at`."""
        if self.doom is not None:
            self.state, self.next_at = self.doom.state, math.inf
            return self.doom
        if self.state is TaskState.STAGING:
            self.state, self.next_at = TaskState.STARTING, self.began_at
            return self.report()
        moment = self.life.moment(self.lived)
        assert moment is not None, "a timer was set for it"
        self.lived += 1
        self.state = moment.state
        following = self.life.moment(self.lived)
        self.next_at = self.began_at + following.at_s if following is not None else math.inf
        return self._told(moment)

    def has_ended(self) -> bool:
        state = self.state
        return not (state is TaskState.RUNNING or state is TaskState.STARTING or state is TaskState.STAGING)

    def _told(self, moment: Moment) -> PodReport:
        return PodReport(
            self.pod,
            moment.state,
            moment.message,
            moment.reason,
            moment.exit_code,
            moment.signal,
            self.host,
            moment.healthy,
            moment.containers,
        )

    def kill(self, kill: Kill, seed: int, latencies: Latencies) -> None:
        """Settle its end: its own exit, SIGTERM or SIGKILL, whichever is first. The first kill stands."""
        if self.doom is not None:
            return
        deaf = self.life.is_deaf(kill.at - self.began_at)
        term_at = math.inf if deaf else kill.at + draw(seed, kill.pod, "kill", latencies.kill_s)
        killed_at = kill.at + kill.grace_s
        own_end = self._own_end(min(term_at, killed_at))
        if own_end is not None:
            self.next_at = self.began_at + own_end.at_s
            signal, message = own_end.signal, own_end.message
        else:
            self.next_at = min(term_at, killed_at)
            signal = "Terminated" if term_at <= killed_at else "Killed"
            message = f"Command terminated with signal {signal}"
        # Mesos' executor calls whatever ends after a kill KILLED, an exit of its own as well.
        self.doom = PodReport(self.pod, TaskState.KILLED, message, signal=signal, host=self.host)

    def _own_end(self, by: float) -> Moment | None:
        """The end of its life, if it comes by then and its containers have been started."""
        if self.state is TaskState.STAGING or not self.lived:
            return None
        number = self.lived
        while (moment := self.life.moment(number)) is not None and self.began_at + moment.at_s <= by:
            if moment.state not in _ALIVE:
                return moment
            number += 1
        return None


def launched(launch: Launch, seed: int, latencies: Latencies) -> Task:
    """The task of a launch, at the moment of the launch."""
    latency_s = draw(seed, launch.pod, "start", latencies.start_s)
    began_at = launch.at + latency_s
    starting_at = launch.at + latency_s / 2
    return Task(
        launch.pod, launch.host, launch.template, life_of(launch), launch.ports, began_at, starting_at
    )


def draw(seed: int, name: str, purpose: str, span: tuple[float, float]) -> float:
    """A number of the span, always the same for the same seed, name and purpose, whenever it is asked for.

    The bits are those of SplitMix64's finaliser (Steele, Lea and Flood, OOPSLA 2014).
    """
    bits = (seed * 0x9E3779B97F4A7C15 + crc32(name.encode(), crc32(purpose.encode()))) & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    least, most = span
    return least + (bits ^ bits >> 31) / 2**64 * (most - least)
