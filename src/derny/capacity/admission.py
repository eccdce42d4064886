"""Admission: which waiting gangs may go on, and why the others not.

One rule: nobody is overtaken in its own queue, and the head of a queue is overtaken by others only while it
waits for something that they don't use: so nothing starves that could ever go on. Higher priorities go
first, and of equal ones the longest waiting. Every pod is a gang of its own. Called by `core.machine` once a
step, by `answers.queries` to explain, and by `capacity.preemption`; reads only. (Behaviour, scheduler §3.3;
there heads of the side queues are overtaken without end.)
"""

from collections import OrderedDict
from collections.abc import Iterator
from enum import StrEnum
from itertools import groupby, islice
from operator import attrgetter
from typing import Final, NamedTuple

from derny.capacity.tree import UNLIMITED, PoolTree
from derny.model.ids import JobId, PoolId, pod_name
from derny.model.records import Pod, Pool, Queue
from derny.model.resources import Resources, wire_units
from derny.model.specs import PodTemplate

Batch = tuple[JobId, list[Pod]]
Line = OrderedDict[Pod, None]


class Rule(StrEnum):
    """What an admission must not break; its name in a sentence."""

    ENTITLEMENT = "entitlement"
    SLACK_ENTITLEMENT = "slack entitlement"
    CONTROLLER_LIMIT = "controller limit"
    RESERVATION = "reservation, the most for pods that can't be preempted"
    LIMIT = "limit"


_HARD: Final = frozenset({Queue.NON_PREEMPTIBLE, Queue.CONTROLLER, Queue.PENDING})
_SLACK: Final = frozenset({Queue.REVOCABLE})
_USERS: Final[dict[Rule, frozenset[Queue]]] = {
    Rule.ENTITLEMENT: _HARD,
    Rule.SLACK_ENTITLEMENT: _SLACK,
    Rule.CONTROLLER_LIMIT: frozenset({Queue.CONTROLLER}),
    Rule.RESERVATION: frozenset({Queue.NON_PREEMPTIBLE, Queue.CONTROLLER}),
    Rule.LIMIT: frozenset(Queue),
}
"""The queues whose pods a rule concerns."""
_USERS_OF_KIND: Final = {"cpu": _HARD, "revocable_cpu": _SLACK}
"""The queues whose pods ask for a kind; of the others all do."""


class Reason(NamedTuple):
    """Why a gang waits: a rule at a pool that `need` of one kind would break, or a gang that goes first.

    `left` is less than nothing where more than `most` is used.
    """

    pool: PoolId
    rule: Rule | None
    """None: it waits behind another."""
    kind: str = ""
    need: int = 0
    left: int = 0
    most: int = 0
    behind: Pod | None = None


class Bound(NamedTuple):
    """At most so much of each kind may be used at a pool, and so much is."""

    rule: Rule
    pool: Pool
    most: Resources
    used: Resources

    @property
    def left(self) -> Resources:
        """Less than nothing where more is used than may be."""
        return self.most.minus(self.used)

    def lacks(self, demand: Resources) -> bool:
        """Whether there is not so much left; kinds that are not asked for don't matter."""
        return any(need > left for need, left in zip(demand, self.left, strict=True) if need)


class Front(NamedTuple):
    """Those of a queue with its highest priority, the first first."""

    priority: int
    queue: Queue
    line: Line

    @property
    def head(self) -> Pod:
        """The first of all in the queue."""
        return next(iter(self.line))


class Survey(NamedTuple):
    """The first line whose head fits, if there is one, and who holds up which of the queues before it."""

    line: Line | None
    held: dict[Queue, Pod]


def admissible(tree: PoolTree, pool: Pool, budget: int) -> Batch | None:
    """The pods at the head of one of the pool's queues that fit, all of one job and one template; None when
    no head fits.

    Looks at no more than `budget` pods. The caller applies the admission before it asks again.
    """
    line = survey(tree, pool).line
    if line is None:
        return None
    gangs = alike(line, budget)
    return gangs[0].job, gangs[: _room(tree, pool, gangs[0].template)]


def alike(line: Line, most: int) -> list[Pod]:
    """Those at the head of a line that are of one job and one template, `most` at most."""
    _, found = next(groupby(islice(line, most), key=attrgetter("job", "template")))
    return list(found)


def reasons(tree: PoolTree, pool: Pool, pod: Pod) -> list[Reason]:
    """Why a pod that waits in this pool has not been admitted: whoever goes first, and every rule in its own
    way.

    Empty when it goes on with the next look.
    """
    queue = tree.queue_of(pod.template)
    head = next(iter(pool.queues[queue].front()[1]))
    if head is pod:
        head = survey(tree, pool).held.get(queue, pod)
    first = [] if head is pod else [Reason(pool.id, None, behind=head)]
    return first + list(shortfalls(tree, pool, pod.template))


