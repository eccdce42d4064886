"""The pool hierarchy: paths, limits, usage, demand.

One rule: what a pool has allocated is what its admitted pods ask for, itself and all pools below, exactly;
charging and refunding walk up to the root in the same step. What it demands is what its own queues ask for;
above, it is summed when it is wanted. The root's limit is the capacity of the cluster. Called by
`core.pools` (configuration), the rest of this room, and the appliers of `core.pods` (usage).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from itertools import groupby
from operator import attrgetter

from derny.model.errors import Invalid, NotFound
from derny.model.fifo import PriorityFifo
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.records import Pod, Pool, Queue
from derny.model.resources import KINDS, NOTHING, Resources
from derny.model.specs import PodTemplate, PoolResource, PoolSpec

UNLIMITED = 10**15
"""More than any cluster has: revocable cpu is bounded by hosts, not by pools (behaviour, scheduler §1.1)."""

_TEMPLATE = attrgetter("template")
"""Neighbours in a batch mostly have the same, and count together."""


class PoolTree:
    """All pools by id; the root is there from the start and is never journaled."""

    def __init__(self) -> None:
        root = Pool(ROOT_POOL, PoolSpec("root", PoolId(""), b""), 0.0, 0.0)
        self.pools: dict[PoolId, Pool] = {ROOT_POOL: root}
        self.capacity = NOTHING
        self.version = 0
        """Grows whenever room may have grown, so that "does not fit" can be remembered until it does."""
        self.changes = 0
        """Grows with everything that entitlements rest on: configuration, capacity, demand, allocation."""
        self.reshaped = 0
        """Grows with configuration and capacity alone."""
        self._residues: dict[PoolId, tuple[PoolResource, ...]] = {}
        self.preemption = True
        """Whether pods are preempted at all; if not, none needs the reservation for not being preemptible."""
        self.waiting: OrderedDict[PoolId, None] = OrderedDict()
        """Pools with a queue, the longest not served first."""

    @property
    def root(self) -> Pool:
        return self.pools[ROOT_POOL]

    def get(self, pool: PoolId) -> Pool:
        """The pool of this id; NotFound."""
        try:
            return self.pools[pool]
        except KeyError:
            raise NotFound(f"resource pool {pool!r} does not exist") from None

    def up(self, pool: Pool) -> Iterator[Pool]:
        """The pool and all pools above it, up to the root."""
        while True:
            yield pool
            if pool.id == ROOT_POOL:
                return
            pool = self.pools[pool.spec.parent]

    def walk(self, pool: PoolId = ROOT_POOL) -> Iterator[Pool]:
        """The pool and all below, parents first, siblings in order of creation."""
        waiting = [pool]
        while waiting:
            found = self.pools[waiting.pop()]
            yield found
            waiting.extend(reversed(found.children))

    def path(self, pool: Pool) -> str:
        """The absolute path: names from below the root joined by slashes; the root is `/`."""
        names = [found.spec.name for found in self.up(pool) if found.id != ROOT_POOL]
        return "/" + "/".join(reversed(names))

    def lookup(self, path: str) -> Pool:
        """The pool at an absolute path; one trailing slash is ignored, an empty segment matches nothing.

        Invalid when the path is empty or relative, NotFound when a segment has no such child. (Behaviour,
        scheduler §1.2.)
        """
        if not path.startswith("/"):
            raise Invalid(f"path {path!r} is not absolute; expected / or /pool/pool")
        pool = self.root
        segments = path[1:].removesuffix("/").split("/") if path != "/" else []
        for segment in segments:
            children = (self.pools[child] for child in pool.children)
            found = next((child for child in children if child.spec.name == segment), None)
            if found is None:
                raise NotFound(f"no resource pool has the path {path!r}")
            pool = found
        return pool

    def resources(self, pool: Pool) -> tuple[PoolResource, ...]:
        """The configuration by kind; the root's reservation and limit are the capacity of the cluster."""
        if pool.spec.residual:
            return self._residue(pool)
        if pool.id != ROOT_POOL:
            return pool.spec.resources
        amounts = [(kind, self.capacity.of_kind(kind)) for kind in KINDS]
        return tuple(PoolResource(kind, amount, amount, 0.0) for kind, amount in amounts)

    def reserved(self, pools: Iterable[Pool]) -> list[int]:
        """What the pools reserve together of each of `KINDS`, a residual one left out."""
        firm = [pool.spec.resources for pool in pools if not pool.spec.residual]
        return [sum(resources[kind].reservation for resources in firm) for kind in range(len(KINDS))]

    def _residue(self, pool: Pool) -> tuple[PoolResource, ...]:
        """What a residual pool is configured to; looked at anew when anything has been reshaped."""
        if pool.id not in self._residues:
            above = self.pools[pool.spec.parent]
            taken = self.reserved(self.pools[child] for child in above.children)
            self._residues[pool.id] = tuple(
                PoolResource(most.kind, max(most.reservation - firm, 0), most.limit)
                for most, firm in zip(self.resources(above), taken, strict=True)
            )
        return self._residues[pool.id]

    def limit(self, pool: Pool) -> Resources:
        """The most that the pool may allocate. Revocable cpu is limited by hosts alone."""
        if pool.id == ROOT_POOL:
            return self.capacity
        limits = {resource.kind: resource.limit for resource in self.resources(pool)}
        return Resources(revocable_cpu=UNLIMITED, **limits)

    def reservation(self, pool: Pool, percent: float = 100.0) -> Resources:
        """What the pool reserves, or so many percent of it."""
        reserved = {found.kind: found.reservation for found in self.resources(pool)}
        return Resources(**{kind: round(amount * percent / 100) for kind, amount in reserved.items()})

    def add(self, pool: PoolId, spec: PoolSpec, at: float) -> None:
        """Hang a new leaf below its parent, as the last child."""
        self.pools[pool] = Pool(pool, spec, at, at)
        self.pools[spec.parent].children.append(pool)
        self._reshape()

    def configure(self, pool: PoolId, spec: PoolSpec, at: float) -> None:
        """Give a pool another configuration below the same parent."""
        found = self.pools[pool]
        assert found.spec.parent == spec.parent
        found.spec = spec
        found.version += 1
        found.updated_at = at
        self._reshape()

    def remove(self, pool: PoolId) -> None:
        """Forget a leaf in which nothing is."""
        found = self.pools.pop(pool)
        assert not found.children and not found.jobs and pool not in self.waiting
        self.pools[found.spec.parent].children.remove(pool)
        self._reshape()

    def set_capacity(self, capacity: Resources) -> None:
        """What the root may allocate from now on."""
        self.capacity = capacity
        self._reshape()

    def charge(self, pool: PoolId, template: PodTemplate, times: int) -> None:
        """Count `times` pods of this template at the pool and above; negative `times` gives them back."""
        demand = template.demand
        self.version += times < 0
        self.changes += 1
        for found in self.up(self.pools[pool]):
            found.allocation = found.allocation.plus(demand, times)
            if template.revocable:
                found.slack = found.slack.plus(demand, times)
            if not template.preemptible:
                found.non_preemptible = found.non_preemptible.plus(demand, times)
            if template.controller:
                found.controller = found.controller.plus(demand, times)
            assert min(found.allocation) >= 0, f"pool {found.id} has a negative allocation"

    def queue_of(self, template: PodTemplate) -> Queue:
        """Where a pod of this template waits: a matter of the template alone, and of what is preempted at
        all.

        In Peloton all come into the pending queue, and move when they are blocked at its head; there a
        controller that can't be preempted holds up all others of that kind (behaviour, scheduler §3.3, §10).
        """
        if template.revocable:
            return Queue.REVOCABLE
        if template.controller:
            return Queue.CONTROLLER
        if self.preemption and not template.preemptible:
            return Queue.NON_PREEMPTIBLE
        return Queue.PENDING

    def enqueue(self, pool: PoolId, priority: int, *pods: Pod) -> None:
        """Let pods wait, behind all others of their queues and priority."""
        found = self.pools[pool]
        for template, run in groupby(pods, _TEMPLATE):
            alike = list(run)
            queue = self.queue_of(template)
            if queue not in found.queues:
                found.queues[queue] = PriorityFifo()
            found.queues[queue].add(priority, *alike)
            self._demand(found, template, len(alike))
        found.blocked_at = -1
        self.waiting[pool] = None

    def dequeue(self, pool: PoolId, priority: int, *pods: Pod) -> None:
        """Take pods out of their queues; an emptied queue goes too."""
        found = self.pools[pool]
        for template, run in groupby(pods, _TEMPLATE):
            alike = list(run)
            queue = self.queue_of(template)
            found.queues[queue].remove(priority, *alike)
            if not found.queues[queue]:
                del found.queues[queue]
            self._demand(found, template, -len(alike))
        found.blocked_at = -1
        if not found.queues:
            del self.waiting[pool]

    def _reshape(self) -> None:
        self._residues = {}
        self.version += 1
        self.changes += 1
        self.reshaped += 1

    def _demand(self, pool: Pool, template: PodTemplate, times: int) -> None:
        self.changes += 1
        if template.revocable:
            pool.slack_demand = pool.slack_demand.plus(template.demand, times)
        else:
            pool.demand = pool.demand.plus(template.demand, times)
