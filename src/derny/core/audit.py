"""Every invariant of the state as a function; run by tests after each step, and by the daemon after each
replay.

One rule: a check returns what is wrong, in sentences; it repairs nothing. What can be derived is derived
here a second time, the slow and obvious way, and compared.
"""

from collections import Counter
from collections.abc import Iterator

import msgspec

from derny.core.availability import is_unavailable
from derny.core.goals import OWED
from derny.core.hosts import labels_of
from derny.core.maintenance import owed_state
from derny.core.state import AT_REST, Rollout, State, is_at_rest, new_counts
from derny.model.ids import JobId, PoolId, VolumeId, pod_name
from derny.model.records import Job, Pod, Pool, Queue, Workflow
from derny.model.resources import NOTHING, Resources
from derny.model.specs import PodTemplate
from derny.model.states import (
    POD_ADMITTED,
    POD_ON_HOST,
    POD_TERMINAL,
    HealthState,
    HostState,
    JobState,
    PodState,
    VolumeState,
    WorkflowState,
)
from derny.placement.labels import Label


def audit(state: State) -> list[str]:
    """All that is wrong; empty when every invariant holds."""
    return [
        *_of_jobs(state),
        *_of_runs(state),
        *_of_secrets(state),
        *_of_queues(state),
        *_of_groups(state),
        *_of_pools(state),
        *_of_hosts(state),
        *_of_labels(state),
        *_of_holds(state),
        *_of_volumes(state),
        *_of_maintenance(state),
        *_of_owed_steps(state),
        *_of_workflows(state),
    ]


def fingerprint(state: State) -> bytes:
    """All that replay must bring back, as bytes that are equal only if the states are.

    Left out is what is derived: the dirty set, timers, and what is remembered of failed looks.
    """
    pools = [
        (pool.id, pool.spec, pool.children, *_held(pool), pool.jobs, _queues_of(pool))
        for pool in state.tree.walk()
    ]
    groups = [
        (job, [_name(p) for p in group.fresh], [_name(p) for p in group.tried])
        for (job, _template, _anchor), group in state.groups.items()
    ]
    hosts = [
        (
            (host.name, host.agent_id, host.ip, host.capacity, host.ports, host.labels),
            (host.row, host.state, host.goal, host.lost, host.pool, [_name(pod) for pod in host.pods]),
            (state.table.free(host.row), state.table.used_ports(host.row)),
        )
        for host in state.hosts.values()
    ]
    host_pools = [(name, list(members)) for name, members in state.host_pools.items()]
    texts = (state.texts.all, state.texts.containers.all)
    return msgspec.msgpack.encode(
        (
            list(state.jobs.values()),
            list(state.volumes.values()),
            state.names,
            pools,
            sorted(groups),
            hosts,
            host_pools,
            texts,
            sorted(state.closed),
            state.held_orphans,
            state.notes,
        )
    )


def _name(pod: Pod) -> str:
    return pod_name(pod.job, pod.instance)


def _pods(state: State) -> Iterator[tuple[Job, Pod]]:
    return ((job, pod) for job in state.jobs.values() for pod in job.pods)


HELD = ("allocation", "slack", "non_preemptible", "controller")
"""The dimensions of what a pool holds (behaviour, scheduler §3.4)."""


def _held(pool: Pool) -> tuple[Resources, ...]:
    return tuple(getattr(pool, what) for what in HELD)


def _queues_of(pool: Pool) -> list[tuple[Queue, list[str]]]:
    return [(queue, [_name(pod) for pod in pool.queues[queue]]) for queue in sorted(pool.queues)]


def _of_jobs(state: State) -> Iterator[str]:
    wanted = 0
    for job in state.jobs.values():
        counts = new_counts()
        for instance, pod in enumerate(job.pods):
            counts[pod.state] += 1
            if pod.instance != instance or pod.job != job.id:
                yield f"pod {_name(pod)} stands at instance {instance} of job {job.id}"
            if pod.host is None and pod.state in POD_ON_HOST:
                yield f"pod {_name(pod)} is {pod.state.name} on no host"
        unavailable = sum(map(is_unavailable, job.pods))
        if unavailable != job.unavailable:
            yield f"job {job.id} counts {job.unavailable} unavailable pods, there are {unavailable}"
        configs = Counter(pod.config for pod in job.pods)
        if any(sum(counted) != configs[config] for config, counted in job.counts_of.items()):
            yield f"job {job.id} counts {job.counts_of} by configuration, its pods have {configs}"
        if [sum(column) for column in zip(*job.counts_of.values(), strict=True)] not in ([], job.counts):
            yield f"job {job.id} counts {job.counts}, by configuration {job.counts_of}"
        if counts != job.counts:
            yield f"job {job.id} counts {job.counts}, its pods are {counts}"
        if job.id not in state.names.get(job.spec.name, ()):
            yield f"job {job.id} is not found by its name {job.spec.name!r}"
        wanted += job.spec.instance_count
    if wanted != state.pods_wanted:
        yield f"{state.pods_wanted} pods are counted as wanted, the jobs' counts add up to {wanted}"
    if sum(map(len, state.names.values())) != len(state.jobs):
        yield "a name leads to a job that does not exist"


