"""The goal table: (actual, goal) → the next step owed, and when.

One rule: `OWED` and `state.AT_REST` together have every pair exactly once; a step not due yet sets a timer
and is looked at again. The pass `settle` in `core.machine` asks here about every dirty pod and job, and
turns like answers into one event. (Behaviour, jobs §6.3, §7.2, §7.6.)
"""

import math
from collections.abc import Callable
from enum import Enum, auto
from itertools import takewhile

from derny.core.availability import WELL
from derny.core.events import Event, JobRemoved, JobStateChanged, PodsGoalSet, PodsRemoved
from derny.core.jobs import STOPPED, computed_state, has_ended
from derny.core.pods import THROTTLED
from derny.core.state import State, is_at_rest, pod_goal
from derny.core.workflow_steps import owed_to_workflow
from derny.model.periods import Periods
from derny.model.records import Job, Pod
from derny.model.states import POD_TERMINAL, JobState, PodState

LOOK_AGAIN_S = 600.0
"""No timer is set further ahead, so that one of a pod that is long gone does not keep it for hours."""


class Step(Enum):
    """What can be owed to a pod."""

    RESTART = auto()
    THROTTLE = auto()
    KILL = auto()
    KILL_WAITING = auto()
    REQUEUE = auto()
    FORGIVE = auto()
    SPARE = auto()


def _at_once(pod: Pod, periods: Periods) -> float:
    return 0.0


def _backoff_s(pod: Pod, periods: Periods) -> float:
    """min(first · 2^(failures-1), max); at once for a pod that has never failed.

    A run that was lost before it ran waits as long as a search for a host does: where the agents and we
    disagree about a host, trying again at once would go on without end.
    """
    if not pod.failures:
        return periods.placing_retry_s if pod.state is PodState.LOST and not pod.started_at else 0.0
    # The exponent is bounded so that no count of failures overflows.
    doubled = periods.restart_backoff_first_s * 2.0 ** min(pod.failures - 1, 64)
    return min(doubled, periods.restart_backoff_max_s)


def _launch_timeout_s(pod: Pod, periods: Periods) -> float:
    return periods.launch_timeout_s


def _start_timeout_s(pod: Pod, periods: Periods) -> float:
    """Never while an init container runs: it may take as long as it likes."""
    at_work = any(run.state is PodState.RUNNING for run in pod.containers)
    return math.inf if at_work else periods.start_timeout_s


def _placing_cycle_s(pod: Pod, periods: Periods) -> float:
    """All attempts of a placement cycle, each longer than the one before by the back-off. Between them
    nothing happens: a pod looks again whenever room has grown. (Behaviour, scheduler §4.4.)"""
    attempts = periods.placing_attempts
    backoffs = attempts * (attempts - 1) // 2
    return attempts * periods.placing_timeout_s + backoffs * periods.placing_backoff_s


def _kill_timeout_s(pod: Pod, periods: Periods) -> float:
    return periods.kill_timeout_s


def _preempting_timeout_s(pod: Pod, periods: Periods) -> float:
    return periods.eviction_s + periods.preempting_timeout_s


def _forgiven_after_s(pod: Pod, periods: Periods) -> float:
    """Only once it is well: a pod that is about to be killed by its health check has not got over it."""
    return periods.failures_forgiven_s if pod.health in WELL else math.inf


Delay = Callable[[Pod, Periods], float]

_RUN = PodState.RUNNING
_ENDS = (PodState.SUCCEEDED, PodState.FAILED, PodState.LOST, PodState.KILLED)

