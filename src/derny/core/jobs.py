"""Jobs: decide and apply. The life of a job.

Created with a configuration (version 1-1-1); its pods follow in slices. Start, stop and delete set its goal
and bump the second part of the version, each time, also when the goal stands already; the pods are told in
slices. The state is computed from the pods. A deleted job is forgotten with its last pod. (Behaviour, jobs
§1.2, §2.1, §2.6-2.8, §6.)
"""

from bisect import insort

import msgspec

from derny.core import pools, secrets, volumes
from derny.core.commands import CreateJob, DeleteJob, StartJob, StopJob
from derny.core.events import Event, JobCreated, JobGoalSet, JobRemoved, JobStateChanged, SecretsKept
from derny.core.state import State, new_counts
from derny.model.errors import Exhausted, Exists, Invalid, WrongState, WrongVersion
from derny.model.ids import JobId, entity_version
from derny.model.periods import Limits
from derny.model.records import Job
from derny.model.specs import JobSpec
from derny.model.states import POD_TERMINAL, JobState, PodState

STOPPED = frozenset({JobState.KILLED, JobState.DELETED})
"""Goals that want no pod running."""


def decide_create(state: State, command: CreateJob, at: float, limits: Limits) -> list[Event]:
    """A new job. Exists before all else; Invalid, NotFound: its pool; Exhausted: a limit of the daemon."""
    if command.job in state.jobs:
        raise Exists(f"job {command.job!r} already exists")
    pools.taking_jobs(state, command.spec.pool)
    if len(state.jobs) >= limits.jobs_max:
        raise Exhausted(
            f"there are {len(state.jobs)} jobs, the most allowed (limit jobs_max); delete some first"
        )
    check_count(state, command.spec.instance_count, 0, limits)
    refs, kept = secrets.settled(None, command.secrets)
    spec = msgspec.structs.replace(command.spec, secrets=refs)
    created = JobCreated(command.job, spec, command.workflow, command.opaque)
    return [created, SecretsKept(command.job, kept)] if kept else [created]


def check_count(state: State, count: int, before: int, limits: Limits) -> None:
    """Refuse a job to have so many pods, instead of the count before: Invalid, Exhausted."""
    if count > limits.pods_per_job_max:
        raise Invalid(
            f"spec.instance_count {count} is above the supported {limits.pods_per_job_max} pods of one job"
            " (limit pods_per_job_max)"
        )
    wanted = state.pods_wanted + count - before
    if count > before and wanted > limits.pods_max:
        raise Exhausted(f"there would be {wanted} pods, more than {limits.pods_max} (limit pods_max)")


def decide_start(state: State, command: StartJob, at: float) -> list[JobGoalSet]:
    """WrongVersion; Invalid: the job is being deleted."""
    job = changeable(state, command.job, command.version)
    return _goal_set(job, JobState.RUNNING)


def decide_stop(state: State, command: StopJob, at: float) -> list[JobGoalSet]:
    """WrongVersion; WrongState: an update is about to start its pods; Invalid: it is being deleted."""
    job = changeable(state, command.job, command.version)
    workflow = job.workflows[-1]
    if workflow.rolling and workflow.spec.start_pods:
        raise WrongState(
            f"job {job.id!r} has an update with start_pods under way, which a stop would contradict; abort it"
            " first, or wait for its end"
        )
    return _goal_set(job, JobState.KILLED)


def decide_delete(state: State, command: DeleteJob, at: float) -> list[JobGoalSet]:
    """WrongVersion; WrongState: it has not come to an end, and this is not forced.

    Any end will do: a job whose pods all failed or succeeded before it was stopped can be deleted like a
    killed one.
    """
    job = at_version(state, command.job, command.version)
    # The pods are asked, since the state may lag behind them by a second.
    stopped = job.goal is JobState.DELETED or (job.goal is JobState.KILLED and has_ended(job))
    if not stopped and not command.force:
        raise WrongState(
            f"job {job.id!r} has not been stopped: it is {job.state.name} with the goal {job.goal.name};"
            " stop it and wait for its end, or set force"
        )
    return _goal_set(job, JobState.DELETED)


def apply_created(state: State, event: JobCreated, at: float) -> None:
    job = Job(
        event.job,
        {1: event.spec},
        JobState.PENDING,
        JobState.RUNNING,
        at,
        at,
        new_counts(),
    )
    state.jobs[job.id] = job
    state.names.setdefault(event.spec.name, []).append(job.id)
    state.tree.pools[event.spec.pool].jobs += 1
    state.pods_wanted += event.spec.instance_count
    state.changed_jobs[job] = None
    state.dirty_jobs[job.id] = None