def _of_workflows(state: State) -> Iterator[str]:
    """The counters of a workflow agree with its pods; none that could go on is forgotten."""
    timed = set(map(id, state.timers))
    for job in state.jobs.values():
        leaving = sum(pod.goal is PodState.DELETED for pod in job.pods[len(job.pods) - job.leaving :])
        all_leaving = sum(pod.goal is PodState.DELETED for pod in job.pods)
        if job.goal is not JobState.DELETED and not job.leaving == leaving == all_leaving:
            yield f"job {job.id} has {all_leaving} pods that are to go, {job.leaving} at its end counted"
        for pod in job.pods:
            if pod.desired_config not in job.specs:
                yield f"pod {_name(pod)} wants configuration {pod.desired_config}, which is gone"
        for workflow in job.workflows[:-1]:
            if not workflow.finished:
                yield f"job {job.id} has an old workflow that is {workflow.state.name}"
        now, rollout = job.workflows[-1], state.rollouts.get(job.id)
        if now.finished is not (rollout is None):
            yield f"the workflow of job {job.id} is {now.state.name}, its rollout {rollout}"
        if rollout is None:
            continue
        yield from _of_progress(job, now, rollout)
        held = now.state is WorkflowState.PAUSED or bool(now.current)
        if not held and job.id not in state.dirty_jobs and id(job.id) not in timed:
            yield f"the workflow of job {job.id}, {now.state.name}, is forgotten"


def _of_progress(job: Job, workflow: Workflow, rollout: Rollout) -> Iterator[str]:
    waiting = [instance for some in rollout.waiting for instance in some]
    if workflow.planned:
        unmade = max(workflow.added[1] - len(job.pods), 0)
        unmoved = max(len(job.pods) - job.leaving - workflow.removed[0], 0) if workflow.removed[1] else 0
        known = workflow.done + workflow.failed + len(workflow.current) + len(waiting) + unmade + unmoved
        if known != workflow.total:
            yield f"the workflow of job {job.id} has {workflow.total} instances, {known} are known of"
    for instance in waiting:
        if job.pods[instance].desired_config == workflow.config:
            yield f"pod {job.id}-{instance} waits for an update that it has had"
    for instance in workflow.current:
        pod = job.pods[instance] if instance < len(job.pods) else None
        if pod is None and instance not in rollout.changed:
            yield f"pod {job.id}-{instance} is in progress and gone"
        if pod and pod.desired_config != workflow.config and pod.goal is not PodState.DELETED:
            yield f"pod {job.id}-{instance} is in progress towards another configuration"


def _of_runs(state: State) -> Iterator[str]:
    """What is known of containers is of those that the pod has; health is for pods that are checked."""
    for _, pod in _pods(state):
        size = len(pod.template.init_containers) + len(pod.template.containers)
        if pod.containers and (pod.template.is_plain or len(pod.containers) != size):
            yield f"pod {_name(pod)} has {size} containers, {len(pod.containers)} are remembered"
        if pod.template.health_checked is (pod.health is HealthState.DISABLED):
            yield f"pod {_name(pod)} is {pod.health.name}, against what its template says"
        if pod.state in POD_TERMINAL and any(run.state is PodState.RUNNING for run in pod.containers):
            yield f"pod {_name(pod)} is {pod.state.name} while a container runs"


def _of_secrets(state: State) -> Iterator[str]:
    """A configuration refers to secrets that are there."""
    for job in state.jobs.values():
        for spec in job.specs.values():
            for ref in spec.secrets:
                if (ref.id, ref.version) not in job.secrets:
                    yield f"job {job.id} refers to the secret {ref.id}, which it does not have"


def _of_queues(state: State) -> Iterator[str]:
    queued = Counter(
        _name(pod) for pool in state.tree.walk() for queue in pool.queues.values() for pod in queue
    )
    pending = Counter(_name(pod) for _, pod in _pods(state) if pod.state is PodState.PENDING)
    if queued != pending:
        yield f"queued and PENDING differ: {sorted((queued - pending) + (pending - queued))}"
    for pool in state.tree.walk():
        for queue, line in pool.queues.items():
            if not line or any(state.tree.queue_of(pod.template) is not queue for pod in line):
                yield f"the {queue.name} queue of pool {pool.id} is empty, or has pods of another"
    waiting = {pool.id for pool in state.tree.walk() if pool.queues}
    if waiting != set(state.tree.waiting):
        yield f"pools with a queue are {waiting}, remembered are {set(state.tree.waiting)}"


