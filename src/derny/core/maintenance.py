"""Maintenance of hosts: decide, apply, and the next step of a host on its way.

    UP → DRAINING    takes no more pods; those that it has are evicted, as far as their jobs can spare them
    → DRAINED        the last pod has left
    → DOWN           its agent is sent away; nothing can run there
    → UP             wanted back, and its agent has registered again; from DRAINING and DRAINED at once

Wanting it back at any point turns it round. Pods that wait for a host are on none, so that they are in
nobody's way. The pass `settle` in `core.machine` asks here about every dirty host. (Behaviour, scheduler
§7.1, with items 16 and 17 of §10 done better; jobs §10.)
"""

from collections import deque

from derny.core import hosts
from derny.core.availability import may_disrupt
from derny.core.commands import CompleteMaintenance, StartMaintenance
from derny.core.events import HostGoalsSet, HostStatesChanged, RunsSuperseded
from derny.core.state import Drain, State
from derny.model.ids import HostName
from derny.model.periods import Periods
from derny.model.records import Host, Pod
from derny.model.states import HostState, PodState, TerminationReason

EVICTED = "Pod evicted: its host goes into maintenance"
REASON = "REASON_HOST_MAINTENANCE"

_UP, _DRAINING, _DRAINED, _DOWN = HostState.UP, HostState.DRAINING, HostState.DRAINED, HostState.DOWN


def decide_start(state: State, command: StartMaintenance, at: float) -> list[HostGoalsSet]:
    """All of them or none: NotFound names those that are unknown."""
    return _decide(state, command.hosts, _DOWN)


def decide_complete(state: State, command: CompleteMaintenance, at: float) -> list[HostGoalsSet]:
    """As starting it; a host that is not in maintenance is left as it is."""
    return _decide(state, command.hosts, _UP)


def _decide(state: State, names: list[HostName], goal: HostState) -> list[HostGoalsSet]:
    news = [name for name in hosts.known(state, names) if state.hosts[name].goal is not goal]
    return [HostGoalsSet(news, goal)] if news else []


def apply_goals_set(state: State, event: HostGoalsSet, at: float) -> None:
    for name in event.hosts:
        host = state.hosts[name]
        host.goal = event.goal
        # One that is DOWN was sent away; it is back once it has registered, and not sooner.
        host.lost |= host.state is _DOWN
        state.dirty_hosts[name] = None


def apply_states_changed(state: State, event: HostStatesChanged, at: float) -> None:
    for name in event.hosts:
        host = state.hosts[name]
        host.state = event.state
        if event.state is _DOWN:
            host.lost = True
        if event.state is _DRAINING:
            state.drains[name] = Drain(deque())
        else:
            state.drains.pop(name, None)
        hosts.show_placeable(state, host)
    state.tree.set_capacity(state.table.total_capacity())


def eviction(
    state: State, host: Host, at: float, budget: int, periods: Periods
) -> tuple[RunsSuperseded | None, int]:
    """The next evictions from a draining host, all of one job, and how many pods were looked at: at most
    `budget`, at least 1.

    None: none for now. What a job can't spare is looked at again after a drain period, in the next round.
    """
    drain = state.drains[host.name]
    if not drain.left:
        if drain.due_at > at:
            return None, 1
        drain.left.extend(host.pods)
    victims: list[Pod] = []
    looked = 0
    while drain.left and looked < budget and (not victims or drain.left[0].job == victims[0].job):
        pod = drain.left.popleft()
        looked += 1
        if pod not in host.pods or _leaves_anyway(pod, host):
            continue
        job = state.jobs[pod.job]
        if may_disrupt(job, pod):
            victims.append(pod)
            if job.spec.unavailable_max:
                break  # Applying this counts it as unavailable, which the next one must see.
    if drain.left:
        state.dirty_hosts[host.name] = None
    else:
        drain.due_at = at + periods.drain_s
        state.timers.add(drain.due_at, host)
    if not victims:
        return None, max(looked, 1)
    instances = [pod.instance for pod in victims]
    return (
        RunsSuperseded(victims[0].job, instances, TerminationReason.KILLED_HOST_MAINTENANCE, EVICTED, REASON),
        looked,
    )


def _leaves_anyway(pod: Pod, host: Host) -> bool:
    """Whether its run is to end already, and the next one would not look for this very host."""
    return pod.goal is not PodState.RUNNING or (pod.superseded and pod.desired_host != host.name)


def owed_state(host: Host) -> HostState | None:
    """The state that the host is to enter now; None when it is where it shall be, or something must happen
    first."""
    if host.goal is _UP:
        return _UP if host.state in (_DRAINING, _DRAINED) or (host.state is _DOWN and not host.lost) else None
    if host.state is _DRAINING:
        return None if host.pods else _DRAINED
    return {_UP: _DRAINING, _DRAINED: _DOWN}.get(host.state)
