"""Read-only answers over the state, as views: what `api` may look at.

One rule: a view is made of values, so it can be kept across steps; nothing here writes. Refusals: NotFound
for what does not exist, Invalid for what is malformed. (API reference: JobStatus, PodStatus, PodEvent,
ResourcePoolInfo.)
"""

from collections.abc import Collection, Iterable, Sequence

import msgspec

from derny.answers.workflow_views import WorkflowStatusView, status_of
from derny.capacity import admission
from derny.core import hosts, pools, volumes
from derny.core.history import Entry, entries, message_before
from derny.core.pods import THROTTLED
from derny.core.state import State
from derny.model.errors import Exists, NotFound
from derny.model.ids import HostName, HostPoolName, JobId, PodId, PoolId, VolumeId, entity_version, pod_id
from derny.model.records import ContainerRun, Host, Job, Pod, Pool, Termination, Volume
from derny.model.resources import Resources
from derny.model.specs import JobSpec, PodTemplate, PoolResource, PoolSpec
from derny.model.states import POD_TERMINAL, HealthState, HostState, JobState, PodState, VolumeState

_NO_PODS = dict.fromkeys(PodState, 0)


class JobView(msgspec.Struct, frozen=True, gc=False):
    """A job's status and current configuration. `pod_stats` has every state that a pod can be in, by
    state."""

    id: JobId
    spec: JobSpec
    spec_version: int
    spec_created_at: float
    state: JobState
    goal: JobState
    version: str
    revision: int
    created_at: float
    updated_at: float
    pod_stats: dict[PodState, int]
    pod_stats_by_version: dict[str, dict[PodState, int]]
    """By pod entity version (`N-0-0`), only states that occur."""
    workflow: WorkflowStatusView
    """The latest one; of very many instances in progress it names some."""


class PodView(msgspec.Struct, frozen=True, gc=False):
    """A pod's status in its current run. Times are 0.0 where the thing has not happened."""

    job: JobId
    instance: int
    run: int
    state: PodState
    goal: PodState
    config: int
    desired_config: int
    template: PodTemplate
    health: HealthState
    host: HostName | None
    agent_id: str
    ports: tuple[int, ...]
    changed_at: float
    started_at: float
    completed_at: float
    failures: int
    message: str
    reason: str
    termination: Termination | None
    revision: int
    created_at: float
    previous: PodId | None
    """The pod id of the run before, None in the first."""
    desired_run: int
    desired_host: HostName | None
    volume: VolumeId | None
    containers: tuple[ContainerRun, ...] = ()
    """Init containers, then the others; empty while all are as the pod is."""
    ended_because: str = ""
    """What was said of the end of a run whose pod says by now that it waits for the next."""


class Changes(msgspec.Struct, frozen=True):
    """Jobs and pods in the state that they changed to, each once, in the order in which they first
    changed."""

    jobs: list[JobView]
    pods: list[PodView]


class PodEventView(msgspec.Struct, frozen=True):
    """One write of a pod: the entry, and the names of what it points to."""

    entry: Entry
    pod: PodId
    previous: PodId
    desired: PodId
    host: HostName | None
    agent_id: str
    template: PodTemplate | None
    """None where the run's configuration is not kept any more."""
    started_at: float = 0.0
    """Of the last event of an earlier run: when it began to run, and ended."""
    completed_at: float = 0.0


class VolumeView(msgspec.Struct, frozen=True):
    """A persistent volume. `size` in thousandths of a MB."""

    id: VolumeId
    job: JobId
    instance: int
    host: HostName
    path: str
    size: int
    state: VolumeState
    created_at: float
    updated_at: float


class PoolView(msgspec.Struct, frozen=True):
    """A pool's configuration and usage; interior pools and the root sum over all below."""

    id: PoolId
    spec: PoolSpec
    resources: tuple[PoolResource, ...]
    children: tuple[PoolId, ...]
    path: str
    allocation: Resources
    slack: Resources
    created_at: float
    updated_at: float
    version: int


class HostView(msgspec.Struct, frozen=True):
    """A host as clients see it."""

    name: HostName
    ip: str
    state: HostState
    goal: HostState
    labels: tuple[tuple[str, str], ...]
    capacity: Resources


def job_info(state: State, job: JobId) -> JobView:
    """The status and the configuration of a job; NotFound."""
    return _job_view(state.job(job))


def job_spec(state: State, job: JobId, version: int) -> tuple[JobSpec, float]:
    """The configuration at a version, and when it was made; NotFound. Version 0 is the empty job before
    creation."""
    found = state.job(job)
    if version == 0:
        return JobSpec(found.spec.name, found.spec.pool, 0, b""), found.created_at
    if version not in found.specs:
        raise NotFound(f"job {job!r} has no configuration version {version}; its latest is {found.config}")
    return found.specs[version], found.specs_at.get(version, found.created_at)


def job_ids(state: State) -> list[JobId]:
    """All jobs, in order of creation."""
    return list(state.jobs)


