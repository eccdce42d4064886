"""Pods: decide and apply. The life of a pod.

    INITIALIZED → PENDING     created, or begun anew; waits in its pool's queue
    → READY                   admitted: counts in its pool's allocation
    (→ PLACING)               no host has room for it now
    → LAUNCHED                has a host, its resources and its ports; the agent is asked to launch it
    → STARTING → RUNNING      as the agent reports
    → SUCCEEDED FAILED LOST KILLED    the end of a run: everything is given back
    KILLING                   the agent was asked to stop it; only an end can follow

A pod that ended and shall run begins a new run, with the next number, after its back-off. Agents' reports
may come late, twice and out of order: only those that lead on from where the current run stands are facts.
(Behaviour, jobs §7 and scheduler §8.)
"""

from collections.abc import Sequence
from itertools import groupby
from operator import attrgetter

from derny.core import containers, volumes
from derny.core.availability import may_disrupt
from derny.core.commands import RestartPod, StartPod, StopPod
from derny.core.events import (
    Event,
    FailuresForgiven,
    GangsAdmitted,
    OrphansFound,
    PodsCreated,
    PodsGoalSet,
    PodsKilled,
    PodsKillRequested,
    PodsPlaced,
    PodsRemoved,
    PodsRequeued,
    PodsRestarted,
    PodsThrottled,
    PodsUnplaced,
    PodsWanted,
    RunsSuperseded,
)
from derny.core.state import State, configure, count_in, pod_goal
from derny.model.errors import Invalid, WrongState
from derny.model.ids import JobId
from derny.model.records import Job, Pod, Termination
from derny.model.specs import PodTemplate
from derny.model.states import (
    POD_ADMITTED,
    POD_TERMINAL,
    Gate,
    HealthState,
    JobState,
    PodState,
    TerminationReason,
)

THROTTLED = "Task throttled due to failure"
"""The message by which clients know a pod that waits for its back-off to pass (behaviour, jobs §7.6)."""

_CONFIG = attrgetter("config")
"""Neighbours in a batch mostly have the same."""


def decide_start(state: State, command: StartPod, at: float) -> list[PodsWanted]:
    """NotFound, also beyond the job's count; Invalid: the job is being deleted.

    Nothing for a pod that is to run anyway.
    """
    job, pod = _startable(state, command.job, command.instance)
    return [] if pod.goal is PodState.RUNNING else [PodsWanted(job.id, [pod.instance], PodState.RUNNING)]


def decide_stop(state: State, command: StopPod, at: float) -> list[PodsWanted]:
    """NotFound. Nothing for a pod that is to stop anyway."""
    pod = state.pod(command.job, command.instance)
    return [PodsWanted(pod.job, [pod.instance], PodState.KILLED)] if pod.goal is PodState.RUNNING else []


def decide_restart(state: State, command: RestartPod, at: float) -> list[Event]:
    """NotFound, also beyond the job's count; Invalid: the job is being deleted; WrongState: the SLA was to be
    heeded and can't bear it.

    Nothing while an earlier wish for a new run is pending.
    """
    job, pod = _startable(state, command.job, command.instance)
    if pod.goal is not PodState.RUNNING:
        return [PodsWanted(job.id, [pod.instance], PodState.RUNNING)]
    if pod.rerun:
        return []
    if command.check_sla and not may_disrupt(job, pod):
        raise WrongState(
            f"pod {pod.job}-{pod.instance} can't be restarted within the SLA: {job.unavailable} pods of its"
            f" job are unavailable, and sla.maximum_unavailable_instances is {job.spec.unavailable_max}"
        )
    reason = (
        TerminationReason.KILLED_FOR_SLA_AWARE_RESTART
        if command.check_sla
        else TerminationReason.KILLED_FOR_RESTART
    )
    return [RunsSuperseded(job.id, [pod.instance], reason, "Restarting the pod")]


def _startable(state: State, job_id: JobId, instance: int) -> tuple[Job, Pod]:
    job = state.job(job_id)
    pod = state.pod(job_id, instance)
    if PodState.DELETED in (pod.goal, pod_goal(job.goal)):
        raise Invalid(f"pod {job_id}-{instance} is going to be deleted; expected a pod that is not")
    return job, pod


