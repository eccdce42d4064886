"""Everything the world may ask or report: the inputs of the machine.

A command is a wish or a report, imperative, and may be refused. Clients' wishes come from `api`, agents'
reports from `agents`; both through the same inbox (`runtime.loop`). Ids arrive minted: the machine invents
nothing.
"""

import msgspec

from derny.model.ids import HostName, HostPoolName, JobId, PodId, PoolId, VolumeId
from derny.model.resources import FDS, Resources
from derny.model.secrets import Secret
from derny.model.specs import JobSpec, PoolSpec, WorkflowSpec
from derny.model.states import Gate, TaskState


class CreatePool(msgspec.Struct, frozen=True, gc=False):
    """Make a resource pool below an existing one."""

    pool: PoolId
    spec: PoolSpec


class UpdatePool(msgspec.Struct, frozen=True, gc=False):
    """Configure a resource pool anew. With `force` amounts may contradict one another, and kinds that the
    spec leaves out stay as they are."""

    pool: PoolId
    spec: PoolSpec
    force: bool = False


class DeletePool(msgspec.Struct, frozen=True, gc=False):
    """Remove a resource pool that nothing is in."""

    pool: PoolId


class CreateJob(msgspec.Struct, frozen=True, gc=False):
    """Make a job; its pods follow, as `workflow` says."""

    job: JobId
    spec: JobSpec
    workflow: WorkflowSpec = WorkflowSpec()
    opaque: str = ""
    secrets: tuple[Secret, ...] = ()


class ReplaceJob(msgspec.Struct, frozen=True, gc=False):
    """Give a job another configuration, and bring its pods there as `workflow` says."""

    job: JobId
    version: str
    spec: JobSpec
    workflow: WorkflowSpec = WorkflowSpec()
    opaque: str = ""
    secrets: tuple[Secret, ...] = ()
    """If there are none, the job keeps those that it has."""


class RestartJob(msgspec.Struct, frozen=True, gc=False):
    """Restart the pods of these ranges (without their ends), or all where there is none."""

    job: JobId
    version: str
    workflow: WorkflowSpec = WorkflowSpec()
    ranges: tuple[tuple[int, int], ...] = ()
    opaque: str = ""


class PauseWorkflow(msgspec.Struct, frozen=True, gc=False):
    """Begin no more instances. `opaque` is None to keep what hangs on the workflow."""

    job: JobId
    version: str
    opaque: str | None = None


class ResumeWorkflow(msgspec.Struct, frozen=True, gc=False):
    """Go on with a workflow that was paused."""

    job: JobId
    version: str
    opaque: str | None = None


class AbortWorkflow(msgspec.Struct, frozen=True, gc=False):
    """Give the workflow up. What was begun converges all the same."""

    job: JobId
    version: str
    opaque: str | None = None


class StartJob(msgspec.Struct, frozen=True, gc=False):
    """Want all pods of the job running. `version` is the entity version the caller has seen."""

    job: JobId
    version: str


class StopJob(msgspec.Struct, frozen=True, gc=False):
    """Want all pods of the job stopped."""

    job: JobId
    version: str


class DeleteJob(msgspec.Struct, frozen=True, gc=False):
    """Want the job gone; `force` also when it has not been stopped."""

    job: JobId
    version: str
    force: bool = False


class StartPod(msgspec.Struct, frozen=True, gc=False):
    """Want one pod running, in a new run at once if it has ended; its job too, without its other pods."""

    job: JobId
    instance: int


class StopPod(msgspec.Struct, frozen=True, gc=False):
    """Want one pod stopped until it is started again."""

    job: JobId
    instance: int


class RestartPod(msgspec.Struct, frozen=True, gc=False):
    """Want a new run of one pod. `check_sla`: only if the job's SLA can bear it."""

    job: JobId
    instance: int
    check_sla: bool = False


