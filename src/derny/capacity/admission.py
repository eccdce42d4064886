"""Admission: which waiting gangs may go on, and why the others not.

One rule: a pool's queue is priority first, then first in first out, and its head is never overtaken: a gang
that does not fit blocks the ones behind it, so that nothing starves (behaviour, scheduler §3.3). Every pod
is a gang of its own. A gang fits when the pool and every pool above it stay within their limits. Called by
`core.machine` once a step; reads only.
"""

from itertools import groupby, islice
from operator import attrgetter

from derny.capacity.tree import PoolTree
from derny.model.ids import JobId
from derny.model.records import Pod, Pool
from derny.model.resources import wire_units

Batch = tuple[JobId, list[Pod]]


def admissible(tree: PoolTree, pool: Pool, budget: int) -> Batch | None:
    """The pods at the head of the pool's queue that fit, all of one job and one template; None when none
    does.

    Looks at no more than `budget` pods. The caller applies the admission before it asks again.
    """
    if not pool.queue:
        return None
    waiting = islice(pool.queue[max(pool.queue)], budget)
    _, alike = next(groupby(waiting, key=attrgetter("job", "template")))
    gangs = list(alike)
    fit = tree.room(pool, gangs[0].template.demand)
    return (gangs[0].job, gangs[:fit]) if fit else None


def shortfall(tree: PoolTree, pool: Pool, pod: Pod) -> str:
    """Why the pod at the head of the queue waits: every limit it would break, in numbers."""
    demand = pod.template.demand
    reasons = []
    for found in tree.up(pool):
        for kind, limit, used, need in zip(
            demand._fields, tree.limit(found), found.allocation, demand, strict=True
        ):
            if need and need > limit - used:
                left, most, asked = map(wire_units, (limit - used, limit, need))
                reasons.append(f"{tree.path(found)} has {left:g} of {most:g} {kind} left, {asked:g} needed")
    return "; ".join(reasons)