def jobs_of(state: State, ids: Sequence[JobId]) -> list[JobView]:
    """Those of the given jobs that still exist."""
    return [_job_view(state.jobs[job]) for job in ids if job in state.jobs]


def job_ids_named(state: State, name: str) -> list[JobId]:
    """The jobs of this name, newest first; NotFound."""
    found = state.names.get(name)
    if not found:
        raise NotFound(f"no job has the name {name!r}")
    return found[::-1]


def pod_info(state: State, job: JobId, instance: int) -> PodView:
    """The status of a pod; NotFound."""
    return _pod_view(state, state.job(job), state.pod(job, instance))


def pods_of(state: State, job: JobId, first: int, end: int) -> list[PodView]:
    """The pods of a job with `first` <= instance < `end`, ascending; NotFound when there is no such job."""
    found = state.job(job)
    return [_pod_view(state, found, pod) for pod in found.pods[first:end]]


def missing_jobs(state: State, jobs: Iterable[JobId]) -> list[JobId]:
    """Those that do not exist."""
    return [job for job in jobs if job not in state.jobs]


def missing_pods(state: State, pods: Iterable[tuple[JobId, int]]) -> list[tuple[JobId, int]]:
    """Those that do not exist."""
    found = state.jobs
    return [(job, at) for job, at in pods if job not in found or at >= len(found[job].pods)]


def changes(state: State, jobs: Collection[Job], pods: Collection[Pod]) -> Changes:
    """The views of these records, which may be DELETED ones that the state has no more."""
    removed = {job.id: job for job in jobs if job.state is JobState.DELETED}
    found = state.jobs
    return Changes(
        [_job_view(job) for job in jobs],
        [_pod_view(state, found.get(pod.job) or removed[pod.job], pod) for pod in pods],
    )


def pod_events(state: State, job: JobId, instance: int, run: int | None = None) -> list[PodEventView]:
    """What was written of a run of a pod, newest first; of the current run where none is given.

    NotFound when there never was such a pod, or it has not had this run. Of one long ago, or whose events
    were deleted, there are none. A pod that was removed keeps its events until its job goes.
    """
    departed = state.job(job).departed
    pod = departed[instance] if instance in departed else state.pod(job, instance)
    wanted = pod.run if run is None else run
    if not 1 <= wanted <= pod.run:
        raise NotFound(f"pod {job}-{instance} has had no run {wanted}; its current run is {pod.run}")
    found = [_event_view(state, pod, entry) for entry in entries(pod, state.texts) if entry.run == wanted]
    return found[::-1]


def previous_runs(state: State, job: JobId, instance: int, limit: int | None) -> list[PodEventView]:
    """How the earlier runs of a pod ended, newest first, at most `limit` of them; NotFound."""
    pod = state.pod(job, instance)
    last: dict[int, Entry] = {}
    started: dict[int, float] = {}
    completed: dict[int, float] = {}
    for entry in entries(pod, state.texts):
        if entry.run < pod.run:
            last[entry.run] = entry
            if entry.state is PodState.RUNNING:
                started.setdefault(entry.run, entry.at)
            elif entry.state in POD_TERMINAL:
                completed.setdefault(entry.run, entry.at)
    return [
        msgspec.structs.replace(
            _event_view(state, pod, last[run]),
            started_at=started.get(run, 0.0),
            completed_at=completed.get(run, 0.0),
        )
        for run in sorted(last, reverse=True)[:limit]
    ]


def job_volumes(state: State, job: JobId) -> list[VolumeView]:
    """The volumes of a job, by instance; NotFound."""
    return [_volume_view(volume) for volume in volumes.of_job(state, job)]


def volume_info(state: State, volume: VolumeId) -> VolumeView:
    """A volume, which may be deleted already; NotFound."""
    return _volume_view(volumes.existing(state, volume))


def check_is_new(state: State, job: JobId) -> None:
    """Refuse an id that a job has; Exists."""
    if job in state.jobs:
        raise Exists(f"job {job!r} already exists")


def check_takes_jobs(state: State, pool: PoolId) -> None:
    """Refuse a pool that no job can be put in: Invalid, NotFound."""
    pools.taking_jobs(state, pool)


def pool_info(state: State, pool: PoolId) -> PoolView:
    """A pool; NotFound."""
    return _pool_view(state, state.tree.get(pool))


def pool_id_at(state: State, path: str) -> PoolId:
    """The pool at a path; Invalid, NotFound."""
    return state.tree.lookup(path).id


def all_pools(state: State) -> list[PoolView]:
    """Every pool: the root first, then depth first in order of creation."""
    return [_pool_view(state, pool) for pool in state.tree.walk()]


def pool_ids(state: State) -> Collection[PoolId]:
    """The ids of all pools, in no order; a view of the state as it is."""
    return state.tree.pools.keys()


def all_hosts(state: State) -> list[HostView]:
    """Every host that was ever seen, in order of registration; UNKNOWN while its agent is lost."""
    return hosts_of(state, host_names(state))


def host_names(state: State) -> list[HostName]:
    """Every host, in the order of `all_hosts`."""
    return list(state.hosts)


