"""Everything that can have happened: the only thing journaled, the only thing that changes state.

One event per *decision*, so it may list many pods, as columns: `instances[i]` goes with `hosts[i]`. Events
are for ever: fields are only added, with defaults, and never renamed or reused. Which effects an event
calls for is read off by `effects_of` in `core.pods`.
"""

import msgspec

from derny.core.commands import ContainerReport, HostSeen
from derny.model.ids import HostName, HostPoolName, JobId, PodId, PoolId, VolumeId
from derny.model.secrets import Secret
from derny.model.specs import JobSpec, PoolSpec, WorkflowSpec
from derny.model.states import (
    Gate,
    HostState,
    JobState,
    PodState,
    TerminationReason,
    WorkflowState,
    WorkflowType,
)


class _Event(msgspec.Struct, frozen=True, gc=False, array_like=True, tag=True):
    pass


class PoolCreated(_Event, frozen=True, gc=False, tag=True):
    pool: PoolId
    spec: PoolSpec


class PoolUpdated(_Event, frozen=True, gc=False, tag=True):
    pool: PoolId
    spec: PoolSpec


class PoolRemoved(_Event, frozen=True, gc=False, tag=True):
    pool: PoolId


class HostsSeen(_Event, frozen=True, gc=False, tag=True):
    hosts: list[HostSeen]


class HostsLost(_Event, frozen=True, gc=False, tag=True):
    hosts: list[HostName]


class AgentsReconnected(_Event, frozen=True, gc=False, tag=True):
    """What was said to agents, or by them, during an outage may be lost: it is there for its effects."""


class AgentsNoted(_Event, frozen=True, gc=False, tag=True):
    """Notes, by key, that mean nothing to the machine; the last one of a key stands."""

    notes: dict[str, bytes]


class HostGoalsSet(_Event, frozen=True, gc=False, tag=True):
    """These hosts are to go into maintenance (DOWN), or to come back from wherever they are (UP)."""

    hosts: list[HostName]
    goal: HostState


class HostStatesChanged(_Event, frozen=True, gc=False, tag=True):
    """These hosts have come a step nearer to what they are to be."""

    hosts: list[HostName]
    state: HostState


class HostPoolCreated(_Event, frozen=True, gc=False, tag=True):
    pool: HostPoolName


class HostPoolDeleted(_Event, frozen=True, gc=False, tag=True):
    """The pool is gone; hosts that were in it are in the default pool."""

    pool: HostPoolName


class HostPoolChanged(_Event, frozen=True, gc=False, tag=True):
    """The host is in this pool from now on, and in no other."""

    host: HostName
    pool: HostPoolName


class JobCreated(_Event, frozen=True, gc=False, tag=True):
    """A job is there, and the workflow that brings up its pods."""

    job: JobId
    spec: JobSpec
    workflow: WorkflowSpec = WorkflowSpec()
    opaque: str = ""


class JobGoalSet(_Event, frozen=True, gc=False, tag=True):
    """A start, stop or delete. `version` is the job's (config, desired state, workflow) from now on."""

    job: JobId
    goal: JobState
    version: tuple[int, int, int]


class JobStateChanged(_Event, frozen=True, gc=False, tag=True):
    job: JobId
    state: JobState


class JobRemoved(_Event, frozen=True, gc=False, tag=True):
    """The last pod of a deleted job is gone, and now the job."""

    job: JobId


class WorkflowStarted(_Event, frozen=True, gc=False, tag=True):
    """An update to `spec`, or a restart, which has none: the job keeps its configuration, under a new number.

    `version` is the job's from now on; `asked` has what to restart, as ranges without their ends. What was
    under way is aborted; the `forgotten` oldest workflows are forgotten.
    """

    job: JobId
    kind: WorkflowType
    version: tuple[int, int, int]
    workflow: WorkflowSpec
    spec: JobSpec | None = None
    asked: tuple[tuple[int, int], ...] = ()
    opaque: str = ""
    forgotten: int = 0


class WorkflowSteered(_Event, frozen=True, gc=False, tag=True):
    """A client paused, resumed or aborted the workflow, or found it so. `opaque` is None to keep what is
    there."""

    job: JobId
    state: WorkflowState
    version: tuple[int, int, int]
    opaque: str | None = None


class WorkflowPlanned(_Event, frozen=True, gc=False, tag=True):
    """Instances below `end` have been compared: `updated` will be touched, the others have the new
    configuration as they are. `complete`: these were the last."""

    job: JobId
    end: int
    updated: list[int]
    complete: bool


class WorkflowMoved(_Event, frozen=True, gc=False, tag=True):
    """The workflow has begun, or come to its end."""

    job: JobId
    state: WorkflowState


class WorkflowRolledBack(_Event, frozen=True, gc=False, tag=True):
    """Too many instances failed: the configuration of before is brought back, under the number `config`."""

    job: JobId
    config: int


class InstancesBegun(_Event, frozen=True, gc=False, tag=True):
    """It is the turn of these instances to be updated, restarted or, beyond the job's count, removed."""

    job: JobId
    instances: list[int]


class InstancesSettled(_Event, frozen=True, gc=False, tag=True):
    """Of the instances in progress these are done, and these have failed too often."""

    job: JobId
    done: list[int]
    failed: list[int]


class SecretsKept(_Event, frozen=True, gc=False, tag=True):
    """The contents of secrets that the job's latest configuration refers to, as far as they are new."""

    job: JobId
    secrets: list[Secret]


class PodsCreated(_Event, frozen=True, gc=False, tag=True):
    """Instances `first` up to and without `end` exist, and wait in their pool's queue."""

    job: JobId
    first: int
    end: int