def _of_groups(state: State) -> Iterator[str]:
    for name, states in (("fresh", PodState.READY), ("tried", PodState.PLACING)):
        grouped = Counter(_name(pod) for group in state.groups.values() for pod in getattr(group, name))
        standing = Counter(_name(pod) for _, pod in _pods(state) if pod.state is states)
        if grouped != standing:
            yield f"{name} and {states.name} differ: {sorted((grouped - standing) + (standing - grouped))}"


def _of_pools(state: State) -> Iterator[str]:
    """Conservation: what is held at every node is the sum over its admitted pods, in every dimension, and the
    demand of a pool that of its waiting pods, exactly, in every kind."""
    sums: dict[PoolId, list[Resources]] = {pool.id: [NOTHING] * 4 for pool in state.tree.walk()}
    demand: dict[tuple[PoolId, bool], Resources] = {}
    for pool_id, template, is_in, many in _alike(state):
        if is_in is PodState.PENDING:
            key = (pool_id, template.revocable)
            demand[key] = demand.get(key, NOTHING).plus(template.demand, many)
        if is_in in POD_ADMITTED:
            counts = (True, template.revocable, not template.preemptible, template.controller)
            for pool in state.tree.up(state.tree.pools[pool_id]):
                sums[pool.id] = [
                    held.plus(template.demand, times * many)
                    for held, times in zip(sums[pool.id], counts, strict=True)
                ]
    for pool in state.tree.walk():
        for what, held, summed in zip(HELD, _held(pool), sums[pool.id], strict=True):
            if held != summed:
                yield f"pool {pool.id} has {held} as {what}, its pods add up to {summed}"
        waits = tuple(demand.get((pool.id, revocable), NOTHING) for revocable in (False, True))
        if (pool.demand, pool.slack_demand) != waits:
            yield f"pool {pool.id} demands {(pool.demand, pool.slack_demand)}, its queue adds up to {waits}"
    jobs = Counter(job.spec.pool for job in state.jobs.values())
    for pool in state.tree.walk():
        if pool.jobs != jobs[pool.id]:
            yield f"pool {pool.id} counts {pool.jobs} jobs, it has {jobs[pool.id]}"


def _alike(state: State) -> Iterator[tuple[PoolId, PodTemplate, PodState, int]]:
    """How many pods there are of each template in each state, job by job; counted by the identity of the
    template, since its value takes long to hash."""
    for job in state.jobs.values():
        templates = {id(pod.template): pod.template for pod in job.pods}
        for (template, is_in), many in Counter([(id(pod.template), pod.state) for pod in job.pods]).items():
            yield job.spec.pool, templates[template], is_in, many


def _of_hosts(state: State) -> Iterator[str]:
    """No host gives away more than it has, no port twice, and what is free is what pods have left."""
    used: dict[str, Resources] = {}
    fds: Counter[str] = Counter()
    there: dict[str, list[Pod]] = {}
    ports: dict[str, list[int]] = {}
    for _, pod in _pods(state):
        if pod.state in POD_ON_HOST and pod.host is not None:
            there.setdefault(pod.host, []).append(pod)
    for name, pods in there.items():
        templates = {id(pod.template): pod.template for pod in pods}
        for found, many in Counter([id(pod.template) for pod in pods]).items():
            used[name] = used.get(name, NOTHING).plus(templates[found].footprint, many)
            fds[name] += templates[found].fds * many
        ports[name] = sorted(port for pod in pods for port in pod.ports)
    for volume in state.volumes.values():
        if volume.state is not VolumeState.DELETED:
            used[volume.host] = used.get(volume.host, NOTHING).plus(Resources(disk=volume.size))
    for host in state.hosts.values():
        taken = used.get(host.name, NOTHING)
        if state.table.free(host.row).plus(taken) != host.capacity:
            free = state.table.free(host.row)
            yield f"host {host.name} has {free} free of {host.capacity}, its pods use {taken}"
        if state.table.free_fds(host.row) + fds[host.name] != host.fds:
            yield f"host {host.name} and its pods disagree about its file descriptors"
        if host.pods.keys() != set(there.get(host.name, ())):
            yield f"host {host.name} remembers other pods than those that are on it"
        if ports.get(host.name, []) != state.table.used_ports(host.row):
            yield f"host {host.name} and its pods disagree about its ports"
    if state.tree.capacity != state.table.total_capacity():
        yield "the root's capacity is not that of the hosts"