def apply_created(state: State, event: PodsCreated, at: float) -> None:
    job = state.jobs[event.job]
    assert event.first == len(job.pods)
    spec, goal = job.spec, pod_goal(job.goal)
    stopped = goal is not PodState.RUNNING
    first_state, completed_at = (PodState.KILLED, at) if stopped else (PodState.INITIALIZED, 0.0)
    for instance in range(event.first, event.end):
        template = spec.template(instance)
        health = _first_health(template)
        pod = Pod(job.id, instance, template, first_state, goal, 1, job.config, job.config, at, health)
        pod.completed_at = completed_at
        if instance in job.departed:
            _go_on(pod, job.departed.pop(instance))
        job.pods.append(pod)
    made = job.pods[event.first :]
    count_in(job, made[0], len(made))
    state.record_all(job, made, at)
    if not stopped:
        _queue(state, job, made, at)
    if job.goals_set == event.first:
        job.goals_set = event.end
    state.touch(job, at)


def _first_health(template: PodTemplate) -> HealthState:
    """Of a run about which nothing has been heard."""
    return HealthState.UNKNOWN if template.health_checked else HealthState.DISABLED


def _go_on(pod: Pod, departed: Pod) -> None:
    """An instance that is there again goes on with its runs and all that is known of them."""
    pod.run, pod.revision, pod.history = departed.run + 1, departed.revision, departed.history


def apply_goal_set(state: State, event: PodsGoalSet, at: float) -> None:
    job = state.jobs[event.job]
    # A pod that is to go stays so, whatever its job is told.
    final = (event.goal, PodState.DELETED)
    told = [
        pod
        for pod in job.pods[event.first : event.end]
        if pod.goal not in final and pod.instance not in job.exempt
    ]
    for pod in told:
        set_goal(pod, event.goal)
    state.record_all(job, told, at)
    job.goals_set = event.end
    if job.exempt and event.end == len(job.pods):
        job.exempt = {}
    state.touch(job, at)


def set_goal(
    pod: Pod, goal: PodState, reason: TerminationReason = TerminationReason.KILLED_ON_REQUEST
) -> None:
    """What is wanted of a pod from now on, and the reason if that ends its run."""
    pod.goal = goal
    stopped = goal is not PodState.RUNNING
    if stopped:
        pod.rerun, pod.desired_host = False, None
        if pod.message == THROTTLED:
            pod.message = ""
    # A kill that has been asked for can't be taken back, so its reason stands.
    if pod.state not in POD_TERMINAL and pod.state is not PodState.KILLING:
        pod.termination = Termination(reason) if stopped else None


