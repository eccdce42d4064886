"""Workflows: decide and apply. How a job gets from one configuration to the next.

    INITIALIZED → ROLLING_FORWARD → SUCCEEDED | FAILED
                  ROLLING_FORWARD → ROLLING_BACKWARD → ROLLED_BACK | FAILED
    PAUSED and back, ABORTED      from every state that is not final, at a client's word

Every job has one at least: its creation is an update from nothing. What is decided here is what clients ask
for; the steps that workflows take by themselves are `core.workflow_steps`. A workflow is planned, slice by
slice: pods are compared with the new configuration, and those that need no restart just get its number. Then
instances are begun, as many at a time as the batch allows, and settle as done or failed. A job has one
unfinished workflow at most, the last of its list. (Behaviour, jobs §8.)
"""

from collections import OrderedDict, deque
from collections.abc import Sequence

import msgspec

from derny.core import instances, jobs, pods, secrets, volumes, workflow_log
from derny.core.commands import AbortWorkflow, PauseWorkflow, ReplaceJob, RestartJob, ResumeWorkflow
from derny.core.events import (
    InstancesBegun,
    InstancesSettled,
    JobCreated,
    PodsCreated,
    PodsRemoved,
    PodsWanted,
    RunsSuperseded,
    SecretsKept,
    WorkflowMoved,
    WorkflowPlanned,
    WorkflowRolledBack,
    WorkflowStarted,
    WorkflowSteered,
)
from derny.core.state import Rollout, State, configure, pod_goal
from derny.model.errors import Invalid, WrongState
from derny.model.periods import Limits
from derny.model.records import Job, Pod, Termination, Workflow
from derny.model.specs import JobSpec
from derny.model.states import (
    POD_ADMITTED,
    JobState,
    PodState,
    TerminationReason,
    WorkflowState,
    WorkflowType,
)

_WORDS = {
    WorkflowType.UPDATE: (TerminationReason.KILLED_FOR_UPDATE, "Updating the pod"),
    WorkflowType.RESTART: (TerminationReason.KILLED_FOR_RESTART, "Restarting the pod"),
}
"""Why a workflow ends runs, and what the pods say meanwhile."""


# Decide.


def decide_replace(
    state: State, command: ReplaceJob, at: float, limits: Limits
) -> list[WorkflowStarted | WorkflowSteered | SecretsKept]:
    """An update; nothing if the same one is under way already.

    NotFound; Invalid: another pool, a job that is being deleted, a restart under way, a secret without
    content that the job does not have; WrongVersion;
    WrongState: pods are to be started while the job stops; Exhausted. (Behaviour, jobs §2.2, §8.3, §8.4.)
    """
    job = state.job(command.job)
    check_fixed(state, job, command.spec)
    jobs.at_version(state, command.job, command.version)
    if command.workflow.start_pods and job.goal in jobs.STOPPED and not jobs.has_ended(job):
        raise WrongState(
            f"job {job.id!r} is on its way to {job.goal.name} and update_spec.start_pods is set; wait for its"
            " end"
        )
    now = job.workflows[-1]
    repeats = (now.type, now.spec) == (WorkflowType.UPDATE, command.workflow)
    refs, kept = secrets.settled(job, command.secrets)
    is_same = command.spec.digest == job.spec.digest and refs == job.spec.secrets
    if now.rolling and repeats and is_same:
        return [*_noted(job, now, command.opaque)]
    jobs.changeable(state, command.job, command.version)
    _check_overwrites(job, WorkflowType.UPDATE)
    jobs.check_count(state, command.spec.instance_count, job.spec.instance_count, limits)
    started = WorkflowStarted(
        job.id,
        WorkflowType.UPDATE,
        (job.config + 1, job.desired, job.workflow + 1),
        command.workflow,
        msgspec.structs.replace(command.spec, secrets=refs),
        opaque=command.opaque,
        forgotten=_too_many(job, limits),
    )
    return [started, SecretsKept(job.id, kept)] if kept else [started]


