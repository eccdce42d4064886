"""What a fact asks of the agents: launch, kill, reconcile.

Effects are read off events by the table at the end, and handed over once the events are durable. They are
delivered at least once: agents ignore repeats by pod id, and a new run has a new id. After a restart the
effects that are still owed follow from the state alone.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from derny.core import gates, secrets
from derny.core.events import (
    Event,
    GatesSet,
    HostGoalsSet,
    HostStatesChanged,
    OrphansFound,
    PodsKillRequested,
    PodsPlaced,
    PodsRefreshed,
)
from derny.core.history import launched_at
from derny.core.state import State
from derny.model.ids import HostName, PodId, pod_id
from derny.model.records import Job, Pod
from derny.model.secrets import Secret
from derny.model.specs import PodTemplate
from derny.model.states import Gate, HostState, PodState


class Launch(msgspec.Struct, frozen=True, gc=False):
    """Start this run on this host. `ports` are the numbers for the template's ports, in their order."""

    pod: PodId
    host: HostName
    template: PodTemplate
    ports: tuple[int, ...]
    at: float
    """When the launch was decided, seconds since the epoch."""
    secrets: tuple[Secret, ...] = ()
    """Files that its containers find at their paths."""


class Kill(msgspec.Struct, frozen=True, gc=False):
    """Stop this run: SIGTERM, then SIGKILL once the grace period has passed."""

    pod: PodId
    host: HostName
    grace_s: float
    at: float
    """When the kill was decided, seconds since the epoch."""


class Reconcile(msgspec.Struct, frozen=True, gc=False):
    """What agents should be running, as far as we know, and the kills still owed: all of it after a restart,
    a part of it in a periodic round.

    Agents answer with the present state of each launch. Hosts in `down` are to be taken down, all others up.
    """

    launches: list[Launch]
    kills: list[Kill]
    down: list[HostName] | None = None
    """None: nothing is said of hosts."""
    notes: dict[str, bytes] | None = None
    """After a restart: all that agents asked us to keep for them."""


class TakeDown(msgspec.Struct, frozen=True, gc=False):
    """Send these hosts' agents away: nothing can be launched there, whatever is asked."""

    hosts: list[HostName]


class BringUp(msgspec.Struct, frozen=True, gc=False):
    """Let these hosts' agents register again."""

    hosts: list[HostName]


Effect = Launch | Kill | Reconcile | TakeDown | BringUp


def effects_of(state: State, event: Event, at: float) -> list[Effect]:
    """What the event asks of agents, read off just before it is applied."""
    read_off = _EFFECTS_OF.get(type(event))
    return read_off(state, event, at) if read_off is not None else []


def launch_of(job: Job, pod: Pod, host: HostName, ports: tuple[int, ...], at: float) -> Launch:
    """The order to start the current run of a pod of this job, decided at that time."""
    files = secrets.of_pod(job, pod.config) if job.secrets else ()
    return Launch(pod_id(pod.job, pod.instance, pod.run), host, pod.template, ports, at, files)


def kill_of(pod: Pod, at: float) -> Kill:
    """The order to stop the current run of a pod, decided at that time."""
    return Kill(
        pod_id(pod.job, pod.instance, pod.run), pod.host or HostName(""), pod.template.kill_grace_s, at
    )


def _of_placed(state: State, event: PodsPlaced, at: float) -> list[Effect]:
    job = state.jobs[event.job]
    pods, names = job.pods, state.table.name_of
    ports = event.ports or [()] * len(event.instances)
    return [
        launch_of(job, pods[instance], names[row], numbers, at)
        for instance, row, numbers in zip(event.instances, event.hosts, ports, strict=True)
    ]


def _of_pods_to_kill(state: State, event: PodsKillRequested, at: float) -> list[Effect]:
    pods = state.jobs[event.job].pods
    return [kill_of(pods[instance], at) for instance in event.instances]


def _of_goals(state: State, event: HostGoalsSet, at: float) -> list[Effect]:
    """Only a host that is DOWN has to be told at once; others come to it step by step."""
    down = [name for name in event.hosts if state.hosts[name].state is HostState.DOWN]
    if not down:
        return []
    return [TakeDown(down) if event.goal is HostState.DOWN else BringUp(down)]


def _of_states(state: State, event: HostStatesChanged, at: float) -> list[Effect]:
    return [TakeDown(event.hosts)] if event.state is HostState.DOWN else []


def _of_orphans(state: State, event: OrphansFound, at: float) -> list[Effect]:
    if Gate.KILL in state.closed:
        return []
    return [Kill(pod, host, 0.0, at) for pod, host in zip(event.pods, event.hosts, strict=True)]


def _of_refreshed(state: State, event: PodsRefreshed, at: float) -> list[Effect]:
    """Once more what was last asked; agents ignore repeats."""
    effects: list[Effect] = []
    job = state.jobs[event.job]
    for pod in job.pods[event.first : event.end]:
        if not gates.lets_through(state, pod):
            continue
        if pod.state is PodState.LAUNCHED:
            effects.append(launch_of(job, pod, pod.host or HostName(""), pod.ports, launched_at(pod)))
        elif pod.state is PodState.KILLING:
            effects.append(kill_of(pod, pod.changed_at))
    return effects


def _of_gates(state: State, event: GatesSet, at: float) -> list[Effect]:
    if Gate.KILL in event.closed:
        return []
    return [Kill(pod, host, 0.0, at) for pod, host in state.held_orphans.items()]


_EFFECTS_OF: dict[type[Event], Callable[[State, Any, float], list[Effect]]] = {
    PodsPlaced: _of_placed,
    PodsKillRequested: _of_pods_to_kill,
    OrphansFound: _of_orphans,
    GatesSet: _of_gates,
    PodsRefreshed: _of_refreshed,
    HostGoalsSet: _of_goals,
    HostStatesChanged: _of_states,
}