class HostSeen(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A host as its agent registers it. `ports` is an inclusive range; `labels` are its attributes; `fds` is
    how many file descriptors its pods may have open."""

    name: HostName
    agent_id: str
    ip: str
    capacity: Resources
    ports: tuple[int, int] = (31000, 32000)
    labels: tuple[tuple[str, str], ...] = ()
    fds: int = FDS


class DeleteVolume(msgspec.Struct, frozen=True, gc=False):
    """Want a persistent volume gone, and its disk given back."""

    volume: VolumeId


class SeeHosts(msgspec.Struct, frozen=True, gc=False):
    """Agents registered, again or for the first time."""

    hosts: list[HostSeen]


class LoseHosts(msgspec.Struct, frozen=True, gc=False):
    """Agents have been silent for the lost-agent time-out."""

    hosts: list[HostName]


class ReconnectAgents(msgspec.Struct, frozen=True, gc=False):
    """The link to the agents is there again. What was said during its outage, either way, may be lost."""


class NoteAgents(msgspec.Struct, frozen=True, gc=False):
    """Keep these notes, by key, for whoever speaks for the agents, and give them back after a restart."""

    notes: dict[str, bytes]


class StartMaintenance(msgspec.Struct, frozen=True, gc=False):
    """Want these hosts empty and out of service."""

    hosts: list[HostName]


class CompleteMaintenance(msgspec.Struct, frozen=True, gc=False):
    """Want these hosts back in service, or no longer drained."""

    hosts: list[HostName]


class CreateHostPool(msgspec.Struct, frozen=True, gc=False):
    """Make an empty host pool."""

    pool: HostPoolName


class DeleteHostPool(msgspec.Struct, frozen=True, gc=False):
    """Want a host pool gone; its hosts go to the default pool."""

    pool: HostPoolName


class ChangeHostPool(msgspec.Struct, frozen=True, gc=False):
    """Move a host from the pool that it is in to another one."""

    host: HostName
    source: HostPoolName
    destination: HostPoolName


REASON_HEALTH = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
"""Mesos' reason of a report that a health check is the cause of."""


class ContainerReport(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What an agent says of one container; STAGING: it has not been started yet.

    `healthy` is what its liveness check last said, None before it has said anything.
    """

    state: TaskState
    exit_code: int = 0
    signal: str = ""
    healthy: bool | None = None


class PodReport(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What an agent says of one run of a pod. `exit_code` is 0 unless the container failed by itself.

    `host` is empty where the one who says it does not know, as of a pod that nobody has. `healthy` is the
    result of a liveness check, for a report that is made because of one. `containers` has the init
    containers, then the others, of a pod that is more than one container; it is empty where all containers
    share the pod's state.
    """

    pod: PodId
    state: TaskState
    message: str = ""
    reason: str = ""
    exit_code: int = 0
    signal: str = ""
    host: HostName = HostName("")
    healthy: bool | None = None
    containers: tuple[ContainerReport, ...] = ()


class ReportPods(msgspec.Struct, frozen=True, gc=False):
    """Status updates, in the order in which they happened. Repeats and latecomers are harmless."""

    reports: list[PodReport]


class RefreshPods(msgspec.Struct, frozen=True, gc=False):
    """Look again at a job and at its pods with `first` <= instance < `end`."""

    job: JobId
    first: int
    end: int


class DeletePodEvents(msgspec.Struct, frozen=True, gc=False):
    """Forget what happened in one run of a pod."""

    job: JobId
    instance: int
    run: int


class CloseGates(msgspec.Struct, frozen=True, gc=False):
    """Let nothing through these gates, besides those that are closed already."""

    gates: list[Gate]


class OpenGates(msgspec.Struct, frozen=True, gc=False):
    """Let through again what these gates hold back."""

    gates: list[Gate]


Command = (
    CreatePool
    | UpdatePool
    | DeletePool
    | CreateJob
    | ReplaceJob
    | RestartJob
    | PauseWorkflow
    | ResumeWorkflow
    | AbortWorkflow
    | StartJob
    | StopJob
    | DeleteJob
    | StartPod
    | StopPod
    | RestartPod
    | SeeHosts
    | LoseHosts
    | ReconnectAgents
    | NoteAgents
    | StartMaintenance
    | CompleteMaintenance
    | CreateHostPool
    | DeleteHostPool
    | ChangeHostPool
    | ReportPods
    | RefreshPods
    | DeletePodEvents
    | DeleteVolume
    | CloseGates
    | OpenGates
)
