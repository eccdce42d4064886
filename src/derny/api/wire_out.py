"""Views become messages.

One rule: what is told comes from a view of `answers.queries` or from the client's own bytes, and nothing is
added that was not asked for. Specs come back as they were sent, with the revision and the forms filled in
that the client left out (`pod_spec`). Times are RFC 3339 in UTC, revisions count nanoseconds. Called by
the services of this room. (Behaviour, jobs §0.5, §2.9, §3.4, §3.5, §7.3; scheduler §1.5, §7.2.)
"""

from derny.answers.queries import HostView, JobView, PodEventView, PodView, PoolView, VolumeView
from derny.api import container_status
from derny.api.codec import decode, without_fields
from derny.api.pod_spec import effective, fill_form, fill_forms
from derny.api.times import rfc3339, whole_seconds
from derny.api.workflow_out import workflow_status
from derny.model.ids import JobId as JobIdText
from derny.model.ids import entity_version, pod_id, pod_name
from derny.model.resources import KINDS, MILLI, wire_units
from derny.model.specs import JobSpec as Configuration
from derny.model.specs import PoolResource
from derny.model.states import PodState as State
from derny.proto.mesos.v1 import AgentId
from derny.proto.peloton.api.v1alpha.host import HostInfo, HostState
from derny.proto.peloton.api.v1alpha.job.stateless import (
    JobInfo,
    JobSpec,
    JobState,
    JobStatus,
    JobStatusPodStateStats,
    JobSummary,
)
from derny.proto.peloton.api.v1alpha.peloton import (
    EntityVersion,
    JobId,
    Label,
    PodId,
    PodName,
    ResourcePoolId,
    Revision,
    VolumeId,
)
from derny.proto.peloton.api.v1alpha.pod import (
    PodEvent,
    PodSpec,
    PodState,
    PodStatus,
    PodSummary,
)
from derny.proto.peloton.api.v1alpha.respool import (
    ReservationType,
    ResourcePoolInfo,
    ResourcePoolPath,
    ResourcePoolSpec,
    ResourceSpec,
    ResourceUsage,
    SchedulingPolicy,
)
from derny.proto.peloton.api.v1alpha.volume import PersistentVolumeInfo, VolumeState


def revision(version: int, created_at: float, updated_at: float) -> Revision:
    """A Revision; times in seconds since the epoch."""
    return Revision(version, _nanoseconds(created_at), _nanoseconds(updated_at))


def _nanoseconds(at: float) -> int:
    # A double holds no more than microseconds of today's dates: what lies below would be noise.
    return round(at * 1_000_000) * 1000


# Jobs.

_POD_SPECS = frozenset({10, 11})
"""Numbers of the fields `default_spec` and `instance_spec`: nearly all of a large job's spec."""


def job_spec(spec: Configuration, number: int, made_at: float) -> JobSpec:
    """The client's spec, completed. `number` is its configuration version."""
    message = decode(JobSpec, spec.wire)
    message.revision = revision(number, made_at, made_at)
    fill_forms(message)
    return message


def job_info(view: JobView) -> JobInfo:
    """A job's configuration and status."""
    return JobInfo(
        JobId(view.id), job_spec(view.spec, view.spec_version, view.spec_created_at), job_status(view)
    )


def job_status(view: JobView) -> JobStatus:
    """A job's status."""
    return JobStatus(
        revision=revision(view.revision, view.created_at, view.updated_at),
        state=JobState(view.state),
        creation_time=rfc3339(view.created_at),
        pod_stats=_state_stats(view.pod_stats),
        desired_state=JobState(view.goal),
        version=EntityVersion(view.version),
        pod_stats_by_configuration_version={
            configuration: JobStatusPodStateStats(_state_stats(stats))
            for configuration, stats in view.pod_stats_by_version.items()
        },
        workflow_status=workflow_status(view.workflow),
    )


