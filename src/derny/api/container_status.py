"""What is told of the containers of a pod, as messages.

One rule: what is not kept of a container follows from its pod. A pod of one container, and one of whose
containers nothing has been heard yet, has containers that are as it is; of others each is told as it is
known. Called by `wire_out`. (API reference, pod.proto: ContainerStatus.)
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from derny.answers.queries import PodEventView, PodView
from derny.api.times import rfc3339
from derny.model.records import ContainerRun, Termination
from derny.model.specs import Container, PodTemplate
from derny.model.states import HealthState as Health
from derny.model.states import PodState as State
from derny.model.states import TerminationReason
from derny.proto.peloton.api.v1alpha.pod import (
    ContainerState,
    ContainerStatus,
    HealthState,
    HealthStatus,
    TerminationStatus,
    TerminationStatusReason,
)

_STATE = {
    State.LAUNCHED: ContainerState.LAUNCHED,
    State.STARTING: ContainerState.STARTING,
    State.RUNNING: ContainerState.RUNNING,
    State.SUCCEEDED: ContainerState.SUCCEEDED,
    State.FAILED: ContainerState.FAILED,
    # The contract has no word for a container of which nothing is known any more.
    State.LOST: ContainerState.FAILED,
    State.KILLING: ContainerState.KILLING,
    State.KILLED: ContainerState.KILLED,
    State.PREEMPTING: ContainerState.KILLING,
    State.DELETED: ContainerState.KILLED,
}
"""States before the launch are PENDING."""

_ENDED_BADLY = frozenset({ContainerState.FAILED, ContainerState.KILLED})
_BEING_STOPPED = frozenset({State.KILLING, State.PREEMPTING})

Statuses = tuple[list[ContainerStatus], list[ContainerStatus]]
"""Of the init containers, and of the others."""


class _Pod(NamedTuple):
    """What the containers of a pod share. Events know no more than what has a default here."""

    template: PodTemplate
    runs: Sequence[ContainerRun]
    state: State
    health: Health
    message: str
    reason: str
    started_at: float = 0.0
    completed_at: float = 0.0
    failures: int = 0
    ports: Mapping[str, int] = {}
    termination: Termination | None = None


def of_pod(view: PodView) -> Statuses:
    """The containers of a pod in its current run."""
    return _statuses(
        _Pod(
            view.template,
            view.containers,
            view.state,
            view.health,
            view.ended_because or view.message,
            view.reason,
            view.started_at,
            view.completed_at,
            view.failures,
            {port.name: number for port, number in zip(view.template.ports, view.ports, strict=False)},
            view.termination,
        )
    )


def of_event(view: PodEventView) -> Statuses:
    """The containers of a pod as one of its events tells; none where its configuration is not kept."""
    if view.template is None:
        return [], []
    entry = view.entry
    return _statuses(
        _Pod(
            view.template,
            entry.containers,
            entry.state,
            entry.health,
            entry.message,
            entry.reason,
            view.started_at,
            view.completed_at,
            termination=_of_ours(entry.because),
        )
    )


def _of_ours(reason: TerminationReason) -> Termination | None:
    """Why we ended an earlier run. How one failed by itself is told by the messages of its events alone: an
    exit code of nought would be a lie."""
    return Termination(reason) if reason and reason is not TerminationReason.FAILED else None


def termination(ended: Termination | None) -> TerminationStatus | None:
    """Why a run ended, or shall end."""
    if ended is None:
        return None
    return TerminationStatus(TerminationStatusReason(ended.reason), ended.exit_code, ended.signal)


def _statuses(pod: _Pod) -> Statuses:
    init, main = pod.template.init_containers, pod.template.containers
    if not pod.runs:
        # Init containers are over, one way or the other, before the pod runs; none has been heard of yet.
        return [_as_the_pod(pod, container) for container in init], [_as_the_pod(pod, each) for each in main]
    statuses = [
        _as_known(pod, container, run) for container, run in zip((*init, *main), pod.runs, strict=True)
    ]
    return statuses[: len(init)], statuses[len(init) :]


def _as_the_pod(pod: _Pod, container: Container) -> ContainerStatus:
    state = _STATE.get(pod.state, ContainerState.PENDING)
    health = pod.health if container.check or pod.template.is_plain else Health.DISABLED
    return ContainerStatus(
        name=container.name,
        state=state,
        ports=_ports(pod, container),
        message=pod.message,
        reason=pod.reason,
        failure_count=pod.failures,
        healthy=HealthStatus(HealthState(health)),
        image=container.image,
        start_time=rfc3339(pod.started_at),
        completion_time=rfc3339(pod.completed_at),
        termination_status=termination(pod.termination) if state in _ENDED_BADLY else None,
    )


def _as_known(pod: _Pod, container: Container, run: ContainerRun) -> ContainerStatus:
    state = _state_of(pod, run)
    return ContainerStatus(
        name=container.name,
        state=state,
        ports=_ports(pod, container),
        message=pod.message if state == _STATE.get(pod.state) else "",
        reason=pod.reason if state == _STATE.get(pod.state) else "",
        failure_count=run.failures,
        healthy=HealthStatus(HealthState(run.health)),
        image=container.image,
        start_time=rfc3339(run.started_at),
        completion_time=rfc3339(run.completed_at),
        termination_status=_own_termination(pod, run) if state in _ENDED_BADLY else None,
    )


def _state_of(pod: _Pod, run: ContainerRun) -> ContainerState:
    """A container is being started or stopped when its pod is; the rest its agent says."""
    if run.state is State.PENDING:
        return ContainerState.LAUNCHED if pod.state is State.LAUNCHED else ContainerState.PENDING
    if run.state is State.RUNNING and pod.state in _BEING_STOPPED:
        return ContainerState.KILLING
    return _STATE[run.state]


def _own_termination(pod: _Pod, run: ContainerRun) -> TerminationStatus | None:
    """Of a container that failed, how; of one that was stopped, why its pod was."""
    if run.state is State.FAILED:
        return TerminationStatus(TerminationStatusReason(TerminationReason.FAILED), run.exit_code, run.signal)
    if pod.termination is None:
        return None
    return TerminationStatus(TerminationStatusReason(pod.termination.reason), run.exit_code, run.signal)


def _ports(pod: _Pod, container: Container) -> dict[str, int]:
    return {name: pod.ports[name] for name in container.ports if name in pod.ports}