def hosts_of(state: State, names: Sequence[HostName]) -> list[HostView]:
    """Those of the given hosts that still exist."""
    return [_host_view(state.hosts[name]) for name in names if name in state.hosts]


def host_pools(state: State) -> list[tuple[HostPoolName, list[HostName]]]:
    """Every host pool in order of creation, and its hosts in the order in which they came."""
    return [(name, list(members)) for name, members in state.host_pools.items()]


def waiting_reason(state: State, pod: PodView | Pod) -> str:
    """Why a PENDING pod has not been admitted, or why a PLACING one found no host when its like was looked
    at last; empty for pods in other states, and where what the pod itself says is still true."""
    if pod.state is PodState.PLACING:
        placing = state.pod(pod.job, pod.instance)
        return "" if placing in state.holds.of else state.group(placing).reason
    if pod.state is not PodState.PENDING:
        return ""
    pool = state.tree.pools[state.jobs[pod.job].spec.pool]
    return admission.sentence(state.tree, pool, state.pod(pod.job, pod.instance))


def waiting_reasons(state: State, job: JobId, pods: Sequence[PodView]) -> list[str]:
    """As `waiting_reason`, of several pods of one job; what is the same for many is found once."""
    pool = state.tree.pools[state.jobs[job].spec.pool]
    heads = [front.head for front in admission.fronts(pool)]
    said: dict[tuple[int, bool], str] = {}
    found = []
    for pod in pods:
        is_head = any((head.job, head.instance) == (job, pod.instance) for head in heads)
        key = id(pod.template), is_head
        if pod.state is not PodState.PENDING:
            found.append(waiting_reason(state, pod))
            continue
        if key not in said:
            said[key] = waiting_reason(state, pod)
        found.append(said[key])
    return found


def _occurring(counts: list[int]) -> dict[PodState, int]:
    return {state: count for state, count in zip(_NO_PODS, counts, strict=True) if count}


def _job_view(job: Job) -> JobView:
    # Quicker than counting all afresh: a job is viewed in every turn that changes it.
    stats = _NO_PODS | _occurring(job.counts)
    by_version = {
        entity_version(config): _occurring(counts)
        for config, counts in sorted(job.counts_of.items())
        if any(counts)
    }
    if job.goal is not JobState.DELETED:
        # Instances that are yet to be created count as being initialized.
        stats[PodState.INITIALIZED] += max(job.spec.instance_count - len(job.pods), 0)
    return JobView(
        job.id,
        job.spec,
        job.config,
        job.specs_at.get(job.config, job.created_at),
        job.state,
        job.goal,
        entity_version(job.config, job.desired, job.workflow),
        job.revision,
        job.created_at,
        job.updated_at,
        stats,
        by_version,
        status_of(job),
    )


def _pod_view(state: State, job: Job, pod: Pod) -> PodView:
    return PodView(
        pod.job,
        pod.instance,
        pod.run,
        pod.state,
        pod.goal,
        pod.config,
        pod.desired_config,
        pod.template,
        pod.health,
        pod.host,
        state.hosts[pod.host].agent_id if pod.host else "",
        pod.ports,
        pod.changed_at,
        pod.started_at,
        pod.completed_at,
        pod.failures,
        pod.message,
        pod.reason,
        pod.termination,
        pod.revision,
        job.created_at,
        pod_id(pod.job, pod.instance, pod.run - 1) if pod.run > 1 else None,
        pod.desired_run,
        pod.desired_host,
        job.volumes.get(pod.instance) if job.volumes else None,
        pod.containers,
        message_before(pod, state.texts, THROTTLED) if pod.message == THROTTLED else "",
    )


def _event_view(state: State, pod: Pod, entry: Entry) -> PodEventView:
    host = state.table.name_of[entry.host] if entry.host >= 0 else None
    spec = state.jobs[pod.job].specs.get(entry.config)
    return PodEventView(
        entry,
        pod_id(pod.job, pod.instance, entry.run),
        pod_id(pod.job, pod.instance, entry.run - 1),
        pod_id(pod.job, pod.instance, entry.run + entry.rerun),
        host,
        state.hosts[host].agent_id if host else "",
        spec.template(pod.instance) if spec is not None and spec.templates else None,
    )


def _volume_view(volume: Volume) -> VolumeView:
    return VolumeView(
        volume.id,
        volume.job,
        volume.instance,
        volume.host,
        volume.path,
        volume.size,
        volume.state,
        volume.created_at,
        volume.updated_at,
    )


def _host_view(host: Host) -> HostView:
    return HostView(
        host.name,
        host.ip,
        # One in maintenance may be silent: it is where it is wanted.
        HostState.UNKNOWN if host.lost and host.state is HostState.UP else host.state,
        host.goal,
        hosts.labels_of(host),
        host.capacity,
    )


def _pool_view(state: State, pool: Pool) -> PoolView:
    return PoolView(
        pool.id,
        pool.spec,
        state.tree.resources(pool),
        tuple(pool.children),
        state.tree.path(pool),
        pool.allocation,
        pool.slack,
        pool.created_at,
        pool.updated_at,
        pool.version,
    )
