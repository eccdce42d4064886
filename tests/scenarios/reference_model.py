"""What the API promises about writes, as a model small enough to be read as its specification.

`Model` has one method per RPC that changes something: it takes the request, raises the status of a refusal,
or returns what is answered and remembers it. What the cluster does meanwhile (pods run and fail, workflows
go on) the model can't know: it is shown to `Model.look`, which checks that it was legal. Written from the
API reference and the behaviour of jobs (§1-§3, §8); it shares no line with the daemon.
"""

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from grpclib.const import Status

from derny.proto.peloton.api.v1alpha.host import HostState
from derny.proto.peloton.api.v1alpha.job.stateless import (
    JobInfo,
    JobSpec,
    JobState,
    UpdateSpec,
    WorkflowState,
    WorkflowType,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion
from derny.proto.peloton.api.v1alpha.pod import PodState, PodStatus
from derny.proto.peloton.api.v1alpha.volume import PersistentVolumeInfo, VolumeState

P, W = PodState, WorkflowState
ENDED = frozenset({P.SUCCEEDED, P.FAILED, P.LOST, P.KILLED})
ON_HOST = frozenset({P.LAUNCHED, P.STARTING, P.RUNNING, P.KILLING, P.PREEMPTING})
WORKFLOW_OVER = frozenset({W.SUCCEEDED, W.ABORTED, W.FAILED, W.ROLLED_BACK})
ROLLING = frozenset({W.ROLLING_FORWARD, W.ROLLING_BACKWARD})
POD_GOAL = {JobState.RUNNING: P.RUNNING, JobState.KILLED: P.KILLED, JobState.DELETED: P.DELETED}
PODS_MAX = 100_000
TO_THE_LAST = 2**32 - 1
GATES = range(5)
GOALS, READ, WRITE = 0, 1, 2


class Refused(Exception):
    """The status that a request must be refused with."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


def refuse(status: Status) -> NoReturn:
    raise Refused(status)


def demand(condition: object, status: Status) -> None:
    if not condition:
        refuse(status)


def text(message: Any) -> str:
    """What an id or a version holds; unset is empty."""
    return message.value if message is not None else ""


def is_uuid(value: str) -> bool:
    try:
        return str(UUID(value)) == value.lower()
    except ValueError:
        return False


class Version(NamedTuple):
    """A job's: of its configuration, of its goal, of its workflow (§1.1)."""

    config: int = 1
    goal: int = 1
    workflow: int = 1

    def __str__(self) -> str:
        return f"{self.config}-{self.goal}-{self.workflow}"


@dataclass
class Workflow:
    type: WorkflowType
    version: int
    prev_version: int
    asked: object
    """All that makes it another one than another workflow of its type."""
    opaque: str
    state: WorkflowState = W.INITIALIZED
    prev_state: WorkflowState = W.INITIALIZED
    may_fail: bool = False
    may_roll_back: bool = False
    starts: frozenset[int] = frozenset()
    """Instances that are to run once it has reached them, even if they were stopped."""

    @property
    def over(self) -> bool:
        return self.state in WORKFLOW_OVER


@dataclass
class Job:
    spec: JobSpec
    workflows: list[Workflow]
    version: Version = field(default_factory=Version)
    goal: JobState = JobState.RUNNING
    specs: dict[int, JobSpec] = field(default_factory=dict)
    goals: dict[int, PodState] = field(default_factory=dict)
    """Of the pods that have been seen."""
    pods: list[PodStatus] = field(default_factory=list)
    """As they were seen last."""
    volumes: list[PersistentVolumeInfo] = field(default_factory=list)

    @property
    def now(self) -> Workflow:
        return self.workflows[-1]

    @property
    def has_ended(self) -> bool:
        return all(pod.state in ENDED for pod in self.pods)

    def bump(self, config: int = 0, goal: int = 0, workflow: int = 0) -> EntityVersion:
        old = self.version
        self.version = Version(old.config + config, old.goal + goal, old.workflow + workflow)
        return EntityVersion(str(self.version))


@dataclass
class Pool:
    name: str
    parent: str
    reservation: float
    limit: float
    children: list[str] = field(default_factory=list)


class Model:
    """Everything that clients have written."""

    def __init__(self, pools: dict[str, Pool], hosts: Iterable[str]) -> None:
        self.jobs: dict[str, Job] = {}
        self.pools = pools
        self.closed: set[int] = set()
        self.drained = dict.fromkeys(hosts, False)
        self.host_pools: dict[str, set[str]] = {"default": set(self.drained)}

    # JobService: what makes jobs and ends them (§2.1, §2.6-§2.8).

    def create_job(self, asked: Any) -> tuple[str, EntityVersion]:
        job = text(asked.job_id)
        demand(not job or is_uuid(job), Status.INVALID_ARGUMENT)
        demand(job not in self.jobs, Status.ALREADY_EXISTS)
        demand(asked.spec is not None, Status.INVALID_ARGUMENT)
        pool = text(asked.spec.respool_id)
        demand(pool and pool != "root", Status.INVALID_ARGUMENT)
        demand(pool in self.pools, Status.NOT_FOUND)
        demand(not self.pools[pool].children, Status.INVALID_ARGUMENT)
        check_spec(asked.spec)
        how = asked.create_spec
        creation = Workflow(
            WorkflowType.UPDATE,
            1,
            0,
            how and UpdateSpec(**fields_of(how)),
            opaque_of(asked) or "",
            may_fail=bool(how and how.max_instance_retries and how.max_tolerable_instance_failures),
        )
        begin(creation, bool(how and how.start_paused))
        self.jobs[job] = Job(asked.spec, [creation], specs={1: asked.spec})
        return job, EntityVersion("1-1-1")

    def start_job(self, asked: Any) -> EntityVersion:
        job = self.changeable(asked)
        self.set_goal(job, JobState.RUNNING)
        return job.bump(goal=1)

    def stop_job(self, asked: Any) -> EntityVersion:
        job = self.changeable(asked)
        demand(not (starts_pods(job.now) and job.now.state in ROLLING), Status.ABORTED)
        self.set_goal(job, JobState.KILLED)
        return job.bump(goal=1)

    def delete_job(self, asked: Any) -> None:
        job = self.at_version(asked)
        stopped = job.goal is JobState.DELETED or (job.goal is JobState.KILLED and job.has_ended)
        demand(stopped or asked.force, Status.ABORTED)
        self.set_goal(job, JobState.DELETED)
        job.bump(goal=1)

    def set_goal(self, job: Job, goal: JobState) -> None:
        job.goal = goal
        for instance, before in job.goals.items():
            if before is not P.DELETED:
                job.goals[instance] = POD_GOAL[goal]

    # JobService: workflows (§2.2-§2.5, §8).

    def replace_job(self, asked: Any) -> EntityVersion:
        demand(is_uuid(text(asked.job_id)), Status.INVALID_ARGUMENT)
        demand(asked.spec is not None, Status.INVALID_ARGUMENT)
        check_spec(asked.spec)
        demand(text(asked.spec.respool_id), Status.INVALID_ARGUMENT)
        job = self.known(asked)
        demand(text(asked.spec.respool_id) == text(job.spec.respool_id), Status.INVALID_ARGUMENT)
        return self.update(self.at_version(asked), asked, asked.spec)

    def patch_job(self, asked: Any) -> EntityVersion:
        """Only what is given changes; so it can't be judged without what it is given to."""
        demand(is_uuid(text(asked.job_id)), Status.INVALID_ARGUMENT)
        job = self.at_version(asked)
        demand(asked.spec is not None, Status.INVALID_ARGUMENT)
        spec = patched(job.spec, asked.spec)
        check_spec(spec)
        demand(text(spec.respool_id) == text(job.spec.respool_id), Status.INVALID_ARGUMENT)
        return self.update(job, asked, spec)

    def update(self, job: Job, asked: Any, spec: JobSpec) -> EntityVersion:
        how = asked.update_spec or UpdateSpec()
        stopping = job.goal is not JobState.RUNNING and not job.has_ended
        demand(not (how.start_pods and stopping), Status.ABORTED)
        if spec == job.spec and self.is_repeat(job, WorkflowType.UPDATE, how):
            return self.repeat(job, asked)
        workflow = Workflow(
            WorkflowType.UPDATE,
            job.version.config + 1,
            job.version.config,
            how,
            opaque_of(asked) or "",
            may_fail=bool(how.max_instance_retries and how.max_tolerable_instance_failures),
            may_roll_back=how.rollback_on_failure,
            starts=frozenset(range(spec.instance_count)) if how.start_pods else frozenset(),
        )
        return self.start_workflow(job, workflow, spec, how.start_paused)

    def restart_job(self, asked: Any) -> EntityVersion:
        job = self.at_version(asked)
        spec = asked.restart_spec
        batch_size = spec.batch_size if spec is not None else asked.batch_size
        touched: set[int] = set()
        for asked_for in spec.ranges if spec is not None else asked.ranges:
            end = job.spec.instance_count if asked_for.to == TO_THE_LAST else asked_for.to
            demand(asked_for.from_ < end <= job.spec.instance_count, Status.INVALID_ARGUMENT)
            touched |= set(range(asked_for.from_, end))
        starts = frozenset(touched or range(job.spec.instance_count))
        how = (batch_size, spec is not None and spec.in_place, starts)
        if self.is_repeat(job, WorkflowType.RESTART, how):
            return self.repeat(job, asked)
        version = job.version.config
        workflow = Workflow(
            WorkflowType.RESTART, version + 1, version, how, opaque_of(asked) or "", starts=starts
        )
        return self.start_workflow(job, workflow, job.spec, False)

    def is_repeat(self, job: Job, kind: WorkflowType, how: object) -> bool:
        """What is under way already is not begun again (§8.3)."""
        asked = job.now.asked or UpdateSpec()
        return job.now.state in ROLLING and job.now.type is kind and asked == how

    def repeat(self, job: Job, asked: Any) -> EntityVersion:
        opaque = opaque_of(asked) or ""
        differs, job.now.opaque = opaque != job.now.opaque, opaque
        return job.bump(workflow=int(differs))

    def start_workflow(self, job: Job, new: Workflow, spec: JobSpec, paused: bool) -> EntityVersion:
        """An update may take the place of an unfinished update, and nothing else of anything else (§8.4)."""
        demand(job.goal is not JobState.DELETED, Status.INVALID_ARGUMENT)
        both_update = job.now.type is new.type is WorkflowType.UPDATE
        demand(job.now.over or both_update, Status.INVALID_ARGUMENT)
        if not job.now.over:
            job.now.state = W.ABORTED
        begin(new, paused)
        job.workflows.append(new)
        job.spec = job.specs[new.version] = spec
        if new.type is WorkflowType.RESTART or starts_pods(new):
            job.goal = JobState.RUNNING
        return job.bump(config=1, workflow=1)

    def pause_job_workflow(self, asked: Any) -> EntityVersion:
        job = self.at_version(asked)
        return self.steer(job, asked, job.now.state if job.now.over else W.PAUSED)

    def resume_job_workflow(self, asked: Any) -> EntityVersion:
        job = self.at_version(asked)
        paused = job.now.state is W.PAUSED
        return self.steer(job, asked, job.now.prev_state if paused else job.now.state)

    def abort_job_workflow(self, asked: Any) -> EntityVersion:
        job = self.at_version(asked)
        return self.steer(job, asked, job.now.state if job.now.over else W.ABORTED)

    def steer(self, job: Job, asked: Any, to: WorkflowState) -> EntityVersion:
        """The version goes on even if nothing is there to steer (§1.2)."""
        if to is not job.now.state:
            job.now.prev_state, job.now.state = job.now.state, to
        opaque = opaque_of(asked)
        job.now.opaque = job.now.opaque if opaque is None else opaque
        return job.bump(workflow=1)

    # Which job a request is about (§1.3).

    def known(self, asked: Any) -> Job:
        demand(text(asked.job_id), Status.INVALID_ARGUMENT)
        demand(text(asked.job_id) in self.jobs, Status.NOT_FOUND)
        return self.jobs[text(asked.job_id)]

    def at_version(self, asked: Any) -> Job:
        job = self.known(asked)
        demand(text(asked.version) == str(job.version), Status.ABORTED)
        return job

    def changeable(self, asked: Any) -> Job:
        job = self.at_version(asked)
        demand(job.goal is not JobState.DELETED, Status.INVALID_ARGUMENT)
        return job

    def refresh_job(self, asked: Any) -> None:
        self.known(asked)

    # PodService (§3.1-§3.3, §3.7). No version of the job changes.

    def start_pod(self, asked: Any) -> None:
        job, instance = self.existing_pod(asked)
        doomed = job.goal is JobState.DELETED or job.goals[instance] is P.DELETED
        demand(not doomed, Status.INVALID_ARGUMENT)
        if job.goals[instance] is not P.RUNNING:
            job.goals[instance] = P.RUNNING
            job.goal = JobState.RUNNING

    restart_pod = start_pod

    def stop_pod(self, asked: Any) -> None:
        job, instance = self.existing_pod(asked)
        if job.goals[instance] is P.RUNNING:
            job.goals[instance] = P.KILLED

    def refresh_pod(self, asked: Any) -> None:
        self.existing_pod(asked)

    def delete_pod_events(self, asked: Any) -> None:
        name, run = text(asked.pod_name), text(asked.pod_id)
        demand(is_pod_name(name), Status.INVALID_ARGUMENT)
        of, _, number = run.rpartition("-")
        demand(of == name and number.isdecimal(), Status.INVALID_ARGUMENT)
        job, instance = self.existing_pod(asked)
        demand(1 <= int(number) <= run_of(job.pods[instance]), Status.NOT_FOUND)

    def existing_pod(self, asked: Any) -> tuple[Job, int]:
        name = text(asked.pod_name)
        demand(is_pod_name(name), Status.INVALID_ARGUMENT)
        job_id, _, instance = name.rpartition("-")
        demand(job_id in self.jobs, Status.NOT_FOUND)
        job = self.jobs[job_id]
        demand(int(instance) < len(job.pods), Status.NOT_FOUND)
        return job, int(instance)

    # ResourcePoolService. Of the amounts, cpu stands for all kinds.

    def create_resource_pool(self, asked: Any) -> str:
        pool, spec = text(asked.respool_id), asked.spec
        demand(is_uuid(pool), Status.INVALID_ARGUMENT)
        demand(pool not in self.pools, Status.ALREADY_EXISTS)
        self.check_pool(pool, spec)
        parent = text(spec.parent)
        demand(not self.jobs_in(parent), Status.FAILED_PRECONDITION)
        self.pools[pool] = Pool(spec.name, parent, spec.resources[0].reservation, spec.resources[0].limit)
        self.pools[parent].children.append(pool)
        return pool

    def update_resource_pool(self, asked: Any) -> None:
        pool, spec = text(asked.respool_id), asked.spec
        demand(pool and pool != "root", Status.INVALID_ARGUMENT)
        self.check_pool(pool, spec)
        demand(pool in self.pools, Status.NOT_FOUND)
        demand(text(spec.parent) == self.pools[pool].parent, Status.INVALID_ARGUMENT)
        known = self.pools[pool]
        known.name = spec.name
        known.reservation, known.limit = spec.resources[0].reservation, spec.resources[0].limit

    def delete_resource_pool(self, asked: Any) -> None:
        pool = text(asked.respool_id)
        demand(pool and pool != "root", Status.INVALID_ARGUMENT)
        demand(pool in self.pools, Status.NOT_FOUND)
        demand(not self.pools[pool].children, Status.INVALID_ARGUMENT)
        demand(not self.jobs_in(pool), Status.FAILED_PRECONDITION)
        self.pools[self.pools.pop(pool).parent].children.remove(pool)

    def check_pool(self, pool: str, spec: Any) -> None:
        demand(spec is not None and spec.name and "/" not in spec.name, Status.INVALID_ARGUMENT)
        parent = self.pools.get(text(spec.parent))
        demand(parent is not None, Status.INVALID_ARGUMENT)
        assert parent is not None
        mine = spec.resources[0]
        siblings = [self.pools[child] for child in parent.children if child != pool]
        reserved = sum(sibling.reservation for sibling in siblings)
        demand(mine.reservation <= mine.limit <= parent.limit, Status.INVALID_ARGUMENT)
        demand(spec.name not in [sibling.name for sibling in siblings], Status.INVALID_ARGUMENT)
        demand(reserved + mine.reservation <= parent.reservation, Status.INVALID_ARGUMENT)

    def jobs_in(self, pool: str) -> bool:
        return any(text(job.spec.respool_id) == pool for job in self.jobs.values())

    # HostService: all hosts of a call or none.

    def start_maintenance(self, asked: Any) -> None:
        self.maintain(asked, True)

    def complete_maintenance(self, asked: Any) -> None:
        self.maintain(asked, False)

    def maintain(self, asked: Any, drained: bool) -> None:
        names = [name for name in (*asked.hostnames, asked.hostname) if name]
        demand(names, Status.INVALID_ARGUMENT)
        demand(set(names) <= self.drained.keys(), Status.NOT_FOUND)
        self.drained.update(dict.fromkeys(names, drained))

    def create_host_pool(self, asked: Any) -> None:
        demand(asked.name, Status.INVALID_ARGUMENT)
        demand(asked.name not in self.host_pools, Status.ALREADY_EXISTS)
        self.host_pools[asked.name] = set()

    def delete_host_pool(self, asked: Any) -> None:
        demand(asked.name != "default", Status.INVALID_ARGUMENT)
        demand(asked.name in self.host_pools, Status.NOT_FOUND)
        self.host_pools["default"] |= self.host_pools.pop(asked.name)

    def change_host_pool(self, asked: Any) -> None:
        demand(asked.hostname in self.drained, Status.NOT_FOUND)
        demand(asked.hostname in self.host_pools.get(asked.source_pool, ()), Status.INVALID_ARGUMENT)
        demand(asked.destination_pool in self.host_pools, Status.INVALID_ARGUMENT)
        self.host_pools[asked.source_pool].remove(asked.hostname)
        self.host_pools[asked.destination_pool].add(asked.hostname)

    # VolumeService and AdminService.

    def delete_volume(self, asked: Any) -> None:
        """A volume is deleted once; one that a run has on its host is in use."""
        wanted = text(asked.volume_id)
        demand(wanted, Status.INVALID_ARGUMENT)
        known = {
            text(volume.volume_id): (job, volume) for job in self.jobs.values() for volume in job.volumes
        }
        demand(wanted in known, Status.NOT_FOUND)
        job, volume = known[wanted]
        users = [pod for pod in job.pods if text(pod.volume_id) == wanted and pod.state in ON_HOST]
        demand(volume.state is VolumeState.DELETED or not users, Status.FAILED_PRECONDITION)

    def lockdown(self, asked: Any) -> list[int]:
        return self.set_gates(asked, self.closed.update)

    def remove_lockdown(self, asked: Any) -> list[int]:
        return self.set_gates(asked, self.closed.difference_update)

    def set_gates(self, asked: Any, change: Any) -> list[int]:
        gates = [int(gate) for gate in asked.components]
        demand(gates and set(gates) <= set(GATES), Status.INVALID_ARGUMENT)
        change(gates)
        return gates

    # What the cluster has done since the last look.

    def look(self, job: Job, info: JobInfo, pods: list[PodStatus]) -> None:
        """Fails if this can't have become of the job."""
        assert info.status is not None and info.spec is not None
        status = info.status
        if text(status.version) != str(job.version):
            self.roll_back(job)
        assert text(status.version) == str(job.version)
        assert status.desired_state == job.goal
        look_at_workflow(job, status.workflow_status)
        assert (info.spec.name, info.spec.instance_count) == (job.spec.name, job.spec.instance_count)
        assert pods_of(info.spec) == pods_of(job.spec)
        for instance, pod in enumerate(pods):
            self.look_at_pod(job, instance, pod)
        gone = range(len(pods), len(job.goals))
        for instance in gone:
            doomed = instance >= job.spec.instance_count or job.goals[instance] is P.DELETED
            assert doomed, f"instance {instance} is gone"
            del job.goals[instance]
        job.pods = pods
        if job.now.state in (W.SUCCEEDED, W.ROLLED_BACK):
            self.check_finished(job)

    def roll_back(self, job: Job) -> None:
        """The one change of a version that no client asks for (§8.6.1)."""
        now = job.now
        assert now.may_roll_back and now.may_fail, "a version that nobody has made"
        now.may_roll_back = False
        job.spec = job.specs[now.prev_version]
        job.bump(config=1)
        job.specs[job.version.config] = job.spec
        now.version, now.prev_version = job.version.config, now.version
        now.prev_state, now.state = W.ROLLING_FORWARD, W.ROLLING_BACKWARD

    def look_at_pod(self, job: Job, instance: int, pod: PodStatus) -> None:
        before = job.pods[instance] if instance < len(job.pods) else None
        goal, desired = P(pod.desired_state), config_of(pod.desired_version)
        allowed = {job.goals.get(instance, POD_GOAL[job.goal])}
        reached = desired == job.now.version and (
            before is None or config_of(before.desired_version) != desired
        )
        if reached and instance in job.now.starts and job.goal is JobState.RUNNING:
            # An update with start_pods starts those that it touches, and not those that stay as they are.
            allowed = {P.RUNNING} if job.now.type is WorkflowType.RESTART else allowed | {P.RUNNING}
        if instance >= job.spec.instance_count:
            allowed.add(P.DELETED)
        elif job.goals.get(instance) is P.DELETED:
            allowed.add(POD_GOAL[job.goal])
        if GOALS in self.closed:
            # Pods hear of what their job is told once the gate is open.
            assert before is None or goal in allowed | {P(before.desired_state)}
            goal = job.goals.get(instance, goal)
        assert goal in allowed, f"instance {instance} wants {goal.name}, not one of {allowed}"
        job.goals[instance] = goal
        assert desired <= job.version.config and config_of(pod.version) <= desired
        if before is not None:
            same_run = run_of(pod) == run_of(before)
            assert run_of(pod) >= run_of(before), "runs go up"
            assert not (same_run and before.state in ENDED) or pod.state == before.state, "an end is an end"

    def check_finished(self, job: Job) -> None:
        """A workflow that says it is through is."""
        assert {config_of(pod.desired_version) for pod in job.pods} <= {job.version.config}
        if job.now.type is WorkflowType.UPDATE:
            assert len(job.pods) == job.spec.instance_count


AUTOMATIC = {
    W.INITIALIZED: {W.ROLLING_FORWARD},
    W.ROLLING_FORWARD: {W.SUCCEEDED, W.FAILED, W.ROLLING_BACKWARD},
    W.ROLLING_BACKWARD: {W.ROLLED_BACK, W.FAILED},
}
"""Where a workflow may go by itself (§8.1)."""


def may_become(state: WorkflowState, later: WorkflowState) -> bool:
    return state == later or any(may_become(step, later) for step in AUTOMATIC.get(state, ()))


def look_at_workflow(job: Job, status: Any) -> None:
    now = job.now
    state = W(status.state)
    assert status.type == now.type
    assert (config_of(status.version), config_of(status.prev_version)) == (now.version, now.prev_version)
    ended_with_its_job = state is W.ABORTED and job.goal is JobState.DELETED
    assert ended_with_its_job or may_become(now.state, state), f"{now.state.name} became {state.name}"
    assert state is not W.FAILED or now.may_fail
    now.state = state
    if state is W.PAUSED:
        assert status.prev_state == now.prev_state
    if state in (W.SUCCEEDED, W.ROLLED_BACK):
        assert (status.num_instances_remaining, status.instances_current) == (0, [])


def begin(workflow: Workflow, paused: bool) -> None:
    workflow.state = W.PAUSED if paused else W.INITIALIZED


def starts_pods(workflow: Workflow) -> bool:
    return isinstance(workflow.asked, UpdateSpec) and workflow.asked.start_pods


def check_spec(spec: JobSpec) -> None:
    """What a job may be configured to (§9.4); the rest has tests of its own."""
    sla, default = spec.sla, spec.default_spec
    demand(spec.name and spec.instance_count <= PODS_MAX, Status.INVALID_ARGUMENT)
    demand(not (sla is not None and sla.revocable and not sla.preemptible), Status.INVALID_ARGUMENT)
    for instance in range(spec.instance_count):
        own = spec.instance_spec.get(instance)
        containers = (own and own.containers) or (default and default.containers)
        demand(containers, Status.INVALID_ARGUMENT)


def patched(spec: JobSpec, patch: JobSpec) -> JobSpec:
    """Given fields win; a message is patched in its turn, lists and maps are taken whole."""
    merged = deepcopy(spec)
    for name, value in fields_of(patch).items():
        old = getattr(merged, name)
        setattr(merged, name, patched(old, value) if hasattr(value, "to_dict") and old is not None else value)
    return merged


def fields_of(message: Any) -> dict[str, Any]:
    """Those that are set to something."""
    values = {name: getattr(message, name) for name in message.__dataclass_fields__ if name[0] != "_"}
    return {name: value for name, value in values.items() if value}


def pods_of(spec: JobSpec) -> list[object]:
    """What is asked of pods; answers spell it in the forms of several releases."""
    asked = {None: spec.default_spec, **spec.instance_spec}
    return [
        (key, [c.command and c.command.value for c in pod.containers], pod.volume, pod.constraint)
        for key, pod in asked.items()
        if pod is not None
    ]


def opaque_of(asked: Any) -> str | None:
    return asked.opaque_data.data if asked.opaque_data is not None else None


def is_pod_name(name: str) -> bool:
    job, _, instance = name.rpartition("-")
    return is_uuid(job) and instance.isdecimal()


def run_of(pod: PodStatus) -> int:
    return int(text(pod.pod_id).rpartition("-")[2])


def config_of(version: EntityVersion | None) -> int:
    return int(text(version).partition("-")[0])


def host_states(drained: bool) -> set[HostState]:
    """In which a host may be found that is wanted in maintenance, or in service."""
    on_its_way = {HostState.UP, HostState.DRAINING, HostState.DRAINED, HostState.DOWN}
    return on_its_way if drained else {HostState.UP, HostState.UNKNOWN, HostState.DOWN}


def job_state(job: Job) -> JobState:
    """Of a job that has come to rest, by its pods (§6.2)."""
    count, wanted = (
        {state: sum(pod.state == state for pod in job.pods) for state in P},
        job.spec.instance_count,
    )
    ended = count[P.SUCCEEDED] + count[P.FAILED] + count[P.LOST]
    if len(job.pods) < wanted:
        if job.goal is JobState.KILLED:
            return JobState.KILLED if count[P.KILLED] or not job.pods else JobState.FAILED
        return JobState.PENDING
    if len(job.pods) > wanted and job.goal is JobState.RUNNING:
        return JobState.PENDING
    if job.goal is JobState.KILLED and not wanted:
        return JobState.KILLED
    if count[P.SUCCEEDED] >= wanted:
        return JobState.SUCCEEDED
    if ended >= wanted:
        return JobState.FAILED
    if count[P.KILLED] and ended + count[P.KILLED] >= wanted:
        return JobState.KILLED
    return JobState.RUNNING if count[P.RUNNING] else JobState.PENDING
