"""All records and their indexes; look-ups; the dirty set.

One rule: appliers write it, everyone else in `core` reads. What is *derived* (the dirty set, timers, what
is known to find no host) is not journaled: replay marks dirty whatever it touches, and the first steps
after it look again.
"""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

import msgspec

from derny.capacity.cycle import Cycle
from derny.capacity.tree import PoolTree
from derny.core.availability import is_unavailable
from derny.core.history import Texts, extend
from derny.core.holds import Holds
from derny.model.errors import NotFound
from derny.model.ids import DEFAULT_HOST_POOL, HostName, HostPoolName, JobId, PodId, VolumeId
from derny.model.records import Host, Job, Pod, Volume
from derny.model.specs import PodTemplate
from derny.model.states import POD_MOVES, POD_TERMINAL, Gate, JobState, PodState, VolumeState
from derny.model.timers import TimingWheel
from derny.placement.hosts import HostTable

GroupKey = tuple[JobId, int, HostName | None]

Version = tuple[int, int]
"""Of the host table, and of those labels of pods that a constraint speaks of."""
UNKNOWN: Final[Version] = (-1, 0)
NEVER: Final = float("inf")

# Looked up once: through its class a member takes 70 ns in Python 3.11, and these are asked for with every
# write of a pod.
_READY: Final = PodState.READY
_RUNNING: Final = PodState.RUNNING

AT_REST = frozenset(
    {
        # Nobody ever sees a pod that is INITIALIZED: it is queued by the same event.
        (PodState.INITIALIZED, PodState.RUNNING),
        (PodState.INITIALIZED, PodState.KILLED),
        (PodState.INITIALIZED, PodState.DELETED),
        (PodState.PENDING, PodState.RUNNING),
        (PodState.READY, PodState.RUNNING),
        (PodState.RUNNING, PodState.RUNNING),
    }
    | {
        (end, goal)
        for end in (PodState.SUCCEEDED, PodState.FAILED, PodState.LOST, PodState.KILLED)
        for goal in (PodState.KILLED, PodState.DELETED)
    }
)
"""(actual, goal) pairs that owe no step, now or later, unless the run is superseded or the pod recovers from
failures; `core.goals` has the steps of all others."""


_RESTING: Final = [frozenset(goal for of, goal in AT_REST if of is state) for state in PodState]
"""The goals with which a pod is at rest, by its state."""

_STANDING: Final = attrgetter("state", "config")

_GOT_SOMEWHERE = POD_TERMINAL | {PodState.RUNNING}
"""What a workflow waits for."""


class Group(msgspec.Struct, eq=False):
    """Admitted pods of one job and one template, that wait for hosts. `fresh` are READY, `tried` are
    PLACING."""

    template: PodTemplate
    fresh: OrderedDict[Pod, None]
    tried: OrderedDict[Pod, None]
    stuck_at: Version = UNKNOWN
    """At which no host had room; UNKNOWN when there may be some."""
    retry_at: float = 0.0
    """When the `tried` pods may look for a host again, if room has grown."""
    patient_until: float = NEVER
    """When the first of the pods that wait for their own hosts will take any other."""
    anchor: HostName | None = None
    """The only host that will do: the one that has the pod's volume."""
    reason: str = ""


class Drain(msgspec.Struct, eq=False):
    """How far the look at a draining host's pods has come; each round looks at each of them once."""

    left: deque[Pod]
    """Not looked at yet in this round."""
    due_at: float = 0.0
    """When the next round begins."""


class Round(msgspec.Struct, eq=False):
    """How far a comparison of all pods with what agents run has come. Derived."""

    due_at: float | None = None
    """When the next slice is due; None before anybody has asked."""
    jobs: deque[JobId] = msgspec.field(default_factory=deque)
    """Yet to be compared; the first one from `instance` on."""
    instance: int = 0


class Rollout(msgspec.Struct, eq=False):
    """What the unfinished workflow of a job has yet to look at. Derived from the pods and the workflow."""

    waiting: tuple[OrderedDict[int, None], OrderedDict[int, None], OrderedDict[int, None]]
    """Instances to be updated, the first of these first: unavailable, stopped, available."""
    changed: OrderedDict[int, None]
    """Instances that may have got somewhere: pods that run, or whose runs have ended, and pods that are
    gone."""
    steady: deque[tuple[float, list[int]]]
    """Pods that run, by when they will have done so for long enough."""
    wake: float = 0.0
    """For when the last timer was set."""


