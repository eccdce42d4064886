"""Agents' reports: decide and apply. What is heard of the current runs of pods.

Reports may come late, twice and out of order: only those that lead on from where the current run stands are
facts, or that tell more of it: of its health, of its containers. With the end of a run everything that it
held is given back. A report of a run that is not the current one finds an orphan, which is killed.
(Behaviour, jobs §7.4 and 7.5, scheduler §8.1 to 8.3.)
"""

import re
from collections.abc import Sequence

from derny.core import containers, hosts, volumes
from derny.core.commands import REASON_HEALTH, ContainerReport, PodReport, ReportPods
from derny.core.events import Event, OrphansFound, PodsReported
from derny.core.pods import charge
from derny.core.state import State
from derny.model.errors import Invalid
from derny.model.ids import JobId, PodId, parse_pod_id
from derny.model.records import Job, Pod, Termination
from derny.model.states import (
    POD_ON_HOST,
    POD_STATE_OF_TASK,
    POD_TERMINAL,
    HealthState,
    PodState,
    TerminationReason,
)

REASON_INVALID = "REASON_TASK_INVALID"

_EXITED = re.compile(r"Command exited with status ([0-9]{1,9})\b")
_SIGNALLED = re.compile(r"terminated with signal (.+)")

_Recorded = tuple[PodState, str, str, int, str, bool | None, tuple[ContainerReport, ...]]
"""Of a report: state, message, reason, exit code, signal, health, containers."""

_PROGRESS = {
    PodState.LAUNCHED: 0,
    PodState.STARTING: 1,
    PodState.RUNNING: 2,
    PodState.PREEMPTING: 2,
    PodState.KILLING: 3,
    PodState.SUCCEEDED: 4,
    PodState.FAILED: 4,
    PodState.LOST: 4,
    PodState.KILLED: 4,
}
"""How far a launched run has come; a report that leads nowhere further is a repeat or a latecomer."""


_STAY: dict[PodState, frozenset[PodState]] = {
    PodState.RUNNING: frozenset({PodState.RUNNING, PodState.PREEMPTING})
}
"""In which states a report of this one moves a pod nowhere, if not in that alone: one that is to be evicted
runs, and an agent knows no more."""


def decide(state: State, command: ReportPods, at: float) -> list[Event]:
    """The facts among the reports, like with like; orphans are found out by the way."""
    facts: dict[tuple[int, int, JobId, _Recorded], list[int]] = {}
    orphans: list[PodReport] = []
    reached: dict[Pod, int] = {}
    told: dict[Pod, list[PodReport]] = {}
    for report in command.reports:
        to = POD_STATE_OF_TASK[report.state]
        pod = _current(state, report.pod)
        if pod is None or pod.state in POD_TERMINAL:
            # What is said to run and is over for us is either a latecomer, or must not outlive the next run.
            if to not in POD_TERMINAL:
                orphans.append(report)
            continue
        progress, before = _PROGRESS[to], reached.get(pod, _PROGRESS[pod.state])
        if progress > before and not _is_duplicate(to, report):
            reached[pod] = progress
        elif progress != before or not _is_news(pod, told.get(pod), to, report):
            continue
        fact = (progress, len(told.get(pod, ())), pod.job, _as_recorded(pod, to, report))
        facts.setdefault(fact, []).append(pod.instance)
        if pod.template.health_checked or report.containers:
            told.setdefault(pod, []).append(report)
    # In the order of each pod's life: one that started, runs and is well in one batch does so in this order.
    events: list[Event] = [
        PodsReported(job, recorded[0], instances, *recorded[1:])
        for (_, _, job, recorded), instances in sorted(facts.items(), key=lambda fact: fact[0][:2])
    ]
    if orphans:
        events.append(OrphansFound([orphan.pod for orphan in orphans], [orphan.host for orphan in orphans]))
    return events


def _current(state: State, reported: PodId) -> Pod | None:
    """The pod whose current run this is, if it has been launched; None for ids of others, or of nothing at
    all."""
    try:
        job_id, instance, run = parse_pod_id(reported)
    except Invalid:
        return None
    job = state.jobs.get(job_id)
    pod = job.pods[instance] if job is not None and instance < len(job.pods) else None
    return pod if pod is not None and pod.run == run and pod.state in _PROGRESS else None


def _is_duplicate(to: PodState, report: PodReport) -> bool:
    """Whether an agent only says that it was asked for a task twice (behaviour, jobs §7.4)."""
    return to is PodState.FAILED and report.reason == REASON_INVALID and "duplicate" in report.message


def _is_news(pod: Pod, told: list[PodReport] | None, to: PodState, report: PodReport) -> bool:
    """Whether a report that moves the pod nowhere tells something else: of its health, where that is not
    well once more, or of its containers. `told` is what was news of this pod in the same batch before."""
    if not (report.containers or pod.template.health_checked):
        return False
    if to is not PodState.STARTING and to is not PodState.RUNNING:
        return False
    healthy = _health_said(pod, report)
    if healthy is not None:
        before = next(
            (said for r in reversed(told or ()) if (said := _health_said(pod, r)) is not None), None
        )
        was = pod.health is HealthState.HEALTHY if before is None else before
        if not (healthy and was):
            return True
    if not _tells_of_containers(pod, report):
        return False
    last = next((r.containers for r in reversed(told or ()) if r.containers), None)
    return last != report.containers if last else containers.is_news(pod.containers, report.containers)