def sentence(tree: PoolTree, pool: Pool, pod: Pod) -> str:
    """The reasons in one line; those of whoever goes first once, if both are stopped by the same."""
    parts: list[str] = []
    for reason in reasons(tree, pool, pod):
        if reason.behind is None:
            parts.append(in_words(tree, reason))
        else:
            short = [in_words(tree, its) for its in shortfalls(tree, pool, reason.behind.template)]
            behind = pod_name(reason.behind.job, reason.behind.instance)
            parts += [f"waits behind {behind} in {tree.path(pool)}", *short]
    return "; ".join(dict.fromkeys(parts)) or "waits for the next look"


def survey(tree: PoolTree, pool: Pool) -> Survey:
    """Look at the heads of all queues in the order in which they are served."""
    held: dict[Queue, Pod] = {}
    for front in fronts(pool):
        if front.queue in held:
            continue
        if _room(tree, pool, front.head.template):
            return Survey(front.line, held)
        held[front.queue] = front.head
        for other in _shared(tree, pool, front.head.template):
            held.setdefault(other, front.head)
    return Survey(None, held)


def fronts(pool: Pool) -> list[Front]:
    """The front of each queue, in the order in which they are served."""
    found = [Front(waiting.front()[0], queue, waiting.front()[1]) for queue, waiting in pool.queues.items()]
    return sorted(found, key=lambda front: (-front.priority, front.head.changed_at, front.queue))


def _shared(tree: PoolTree, pool: Pool, template: PodTemplate) -> list[Queue]:
    """The queues that wait for the same as a blocked head. It waits for the narrowest thing that it lacks:
    until it has that, others may use the rest. One that is larger than a limit waits for another limit."""
    demand = template.demand
    if not all(demand.fits(tree.limit(found)) for found in tree.up(pool)):
        return []
    lacking = [
        _USERS[reason.rule] & _USERS_OF_KIND.get(reason.kind, _USERS[Rule.LIMIT])
        for reason in shortfalls(tree, pool, template)
        if reason.rule is not None
    ]
    narrowest = min(lacking, key=len)
    return [queue for queue in Queue if queue in narrowest]


def _room(tree: PoolTree, pool: Pool, template: PodTemplate) -> int:
    """How many pods of this template fit."""
    room = UNLIMITED
    for bound in bounds(tree, pool, template):
        for left, need in zip(bound.left, template.demand, strict=True):
            if need:
                room = min(room, left // need)
    return max(room, 0)


def shortfalls(tree: PoolTree, pool: Pool, template: PodTemplate) -> Iterator[Reason]:
    """Every rule that the admission of such a pod would break now, kind by kind."""
    for bound in bounds(tree, pool, template):
        for kind, most, used, need in zip(
            Resources._fields, bound.most, bound.used, template.demand, strict=True
        ):
            if need and need > most - used:
                yield Reason(bound.pool.id, bound.rule, kind, need, most - used, most)


def bounds(tree: PoolTree, pool: Pool, template: PodTemplate) -> Iterator[Bound]:
    """All that an admission of such a pod must respect: the pool's own rules first, then the limits up to
    the root. Peloton looks at no limits here, so that a pool may go beyond the cluster."""
    if template.revocable:
        yield Bound(Rule.SLACK_ENTITLEMENT, pool, pool.slack_entitlement, pool.slack)
    else:
        hard = pool.allocation.minus(pool.slack)
        yield Bound(Rule.ENTITLEMENT, pool, pool.non_slack_entitlement, hard)
        if template.controller and pool.spec.controller_percent is not None:
            most = tree.reservation(pool, pool.spec.controller_percent)
            yield Bound(Rule.CONTROLLER_LIMIT, pool, most, pool.controller)
        if tree.preemption and not template.preemptible:
            yield Bound(Rule.RESERVATION, pool, tree.reservation(pool), pool.non_preemptible)
    for found in tree.up(pool):
        yield Bound(Rule.LIMIT, found, tree.limit(found), found.allocation)


def in_words(tree: PoolTree, reason: Reason) -> str:
    """A rule that would be broken, in a sentence."""
    left, most, need = map(wire_units, (max(reason.left, 0), reason.most, reason.need))
    path = tree.path(tree.pools[reason.pool])
    return f"{path} has {left:g} of {most:g} {reason.kind} left, {need:g} needed ({reason.rule})"