def check_fixed(state: State, job: Job, spec: JobSpec) -> None:
    """Refuse another value for what is fixed once the job exists; Invalid."""
    volumes.check_sizes(state, job, spec)
    if spec.pool != job.spec.pool:
        raise Invalid(
            f"spec.respool_id {spec.pool!r} is not the job's; it is fixed, expected {job.spec.pool!r}"
        )


def decide_restart(
    state: State, command: RestartJob, at: float, limits: Limits
) -> list[WorkflowStarted | WorkflowSteered]:
    """A restart; nothing if the same one is under way already.

    NotFound, WrongVersion; Invalid: ranges that are empty or beyond the job, a job that is being deleted,
    another workflow under way. (Behaviour, jobs §2.4.)
    """
    job = jobs.at_version(state, command.job, command.version)
    asked = _ranges_of(command, job.spec.instance_count)
    now = job.workflows[-1]
    if (
        now.rolling
        and now.type is WorkflowType.RESTART
        and (now.spec, now.asked) == (command.workflow, asked)
    ):
        return _noted(job, now, command.opaque)
    jobs.changeable(state, command.job, command.version)
    _check_overwrites(job, WorkflowType.RESTART)
    return [
        WorkflowStarted(
            job.id,
            WorkflowType.RESTART,
            (job.config + 1, job.desired, job.workflow + 1),
            command.workflow,
            None,
            asked,
            command.opaque,
            _too_many(job, limits),
        )
    ]


def decide_pause(state: State, command: PauseWorkflow, at: float) -> list[WorkflowSteered]:
    """NotFound, WrongVersion. Without anything to pause it is the version alone that changes."""
    job = jobs.at_version(state, command.job, command.version)
    now = job.workflows[-1]
    return _steered(job, now.state if now.finished else WorkflowState.PAUSED, command.opaque)


def decide_resume(state: State, command: ResumeWorkflow, at: float) -> list[WorkflowSteered]:
    """As `decide_pause`."""
    job = jobs.at_version(state, command.job, command.version)
    now = job.workflows[-1]
    paused = now.state is WorkflowState.PAUSED
    return _steered(job, now.prev_state if paused else now.state, command.opaque)


def decide_abort(state: State, command: AbortWorkflow, at: float) -> list[WorkflowSteered]:
    """As `decide_pause`."""
    job = jobs.at_version(state, command.job, command.version)
    now = job.workflows[-1]
    return _steered(job, now.state if now.finished else WorkflowState.ABORTED, command.opaque)


def _ranges_of(command: RestartJob, count: int) -> tuple[instances.Range, ...]:
    """All that is asked for, in order; the end of a range may say "to the last" as the largest number."""
    asked = []
    for first, to in command.ranges:
        end = count if to == instances.NUMBER_MAX else to
        if first >= end or end > count:
            raise Invalid(
                f"ranges has from {first} to {to}; expected ranges that are not empty, within the {count}"
                " instances of the job"
            )
        asked.append((first, end))
    return instances.merged(asked) or ((0, count),)


def _noted(job: Job, workflow: Workflow, opaque: str) -> list[WorkflowStarted | WorkflowSteered]:
    return [] if opaque == workflow.opaque else [*_steered(job, workflow.state, opaque)]


def _steered(job: Job, to: WorkflowState, opaque: str | None) -> list[WorkflowSteered]:
    return [WorkflowSteered(job.id, to, (job.config, job.desired, job.workflow + 1), opaque)]


def _check_overwrites(job: Job, wanted: WorkflowType) -> None:
    """Only an update may take the place of an unfinished workflow, and only of another update."""
    now = job.workflows[-1]
    if not now.finished and (now.type, wanted) != (WorkflowType.UPDATE, WorkflowType.UPDATE):
        raise Invalid(
            f"a workflow of type {now.type.name} is under way in job {job.id!r} ({now.state.name}), which one"
            f" of type {wanted.name} can't replace; abort it first, or wait for its end"
        )


