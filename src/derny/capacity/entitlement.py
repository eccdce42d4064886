"""Entitlements: what each pool may hold now, by hierarchical max-min fairness.

From the root down, each parent's amount of a kind is divided among its children: first what they use of
their reservations (all of it where the reservation is STATIC); then what they want beyond, filled like
water into vessels as wide as their shares, up to what each wants; then what nobody wants, by share. Nobody
gets more than its limit. Slack is a second division: of the memory, disk and gpu that a pool's hard pods
leave, revocable pods may have up to the slack limit; revocable cpu is divided by itself.

One rule: a pure function of the claims, in whole thousandths, rounded down, so that the order of siblings
is of no matter. Called by `capacity.cycle`, and for its trace by `answers.pool_explanation`.
(Behaviour, scheduler §2.2-2.4, §10.2; Bertsekas and Gallager, Data Networks, §6.5.2.)
"""

from collections.abc import Sequence
from decimal import Decimal
from functools import lru_cache
from math import lcm
from typing import Final, NamedTuple

from derny.capacity.tree import PoolTree
from derny.model.ids import PoolId
from derny.model.records import Pool
from derny.model.resources import KINDS, Resources, total
from derny.model.specs import PoolResource

SLACK_PERCENT: Final = 20.0
"""Of the reservation, for revocable pods, where a pool sets no slack limit (behaviour, scheduler §1.1)."""
SLACK_CPU: Final = "revocable cpu"
"""The name of the division of slack, beside `KINDS`."""

Amounts = tuple[int, ...]
"""By kind, in the order of `KINDS`."""


class Claim(NamedTuple):
    """What one pool brings to a calculation: its configuration, and what its pods hold and ask for, here and
    below. Pools stand parents first; `children` are positions."""

    pool: PoolId
    children: list[int]
    resources: tuple[PoolResource, ...]
    hard: Amounts
    slack: Amounts
    """What revocable pods hold and ask for, up to the slack limit; no cpu."""
    needs: Amounts
    """Both together, as far as the limits of the pools below let them have it: what a child can't have, its
    parent must not hold for it."""
    slack_cpu_held: int
    slack_cpu_asked: int


class Entitlement(NamedTuple):
    """What one pool may hold: all of it but revocable cpu, the part for hard pods, the part for revocable
    ones with their cpu."""

    total: Resources
    non_slack: Resources
    slack: Resources


class Division(NamedTuple):
    """How one kind was divided among a pool's children, in their order: what went in and what came out."""

    available: int
    parts: list[PoolResource]
    needs: list[int]
    wants: list[int]
    """The needs as far as limits allow."""
    bases: list[int]
    """Guaranteed: the reservation as far as it is used, or all of it."""
    fills: list[int]
    spares: list[int]
    totals: list[int]


Trace = dict[tuple[PoolId, str], Division]
"""The divisions of a calculation, by parent and kind (one of `KINDS`, or SLACK_CPU)."""


def claims_of(tree: PoolTree) -> list[Claim]:
    """The claims of all pools, as things stand."""
    pools = list(tree.walk())
    position = {pool.id: index for index, pool in enumerate(pools)}
    demands = [pool.demand for pool in pools]
    slack_demands = [pool.slack_demand for pool in pools]
    children = [[position[child] for child in pool.children] for pool in pools]
    for index in range(len(pools) - 1, -1, -1):
        if below := children[index]:
            demands[index] = total([demands[child] for child in below])
            slack_demands[index] = total([slack_demands[child] for child in below])
    configured = map(tree.resources, pools)
    claims = list(map(_claim, pools, configured, children, demands, slack_demands))
    for index in range(len(claims) - 1, -1, -1):
        if below := children[index]:
            claims[index] = _held_to_limits(claims[index], [claims[child] for child in below])
    return claims


def _held_to_limits(claim: Claim, children: list[Claim]) -> Claim:
    """The claim of a parent that needs no more than its children can have."""
    needs = list(claim.needs)
    for kind, need in enumerate(needs):
        if need:
            can_have = [min(child.needs[kind], child.resources[kind].limit) for child in children]
            needs[kind] = min(need, sum(can_have))
    return claim._replace(needs=tuple(needs))


