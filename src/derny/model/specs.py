"""The part of a job's spec that is decided on; the rest rides along as the client's own bytes.

Made once by the counter from the wire (`api.wire_in`), journaled in `JobCreated`, never changed. A job of
many pods shares one `PodTemplate` among all instances that the spec gives no override.
"""

from enum import IntEnum

import msgspec

from derny.model.ids import PoolId
from derny.model.resources import Resources
from derny.model.secrets import SecretRef


class PortRequest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One network port: a static number, or 0 for one that the scheduler picks."""

    name: str
    number: int = 0
    env_name: str = ""


class Command(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a container runs. Shell: `value` is a command line. Else: a program and its arguments."""

    value: str = ""
    arguments: tuple[str, ...] = ()
    shell: bool = True


class LabelKind(IntEnum):
    """Whose labels a constraint counts, numbered as on the wire."""

    POD = 1
    HOST = 2


class Condition(IntEnum):
    """How a count is compared with the requirement, numbered as on the wire."""

    LESS_THAN = 1
    EQUAL = 2
    GREATER_THAN = 3


class LabelConstraint(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="label"):
    """How often exactly this key and value must occur on a host, or on the pods that are on it."""

    kind: LabelKind
    condition: Condition
    key: str
    value: str
    requirement: int


class AndConstraint(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="and"):
    """All of these; of none at all it is not said that they hold (`placement.constraints`)."""

    constraints: tuple["LabelConstraint | AndConstraint | OrConstraint", ...]


class OrConstraint(msgspec.Struct, frozen=True, gc=False, array_like=True, tag="or"):
    """Any of these."""

    constraints: tuple["LabelConstraint | AndConstraint | OrConstraint", ...]


Constraint = LabelConstraint | AndConstraint | OrConstraint
"""What a pod asks of the labels of its host and of the pods there (API reference, pod.proto)."""

Labels = tuple[tuple[str, str], ...]
"""Keys and values. A pair may occur more than once: then it counts so often."""


class CheckKind(IntEnum):
    """How a health check is made, numbered as on the wire (pod.proto, HealthCheckType)."""

    COMMAND = 1
    HTTP = 2
    GRPC = 3


class HealthCheck(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How an agent finds out whether a container is well; times in seconds, from its start.

    The defaults are those of the contract for what a client leaves out (pod.proto, HealthCheckSpec).
    """

    kind: CheckKind
    command: Command = Command()
    """Of a check by command."""
    initial_s: int = 15
    interval_s: int = 10
    failures_max: int = 3
    """So many in a row, and the container is killed."""
    timeout_s: int = 20
    successes: int = 1
    """So many in a row, and a container that was not well is."""
    unshared: bool = False
    """The command does not see the container's variables."""


class Container(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One container of a pod. `ports` are the names of those of the pod's ports that it asked for."""

    name: str = ""
    command: Command = Command()
    image: str = ""
    ports: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    check: HealthCheck | None = None
    mounts: tuple[str, ...] = ()
    """Paths at which it sees volumes."""


class VolumeRequest(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A persistent volume that a pod wants: where its container sees it, and its size in thousandths of a
    MB."""

    path: str
    size: int


class PodTemplate(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What admission, placement and agents need to know of a pod.

    `demand` and `ports` are of all containers together; the cpu is under `revocable_cpu` when the pod is
    revocable, and the disk of its volume is part of it. The volume stays on its host when the pod ends:
    `footprint` is what goes with the pod. `kill_grace_s` is never 0, `containers` never empty. `command`,
    `container`, `image` and `environment` are another way to write a pod of one container, that of the first
    journals; nobody reads them.
    """

    demand: Resources
    command: Command = Command()
    container: str = ""
    image: str = ""
    ports: tuple[PortRequest, ...] = ()
    kill_grace_s: int = 30
    preemptible: bool = False
    controller: bool = False
    health_checked: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    constraint: Constraint | None = None
    labels: Labels = ()
    """The pod's own, sorted."""
    fds: int = 0
    """File descriptors that its containers may have open."""
    containers: tuple[Container, ...] = ()
    """Run side by side, once all init containers have exited with 0."""
    init_containers: tuple[Container, ...] = ()
    """Run one after the other, first."""
    revocable: bool = False
    """Runs on slack, and yields first."""
    digest: bytes = b""
    """Of the whole effective pod spec: pods of equal digests need not be restarted to become each other
    (behaviour, jobs §8.2)."""
    volume: VolumeRequest | None = None

    def __post_init__(self) -> None:
        if not self.containers:
            names = tuple(port.name for port in self.ports)
            alone = Container(self.container, self.command, self.image, names, self.environment)
            msgspec.structs.force_setattr(self, "containers", (alone,))
        if self.demand.revocable_cpu and not self.revocable:
            # Journals of the first release have no such field; what such pods ask for tells.
            msgspec.structs.force_setattr(self, "revocable", True)

    @property
    def footprint(self) -> Resources:
        """What a run takes from its host, and gives back at its end."""
        if self.volume is None:
            return self.demand
        return self.demand.minus(Resources(disk=self.volume.size))

    @property
    def is_plain(self) -> bool:
        """Whether there is one container and nothing else, so that the pod's state is its state too."""
        return len(self.containers) == 1 and not self.init_containers


class JobSpec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One version of a job's configuration.

    `wire` is the client's JobSpec message, byte for byte. `templates` has each distinct pod template once;
    `template_of` gives the index for instances that differ from `templates[0]`.
    """

    name: str
    pool: PoolId
    instance_count: int
    wire: bytes
    templates: tuple[PodTemplate, ...] = ()
    template_of: dict[int, int] = {}
    priority: int = 0
    revocable: bool = False
    unavailable_max: int = 0
    """How many pods may be unavailable when one is to be disturbed; 0 for any number (SlaSpec)."""
    labels: Labels = ()
    """The job's own, sorted; those of its pods are in the templates."""
    digest: bytes = b""
    """Of the whole message, in whichever form its client wrote it: equal jobs have equal digests."""
    secrets: tuple[SecretRef, ...] = ()
    """In the order in which they were given."""

    def template(self, instance: int) -> PodTemplate:
        """The template of one instance."""
        return self.templates[self.template_of.get(instance, 0) if self.template_of else 0]


class WorkflowSpec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """How a workflow goes about it (CreateSpec, UpdateSpec and RestartSpec in one).

    0 means any number: of instances at a time, of failures of one instance, of failed instances.
    """

    batch_size: int = 0
    max_instance_retries: int = 0
    max_tolerable_instance_failures: int = 0
    rollback_on_failure: bool = False
    start_paused: bool = False
    in_place: bool = False
    start_pods: bool = False


class PoolResource(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One kind of a pool's configuration, in thousandths (share is a plain weight)."""

    kind: str
    reservation: int = 0
    limit: int = 0
    share: float = 1.0
    static: bool = False


class PoolSpec(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A pool's configuration. `wire` is the client's ResourcePoolSpec, byte for byte.

    Percentages are None where the client set no limit. `resources` has all four kinds, in the order of
    `resources.KINDS`.
    """

    name: str
    parent: PoolId
    wire: bytes
    resources: tuple[PoolResource, ...] = ()
    controller_percent: float | None = None
    slack_percent: float | None = None
    residual: bool = False
    """It may have what its parent may have, and reserves what its siblings leave, whatever `resources` says:
    the pool that the daemon makes by itself."""