def _too_many(job: Job, limits: Limits) -> int:
    return max(len(job.workflows) + 1 - limits.workflows_per_job_max, 0)


# Apply: what clients cause.


def apply_job_created(state: State, event: JobCreated, at: float) -> None:
    """The creation is an update from the empty job, version 0, whose plan is known at once."""
    jobs.apply_created(state, event, at)
    job = state.jobs[event.job]
    count = event.spec.instance_count
    workflow = Workflow(
        WorkflowType.UPDATE, event.workflow, (1, 1, 1), (0, 1, 1), at, at, opaque=event.opaque
    )
    _enter(state, job, workflow, at)
    workflow.planned, workflow.added, workflow.total = True, (0, count), count
    if count:
        workflow_log.append(workflow.log, at, workflow.state, instances.span(0, count))
    if workflow.state is WorkflowState.INITIALIZED:
        _move(state, job, workflow, WorkflowState.ROLLING_FORWARD, at)


def apply_started(state: State, event: WorkflowStarted, at: float) -> None:
    job = state.jobs[event.job]
    before = job.workflows[-1]
    if not before.finished:
        _move(state, job, before, WorkflowState.ABORTED, at)
    workflow = Workflow(
        event.kind,
        event.workflow,
        event.version,
        (job.config, job.desired, job.workflow),
        at,
        at,
        opaque=event.opaque,
        asked=event.asked,
    )
    jobs.adopt(state, job, event.spec or job.spec, event.version, at)
    _enter(state, job, workflow, at)
    del job.workflows[: event.forgotten]
    _forget_specs(job)
    if event.kind is WorkflowType.RESTART or event.workflow.start_pods:
        job.goal = JobState.RUNNING
    state.touch(job, at)


def apply_steered(state: State, event: WorkflowSteered, at: float) -> None:
    job = state.jobs[event.job]
    workflow = job.workflows[-1]
    job.config, job.desired, job.workflow = event.version
    if event.opaque is not None:
        workflow.opaque = event.opaque
    if event.state is not workflow.state:
        touched = instances.packed(sorted(workflow.current))
        _move(state, job, workflow, event.state, at)
        if touched:
            workflow_log.append(workflow.log, at, event.state, touched)
    state.touch(job, at)


def _enter(state: State, job: Job, workflow: Workflow, at: float) -> None:
    """The job has this workflow from now on."""
    if workflow.spec.start_paused:
        workflow.state, workflow.prev_state = WorkflowState.PAUSED, WorkflowState.INITIALIZED
    job.workflows.append(workflow)
    state.rollouts[job.id] = _rollout()
    workflow_log.append(workflow.log, at, workflow.state)


def _rollout() -> Rollout:
    return Rollout((OrderedDict(), OrderedDict(), OrderedDict()), OrderedDict(), deque())


def _forget_specs(job: Job) -> None:
    """Configurations go that belong to no workflow that is remembered, and to no pod."""
    kept = {job.config}
    for workflow in job.workflows:
        kept |= {workflow.config, workflow.prev_version[0]}
    job.counts_of = {config: counts for config, counts in job.counts_of.items() if any(counts)}
    old = [config for config in job.specs if config not in kept and config not in job.counts_of]
    if old:
        desired = {pod.desired_config for pod in job.pods}
        for config in old:
            if config not in desired:
                del job.specs[config]
                job.specs_at.pop(config, None)


def _move(state: State, job: Job, workflow: Workflow, to: WorkflowState, at: float) -> None:
    workflow.prev_state, workflow.state = workflow.state, to
    workflow.updated_at = at
    workflow_log.append(workflow.log, at, to)
    if workflow.finished:
        workflow.completed_at = at
        workflow.current = {}
        del state.rollouts[job.id]


# Apply: the steps of `core.workflow_steps`.