OWED: dict[tuple[PodState, PodState], tuple[Step, Delay]] = {
    **{(end, _RUN): (Step.RESTART, _backoff_s) for end in _ENDS},
    (PodState.PLACING, _RUN): (Step.REQUEUE, _placing_cycle_s),
    # A launch that nothing is heard of is killed. Its host stays taken until the agent has answered, or the
    # master in its place: what may still run there must not be run twice, nor its resources be given away.
    (PodState.LAUNCHED, _RUN): (Step.KILL, _launch_timeout_s),
    (PodState.STARTING, _RUN): (Step.KILL, _start_timeout_s),
    # It was not evicted after all: whoever chose it has forgotten it, as a restart of the daemon does.
    (PodState.PREEMPTING, _RUN): (Step.SPARE, _preempting_timeout_s),
    # Started again while it is being killed: the end of this run comes first.
    (PodState.KILLING, _RUN): (Step.KILL, _kill_timeout_s),
    **{
        (actual, goal): row
        for goal in (PodState.KILLED, PodState.DELETED)
        for actual, row in {
            PodState.PENDING: (Step.KILL_WAITING, _at_once),
            PodState.READY: (Step.KILL_WAITING, _at_once),
            PodState.PLACING: (Step.KILL_WAITING, _at_once),
            PodState.LAUNCHED: (Step.KILL, _at_once),
            PodState.STARTING: (Step.KILL, _at_once),
            PodState.RUNNING: (Step.KILL, _at_once),
            PodState.PREEMPTING: (Step.KILL, _at_once),
            PodState.KILLING: (Step.KILL, _kill_timeout_s),
        }.items()
    },
}


SUPERSEDED: dict[PodState, tuple[Step, Delay]] = {
    **{actual: row for (actual, goal), row in OWED.items() if goal is PodState.KILLED},
    # It was not the pod's fault: no back-off.
    **dict.fromkeys(_ENDS, (Step.RESTART, _at_once)),
}
"""What is owed to a pod that shall run, but in another run: its run is ended as if the pod were stopped."""

RECOVERY: tuple[Step, Delay] = (Step.FORGIVE, _forgiven_after_s)
"""What is owed to a pod that runs after failures."""


def _row(pod: Pod) -> tuple[Step, Delay] | None:
    if pod.goal is _RUN and pod.superseded:
        return SUPERSEDED[pod.state]
    row = OWED.get((pod.state, pod.goal))
    return row if row is not None or is_at_rest(pod) else RECOVERY


def step_of(pod: Pod, periods: Periods) -> tuple[Step, float] | None:
    """The next step that is owed to the pod, and when; None: it is at rest."""
    row = _row(pod)
    return None if row is None else (row[0], pod.changed_at + row[1](pod, periods))


def owed_to_pod(state: State, pod: Pod, at: float, periods: Periods) -> Step | None:
    """The step to take now. None: nothing is owed, or not yet; then a timer has been set."""
    owed = step_of(pod, periods)
    if owed is None:
        return None
    step, due = owed
    if due > at:
        state.timers.add(min(due, at + LOOK_AGAIN_S), pod)
        throttled = step is Step.RESTART and pod.failures > 0
        return Step.THROTTLE if throttled and pod.message != THROTTLED else None
    if step is Step.REQUEUE and not state.tree.waiting:
        # Nobody waits for the share that this pod would give back: it may as well keep it.
        state.timers.add(at + periods.placing_timeout_s, pod)
        return None
    return step


def owed_to_job(state: State, job: Job, at: float, budget: int, periods: Periods) -> tuple[Event | None, int]:
    """The event that brings the job nearer to its goal, and how many pods it concerns: at most `budget`, at
    least 1.

    None: nothing is owed, or not yet; then a timer has been set.
    """
    made = len(job.pods)
    if job.goals_set < made:
        end = min(made, job.goals_set + budget)
        return PodsGoalSet(job.id, job.goals_set, end, pod_goal(job.told)), end - job.goals_set
    event, looked = owed_to_workflow(state, job, at, budget, periods)
    if event is not None or looked >= budget:
        return event, looked
    removable = _removable(job, budget)
    if removable:
        return PodsRemoved(job.id, made - removable), removable
    if job.goal is JobState.DELETED and not made:
        return JobRemoved(job.id), 1
    computed = computed_state(job)
    if computed is job.state:
        return None, looked + 1
    due = job.state_at + periods.job_status_s
    if due > at and job.goal not in STOPPED:
        state.timers.add(due, job.id)
        return None, looked + 1
    return JobStateChanged(job.id, computed), looked + 1


def _removable(job: Job, most: int) -> int:
    """How many pods at the end of the list have ended and are to go, at most so many."""
    if job.goal is JobState.DELETED:
        return min(most, len(job.pods)) if has_ended(job) else 0
    tail = reversed(job.pods[len(job.pods) - min(most, job.leaving) :])
    return sum(1 for _ in takewhile(lambda pod: pod.state in POD_TERMINAL, tail))
