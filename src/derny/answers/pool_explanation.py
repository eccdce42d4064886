"""Why a pool may hold what it may hold: its part of each kind, what it lends and borrows, and the steps of
the last calculation in plain words.

One rule: the steps are read off the divisions of the calculation itself, made once more from the very claims
that it was made of, along the way from the root to the pool. What is held and waited for is as it is now.
Among thousands of siblings that takes a tenth of a second: so `facts_of` is all that looks at the state, and
`explained` may run beside the loop. Called by `api.insight`. (Behaviour, scheduler §2.)
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

from derny.capacity import loans, steps
from derny.capacity.entitlement import SLACK_CPU, Claim, Division, Entitlement, Trace, traced
from derny.capacity.loans import Loans
from derny.core.state import State
from derny.model.ids import PoolId
from derny.model.records import Pool
from derny.model.resources import KINDS, NOTHING, Resources, total
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


class Level(NamedTuple):
    """One pool on the way down, among its siblings in the last calculation."""

    above: str
    path: str
    parent: int
    """A position among the claims; the next is one among the siblings."""
    position: int
    siblings: tuple[str | None, ...]
    """Their paths; None where one is gone by now."""
    held: tuple[Resources, ...]
    """What they hold now."""


class Facts(NamedTuple):
    """What an explanation rests on: values that nobody writes any more."""

    id: PoolId
    path: str
    calculated_at: float
    is_current: bool
    resources: tuple[PoolResource, ...]
    entitlement: Entitlement
    allocation: Resources
    slack: Resources
    demand: Resources
    slack_demand: Resources
    claims: Sequence[Claim]
    capacity: Resources
    position: int | None
    """Among the claims; None where the last calculation did not know the pool."""
    levels: tuple[Level, ...]
    """From below the root down to the pool."""


def facts_of(state: State, pool: PoolId) -> Facts:
    """What there is to say about a pool; NotFound."""
    tree, cycle = state.tree, state.cycle
    found = tree.get(pool)
    below = list(tree.walk(pool))
    positions = _way(cycle.claims, [above.id for above in tree.up(found)][::-1])
    return Facts(
        pool,
        tree.path(found),
        cycle.at,
        cycle.is_current(tree),
        tree.resources(found),
        Entitlement(found.entitlement, found.non_slack_entitlement, found.slack_entitlement),
        found.allocation,
        found.slack,
        total([each.demand for each in below]),
        total([each.slack_demand for each in below]),
        cycle.claims,
        cycle.capacity,
        positions[-1] if positions else None,
        tuple(_level(state, parent, child) for parent, child in pairwise(positions)),
    )


def _way(claims: Sequence[Claim], pools: list[PoolId]) -> list[int]:
    """The positions of the pools from the root down; empty where not all of them are known."""
    way: list[int] = []
    candidates: Sequence[int] = range(min(len(claims), 1))
    for pool in pools:
        position = next((index for index in candidates if claims[index].pool == pool), None)
        if position is None:
            return []
        way.append(position)
        candidates = claims[position].children
    return way


def _level(state: State, parent: int, child: int) -> Level:
    tree, claims = state.tree, state.cycle.claims
    above = tree.path(tree.pools[claims[parent].pool])
    siblings = [tree.pools.get(claims[index].pool) for index in claims[parent].children]
    paths = tuple(_path(above, sibling) for sibling in siblings)
    position = claims[parent].children.index(child)
    path = paths[position]
    assert path is not None, "what is asked for is there"
    held = tuple(sibling.allocation if sibling is not None else NOTHING for sibling in siblings)
    return Level(above, path, parent, position, paths, held)


def _path(above: str, pool: Pool | None) -> str | None:
    return f"{above.rstrip('/')}/{pool.spec.name}" if pool is not None else None


def explained(facts: Facts) -> PoolExplanation:
    """The explanation, from the divisions on the way down."""
    trace = traced(facts.claims, facts.capacity, [level.parent for level in facts.levels])
    kinds = tuple(_kind(facts, kind, trace) for kind in KINDS)
    return PoolExplanation(facts.id, facts.path, facts.calculated_at, facts.is_current, kinds)


def _kind(facts: Facts, kind: str, trace: Trace) -> KindExplanation:
    resource = facts.resources[KINDS.index(kind)]
    held = facts.allocation.of_kind(kind)
    entitlement = facts.entitlement.total.of_kind(kind)
    divisions = [trace[facts.claims[level.parent].pool, kind] for level in facts.levels]
    return KindExplanation(
        resource,
        facts.demand.of_kind(kind),
        _slack(facts.slack_demand, kind),
        entitlement,
        facts.entitlement.non_slack.of_kind(kind),
        _slack(facts.entitlement.slack, kind),
        held - facts.slack.of_kind(kind),
        _slack(facts.slack, kind),
        max(held - resource.reservation, 0),
        max(resource.reservation - entitlement, 0),
        tuple(_gives_back_to(facts, divisions, kind)),
        tuple(_gets_back_from(facts, divisions, kind)),
        tuple(_steps(facts, divisions, kind, trace)),
    )


def _slack(resources: Resources, kind: str) -> int:
    return resources.revocable_cpu if kind == "cpu" else resources.of_kind(kind)


def _gives_back_to(facts: Facts, divisions: list[Division], kind: str) -> Iterator[Loan]:
    """Among its own siblings first, then as part of the pools above it."""
    for level, division in zip(facts.levels[::-1], divisions[::-1], strict=True):
        yield from _named(level, loans.gives_back_to(division, level.position, _held(level, kind)))


def _gets_back_from(facts: Facts, divisions: list[Division], kind: str) -> Iterator[Loan]:
    for level, division in zip(facts.levels[-1:], divisions[-1:], strict=True):
        yield from _named(level, loans.gets_back_from(division, level.position, _held(level, kind)))


def _held(level: Level, kind: str) -> list[int]:
    return [held.of_kind(kind) for held in level.held]


def _named(level: Level, found: Loans) -> Iterator[Loan]:
    for sibling, amount in found:
        path = level.siblings[sibling]
        if path is not None:
            yield Loan(path, amount, level.path)


def _steps(facts: Facts, divisions: list[Division], kind: str, trace: Trace) -> Iterator[str]:
    if facts.position is None:
        yield "The pool was not there at the last calculation; the next one is due at once."
        return
    yield steps.root_step(facts.capacity, kind)
    for level, division in zip(facts.levels, divisions, strict=True):
        yield from steps.hard_steps(division, level.position, kind, level.above, level.path)
    if kind == "cpu":
        for level in facts.levels:
            division = trace[facts.claims[level.parent].pool, SLACK_CPU]
            yield from steps.slack_cpu_steps(division, level.position, level.above, level.path)
    elif facts.levels:
        claim = facts.claims[facts.position]
        yield from steps.slack_steps(facts.entitlement, claim, KINDS.index(kind), kind)