def _of_labels(state: State) -> Iterator[str]:
    """How many pods on each host carry a label, and how many of which jobs."""
    rows: dict[Label, Counter[int]] = {}
    carriers: dict[Label, Counter[JobId]] = {}
    for job, pod in _pods(state):
        if pod.state in POD_ON_HOST and pod.host is not None:
            for label in pod.template.labels:
                rows.setdefault(label, Counter())[state.table.row_of[pod.host]] += 1
                carriers.setdefault(label, Counter())[job.id] += 1
    if carriers != state.table.pod_labels.carriers:
        yield "the jobs whose pods carry labels are other ones than those that are remembered"
    for label, counts in state.table.pod_labels.counted().items():
        if counts != rows.get(label, {}):
            yield f"pod label {label} is counted as {counts}, pods on hosts carry it {rows.get(label, {})}"


def _of_holds(state: State) -> Iterator[str]:
    """Hosts are kept for pods that may come back, and for nobody else."""
    rows = Counter(hold.row for hold in state.holds.of.values())
    if {row: count for row, count in enumerate(state.table.holds.tolist()) if count} != rows:
        yield "the host table has other holds than there are"
    if (state.table.hold_count, state.holds.jobs) != (
        len(state.holds.of),
        Counter(pod.job for pod in state.holds.of),
    ):
        yield "holds are counted wrongly"
    for pod in state.holds.of:
        if not state.is_live(pod) or pod.state in POD_ON_HOST or pod.desired_host is None:
            yield f"pod {_name(pod)} holds a host and does not come back to it"


def _of_maintenance(state: State) -> Iterator[str]:
    """Every host is in one pool, and takes pods only in service; one that drains is not forgotten."""
    timed = set(map(id, state.timers))
    moved = frozenset(state.moved_hosts)
    known = Counter(list(state.hosts))
    pooled = Counter(name for members in state.host_pools.values() for name in members)
    if pooled != known:
        yield f"hosts in no pool or in several: {sorted((pooled - known) + (known - pooled))}"
    for host in state.hosts.values():
        if host.name not in state.host_pools.get(host.pool, ()):
            yield f"host {host.name} is not in its pool {host.pool}"
        if state.table.labels[host.row] != labels_of(host) and host.name not in moved:
            yield f"host {host.name} has other labels in the host table"
        if bool(state.table.placeable[host.row]) != (host.state is HostState.UP and not host.lost):
            yield f"host {host.name}, {host.state.name}, takes pods or not against its state"
        if (host.state is HostState.DRAINING) != (host.name in state.drains):
            yield f"host {host.name}, {host.state.name}, is drained or not against its state"
        if host.pods and host.state in (HostState.DRAINED, HostState.DOWN):
            yield f"host {host.name} is {host.state.name} and has {len(host.pods)} pods"
        waits = id(host) in timed if host.state is HostState.DRAINING else owed_state(host) is None
        if not waits and host.name not in state.dirty_hosts:
            yield f"host {host.name}, {host.state.name} on its way to {host.goal.name}, is forgotten"


def _of_volumes(state: State) -> Iterator[str]:
    """Every volume is known to its job, and a pod that has one is where it is."""
    of_jobs = {volume for job in state.jobs.values() for volume in job.volumes.values()}
    if of_jobs != set(state.volumes):
        yield f"jobs and volumes disagree about {sorted(of_jobs ^ set(state.volumes))}"
    for job, pod in _pods(state):
        if pod.template.volume is None or pod.state not in POD_ON_HOST:
            continue
        volume = state.volumes.get(job.volumes.get(pod.instance, VolumeId("")))
        if volume is None or volume.host != pod.host or volume.state is VolumeState.DELETED:
            yield f"pod {_name(pod)} is on {pod.host} without its volume"
        elif pod.state is PodState.RUNNING and volume.state is not VolumeState.CREATED:
            yield f"pod {_name(pod)} runs, its volume is {volume.state.name}"


def _of_owed_steps(state: State) -> Iterator[str]:
    """Nobody is forgotten: a pod that owes a step is dirty, has a timer, or stands before a closed gate."""
    timed = set(map(id, state.timers))
    known = state.dirty_pods.keys() | state.held_kills.keys()
    for _, pod in _pods(state):
        if ((pod.state, pod.goal) in AT_REST) == ((pod.state, pod.goal) in OWED):
            yield f"({pod.state.name}, {pod.goal.name}) must be either at rest or owed a step"
        elif not is_at_rest(pod) and pod not in known and id(pod) not in timed:
            yield f"pod {_name(pod)}, {pod.state.name} with goal {pod.goal.name}, is forgotten"
