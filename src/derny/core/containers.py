"""Containers of a pod that is more than one: what is remembered of each.

One rule: nothing is kept that follows from the pod. A pod of one container is as that container is, and of a
pod of several nothing is kept until an agent has told of them; what is kept is shared by pods that are alike.
Times are those at which we heard. Called by `core.pods`. (API reference, pod.proto: ContainerStatus.)
"""

from collections.abc import Sequence

import msgspec

from derny.core.commands import ContainerReport
from derny.model.records import ContainerRun
from derny.model.specs import PodTemplate
from derny.model.states import POD_STATE_OF_TASK, POD_TERMINAL, HealthState, PodState, TaskState

Runs = tuple[ContainerRun, ...]


def is_news(runs: Runs, reports: Sequence[ContainerReport]) -> bool:
    """Whether these reports tell of a container what is not known yet."""
    if not runs:
        return True
    return any(
        _after(run, report, run.completed_at) != run for run, report in zip(runs, reports, strict=True)
    )


def after(runs: Runs, template: PodTemplate, reports: Sequence[ContainerReport], at: float) -> Runs:
    """What is known once this has been said of each container, in the order of the reports."""
    if not runs:
        runs = tuple(
            ContainerRun(health=HealthState.UNKNOWN if container.check else HealthState.DISABLED)
            for container in (*template.init_containers, *template.containers)
        )
    return tuple(_after(run, report, at) for run, report in zip(runs, reports, strict=True))


def _after(run: ContainerRun, report: ContainerReport, at: float) -> ContainerRun:
    if run.state in POD_TERMINAL or report.state is TaskState.STAGING:
        return run
    health = run.health
    if report.healthy is not None and health is not HealthState.DISABLED:
        health = HealthState.HEALTHY if report.healthy else HealthState.UNHEALTHY
    state = POD_STATE_OF_TASK[report.state]
    running = msgspec.structs.replace(run, state=state, health=health, started_at=run.started_at or at)
    if state not in POD_TERMINAL:
        return running
    return msgspec.structs.replace(
        _over(running, state, at), exit_code=report.exit_code, signal=report.signal
    )


def ended(runs: Runs, end: PodState, at: float) -> Runs:
    """What is known once the pod has come to this end: what still ran was stopped with it, unless it is
    known to have gone the pod's way; what never started never will."""
    rest = PodState.KILLED if end is PodState.FAILED else end
    return tuple(
        run if run.state in POD_TERMINAL or run.state is PodState.PENDING else _over(run, rest, at)
        for run in runs
    )


def _over(run: ContainerRun, end: PodState, at: float) -> ContainerRun:
    health = run.health if run.health is HealthState.DISABLED else HealthState.INVALID
    failures = run.failures + (end is PodState.FAILED)
    return msgspec.structs.replace(run, state=end, health=health, completed_at=at, failures=failures)


def renewed(runs: Runs) -> Runs:
    """What is kept for the next run of the same template: how often each container has failed."""
    if not any(run.failures for run in runs):
        return ()
    return tuple(
        ContainerRun(
            health=HealthState.DISABLED if run.health is HealthState.DISABLED else HealthState.UNKNOWN,
            failures=run.failures,
        )
        for run in runs
    )


def undated(runs: Runs) -> Runs:
    """What histories keep of containers, equal for pods that went the same way at different times."""
    return tuple(msgspec.structs.replace(run, started_at=0.0, completed_at=0.0, failures=0) for run in runs)
