"""Reconciliation: agents are told again, in slices, what they should be running, so that what was lost on the
way heals, in either direction: a launch, a kill, a report.

A round goes through all jobs; the first comes a while after the start, the next ones at long intervals, and
one as soon as the link to the agents is there again after an outage. Whole after a replay, since then agents
may remember nothing: with it come the notes that they asked us to keep. Nothing of a round is journaled: it
changes nothing of ours. Called by `core.machine`. (Behaviour, scheduler §7.5.)
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Final

from derny.core import gates
from derny.core.commands import NoteAgents, ReconnectAgents
from derny.core.effects import Reconcile, kill_of, launch_of
from derny.core.events import AgentsNoted, AgentsReconnected
from derny.core.history import launched_at
from derny.core.state import State
from derny.model.ids import HostName
from derny.model.periods import Periods
from derny.model.records import Job, Pod
from derny.model.states import POD_ON_HOST, HostState, PodState

WHOLE_PODS: Final = 10_000
"""In one order after a replay."""
PACE_S: Final = 0.1
"""Between two slices: a million pods take some minutes, and no moment is busy with nothing else."""


def decide_reconnect(state: State, command: ReconnectAgents, at: float) -> list[AgentsReconnected]:
    return [AgentsReconnected()]


def decide_note(state: State, command: NoteAgents, at: float) -> list[AgentsNoted]:
    """Nothing for what is noted already."""
    news = {key: note for key, note in command.notes.items() if state.notes.get(key) != note}
    return [AgentsNoted(news)] if news else []


def apply_reconnected(state: State, event: AgentsReconnected, at: float) -> None:
    """A new round, at once, even where one was under way: what it had passed may have been lost."""
    state.round.jobs.clear()
    state.round.due_at = at


def apply_noted(state: State, event: AgentsNoted, at: float) -> None:
    state.notes.update(event.notes)


def whole(state: State) -> Iterator[Reconcile]:
    """Everything, with the times at which it was decided: the first order has all that is said of hosts and
    the notes, and each no more than WHOLE_PODS pods, since of a million at once there would be millions of
    objects."""
    order = Reconcile([], [], _down(state), dict(state.notes))
    looked = 0
    for job in state.jobs.values():
        for first in range(0, len(job.pods), WHOLE_PODS):
            pods = job.pods[first : first + WHOLE_PODS]
            if looked + len(pods) > WHOLE_PODS:
                yield order
                order, looked = Reconcile([], []), 0
            _add(order, job, pods)
            looked += len(pods)
    yield order


def next_slice(state: State, at: float, budget: int, periods: Periods) -> Reconcile | None:
    """The next part of a round, of at most `budget` pods and jobs; None while none is due."""
    round_ = state.round
    if round_.due_at is None:
        round_.due_at = at + periods.reconcile_first_s
    if at < round_.due_at:
        return None
    order = Reconcile([], [])
    if not round_.jobs:
        round_.jobs, round_.instance = deque(state.jobs), 0
        order = Reconcile([], [], _down(state))
    while round_.jobs and budget > 0:
        job = state.jobs.get(round_.jobs[0])
        pods = job.pods[round_.instance : round_.instance + budget] if job is not None else []
        if job is not None:
            _add(order, job, (pod for pod in pods if gates.lets_through(state, pod)))
        budget -= max(len(pods), 1)
        round_.instance += len(pods)
        if job is None or round_.instance >= len(job.pods):
            round_.jobs.popleft()
            round_.instance = 0
    round_.due_at = at + (PACE_S if round_.jobs else periods.reconcile_s)
    return order


def next_due(state: State) -> float | None:
    """When the next slice is due; None while there is nothing to compare."""
    return state.round.due_at if state.jobs else None


def _down(state: State) -> list[HostName]:
    return [host.name for host in state.hosts.values() if host.state is host.goal is HostState.DOWN]


def _add(order: Reconcile, job: Job, pods: Iterable[Pod]) -> None:
    for pod in pods:
        if pod.state in POD_ON_HOST:
            host = pod.host or HostName("")
            order.launches.append(launch_of(job, pod, host, pod.ports, launched_at(pod)))
        if pod.state is PodState.KILLING:
            order.kills.append(kill_of(pod, pod.changed_at))
