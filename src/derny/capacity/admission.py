"""Admission: which waiting gangs may go on, and why the others not.

One rule: nobody is overtaken in its own queue, and the head of a queue is overtaken by others only while it
waits for something that they don't use: so nothing starves. Higher priorities go first, and of equal ones
the longest waiting. Every pod is a gang of its own. Called by `core.machine` once a step, and by
`core.queries` to explain; reads only. (Behaviour, scheduler §3.3; there heads of the side queues are
overtaken without end.)
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

    CONTROLLER_LIMIT = "controller limit"
    RESERVATION = "reservation, the most for pods that can't be preempted"
    LIMIT = "limit"


_HARD: Final = frozenset({Queue.NON_PREEMPTIBLE, Queue.CONTROLLER, Queue.PENDING})
_SLACK: Final = frozenset({Queue.REVOCABLE})
_USERS: Final[dict[Rule, frozenset[Queue]]] = {
    Rule.CONTROLLER_LIMIT: frozenset({Queue.CONTROLLER}),
    Rule.RESERVATION: frozenset({Queue.NON_PREEMPTIBLE, Queue.CONTROLLER}),
    Rule.LIMIT: frozenset(Queue),
}
"""The queues whose pods a rule concerns."""
_USERS_OF_KIND: Final = {"cpu": _HARD, "revocable_cpu": _SLACK}
"""The queues whose pods ask for a kind; of the others all do."""


class Reason(NamedTuple):
    """Why a gang waits: a rule at a pool that `need` of one kind would break, or a gang that goes first."""

    pool: PoolId
    rule: Rule | None
    """None: it waits behind another."""
    kind: str = ""
    need: int = 0
    left: int = 0
    most: int = 0
    behind: Pod | None = None


class _Bound(NamedTuple):
    """At most so much of each kind may be used at a pool, and so much is."""

    rule: Rule
    pool: Pool
    most: Resources
    used: Resources


def admissible(tree: PoolTree, pool: Pool, budget: int) -> Batch | None:
    """The pods at the head of one of the pool's queues that fit, all of one job and one template; None when
    no head fits.

    Looks at no more than `budget` pods. The caller applies the admission before it asks again.
    """
    line, _held = _survey(tree, pool)
    if line is None:
        return None
    _, alike = next(groupby(islice(line, budget), key=attrgetter("job", "template")))
    gangs = list(alike)
    return gangs[0].job, gangs[: _room(tree, pool, gangs[0].template)]


def reasons(tree: PoolTree, pool: Pool, pod: Pod) -> list[Reason]:
    """Why a pod that waits in this pool has not been admitted: whoever goes first, and every rule in its own
    way.

    Empty when it goes on with the next look.
    """
    queue = tree.queue_of(pod.template)
    head = _head(pool, queue)
    if head is pod:
        head = _survey(tree, pool)[1].get(queue, pod)
    first = [] if head is pod else [Reason(pool.id, None, behind=head)]
    return first + list(_shortfalls(tree, pool, pod.template))


def sentence(tree: PoolTree, pool: Pool, pod: Pod) -> str:
    """The reasons in one line; those of whoever goes first once, if both are stopped by the same."""
    parts: list[str] = []
    for reason in reasons(tree, pool, pod):
        if reason.behind is None:
            parts.append(_in_words(tree, reason))
        else:
            short = [_in_words(tree, its) for its in _shortfalls(tree, pool, reason.behind.template)]
            behind = pod_name(reason.behind.job, reason.behind.instance)
            parts += [f"waits behind {behind} in {tree.path(pool)}", *short]
    return "; ".join(dict.fromkeys(parts)) or "waits for the next look"


def _survey(tree: PoolTree, pool: Pool) -> tuple[Line | None, dict[Queue, Pod]]:
    """The first line whose head fits, if there is one, and who holds up which queue."""
    held: dict[Queue, Pod] = {}
    for queue, line in _fronts(pool):
        head = next(iter(line))
        if queue in held:
            continue
        if _room(tree, pool, head.template):
            return line, held
        held[queue] = head
        for other in _shared(tree, pool, head.template):
            held.setdefault(other, head)
    return None, held


def _fronts(pool: Pool) -> list[tuple[Queue, Line]]:
    """The line in front of each queue, in the order in which they are served."""
    fronts = []
    for queue, waiting in pool.queues.items():
        priority, line = waiting.front()
        fronts.append((-priority, next(iter(line)).changed_at, queue, line))
    fronts.sort(key=lambda front: front[:3])
    return [(queue, line) for _priority, _since, queue, line in fronts]


def _head(pool: Pool, queue: Queue) -> Pod:
    return next(iter(pool.queues[queue].front()[1]))


def _shared(tree: PoolTree, pool: Pool, template: PodTemplate) -> list[Queue]:
    """The queues that wait for the same as a blocked head. It waits for the narrowest thing that it lacks:
    until it has that, others may use the rest."""
    lacking = [
        _USERS[reason.rule] & _USERS_OF_KIND.get(reason.kind, _USERS[Rule.LIMIT])
        for reason in _shortfalls(tree, pool, template)
        if reason.rule is not None
    ]
    narrowest = min(lacking, key=len)
    return [queue for queue in Queue if queue in narrowest]


def _room(tree: PoolTree, pool: Pool, template: PodTemplate) -> int:
    """How many pods of this template fit."""
    room = UNLIMITED
    for bound in _bounds(tree, pool, template):
        for most, used, need in zip(bound.most, bound.used, template.demand, strict=True):
            if need:
                room = min(room, (most - used) // need)
    return max(room, 0)


def _shortfalls(tree: PoolTree, pool: Pool, template: PodTemplate) -> Iterator[Reason]:
    for bound in _bounds(tree, pool, template):
        for kind, most, used, need in zip(
            Resources._fields, bound.most, bound.used, template.demand, strict=True
        ):
            if need and need > most - used:
                yield Reason(bound.pool.id, bound.rule, kind, need, max(most - used, 0), most)


def _bounds(tree: PoolTree, pool: Pool, template: PodTemplate) -> Iterator[_Bound]:
    """All that an admission of such a pod must respect."""
    if template.controller and not template.revocable and pool.spec.controller_percent is not None:
        most = tree.reservation(pool, pool.spec.controller_percent)
        yield _Bound(Rule.CONTROLLER_LIMIT, pool, most, pool.controller)
    if tree.preemption and not template.preemptible and not template.revocable:
        yield _Bound(Rule.RESERVATION, pool, tree.reservation(pool), pool.non_preemptible)
    for found in tree.up(pool):
        yield _Bound(Rule.LIMIT, found, tree.limit(found), found.allocation)


def _in_words(tree: PoolTree, reason: Reason) -> str:
    left, most, need = map(wire_units, (reason.left, reason.most, reason.need))
    path = tree.path(tree.pools[reason.pool])
    return f"{path} has {left:g} of {most:g} {reason.kind} left, {need:g} needed ({reason.rule})"