class State:
    """Everything the machine knows."""

    def __init__(self) -> None:
        self.tree = PoolTree()
        self.cycle = Cycle()
        """The last calculation of entitlements. Derived."""
        self.jobs: dict[JobId, Job] = {}
        self.rollouts: dict[JobId, Rollout] = {}
        self.names: dict[str, list[JobId]] = {}
        self.pods_wanted = 0
        self.hosts: dict[HostName, Host] = {}
        self.host_pools: dict[HostPoolName, dict[HostName, None]] = {DEFAULT_HOST_POOL: {}}
        """Every host is in exactly one, in the order in which they came there."""
        self.table = HostTable()
        self.volumes: dict[VolumeId, Volume] = {}
        self.groups: OrderedDict[GroupKey, Group] = OrderedDict()
        self.holds = Holds(self.table)
        self.cursor = 0
        self.texts = Texts()
        self.timers: TimingWheel[Pod | JobId | Host] = TimingWheel()
        self.drains: dict[HostName, Drain] = {}
        """Of hosts that are DRAINING."""
        self.round = Round()
        self.notes: dict[str, bytes] = {}
        """What whoever speaks for the agents wants to be given back after a restart."""
        self.dirty_pods: OrderedDict[Pod, None] = OrderedDict()
        self.dirty_jobs: OrderedDict[JobId, None] = OrderedDict()
        self.dirty_hosts: OrderedDict[HostName, None] = OrderedDict()
        self.moved_hosts: deque[HostName] = deque()
        """Whose new pool placement has yet to see. Derived."""
        self.closed: frozenset[Gate] = frozenset()
        self.held_kills: OrderedDict[Pod, None] = OrderedDict()
        """Pods that owe a kill while the gate KILL is closed. Derived."""
        self.held_orphans: dict[PodId, HostName] = {}
        """What agents ran that nobody wants, found while the gate KILL was closed."""
        self.changed_jobs: dict[Job, None] = {}
        self.changed_pods: dict[Pod, None] = {}
        """What clients see differently since changes were last taken; records that are gone are DELETED."""

    def job(self, job: JobId) -> Job:
        """The job of this id; NotFound."""
        try:
            return self.jobs[job]
        except KeyError:
            raise NotFound(f"job {job!r} does not exist") from None

    def pod(self, job: JobId, instance: int) -> Pod:
        """The pod of this job and instance; NotFound."""
        pods = self.job(job).pods
        if instance >= len(pods):
            raise NotFound(f"pod {job}-{instance} does not exist; the job has {len(pods)} pods")
        return pods[instance]

    @property
    def has_dirty(self) -> bool:
        """Whether anything is still to be looked at, of what was touched."""
        return bool(self.dirty_pods or self.dirty_jobs or self.dirty_hosts or self.moved_hosts)

    def is_live(self, pod: Pod) -> bool:
        """Whether this very record is still in its job: timers may hold pods that are gone."""
        job = self.jobs.get(pod.job)
        return job is not None and pod.instance < len(job.pods) and job.pods[pod.instance] is pod

    def group(self, pod: Pod) -> Group:
        """The group in which this pod waits, made on first sight."""
        key = self._group_key(pod)
        group = self.groups.get(key)
        if group is None:
            group = self.groups[key] = Group(pod.template, OrderedDict(), OrderedDict(), anchor=key[2])
        return group

    def join_group(self, *pods: Pod) -> None:
        """Let READY or PLACING pods of a job wait for hosts among those like them."""
        for _, alike in self._by_group(pods):
            group = self.group(alike[0])
            for pod in alike:
                (group.fresh if pod.state is _READY else group.tried)[pod] = None

    def _group_key(self, pod: Pod) -> GroupKey:
        volume = self.volume(pod) if pod.template.volume is not None else None
        return pod.job, id(pod.template), None if volume is None else volume.host

    def volume(self, pod: Pod) -> Volume | None:
        """The volume to which the pod's next run goes back; None when it has none, or it has been deleted."""
        found = self.jobs[pod.job].volumes.get(pod.instance)
        volume = None if found is None else self.volumes[found]
        return None if volume is None or volume.state is VolumeState.DELETED else volume

    def leave_group(self, *pods: Pod) -> None:
        """Take READY or PLACING pods of a job out of their groups; an emptied group goes too."""
        for key, alike in self._by_group(pods):
            group = self.groups[key]
            for pod in alike:
                del (group.fresh if pod.state is _READY else group.tried)[pod]
            if not group.fresh and not group.tried:
                del self.groups[key]

    def _by_group(self, pods: Sequence[Pod]) -> Iterator[tuple[GroupKey, Sequence[Pod]]]:
        """Neighbours of one group together, since whole batches mostly are."""
        # By identity, as groups are: two configurations may have equal templates.
        for _, run in groupby(pods, lambda pod: id(pod.template)):
            alike = list(run)
            if alike[0].template.volume is None:
                yield self._group_key(alike[0]), alike
            else:
                for pod in alike:
                    yield self._group_key(pod), [pod]

    def touch(self, job: Job, at: float) -> None:
        """The job changed in a way that clients can see."""
        job.revision += 1
        job.updated_at = at
        self.changed_jobs[job] = None
        self.dirty_jobs[job.id] = None

    def record(self, pod: Pod, at: float) -> None:
        """Write down what the pod is now, and look at it again if it owes a step."""
        self.record_all(self.jobs[pod.job], [pod], at)

    def record_all(self, job: Job, pods: Sequence[Pod], at: float) -> None:
        """As `record`, for pods of one job: what they have in common is looked up once."""
        self.changed_pods.update(dict.fromkeys(pods))
        extend(pods, at, self.table.row_of, self.texts)
        held, dirty = self.holds.of, self.dirty_pods
        for pod in pods:
            pod.revision += 1
            unavailable = is_unavailable(pod)
            if unavailable is not pod.unavailable:
                pod.unavailable = unavailable
                job.unavailable += 1 if unavailable else -1
            if pod.desired_host is not None or pod in held:
                self.holds.follow(pod, at)
            if not is_at_rest(pod):
                dirty[pod] = None
        rollout = self.rollouts.get(job.id)
        if rollout is not None:
            rollout.changed.update({pod.instance: None for pod in pods if pod.state in _GOT_SOMEWHERE})

    def forget(self, pod: Pod, at: float) -> None:
        """The pod is out of its job; DELETED is the last that is seen of it."""
        pod.state = PodState.DELETED
        pod.changed_at = at
        pod.revision += 1
        self.changed_pods[pod] = None
        self.dirty_pods.pop(pod, None)
        self.holds.end(pod)

    def move_all(
        self, job: Job, pods: Sequence[Pod], to: PodState, at: float, message: str = "", reason: str = ""
    ) -> None:
        """Let pods of one job enter a state; an illegal move is a broken promise, not a refusal."""
        for (was, config), many in Counter(map(_STANDING, pods)).items():
            assert to in POD_MOVES[was], f"pods of {job.id} may not move from {was.name} to {to.name}"
            for counts in (job.counts, job.counts_of[config]):
                counts[was] -= many
                counts[to] += many
        for pod in pods:
            pod.state = to
            pod.changed_at = at
            pod.message = message
            pod.reason = reason
        self.record_all(job, pods, at)