def apply_wanted(state: State, event: PodsWanted, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        set_goal(pod, event.goal)
        if event.goal is PodState.RUNNING:
            # By a client's word, so without waiting for a back-off.
            pod.rerun = pod.state in POD_TERMINAL or pod.state is PodState.KILLING
            job.goal = JobState.RUNNING
        if job.goals_set < len(job.pods):
            job.exempt[pod.instance] = None
    state.record_all(job, pods, at)
    state.touch(job, at)


def apply_superseded(state: State, event: RunsSuperseded, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        if event.config:
            pod.desired_config = event.config
        else:
            pod.rerun = True
        if event.in_place:
            pod.desired_host = pod.desired_host or (None if pod.state in POD_TERMINAL else pod.host)
        else:
            pod.desired_host = None
        if event.forgiven:
            pod.failures = 0
        if pod.goal is PodState.RUNNING:
            pod.message, pod.reason = event.message, event.why
            if pod.state not in POD_TERMINAL and pod.state is not PodState.KILLING:
                pod.termination = Termination(event.reason)
    state.record_all(job, pods, at)
    state.touch(job, at)


def apply_forgiven(state: State, event: FailuresForgiven, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        pod.failures = 0
    state.record_all(job, pods, at)
    state.touch(job, at)


def apply_removed(state: State, event: PodsRemoved, at: float) -> None:
    job = state.jobs[event.job]
    for pod in job.pods[event.first :]:
        assert pod.state in POD_TERMINAL
        count_in(job, pod, -1)
        state.forget(pod, at)
        if job.goal is not JobState.DELETED:
            job.departed[pod.instance] = pod
    job.leaving = max(job.leaving - len(job.pods) + event.first, 0)
    del job.pods[event.first :]
    job.goals_set = min(job.goals_set, event.first)
    state.touch(job, at)


def apply_admitted(state: State, event: GangsAdmitted, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    _dequeue(state, job, pods)
    state.move_all(job, pods, PodState.READY, at)
    state.join_group(*pods)
    charge(state, job, pods, 1)
    state.touch(job, at)


def apply_placed(state: State, event: PodsPlaced, at: float) -> None:
    job = state.jobs[event.job]
    names = state.table.name_of
    pods = [job.pods[instance] for instance in event.instances]
    template = pods[0].template
    assert all(pod.template is template for pod in pods)
    state.table.debit_many(event.hosts, template.footprint, event.ports, template.fds)
    for pod, ports in zip(pods, event.ports, strict=False):
        pod.ports = ports
    if template.labels:
        state.table.pod_labels.add(job.id, template.labels, event.hosts, event.instances)
    state.leave_group(*pods)
    for pod, row in zip(pods, event.hosts, strict=True):
        pod.host = name = names[row]
        state.hosts[name].pods[pod] = None
    state.move_all(job, pods, PodState.LAUNCHED, at, "", "REASON_UPDATE_OFFER")
    if template.volume is not None:
        for pod in pods:
            volumes.placed(state, job, pod, at)
    state.touch(job, at)


def apply_unplaced(state: State, event: PodsUnplaced, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        group = state.group(pod)
        del group.fresh[pod]
        group.tried[pod] = None
    state.move_all(job, pods, PodState.PLACING, at, event.reason)
    state.touch(job, at)


def apply_requeued(state: State, event: PodsRequeued, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    charge(state, job, pods, -1)
    state.leave_group(*pods)
    _queue(state, job, pods, at, event.message)
    state.touch(job, at)


def apply_throttled(state: State, event: PodsThrottled, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        pod.message = THROTTLED
    state.record_all(job, pods, at)
    state.touch(job, at)


def apply_restarted(state: State, event: PodsRestarted, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    for pod in pods:
        pod.run += 1
        configure(job, pod, pod.desired_config)
        template = job.specs[pod.config].template(pod.instance)
        if pod.containers:
            pod.containers = containers.renewed(pod.containers) if template is pod.template else ()
        pod.template = template
        pod.health = _first_health(template)
        pod.host, pod.ports, pod.termination = None, (), None
        pod.started_at = pod.completed_at = 0.0
        pod.rerun = False
    state.move_all(job, pods, PodState.INITIALIZED, at)
    _queue(state, job, pods, at)
    state.touch(job, at)


def apply_kill_requested(state: State, event: PodsKillRequested, at: float) -> None:
    job = state.jobs[event.job]
    by_what_is_said: dict[tuple[str, str], list[Pod]] = {}
    for instance in event.instances:
        pod = job.pods[instance]
        if pod.state is PodState.KILLING:
            # Asked once more: the wait for an answer begins anew.
            pod.changed_at = at
            state.record(pod, at)
        else:
            # Why it is killed has been said already if it is to be followed by another run.
            said = (pod.message, pod.reason) if pod.superseded else ("Killing the pod", "")
            by_what_is_said.setdefault(said, []).append(pod)
    for said, pods in by_what_is_said.items():
        state.move_all(job, pods, PodState.KILLING, at, *said)
    state.touch(job, at)


def apply_killed(state: State, event: PodsKilled, at: float) -> None:
    job = state.jobs[event.job]
    pods = [job.pods[instance] for instance in event.instances]
    _dequeue(state, job, [pod for pod in pods if pod.state is PodState.PENDING])
    state.leave_group(*[pod for pod in pods if pod.state is not PodState.PENDING])
    charge(state, job, [pod for pod in pods if pod.state in POD_ADMITTED], -1)
    for pod in pods:
        pod.completed_at = at
    state.move_all(job, pods, PodState.KILLED, at, event.message)
    state.touch(job, at)


def apply_orphans_found(state: State, event: OrphansFound, at: float) -> None:
    """Nothing of ours changes: the event is there for its effect, which a closed gate may hold back."""
    if Gate.KILL in state.closed:
        state.held_orphans.update(zip(event.pods, event.hosts, strict=True))


def _queue(state: State, job: Job, pods: Sequence[Pod], at: float, message: str = "") -> None:
    state.move_all(job, pods, PodState.PENDING, at, message)
    for config, some in groupby(pods, _CONFIG):
        spec = job.specs[config]
        state.tree.enqueue(spec.pool, spec.priority, *some)


def _dequeue(state: State, job: Job, pods: Sequence[Pod]) -> None:
    for config, some in groupby(pods, _CONFIG):
        spec = job.specs[config]
        state.tree.dequeue(spec.pool, spec.priority, *some)


def charge(state: State, job: Job, pods: Sequence[Pod], times: int) -> None:
    """Count pods at their pool and above, or with -1 give them back; alike pods in one go."""
    alike: dict[int, tuple[Pod, int]] = {}
    for pod in pods:
        first, count = alike.get(id(pod.template), (pod, 0))
        alike[id(pod.template)] = (first, count + 1)
    for pod, count in alike.values():
        state.tree.charge(job.spec_of(pod).pool, pod.template, count * times)
