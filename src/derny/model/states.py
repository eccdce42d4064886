"""States of pods, jobs, workflows, hosts and agents' tasks, numbered as on the wire; the tables of legal
moves.

The numbers are those of the API's enums (contract: PodState, JobState, HostState, HealthState, TaskState),
so that a state needs no translation at the counter. (API reference pod.proto, stateless.proto, host.proto;
behaviour, jobs §7.2 and scheduler §8.1.)
"""

from enum import IntEnum
from typing import Final


class PodState(IntEnum):
    INVALID = 0
    INITIALIZED = 1
    PENDING = 2
    READY = 3
    PLACING = 4
    PLACED = 5
    LAUNCHING = 6
    LAUNCHED = 7
    STARTING = 8
    RUNNING = 9
    SUCCEEDED = 10
    FAILED = 11
    LOST = 12
    KILLING = 13
    KILLED = 14
    PREEMPTING = 15
    DELETED = 16
    RESERVED = 17


class JobState(IntEnum):
    INVALID = 0
    INITIALIZED = 1
    PENDING = 2
    RUNNING = 3
    SUCCEEDED = 4
    FAILED = 5
    KILLED = 6
    KILLING = 7
    UNINITIALIZED = 8
    DELETED = 9


class HostState(IntEnum):
    INVALID = 0
    UNKNOWN = 1
    UP = 2
    DRAINING = 3
    DRAINED = 4
    DOWN = 5


class AgentState(IntEnum):
    """Of a simulated agent, as the master knows it (derny.simulation.v1.AgentState)."""

    INVALID = 0
    REGISTERING = 1
    REGISTERED = 2
    SILENT = 3
    LOST = 4
    DOWN = 5


class VolumeState(IntEnum):
    INVALID = 0
    INITIALIZED = 1
    CREATED = 2
    DELETED = 3


class HealthState(IntEnum):
    INVALID = 0
    DISABLED = 1
    UNKNOWN = 2
    HEALTHY = 3
    UNHEALTHY = 4


class Gate(IntEnum):
    """What an operator can close (admin_svc.proto: Component)."""

    GOAL_STATE_ENGINE = 0
    """No step towards a goal is taken."""
    READ = 1
    """No client reads or watches."""
    WRITE = 2
    """No client changes anything."""
    KILL = 3
    """No agent is asked to kill."""
    LAUNCH = 4
    """No pod is placed."""


class TerminationReason(IntEnum):
    INVALID = 0
    KILLED_ON_REQUEST = 1
    FAILED = 2
    KILLED_HOST_MAINTENANCE = 3
    PREEMPTED_RESOURCES = 4
    DEADLINE_TIMEOUT_EXCEEDED = 5
    KILLED_FOR_UPDATE = 6
    KILLED_FOR_RESTART = 7
    KILLED_FOR_SLA_AWARE_RESTART = 8


class WorkflowType(IntEnum):
    INVALID = 0
    UPDATE = 1
    RESTART = 2


class WorkflowState(IntEnum):
    INVALID = 0
    INITIALIZED = 1
    ROLLING_FORWARD = 2
    PAUSED = 3
    SUCCEEDED = 4
    ABORTED = 5
    FAILED = 6
    ROLLING_BACKWARD = 7
    ROLLED_BACK = 8


class TaskState(IntEnum):
    """What an agent says of a task, in Mesos' words and numbers (mesos.v1.TaskState)."""

    STARTING = 0
    RUNNING = 1
    FINISHED = 2
    FAILED = 3
    KILLED = 4
    LOST = 5
    STAGING = 6
    ERROR = 7
    KILLING = 8
    DROPPED = 9
    UNREACHABLE = 10
    GONE = 11
    GONE_BY_OPERATOR = 12
    UNKNOWN = 13


POD_STATE_OF_TASK: Final[dict[TaskState, PodState]] = {
    TaskState.STAGING: PodState.LAUNCHED,
    TaskState.STARTING: PodState.STARTING,
    TaskState.RUNNING: PodState.RUNNING,
    # A task that is being killed still runs; KILLING is ours to say, since the kill was ours to order.
    TaskState.KILLING: PodState.RUNNING,
    TaskState.FINISHED: PodState.SUCCEEDED,
    TaskState.FAILED: PodState.FAILED,
    TaskState.ERROR: PodState.FAILED,
    TaskState.KILLED: PodState.KILLED,
    TaskState.LOST: PodState.LOST,
    # Only partition-aware frameworks are told these; for us each means that the task is gone for good.
    TaskState.DROPPED: PodState.LOST,
    TaskState.UNREACHABLE: PodState.LOST,
    TaskState.GONE: PodState.LOST,
    TaskState.GONE_BY_OPERATOR: PodState.LOST,
    TaskState.UNKNOWN: PodState.LOST,
}

POD_TERMINAL: Final = frozenset(
    {PodState.SUCCEEDED, PodState.FAILED, PodState.LOST, PodState.KILLED, PodState.DELETED}
)

POD_ADMITTED: Final = frozenset(
    {
        PodState.READY,
        PodState.PLACING,
        PodState.LAUNCHED,
        PodState.STARTING,
        PodState.RUNNING,
        PodState.PREEMPTING,
        PodState.KILLING,
    }
)
"""The pod counts in its pool's allocation, from admission to the terminal report (behaviour, scheduler
§1.5)."""

POD_ON_HOST: Final = frozenset(
    {PodState.LAUNCHED, PodState.STARTING, PodState.RUNNING, PodState.PREEMPTING, PodState.KILLING}
)
"""The pod holds resources and ports of a host."""

_ENDS: Final = frozenset({PodState.SUCCEEDED, PodState.FAILED, PodState.LOST, PodState.KILLED})

WORKFLOW_TERMINAL: Final = frozenset(
    {WorkflowState.SUCCEEDED, WorkflowState.ABORTED, WorkflowState.FAILED, WorkflowState.ROLLED_BACK}
)

POD_MOVES: Final[dict[PodState, frozenset[PodState]]] = {
    PodState.INITIALIZED: frozenset({PodState.PENDING}),
    PodState.PENDING: frozenset({PodState.READY, PodState.KILLED}),
    PodState.READY: frozenset({PodState.PLACING, PodState.LAUNCHED, PodState.PENDING, PodState.KILLED}),
    PodState.PLACING: frozenset({PodState.LAUNCHED, PodState.PENDING, PodState.KILLED}),
    PodState.LAUNCHED: _ENDS | {PodState.STARTING, PodState.RUNNING, PodState.KILLING},
    PodState.STARTING: _ENDS | {PodState.RUNNING, PodState.KILLING},
    PodState.RUNNING: _ENDS | {PodState.KILLING, PodState.PREEMPTING},
    PodState.PREEMPTING: _ENDS | {PodState.KILLING, PodState.RUNNING},
    PodState.KILLING: _ENDS,
    # Only a new run leads out of an end.
    **{end: frozenset({PodState.INITIALIZED}) for end in _ENDS},
}
