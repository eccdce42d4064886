"""The next step that an unfinished workflow owes.

One rule: it looks only at instances that have changed and at counters, never at all pods, so that a workflow
of 50,000 pods costs no more a turn than one of fifty. In this order: instances in progress that are done or
have failed; the end, if too many failed; the plan; then as many new instances as the batch has room for,
added before updated before removed. Called by `core.goals`, which it gives one event at a time;
`core.workflows` applies it. (Behaviour, jobs §8.6.)
"""

from itertools import chain, islice

from derny.core.availability import WELL
from derny.core.events import (
    Event,
    InstancesBegun,
    InstancesSettled,
    PodsCreated,
    WorkflowMoved,
    WorkflowPlanned,
    WorkflowRolledBack,
)
from derny.core.state import Rollout, State
from derny.core.workflow_plan import instances_to_touch
from derny.core.workflows import weigh
from derny.model.periods import Periods
from derny.model.records import Job, Pod, Workflow
from derny.model.states import (
    POD_TERMINAL,
    HealthState,
    JobState,
    PodState,
    WorkflowState,
    WorkflowType,
)

LOOKS_PER_ENTITY = 8
"""Looks at instances that have changed that cost as much as one step of a pod."""

_RUNNING = PodState.RUNNING
"""Looked up once: through its class a member takes 70 ns in Python 3.11."""

Owed = tuple[Event | None, int]
"""The event, and what it cost to find it, in instances looked at."""


def owed_to_workflow(state: State, job: Job, at: float, budget: int, periods: Periods) -> Owed:
    """The event that brings the job's workflow on; None: nothing is owed, or not yet."""
    rollout = state.rollouts.get(job.id)
    if rollout is None:
        return None, 0
    workflow = job.workflows[-1]
    if job.goal is JobState.DELETED:
        return WorkflowMoved(job.id, WorkflowState.ABORTED), 1
    settled, looked = _settled(state, job, workflow, rollout, at, budget, periods)
    if settled is not None or looked >= budget or workflow.state is WorkflowState.PAUSED:
        return settled, looked
    event, cost = _next(job, workflow, rollout, budget - looked)
    return event, looked + cost


def _settled(
    state: State, job: Job, workflow: Workflow, rollout: Rollout, at: float, budget: int, periods: Periods
) -> tuple[InstancesSettled | None, int]:
    """Look at the instances that have changed, as many as the budget bears; with the cost."""
    most = budget * LOOKS_PER_ENTITY
    while rollout.steady and rollout.steady[0][0] <= at and len(rollout.changed) < most:
        rollout.changed.update(dict.fromkeys(rollout.steady.popleft()[1]))
    done: list[int] = []
    failed: list[int] = []
    looked = min(most, len(rollout.changed))
    for _ in range(looked):
        instance, _none = rollout.changed.popitem(last=False)
        if instance in workflow.current:
            _judge(job, workflow, rollout, instance, at, periods, done, failed)
        elif instance < len(job.pods):
            weigh(rollout, job.pods[instance])
    if rollout.changed:
        state.dirty_jobs[job.id] = None
    if rollout.steady and rollout.wake <= at:
        rollout.wake = rollout.steady[0][0]
        state.timers.add(rollout.wake, job.id)
    event = InstancesSettled(job.id, sorted(done), sorted(failed)) if done or failed else None
    return event, looked // LOOKS_PER_ENTITY


def _judge(
    job: Job,
    workflow: Workflow,
    rollout: Rollout,
    instance: int,
    at: float,
    periods: Periods,
    done: list[int],
    failed: list[int],
) -> None:
    """Whether an instance in progress is done, has failed, or needs more time (behaviour, jobs §8.6)."""
    pod = job.pods[instance] if instance < len(job.pods) else None
    if pod is None or _is_stopped(pod):
        done.append(instance)
    elif _has_failed(workflow, pod):
        failed.append(instance)
    elif _serves(pod):
        due = pod.started_at + (periods.steady_s if pod.health is HealthState.DISABLED else 0)
        if due <= at:
            done.append(instance)
        elif rollout.steady and rollout.steady[-1][0] == due:
            # Many are reported together.
            rollout.steady[-1][1].append(instance)
        else:
            rollout.steady.append((due, [instance]))


def _is_stopped(pod: Pod) -> bool:
    return pod.state in POD_TERMINAL and pod.goal is PodState.KILLED


def _serves(pod: Pod) -> bool:
    wanted = pod.goal is _RUNNING and not pod.superseded
    return wanted and pod.state is _RUNNING and pod.health in WELL


def _has_failed(workflow: Workflow, pod: Pod) -> bool:
    most = workflow.spec.max_instance_retries
    return most > 0 and pod.failures >= most and workflow.type is WorkflowType.UPDATE


def _next(job: Job, workflow: Workflow, rollout: Rollout, budget: int) -> Owed:
    tolerated = workflow.spec.max_tolerable_instance_failures
    if tolerated and workflow.failed >= tolerated:
        return _failed(job, workflow), 1
    if not workflow.planned:
        return _plan(job, workflow, budget)
    if workflow.state is WorkflowState.INITIALIZED:
        return WorkflowMoved(job.id, WorkflowState.ROLLING_FORWARD), 1
    room = (workflow.spec.batch_size or workflow.total) - len(workflow.current)
    event, cost = _begin(job, workflow, rollout, min(room, budget))
    if event is None and not workflow.current and workflow.done + workflow.failed == workflow.total:
        backward = workflow.state is WorkflowState.ROLLING_BACKWARD
        return WorkflowMoved(job.id, WorkflowState.ROLLED_BACK if backward else WorkflowState.SUCCEEDED), 1
    return event, cost


def _failed(job: Job, workflow: Workflow) -> Event:
    """The end of a workflow with too many failed instances: once more from there to the old configuration,
    if that was asked for."""
    if workflow.spec.rollback_on_failure and workflow.state is not WorkflowState.ROLLING_BACKWARD:
        return WorkflowRolledBack(job.id, job.config + 1)
    return WorkflowMoved(job.id, WorkflowState.FAILED)


def _plan(job: Job, workflow: Workflow, budget: int) -> Owed:
    first, last = workflow.compared, min(len(job.pods), job.spec.instance_count)
    end = min(first + budget, last)
    touched = instances_to_touch(job, workflow, first, end)
    return WorkflowPlanned(job.id, max(end, first), touched, end >= last), max(end - first, 1)


def _begin(job: Job, workflow: Workflow, rollout: Rollout, room: int) -> Owed:
    """The instances whose turn it is, at most so many; None when there are none, or there is no room."""
    if room <= 0:
        return None, 0
    made = len(job.pods)
    if made < workflow.added[1]:
        end = min(made + room, workflow.added[1])
        return PodsCreated(job.id, made, end), end - made
    updated = list(islice(chain.from_iterable(rollout.waiting), room))
    if updated:
        return InstancesBegun(job.id, updated), len(updated)
    # From the last on, so that those that are to go are always the end of the list.
    first, end = workflow.removed[0], made - job.leaving
    if workflow.removed[1] and first < end:
        going = list(range(max(first, end - room), end))
        return InstancesBegun(job.id, going), len(going)
    return None, 0