class PodsGoalSet(_Event, frozen=True, gc=False, tag=True):
    """Instances `first` up to and without `end` have been told the job's goal."""

    job: JobId
    first: int
    end: int
    goal: PodState


class PodsWanted(_Event, frozen=True, gc=False, tag=True):
    """These pods have been started or stopped by themselves. A start lets their job run again too."""

    job: JobId
    instances: list[int]
    goal: PodState


class RunsSuperseded(_Event, frozen=True, gc=False, tag=True):
    """The current runs of these pods are to end, each followed at once by a new one.

    With a `config` the new runs have that configuration, and pods that are to stay stopped only take note of
    it. `in_place` has them look for the hosts they are on. `forgiven` pods begin without failures. `message`
    and `why` are for the status.
    """

    job: JobId
    instances: list[int]
    reason: TerminationReason
    message: str = ""
    why: str = ""
    config: int = 0
    in_place: bool = False
    forgiven: bool = False


class PodsPreempted(_Event, frozen=True, gc=False, tag=True):
    """These pods run on, and have been chosen to be evicted so that others get what they hold."""

    job: JobId
    instances: list[int]
    message: str


class PodsSpared(_Event, frozen=True, gc=False, tag=True):
    """These pods had been chosen to be evicted; now they run on as if nothing had been."""

    job: JobId
    instances: list[int]


class FailuresForgiven(_Event, frozen=True, gc=False, tag=True):
    """These pods have run for so long that their earlier failures no longer count."""

    job: JobId
    instances: list[int]


class PodsRemoved(_Event, frozen=True, gc=False, tag=True):
    """Instances from `first` on are forgotten."""

    job: JobId
    first: int


class GangsAdmitted(_Event, frozen=True, gc=False, tag=True):
    """Pods may use their pool's share: they count in its allocation from now on."""

    job: JobId
    instances: list[int]


class PodsPlaced(_Event, frozen=True, gc=False, tag=True):
    """Pods have a host each, and are being launched there. `hosts` are rows of the host table, in order of
    registration; `ports` is empty when the pods ask for none."""

    job: JobId
    instances: list[int]
    hosts: list[int]
    ports: list[tuple[int, ...]]


class PodsUnplaced(_Event, frozen=True, gc=False, tag=True):
    """No host has room for these pods now."""

    job: JobId
    instances: list[int]
    reason: str


class PodsRequeued(_Event, frozen=True, gc=False, tag=True):
    """Admitted pods that found no host give their share back and wait in the queue again."""

    job: JobId
    instances: list[int]
    message: str


class PodsReported(_Event, frozen=True, gc=False, tag=True):
    """Agents say that the current runs of these pods are in this state, or still are and something else of
    them has changed."""

    job: JobId
    state: PodState
    instances: list[int]
    message: str = ""
    reason: str = ""
    exit_code: int = 0
    signal: str = ""
    healthy: bool | None = None
    """What a liveness check found, if that is why it is said."""
    containers: tuple[ContainerReport, ...] = ()


class PodsThrottled(_Event, frozen=True, gc=False, tag=True):
    """These pods ended and will get a new run once their back-off has passed."""

    job: JobId
    instances: list[int]


class PodsRestarted(_Event, frozen=True, gc=False, tag=True):
    """These pods begin a new run, and wait in their pool's queue."""

    job: JobId
    instances: list[int]


class PodsKillRequested(_Event, frozen=True, gc=False, tag=True):
    """Agents are asked to stop the current runs of these pods."""

    job: JobId
    instances: list[int]


class PodsKilled(_Event, frozen=True, gc=False, tag=True):
    """These pods were waiting, unknown to any agent, and are stopped by our word alone."""

    job: JobId
    instances: list[int]
    message: str


class VolumeDeleted(_Event, frozen=True, gc=False, tag=True):
    """A volume is gone from its host. Volumes begin with the placement of their pods (`PodsPlaced`), and end
    with their jobs at the latest."""

    volume: VolumeId


class OrphansFound(_Event, frozen=True, gc=False, tag=True):
    """Agents run what nobody wants: runs that are not the current ones, pods or jobs that are gone."""

    pods: list[PodId]
    hosts: list[HostName]


class PodsRefreshed(_Event, frozen=True, gc=False, tag=True):
    """The job and its instances `first` up to and without `end` are to be looked at again."""

    job: JobId
    first: int
    end: int


class PodEventsDeleted(_Event, frozen=True, gc=False, tag=True):
    """What was written of this run is forgotten."""

    job: JobId
    instance: int
    run: int


class GatesSet(_Event, frozen=True, gc=False, tag=True):
    """These gates are closed from now on, and no others."""

    closed: list[Gate]


Event = (
    PoolCreated
    | PoolUpdated
    | PoolRemoved
    | HostsSeen
    | HostsLost
    | AgentsReconnected
    | AgentsNoted
    | HostGoalsSet
    | HostStatesChanged
    | HostPoolCreated
    | HostPoolDeleted
    | HostPoolChanged
    | JobCreated
    | JobGoalSet
    | JobStateChanged
    | JobRemoved
    | SecretsKept
    | WorkflowStarted
    | WorkflowSteered
    | WorkflowPlanned
    | WorkflowMoved
    | WorkflowRolledBack
    | InstancesBegun
    | InstancesSettled
    | PodsCreated
    | PodsGoalSet
    | PodsWanted
    | RunsSuperseded
    | PodsPreempted
    | PodsSpared
    | FailuresForgiven
    | PodsRemoved
    | GangsAdmitted
    | PodsPlaced
    | PodsUnplaced
    | PodsRequeued
    | PodsReported
    | PodsThrottled
    | PodsRestarted
    | PodsKillRequested
    | PodsKilled
    | OrphansFound
    | VolumeDeleted
    | GatesSet
    | PodsRefreshed
    | PodEventsDeleted
)