def _claim(
    pool: Pool,
    resources: tuple[PoolResource, ...],
    children: list[int],
    demand: Resources,
    slack_demand: Resources,
) -> Claim:
    # Kind by kind and without vectors in between: a cycle comes by here for every pool.
    cpu, memory, disk, gpu, _ = pool.allocation
    slack_cpu, slack_memory, slack_disk, slack_gpu, revocable_cpu = pool.slack
    hard = (
        cpu - slack_cpu + demand.cpu,
        gpu - slack_gpu + demand.gpu,
        memory - slack_memory + demand.memory,
        disk - slack_disk + demand.disk,
    )
    slack: Amounts = (
        0,
        slack_gpu + slack_demand.gpu,
        slack_memory + slack_demand.memory,
        slack_disk + slack_demand.disk,
    )
    needs: Amounts = hard
    if any(slack):
        most = slack_limit(pool, resources)
        slack = tuple([min(each, limit) for each, limit in zip(slack, most, strict=True)])
        needs = tuple(map(sum, zip(hard, slack, strict=True)))
    return Claim(pool.id, children, resources, hard, slack, needs, revocable_cpu, slack_demand.revocable_cpu)


def slack_limit(pool: Pool, resources: Sequence[PoolResource]) -> Amounts:
    """The most that a pool's revocable pods may have of each kind; no cpu, which comes from the hosts'."""
    percent = SLACK_PERCENT if pool.spec.slack_percent is None else pool.spec.slack_percent
    _, *others = [int(resource.reservation * percent / 100) for resource in resources]
    return (0, *others)


def by_kind(resources: Resources) -> Amounts:
    """The amounts in the order of `KINDS`."""
    return (resources.cpu, resources.gpu, resources.memory, resources.disk)


def entitle(claims: Sequence[Claim], capacity: Resources) -> list[Entitlement]:
    """The entitlement of each claim's pool, in their order."""
    granted = _divided(claims, capacity, range(len(claims)), None)
    return [_entitlement(*parts) for parts in zip(*granted, strict=True)]


def traced(claims: Sequence[Claim], capacity: Resources, parents: Sequence[int]) -> Trace:
    """The same calculation, as far as it divides what the pools at these positions have: a way down from the
    root."""
    trace: Trace = {}
    _divided(claims, capacity, parents, trace)
    return trace


def _divided(
    claims: Sequence[Claim], capacity: Resources, parents: Sequence[int], trace: Trace | None
) -> tuple[list[Amounts], list[Amounts], list[int]]:
    """What each pool gets of all kinds, how much of that is for its revocable pods, and its revocable cpu;
    `parents` are those whose part is divided further, parents first."""
    granted: list[Amounts] = [by_kind(capacity)] * len(claims)
    carved: list[Amounts] = [(0,) * len(KINDS)] * len(claims)
    slack_cpu = [capacity.revocable_cpu] * len(claims)
    for parent in parents:
        claim = claims[parent]
        if not claim.children:
            continue
        children = [claims[child] for child in claim.children]
        divisions = _divided_by_kind(granted[parent], children)
        slack = _divided_slack_cpu(slack_cpu[parent], children)
        if trace is not None:
            trace |= {(claim.pool, kind): found for kind, found in zip(KINDS, divisions, strict=True)}
            trace[claim.pool, SLACK_CPU] = slack
        totals = zip(*(division.totals for division in divisions), strict=True)
        for child, amounts, cpu in zip(claim.children, totals, slack.totals, strict=True):
            granted[child], slack_cpu[child] = amounts, cpu
            carved[child] = _carved(claims[child], amounts)
    return granted, carved, slack_cpu


def _divided_by_kind(available: Amounts, children: list[Claim]) -> list[Division]:
    return [
        divide(
            available[kind],
            [child.resources[kind] for child in children],
            [child.needs[kind] for child in children],
        )
        for kind in range(len(KINDS))
    ]