def apply_planned(state: State, event: WorkflowPlanned, at: float) -> None:
    job = state.jobs[event.job]
    workflow, rollout = job.workflows[-1], state.rollouts[job.id]
    touched = frozenset(event.updated)
    for pod in job.pods[workflow.compared : event.end]:
        if pod.goal is PodState.DELETED:
            # An earlier update was about to remove it; it is wanted again.
            job.leaving -= 1
            pods.set_goal(pod, pod_goal(job.goal))
            state.record(pod, at)
        if pod.instance in touched:
            rollout.waiting[_urgency(pod)][pod.instance] = None
        else:
            _relabel(state, job, pod, workflow.config, at)
    workflow.compared = event.end
    workflow.updated += instances.packed(event.updated)
    workflow.total += len(event.updated)
    workflow.updated_at = at
    if event.complete:
        _complete_plan(job, workflow, at)
    state.touch(job, at)


def _complete_plan(job: Job, workflow: Workflow, at: float) -> None:
    workflow.planned = True
    exist, count = len(job.pods), job.spec.instance_count
    if workflow.type is WorkflowType.UPDATE:
        workflow.added = (exist, count) if exist < count else (0, 0)
        workflow.removed = (count, exist) if count < exist else (0, 0)
        workflow.total += abs(exist - count)
        # Those that an earlier update was about to remove are begun already.
        workflow.current.update(dict.fromkeys(range(exist - job.leaving, exist)))
    for listed in (instances.span(*workflow.added), workflow.updated, instances.span(*workflow.removed)):
        if listed:
            workflow_log.append(workflow.log, at, workflow.state, listed)


def _relabel(state: State, job: Job, pod: Pod, config: int, at: float) -> None:
    """The pod has the new configuration without a new run; it may be of another priority or class then."""
    was, spec = job.spec_of(pod), job.specs[config]
    before, after = pod.template, spec.template(pod.instance)
    if after.ports != before.ports:
        # The same in another order: the numbers that the run has are in the old one.
        after = before
    tree = state.tree
    of_another_class = tree.queue_of(before) is not tree.queue_of(after)
    requeued = pod.state is PodState.PENDING and (of_another_class or was.priority != spec.priority)
    regrouped = pod.state in (PodState.READY, PodState.PLACING)
    recharged = pod.state in POD_ADMITTED and before.preemptible != after.preemptible
    if requeued:
        tree.dequeue(was.pool, was.priority, pod)
    if regrouped:
        state.leave_group(pod)
    if recharged:
        pods.charge(state, job, [pod], -1)
    configure(job, pod, config)
    pod.desired_config = config
    pod.template = after
    if recharged:
        pods.charge(state, job, [pod], 1)
    if regrouped:
        state.join_group(pod)
    if requeued:
        tree.enqueue(spec.pool, spec.priority, pod)
    state.record(pod, at)


def _urgency(pod: Pod) -> int:
    """Pods that serve nobody go first, so that an update does the least harm (behaviour, jobs §8.6)."""
    if pod.unavailable:
        return 0
    return 2 if pod.goal is PodState.RUNNING and pod.state is PodState.RUNNING else 1


def weigh(rollout: Rollout, pod: Pod) -> None:
    """Let a waiting instance stand where its pod's state puts it now."""
    for urgency, waiting in enumerate(rollout.waiting):
        if pod.instance in waiting:
            if urgency != _urgency(pod):
                del waiting[pod.instance]
                rollout.waiting[_urgency(pod)][pod.instance] = None
            return


def apply_pods_created(state: State, event: PodsCreated, at: float) -> None:
    pods.apply_created(state, event, at)
    job = state.jobs[event.job]
    if job.id in state.rollouts:
        # The pods' own numbers: others would be as many objects more.
        _begin(job.workflows[-1], [pod.instance for pod in job.pods[event.first : event.end]], at)


