"""Records: what the machine remembers of each job, pod, pool and host. Fields, nothing else.

Only `core` writes them, and only while it applies an event. Records hold no cycles (the collector is off
for them): a pod names its job by id. Times are seconds since the epoch, 0.0 where a thing has not happened.
"""

from enum import IntEnum

import msgspec

from derny.model.fifo import PriorityFifo
from derny.model.ids import DEFAULT_HOST_POOL, HostName, HostPoolName, JobId, PoolId, VolumeId
from derny.model.resources import FDS, NOTHING, Resources
from derny.model.secrets import Secret
from derny.model.specs import JobSpec, PodTemplate, PoolSpec, WorkflowSpec
from derny.model.states import (
    WORKFLOW_TERMINAL,
    HealthState,
    HostState,
    JobState,
    PodState,
    TerminationReason,
    VolumeState,
    WorkflowState,
    WorkflowType,
)


class Termination(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """Why a run ended, or why it was decided that it shall end."""

    reason: TerminationReason
    exit_code: int = 0
    signal: str = ""


class ContainerRun(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One container in the current run of a pod that has several; PENDING until it is started.

    `failures` counts those of earlier runs too.
    """

    state: PodState = PodState.PENDING
    health: HealthState = HealthState.DISABLED
    started_at: float = 0.0
    completed_at: float = 0.0
    exit_code: int = 0
    signal: str = ""
    failures: int = 0


class Pod(msgspec.Struct, gc=False, eq=False):
    """One instance of a job, in its current run. Hashed by identity: queues are ordered sets of pods."""

    job: JobId
    instance: int
    template: PodTemplate
    state: PodState
    goal: PodState
    run: int
    config: int
    desired_config: int
    changed_at: float
    health: HealthState
    host: HostName | None = None
    ports: tuple[int, ...] = ()
    started_at: float = 0.0
    completed_at: float = 0.0
    failures: int = 0
    message: str = ""
    reason: str = ""
    termination: Termination | None = None
    revision: int = 0
    history: bytes = b""
    """All that was written of this pod, packed (core.history)."""
    rerun: bool = False
    """A new run is wanted, whatever the configuration; until it begins the wish may be repeated."""
    desired_host: HostName | None = None
    """Where the next run should go if it can, for restarts and updates in place."""
    unavailable: bool = False
    """Counts against the job's SLA (core.availability)."""
    containers: tuple[ContainerRun, ...] = ()
    """Init containers, then the others; empty while all are as the pod is (core.containers)."""

    @property
    def superseded(self) -> bool:
        """The current run, or the last one, is to be followed by another: of itself or with another
        configuration."""
        return self.rerun or self.config != self.desired_config

    @property
    def desired_run(self) -> int:
        """The run that is wanted: the current one unless another has been asked for."""
        return self.run + self.rerun


class Workflow(msgspec.Struct, gc=False, eq=False):
    """One way of a job from one configuration to the next: an update (a creation too) or a restart.

    Versions are (config, desired state, workflow), `version` the one that it led the job to. `added` and
    `removed` are instances from the first up to and without the second; `updated` is packed
    (core.instances), as is the log (core.workflow_log).
    """

    type: WorkflowType
    spec: WorkflowSpec
    version: tuple[int, int, int]
    prev_version: tuple[int, int, int]
    created_at: float
    updated_at: float
    state: WorkflowState = WorkflowState.INITIALIZED
    prev_state: WorkflowState = WorkflowState.INVALID
    completed_at: float = 0.0
    opaque: str = ""
    asked: tuple[tuple[int, int], ...] = ()
    """What is to be restarted, as ranges without their ends."""
    compared: int = 0
    """Instances below this have been compared with the new configuration."""
    planned: bool = False
    """All have been, so that the lists are complete."""
    added: tuple[int, int] = (0, 0)
    updated: bytes = b""
    removed: tuple[int, int] = (0, 0)
    total: int = 0
    done: int = 0
    failed: int = 0
    current: dict[int, None] = {}
    """Instances that were begun and are neither done nor failed."""
    log: bytearray = msgspec.field(default_factory=bytearray)

    @property
    def config(self) -> int:
        """The configuration that it leads to."""
        return self.version[0]

    @property
    def finished(self) -> bool:
        """Whether it has come to its end."""
        return self.state in WORKFLOW_TERMINAL

    @property
    def rolling(self) -> bool:
        """Whether it is on its way, and not held."""
        return self.state in (WorkflowState.ROLLING_FORWARD, WorkflowState.ROLLING_BACKWARD)


class Job(msgspec.Struct, gc=False, eq=False):
    """A job, all its pods and all versions of its configuration that are kept."""

    id: JobId
    specs: dict[int, JobSpec]
    state: JobState
    goal: JobState
    created_at: float
    updated_at: float
    counts: list[int]
    """Pods by state, indexed by PodState; instances not created yet count nowhere."""
    config: int = 1
    desired: int = 1
    workflow: int = 1
    pods: list[Pod] = []
    goals_set: int = 0
    """Pods below this instance have been told `told`, the goal that was last set for the whole job."""
    told: JobState = JobState.RUNNING
    exempt: dict[int, None] = {}
    """Pods that were started or stopped by themselves while the others were still being told."""
    unavailable: int = 0
    """How many pods count against the SLA."""
    volumes: dict[int, VolumeId] = {}
    """The volume of each instance that has one."""
    revision: int = 1
    state_at: float = 0.0
    """When the state last changed; it is looked at again no sooner than a job-status period later."""
    started_at: float = 0.0
    """When the job first became RUNNING."""
    counts_of: dict[int, list[int]] = {}
    """As `counts`, by the configuration of the pods' runs."""
    specs_at: dict[int, float] = {}
    """When configurations after the first were made."""
    workflows: list[Workflow] = []
    """The latest is the last: under way, or over."""
    leaving: int = 0
    """How many pods at the end of the list are to go, while the job stays."""
    departed: dict[int, Pod] = {}
    """Removed pods by instance: one that is added again goes on with its runs and its history."""
    secrets: dict[tuple[str, int], Secret] = {}
    """By id and version; those that no kept configuration refers to go with the next change of secrets."""

    @property
    def spec(self) -> JobSpec:
        """The current configuration."""
        return self.specs[self.config]

    def spec_of(self, pod: Pod) -> JobSpec:
        """The configuration that a pod's run was made with: by it the pod queues and is charged."""
        return self.specs[pod.config]


class Queue(IntEnum):
    """The queues of a leaf; equal claims are served in this order. Their heads wait for different things, so
    that one kind of pod does not hold up the others (behaviour, scheduler §3.2)."""

    NON_PREEMPTIBLE = 0
    CONTROLLER = 1
    REVOCABLE = 2
    PENDING = 3


class Volume(msgspec.Struct, gc=False, eq=False):
    """A persistent volume: disk of one host, kept for one instance of a job."""

    id: VolumeId
    job: JobId
    instance: int
    host: HostName
    path: str
    size: int
    """Thousandths of a MB."""
    state: VolumeState
    created_at: float
    updated_at: float


class Pool(msgspec.Struct, gc=False, eq=False):
    """A resource pool. Only a leaf (no children) takes jobs."""

    id: PoolId
    spec: PoolSpec
    created_at: float
    updated_at: float
    version: int = 1
    children: list[PoolId] = []
    allocation: Resources = NOTHING
    """Of all admitted pods in this pool and below."""
    slack: Resources = NOTHING
    """The part of `allocation` that revocable pods hold."""
    non_preemptible: Resources = NOTHING
    """The part that pods hold which can't be preempted."""
    controller: Resources = NOTHING
    """The part that controller pods hold."""
    demand: Resources = NOTHING
    """Of the hard gangs that wait in this pool itself."""
    slack_demand: Resources = NOTHING
    """Of the revocable gangs that wait in this pool itself; their cpu is `revocable_cpu`."""
    entitlement: Resources = NOTHING
    """What the pool may hold by the last calculation, hard and slack; without revocable cpu. Derived, like
    the two below (capacity.entitlement)."""
    non_slack_entitlement: Resources = NOTHING
    """The part of it for hard pods."""
    slack_entitlement: Resources = NOTHING
    """The part of it for revocable pods, and their cpu under `revocable_cpu`."""
    jobs: int = 0
    queues: dict[Queue, PriorityFifo[Pod]] = {}
    """Waiting gangs; only queues in which somebody waits."""
    blocked_at: int = -1
    """Version of the tree at which no head of a queue did fit; -1 when one may. Derived."""


class Host(msgspec.Struct, gc=False, eq=False):
    """A host: what its agent told of it, where it is on the way into or out of maintenance, and its pods."""

    name: HostName
    agent_id: str
    ip: str
    capacity: Resources
    ports: tuple[int, int]
    labels: tuple[tuple[str, str], ...]
    row: int
    state: HostState = HostState.UP
    goal: HostState = HostState.UP
    """UP, or DOWN while maintenance is wanted."""
    lost: bool = False
    """No agent of it is registered."""
    fds: int = FDS
    pool: HostPoolName = DEFAULT_HOST_POOL
    pods: dict[Pod, None] = {}
    """Those that hold resources of it, in the order in which they came."""