def divide(available: int, parts: list[PoolResource], needs: list[int]) -> Division:
    """Divide an amount of one kind among siblings that need so much."""
    wants, bases, rests = [], [], []
    for part, need in zip(parts, needs, strict=True):
        reservation, limit = part.reservation, part.limit
        # Spelled out, since a cycle comes by here four times a pool.
        want = need if need < limit else limit
        base = limit if part.static else want
        wants.append(want)
        bases.append(base if base < reservation else reservation)
        rests.append(want - reservation if want > reservation else 0)
    fills, spares = _shared(max(available - sum(bases), 0), rests, _weights(parts))
    totals = [base + fill + spare for base, fill, spare in zip(bases, fills, spares, strict=True)]
    totals = [total if total < part.limit else part.limit for total, part in zip(totals, parts, strict=True)]
    return Division(available, parts, needs, wants, bases, fills, spares, totals)


def _divided_slack_cpu(available: int, children: list[Claim]) -> Division:
    """Revocable cpu has neither reservations nor limits: pods keep what they hold, the rest is shared."""
    parts = [child.resources[0] for child in children]
    held = [child.slack_cpu_held for child in children]
    asked = [child.slack_cpu_asked for child in children]
    fills, spares = _shared(max(available - sum(held), 0), asked, _weights(parts))
    needs = [sum(both) for both in zip(held, asked, strict=True)]
    totals = [sum(all_three) for all_three in zip(held, fills, spares, strict=True)]
    return Division(available, parts, needs, needs, held, fills, spares, totals)


def _shared(left: int, rests: list[int], weights: list[int]) -> tuple[list[int], list[int]]:
    """What each gets of what is left: up to its rest, and of what nobody asks for."""
    nothing = [0] * len(rests)
    if not left:
        return nothing, nothing
    wanted = [rest if weight else 0 for rest, weight in zip(rests, weights, strict=True)]
    spare = left - sum(wanted)
    if spare < 0:
        return _filled(left, wanted, weights), nothing
    everyone = sum(weights)
    return wanted, [spare * weight // everyone for weight in weights] if everyone else nothing


def _filled(left: int, rests: list[int], weights: list[int]) -> list[int]:
    """Water-filling: everybody has its rest, or as much for its share as the others that lack something."""
    fills = [0] * len(rests)
    # Whoever needs least for its share is full first; ties are broken by what is the same in any order.
    needy = sorted(
        (rest / weight, rest, weight, index)
        for index, (rest, weight) in enumerate(zip(rests, weights, strict=True))
        if rest
    )
    total = sum(weight for _, _, weight, _ in needy)
    for full, (_, rest, weight, index) in enumerate(needy):
        if rest * total > left * weight:
            for _, most, width, other in needy[full:]:
                fills[other] = min(left * width // total, most)
            break
        fills[index] = rest
        left -= rest
        total -= weight
    return fills


def _weights(parts: list[PoolResource]) -> list[int]:
    """The shares as whole numbers in exactly their proportions. A pool without a share gets nothing of what
    is shared."""
    ratios = [_ratio(part.share) for part in parts]
    whole = lcm(*[denominator for _, denominator in ratios])
    if whole == 1:
        return [numerator for numerator, _ in ratios]
    return [numerator * (whole // denominator) for numerator, denominator in ratios]


@lru_cache
def _ratio(share: float) -> tuple[int, int]:
    """The share as it is written: 0.1 is a tenth, so that 0.1 beside 0.3 is exactly a quarter."""
    return Decimal(repr(share)).as_integer_ratio()


def _carved(claim: Claim, granted: Amounts) -> Amounts:
    """What revocable pods may have of what hard pods leave."""
    if not any(claim.slack):
        return claim.slack
    parts = zip(granted, claim.hard, claim.slack, strict=True)
    return tuple([min(max(all_of - hard, 0), slack) for all_of, hard, slack in parts])


def _entitlement(granted: Amounts, carved: Amounts, revocable_cpu: int) -> Entitlement:
    cpu, gpu, memory, disk = granted
    _, slack_gpu, slack_memory, slack_disk = carved
    total = hard = Resources(cpu, memory, disk, gpu)
    if any(carved):
        hard = Resources(cpu, memory - slack_memory, disk - slack_disk, gpu - slack_gpu)
    return Entitlement(total, hard, Resources(0, slack_memory, slack_disk, slack_gpu, revocable_cpu))