def apply_begun(state: State, event: InstancesBegun, at: float) -> None:
    job = state.jobs[event.job]
    workflow, rollout = job.workflows[-1], state.rollouts[job.id]
    _begin(workflow, event.instances, at)
    count = job.spec.instance_count
    if event.instances[0] >= count:
        _let_go(state, job, event.instances, at)
    else:
        for instance in event.instances:
            next(waiting for waiting in rollout.waiting if instance in waiting).pop(instance)
        _supersede(state, job, workflow, event.instances, at)
    state.touch(job, at)


def _begin(workflow: Workflow, begun: Sequence[int], at: float) -> None:
    workflow.current.update(dict.fromkeys(begun))
    workflow.updated_at = at
    workflow_log.append(workflow.log, at, workflow.state, instances.packed(sorted(begun)))


def _let_go(state: State, job: Job, leaving: Sequence[int], at: float) -> None:
    for instance in leaving:
        pod = job.pods[instance]
        pod.failures = 0
        pods.set_goal(pod, PodState.DELETED, TerminationReason.KILLED_FOR_UPDATE)
        if pod.state is PodState.KILLING:
            pod.termination = Termination(TerminationReason.KILLED_FOR_UPDATE)
    state.record_all(job, [job.pods[instance] for instance in leaving], at)
    job.leaving += len(leaving)


def _supersede(state: State, job: Job, workflow: Workflow, touched: list[int], at: float) -> None:
    reason, message = _WORDS[workflow.type]
    is_restart = workflow.type is WorkflowType.RESTART
    # A job that was stopped after it had begun stays so: the later word counts.
    if (is_restart or workflow.spec.start_pods) and job.goal is JobState.RUNNING:
        stopped = [instance for instance in touched if job.pods[instance].goal is not PodState.RUNNING]
        pods.apply_wanted(state, PodsWanted(job.id, stopped, PodState.RUNNING), at)
    pods.apply_superseded(
        state,
        RunsSuperseded(
            job.id,
            touched,
            reason,
            message,
            config=workflow.config,
            in_place=workflow.spec.in_place,
            forgiven=not is_restart,
        ),
        at,
    )


def apply_pods_removed(state: State, event: PodsRemoved, at: float) -> None:
    job = state.jobs[event.job]
    gone = range(event.first, len(job.pods))
    pods.apply_removed(state, event, at)
    if job.id in state.rollouts:
        state.rollouts[job.id].changed.update(dict.fromkeys(gone))


def apply_settled(state: State, event: InstancesSettled, at: float) -> None:
    job = state.jobs[event.job]
    workflow = job.workflows[-1]
    for settled, state_then in ((event.done, WorkflowState.SUCCEEDED), (event.failed, WorkflowState.FAILED)):
        for instance in settled:
            del workflow.current[instance]
        if settled:
            workflow_log.append(workflow.log, at, state_then, instances.packed(settled))
    workflow.done += len(event.done)
    workflow.failed += len(event.failed)
    workflow.updated_at = at
    state.touch(job, at)


def apply_moved(state: State, event: WorkflowMoved, at: float) -> None:
    job = state.jobs[event.job]
    _move(state, job, job.workflows[-1], event.state, at)
    state.touch(job, at)


def apply_rolled_back(state: State, event: WorkflowRolledBack, at: float) -> None:
    """The plan is made anew, the other way round."""
    job = state.jobs[event.job]
    workflow = job.workflows[-1]
    old = job.specs[workflow.prev_version[0]]
    workflow.prev_version = workflow.version
    workflow.version = (event.config, job.desired, job.workflow)
    jobs.adopt(state, job, old, workflow.version, at)
    workflow.compared, workflow.planned = 0, False
    workflow.added = workflow.removed = (0, 0)
    workflow.updated, workflow.current = b"", {}
    workflow.total = workflow.done = workflow.failed = 0
    state.rollouts[job.id] = _rollout()
    _move(state, job, workflow, WorkflowState.ROLLING_BACKWARD, at)
    state.touch(job, at)