def count_in(job: Job, pod: Pod, times: int = 1) -> None:
    """Count a pod among those of its job, or with -1 no more."""
    if pod.config not in job.counts_of:
        job.counts_of[pod.config] = new_counts()
    job.counts[pod.state] += times
    job.counts_of[pod.config][pod.state] += times


def configure(job: Job, pod: Pod, config: int) -> None:
    """Let a pod have a configuration, from now on or without a new run."""
    if config != pod.config:
        count_in(job, pod, -1)
        pod.config = config
        count_in(job, pod)


def is_at_rest(pod: Pod) -> bool:
    """Whether no step is owed to the pod, now or later."""
    if pod.goal not in _RESTING[pod.state]:
        return False
    if pod.goal is not _RUNNING:
        return True
    # One that runs after failures will have them forgotten if it goes on.
    recovers = pod.failures and pod.state is _RUNNING
    # The rest is what `superseded` says, spelled out: this is asked with every write.
    return not (recovers or pod.rerun or pod.config != pod.desired_config)


def new_counts() -> list[int]:
    """Pods by state, all zero."""
    return [0] * len(PodState)


def pod_goal(goal: JobState) -> PodState:
    """What a job's goal means for each of its pods."""
    return {
        JobState.RUNNING: PodState.RUNNING,
        JobState.KILLED: PodState.KILLED,
        JobState.DELETED: PodState.DELETED,
    }[goal]