def _state_stats(stats: dict[State, int]) -> dict[str, int]:
    return {pod_state_name(state): count for state, count in stats.items()}


def job_summary(view: JobView) -> JobSummary:
    """A job in brief."""
    spec = decode(JobSpec, without_fields(view.spec.wire, _POD_SPECS))
    return JobSummary(
        job_id=JobId(view.id),
        name=view.spec.name,
        owner=spec.owner,
        owning_team=spec.owning_team,
        labels=spec.labels,
        instance_count=view.spec.instance_count,
        respool_id=ResourcePoolId(view.spec.pool),
        status=job_status(view),
        sla=spec.sla,
    )


# Pods.


def pod_state_name(state: State) -> str:
    """The name of a pod's state as the contract spells it in texts and keys."""
    return f"POD_STATE_{state.name}"


def pod_spec(spec: JobSpec, job: JobIdText, instance: int) -> PodSpec:
    """The effective spec of one instance of a decoded job, completed."""
    pod = effective(spec.default_spec, spec.instance_spec.get(instance)) or PodSpec()
    fill_form(pod)
    pod.pod_name = PodName(pod_name(job, instance))
    return pod


def pod_summary(view: PodView, now: float, waits_for: str = "") -> PodSummary:
    """A pod in brief. `now` is for the usage of pods that run."""
    return PodSummary(PodName(pod_name(view.job, view.instance)), pod_status(view, now, waits_for))


def pod_status(view: PodView, now: float, waits_for: str = "") -> PodStatus:
    """A pod's status in its current run. `waits_for` says why it is PENDING."""
    run = pod_id(view.job, view.instance, view.run)
    init_containers, containers = container_status.of_pod(view)
    return PodStatus(
        state=PodState(view.state),
        pod_id=PodId(run),
        start_time=rfc3339(view.started_at),
        completion_time=rfc3339(view.completed_at),
        host=view.host or "",
        init_containers_status=init_containers,
        containers_status=containers,
        desired_state=PodState(view.goal),
        message=waits_for or view.message,
        reason=view.reason,
        failure_count=view.failures,
        version=EntityVersion(entity_version(view.config)),
        desired_version=EntityVersion(entity_version(view.desired_config)),
        agent_id=AgentId(view.agent_id) if view.agent_id else None,
        revision=revision(view.revision, view.created_at, view.changed_at),
        prev_pod_id=PodId(view.previous) if view.previous else None,
        resource_usage=_resource_usage(view, now),
        desired_pod_id=PodId(pod_id(view.job, view.instance, view.desired_run)),
        desired_host=view.desired_host or "",
        volume_id=VolumeId(view.volume) if view.volume else None,
        host_id=view.agent_id,
    )


def _resource_usage(view: PodView, now: float) -> dict[str, float]:
    """Unit-seconds by kind: what all containers of the pod together may use, for as long as the current run
    has run; earlier runs are told of by their own events (behaviour, jobs §7.3)."""
    seconds = max((view.completed_at or now) - view.started_at, 0) / MILLI if view.started_at else 0.0
    demand = view.template.demand
    return {
        "cpu": (demand.cpu + demand.revocable_cpu) * seconds,
        "gpu": demand.gpu * seconds,
        "memory": demand.memory * seconds,
    }


def past_status(event: PodEventView) -> PodStatus:
    """The status of an earlier run, as its last event tells it."""
    entry = event.entry
    init_containers, containers = container_status.of_event(event)
    return PodStatus(
        state=PodState(entry.state),
        pod_id=PodId(event.pod),
        start_time=rfc3339(event.started_at),
        completion_time=rfc3339(event.completed_at),
        init_containers_status=init_containers,
        containers_status=containers,
        host=event.host or "",
        desired_state=PodState(entry.goal),
        message=entry.message,
        reason=entry.reason,
        version=EntityVersion(entity_version(entry.config)),
        desired_version=EntityVersion(entity_version(entry.desired_config)),
        agent_id=AgentId(event.agent_id) if event.agent_id else None,
        # Only events tell of a run 0 before the first.
        prev_pod_id=PodId(event.previous) if entry.run > 1 else None,
        desired_pod_id=PodId(event.desired),
        host_id=event.agent_id,
    )