def apply_goal_set(state: State, event: JobGoalSet, at: float) -> None:
    job = state.jobs[event.job]
    job.goal = job.told = event.goal
    job.exempt = {}
    job.config, job.desired, job.workflow = event.version
    job.goals_set = 0
    state.touch(job, at)


def adopt(state: State, job: Job, spec: JobSpec, version: tuple[int, int, int], at: float) -> None:
    """The job has another configuration from now on, of the same pool."""
    state.pods_wanted += spec.instance_count - job.spec.instance_count
    if spec.name != job.spec.name:
        _forget_name(state, job)
        named = state.names.setdefault(spec.name, [])
        insort(named, job.id, key=lambda other: state.jobs[other].created_at)
    job.config, job.desired, job.workflow = version
    job.specs[job.config] = spec
    job.specs_at[job.config] = at


def _forget_name(state: State, job: Job) -> None:
    ids = state.names[job.spec.name]
    ids.remove(job.id)
    if not ids:
        del state.names[job.spec.name]


def apply_state_changed(state: State, event: JobStateChanged, at: float) -> None:
    job = state.jobs[event.job]
    job.state = event.state
    job.state_at = at
    if event.state is JobState.RUNNING and not job.started_at:
        job.started_at = at
    state.touch(job, at)


def apply_removed(state: State, event: JobRemoved, at: float) -> None:
    job = state.jobs.pop(event.job)
    assert not job.pods, f"job {job.id} is removed while it has pods"
    _forget_name(state, job)
    state.tree.pools[job.spec.pool].jobs -= 1
    state.pods_wanted -= job.spec.instance_count
    state.rollouts.pop(job.id, None)
    volumes.job_removed(state, job)
    # The last that is seen of it.
    job.state = JobState.DELETED
    state.touch(job, at)
    del state.dirty_jobs[job.id]


def has_ended(job: Job) -> bool:
    """Whether every pod that the job has by now has come to an end."""
    return sum(job.counts[end] for end in POD_TERMINAL) == len(job.pods)


def computed_state(job: Job) -> JobState:
    """What the job's state should be, by its pods and its goal; the first rule that matches wins.

    (Behaviour, jobs §6.2. Here KILLING ends with a new goal, and a stopped job without pods is KILLED.)
    """
    count, wanted = job.counts, job.spec.instance_count
    ended = count[PodState.SUCCEEDED] + count[PodState.FAILED] + count[PodState.LOST]
    killed = count[PodState.KILLED]
    if job.goal in STOPPED:
        if ended + killed < len(job.pods):
            return JobState.KILLING if job.goals_set == len(job.pods) else job.state
        if len(job.pods) < wanted or not wanted:
            return JobState.KILLED if killed or not job.pods else JobState.FAILED
    elif len(job.pods) != wanted:
        return JobState.PENDING
    return _of_all_pods(job, ended, killed)


def _of_all_pods(job: Job, ended: int, killed: int) -> JobState:
    count, wanted = job.counts, job.spec.instance_count
    if count[PodState.SUCCEEDED] >= wanted:
        computed = JobState.SUCCEEDED
    elif ended >= wanted:
        computed = JobState.FAILED
    elif killed and ended + killed >= wanted:
        computed = JobState.KILLED
    else:
        running = count[PodState.RUNNING] + count[PodState.PREEMPTING]
        return JobState.RUNNING if running else JobState.PENDING
    if job.pods and job.pods[0].template.controller:
        return _of_controller(job.pods[0].state)
    return computed


def _of_controller(state: PodState) -> JobState:
    """A controller pod (instance 0) decides how its job ended."""
    if state is PodState.SUCCEEDED:
        return JobState.SUCCEEDED
    return JobState.FAILED if state in (PodState.FAILED, PodState.LOST) else JobState.KILLED


def at_version(state: State, job_id: JobId, version: str) -> Job:
    """The job, if the caller has seen its latest version; NotFound, WrongVersion."""
    job = state.job(job_id)
    current = entity_version(job.config, job.desired, job.workflow)
    if version != current:
        raise WrongVersion(
            f"unexpected entity version: job {job_id!r} is at {current!r}, the request says {version!r}"
        )
    return job


def changeable(state: State, job_id: JobId, version: str) -> Job:
    """As `at_version`; Invalid for a job that is being deleted."""
    job = at_version(state, job_id, version)
    if job.goal is JobState.DELETED:
        raise Invalid(f"job {job_id!r} is going to be deleted; expected a job that is not")
    return job


def _goal_set(job: Job, goal: JobState) -> list[JobGoalSet]:
    return [JobGoalSet(job.id, goal, (job.config, job.desired + 1, job.workflow))]
