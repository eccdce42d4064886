"""Why a pool may hold what it may hold: its part of each kind, what it lends and borrows, and the steps of
the last calculation in plain words.

One rule: the steps are read off the divisions of the calculation itself, made once more from the very claims
that it was made of, along the way from the root to the pool. What is held and waited for is as it is now.
Called by `api.insight`. (Behaviour, scheduler §2.)
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

from derny.capacity import loans, steps
from derny.capacity.entitlement import SLACK_CPU, Claim, Division, Entitlement, Trace, traced
from derny.capacity.loans import Loans
from derny.core.state import State
from derny.model.ids import PoolId
from derny.model.records import Pool
from derny.model.resources import KINDS, NOTHING, Resources
from derny.model.specs import PoolResource


class Loan(NamedTuple):
    """What would move from one pool to another; `through` is the sibling of the other whose division it is:
    the explained pool, or one above it."""

    path: str
    amount: int
    through: str


class KindExplanation(NamedTuple):
    """One kind of one pool, in thousandths. The slack of cpu is revocable cpu."""

    resource: PoolResource
    demand: int
    slack_demand: int
    entitlement: int
    non_slack_entitlement: int
    slack_entitlement: int
    allocation: int
    slack_allocation: int
    borrowed: int
    lent: int
    gives_back_to: tuple[Loan, ...]
    gets_back_from: tuple[Loan, ...]
    steps: tuple[str, ...]


class PoolExplanation(NamedTuple):
    """All of a pool, kinds in the order of `KINDS`; `calculated_at` is 0.0 before the first calculation."""

    id: PoolId
    path: str
    calculated_at: float
    is_current: bool
    kinds: tuple[KindExplanation, ...]


class _Level(NamedTuple):
    """One pool on the way down, among its siblings in the last calculation."""

    above: str
    path: str
    position: int
    siblings: list[PoolId]
    trace: Trace
    parent: PoolId

    def division(self, kind: str) -> Division:
        return self.trace[self.parent, kind]


def explain_pool(state: State, pool: PoolId) -> PoolExplanation:
    """The explanation of a pool; NotFound."""
    found = state.tree.get(pool)
    levels = list(_levels(state, found))
    demand = slack_demand = NOTHING
    for below in state.tree.walk(pool):
        demand, slack_demand = demand.plus(below.demand), slack_demand.plus(below.slack_demand)
    return PoolExplanation(
        pool,
        state.tree.path(found),
        state.cycle.at,
        state.cycle.is_current(state.tree),
        tuple(_kind(state, found, kind, levels, demand, slack_demand) for kind in KINDS),
    )


def _levels(state: State, pool: Pool) -> Iterator[_Level]:
    """The levels from below the root down to the pool; none where the last calculation did not know it."""
    tree, claims = state.tree, state.cycle.claims
    position = {claim.pool: index for index, claim in enumerate(claims)}
    way = list(tree.up(pool))[::-1]
    if not all(found.id in position for found in way):
        return
    trace = traced(claims, state.cycle.capacity, [position[found.id] for found in way[:-1]])
    for parent, child in pairwise(way):
        siblings = [claims[index].pool for index in claims[position[parent.id]].children]
        yield _Level(
            tree.path(parent), tree.path(child), siblings.index(child.id), siblings, trace, parent.id
        )


def _kind(
    state: State, pool: Pool, kind: str, levels: list[_Level], demand: Resources, slack_demand: Resources
) -> KindExplanation:
    resource = state.tree.resources(pool)[KINDS.index(kind)]
    held = pool.allocation.of_kind(kind)
    return KindExplanation(
        resource,
        demand.of_kind(kind),
        _slack(slack_demand, kind),
        pool.entitlement.of_kind(kind),
        pool.non_slack_entitlement.of_kind(kind),
        _slack(pool.slack_entitlement, kind),
        held - pool.slack.of_kind(kind),
        _slack(pool.slack, kind),
        max(held - resource.reservation, 0),
        max(resource.reservation - pool.entitlement.of_kind(kind), 0),
        tuple(_gives_back_to(state, levels, kind)),
        tuple(_gets_back_from(state, levels, kind)),
        tuple(_steps(state, pool, kind, levels)),
    )


def _slack(resources: Resources, kind: str) -> int:
    return resources.revocable_cpu if kind == "cpu" else resources.of_kind(kind)


def _gives_back_to(state: State, levels: list[_Level], kind: str) -> Iterator[Loan]:
    """Among its own siblings first, then as part of the pools above it."""
    for level in reversed(levels):
        division = level.division(kind)
        yield from _named(
            state, level, loans.gives_back_to(division, level.position, _held(state, level, kind))
        )


def _gets_back_from(state: State, levels: list[_Level], kind: str) -> Iterator[Loan]:
    for level in levels[-1:]:
        division = level.division(kind)
        yield from _named(
            state, level, loans.gets_back_from(division, level.position, _held(state, level, kind))
        )


def _held(state: State, level: _Level, kind: str) -> list[int]:
    """What the siblings hold now; one that is gone holds nothing."""
    pools = (state.tree.pools.get(sibling) for sibling in level.siblings)
    return [pool.allocation.of_kind(kind) if pool is not None else 0 for pool in pools]


def _named(state: State, level: _Level, found: Loans) -> Iterator[Loan]:
    for sibling, amount in found:
        pool = state.tree.pools.get(level.siblings[sibling])
        if pool is not None:
            yield Loan(state.tree.path(pool), amount, level.path)


def _steps(state: State, pool: Pool, kind: str, levels: list[_Level]) -> Iterator[str]:
    cycle = state.cycle
    if not cycle.claims or (pool is not state.tree.root and not levels):
        yield "The pool was not there at the last calculation; the next one is due at once."
        return
    yield steps.root_step(cycle.capacity, kind)
    for level in levels:
        yield from steps.hard_steps(level.division(kind), level.position, kind, level.above, level.path)
    if kind == "cpu":
        for level in levels:
            yield from steps.slack_cpu_steps(
                level.division(SLACK_CPU), level.position, level.above, level.path
            )
    elif levels:
        found = Entitlement(pool.entitlement, pool.non_slack_entitlement, pool.slack_entitlement)
        yield from steps.slack_steps(found, _claim(state, pool), KINDS.index(kind), kind)


def _claim(state: State, pool: Pool) -> Claim:
    return next(claim for claim in state.cycle.claims if claim.pool == pool.id)