def _health_said(pod: Pod, report: PodReport) -> bool | None:
    """What a liveness check found; nothing else moves a pod's health (behaviour, scheduler §8.2)."""
    checked = pod.template.health_checked and report.reason == REASON_HEALTH
    return report.healthy if checked else None


def _tells_of_containers(pod: Pod, report: PodReport) -> bool:
    template = pod.template
    return len(report.containers) == len(template.init_containers) + len(template.containers) > 1


def _as_recorded(pod: Pod, to: PodState, report: PodReport) -> _Recorded:
    """What is kept of a report. The reason only of an end that nobody asked for, and of a health check; a
    pod that was to be killed and is lost counts as killed (behaviour, scheduler §8.2)."""
    told = report.containers if report.containers and _tells_of_containers(pod, report) else ()
    if to is PodState.LOST:
        if pod.goal is PodState.RUNNING:
            message = f"Task LOST: {report.message}"
        else:
            to, message = PodState.KILLED, f"Stopped task LOST event: {report.message}"
        return to, message, report.reason, 0, "", None, told
    if to is PodState.FAILED:
        code, signal = _how_it_ended(report)
        return to, report.message, report.reason, code, signal, None, told
    healthy = _health_said(pod, report) if to is PodState.RUNNING else None
    reason = "" if healthy is None else report.reason
    return to, report.message, reason, report.exit_code, report.signal, healthy, told


def _how_it_ended(report: PodReport) -> tuple[int, str]:
    """Exit code and signal; of an agent that gives neither they are read from the words of Mesos' command
    executor (behaviour, jobs §7.4)."""
    if report.exit_code or report.signal:
        return report.exit_code, report.signal
    exited = _EXITED.match(report.message)
    signalled = _SIGNALLED.search(report.message)
    return int(exited[1]) if exited else 0, signalled[1].strip() if signalled else ""


def apply(state: State, event: PodsReported, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    _hear_of_containers(pods, event, at)
    if event.state in POD_TERMINAL:
        _end(state, job, pods, event, at)
    if event.healthy is not None:
        health = HealthState.HEALTHY if event.healthy else HealthState.UNHEALTHY
        for pod in pods:
            pod.health = health
    stay = _STAY.get(event.state, frozenset((event.state,)))
    staying = [pod for pod in pods if pod.state in stay]
    for pod in staying:
        pod.message, pod.reason = event.message, event.reason
    state.record_all(job, staying, at)
    moving = [pod for pod in pods if pod.state not in stay] if staying else pods
    if event.state is PodState.RUNNING:
        for pod in moving:
            pod.started_at = at
            volumes.running(state, job, pod, at)
    if event.state in (PodState.RUNNING, PodState.FAILED, PodState.LOST):
        for pod in moving:
            pod.desired_host = None
    state.move_all(job, moving, event.state, at, event.message, event.reason)
    state.touch(job, at)


def _hear_of_containers(pods: Sequence[Pod], event: PodsReported, at: float) -> None:
    """Pods that were alike stay alike, and share what is known of their containers."""
    known: dict[tuple[int, containers.Runs], containers.Runs] = {}
    for pod in pods:
        if not event.containers and not pod.containers:
            continue
        key = (id(pod.template), pod.containers)
        if key not in known:
            runs = pod.containers
            if event.containers:
                runs = containers.after(runs, pod.template, event.containers, at)
            known[key] = containers.ended(runs, event.state, at) if event.state in POD_TERMINAL else runs
        pod.containers = known[key]


def _end(state: State, job: Job, pods: Sequence[Pod], event: PodsReported, at: float) -> None:
    """The end of runs: what they held is given back, and it is decided whether the end counts as a
    failure."""
    charge(state, job, pods, -1)
    for pod in pods:
        assert pod.state in POD_ON_HOST and pod.host is not None
        hosts.give_back(state, pod)
        pod.failures += _is_failure(pod, event.state)
        pod.completed_at = at
        if pod.template.health_checked:
            pod.health = HealthState.INVALID
        if event.state is PodState.FAILED:
            pod.termination = Termination(TerminationReason.FAILED, event.exit_code, event.signal)


def _is_failure(pod: Pod, end: PodState) -> bool:
    """Whether a run that ended so should have gone on. What we asked to be killed did not fail, nor did
    what was lost (behaviour, jobs §7.5; there our own kills count too, which only lengthens back-offs)."""
    if pod.superseded or pod.state is PodState.KILLING:
        return False
    if end is PodState.FAILED:
        return True
    return end in (PodState.SUCCEEDED, PodState.KILLED) and pod.goal is PodState.RUNNING