def pod_event(event: PodEventView) -> PodEvent:
    """One write of a pod."""
    entry = event.entry
    init_containers, containers = container_status.of_event(event)
    return PodEvent(
        pod_id=PodId(event.pod),
        actual_state=pod_state_name(entry.state),
        desired_state=pod_state_name(entry.goal),
        timestamp=whole_seconds(entry.at),
        version=EntityVersion(entity_version(entry.config)),
        desired_version=EntityVersion(entity_version(entry.desired_config)),
        agent_id=event.agent_id,
        hostname=event.host or "",
        message=entry.message,
        reason=entry.reason,
        prev_pod_id=PodId(event.previous),
        healthy=f"HEALTH_STATE_{entry.health.name}",
        desired_pod_id=PodId(event.desired),
        container_status=containers,
        init_container_status=init_containers,
    )


# Pools, hosts and volumes.


def pool_info(view: PoolView) -> ResourcePoolInfo:
    """A pool, its place in the tree, and what it uses."""
    return ResourcePoolInfo(
        respool_id=ResourcePoolId(view.id),
        spec=_pool_spec(view),
        parent=ResourcePoolId(view.spec.parent) if view.spec.parent else None,
        children=[ResourcePoolId(child) for child in view.children],
        usages=[_usage(view, kind) for kind in KINDS],
        path=ResourcePoolPath(view.path),
    )


def _pool_spec(view: PoolView) -> ResourcePoolSpec:
    """The client's spec with all kinds; the root's has what the cluster has."""
    spec = decode(ResourcePoolSpec, view.spec.wire)
    sent = {resource.kind for resource in spec.resources}
    spec.name = view.spec.name
    if spec.parent is None and view.spec.parent:
        spec.parent = ResourcePoolId(view.spec.parent)
    spec.resources += [_resource(resource) for resource in view.resources if resource.kind not in sent]
    spec.policy = SchedulingPolicy.PRIORITY_FIFO
    spec.revision = revision(view.version, view.created_at, view.updated_at)
    return spec


def _resource(resource: PoolResource) -> ResourceSpec:
    return ResourceSpec(
        resource.kind,
        wire_units(resource.reservation),
        wire_units(resource.limit),
        resource.share,
        ReservationType.STATIC if resource.static else ReservationType.INVALID,
    )


def _usage(view: PoolView, kind: str) -> ResourceUsage:
    """Usage of one kind; `slack` is what revocable pods hold, whose cpu is all slack cpu."""
    slack = view.slack.of_kind(kind)
    hard = view.allocation.of_kind(kind) - slack
    if kind == "cpu":
        slack += view.slack.revocable_cpu
    return ResourceUsage(kind, wire_units(hard), wire_units(slack))


def volume_info(view: VolumeView) -> PersistentVolumeInfo:
    """A persistent volume; one that is not deleted is meant to be there."""
    state = VolumeState(view.state)
    return PersistentVolumeInfo(
        volume_id=VolumeId(view.id),
        pod_name=PodName(pod_name(view.job, view.instance)),
        hostname=view.host,
        state=state,
        desired_state=VolumeState.DELETED if state is VolumeState.DELETED else VolumeState.CREATED,
        size_mb=view.size // MILLI,
        container_path=view.path,
        create_time=rfc3339(view.created_at),
        update_time=rfc3339(view.updated_at),
    )


def host_info(view: HostView) -> HostInfo:
    labels = [Label(key, value) for key, value in view.labels]
    return HostInfo(view.name, view.ip, HostState(view.state), HostState(view.goal), labels)
