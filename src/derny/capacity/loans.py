"""Who would give back to whom: what a pool holds beyond its reservation is lent, and lent on recall.

One rule: "what if" is the very division of the last calculation with one need put higher; nothing is
estimated. Amounts are thousandths of the one kind that is divided, pools are positions among siblings. Called
by `answers.pool_explanation`.
"""

from collections.abc import Sequence
from typing import Final

from derny.capacity.entitlement import Division, divide

LENDERS: Final = 3
"""How many are asked what they would take back, each with a division of its own: the largest."""
NAMED: Final = 10
"""How many are named of those that wait, and of those that would have to give back: the largest."""

Loans = list[tuple[int, int]]
"""(sibling, amount) in the order in which they would move."""


def lent(division: Division, pool: int) -> int:
    """What a pool is not entitled to of its reservation, since it does not need it."""
    return max(division.parts[pool].reservation - division.totals[pool], 0)


def gives_back_to(division: Division, pool: int, held: Sequence[int]) -> Loans:
    """Who would take what the pool holds: first those that wait for what it holds too much, the most first,
    then the largest lenders, each by itself and with all that it lends."""
    if held[pool] <= division.parts[pool].reservation:
        return []
    siblings = [sibling for sibling in range(len(held)) if sibling != pool]
    waiting = _wait_for_excess(division, pool, held, siblings)
    lending = [(lent(division, sibling), sibling) for sibling in siblings]
    lenders = sorted((-amount, sibling) for amount, sibling in lending if amount)[:LENDERS]
    recalled = [(lender, _debt(division, _recalled(division, lender), pool, held)) for _, lender in lenders]
    return waiting + [loan for loan in recalled if loan[1]]


def gets_back_from(division: Division, pool: int, held: Sequence[int]) -> Loans:
    """Who would hold too much if the pool needed all that it lends, the most first."""
    if not lent(division, pool):
        return []
    after = _recalled(division, pool)
    siblings = [sibling for sibling in range(len(held)) if sibling != pool]
    debts = [(sibling, _debt(division, after, sibling, held)) for sibling in siblings]
    return sorted((debt for debt in debts if debt[1]), key=lambda debt: (-debt[1], debt[0]))[:NAMED]


def _wait_for_excess(division: Division, pool: int, held: Sequence[int], siblings: Sequence[int]) -> Loans:
    excess = _excess(division, pool, held)
    if not excess:
        return []
    lacking = [
        (sibling, min(excess, min(division.totals[sibling], division.needs[sibling]) - held[sibling]))
        for sibling in siblings
    ]
    return sorted((loan for loan in lacking if loan[1] > 0), key=lambda loan: (-loan[1], loan[0]))[:NAMED]


def _excess(division: Division, pool: int, held: Sequence[int]) -> int:
    return max(held[pool] - division.totals[pool], 0)


def _debt(before: Division, after: Division, pool: int, held: Sequence[int]) -> int:
    """What a pool would have to give back on top of what it holds too much already."""
    return max(min(held[pool], before.totals[pool]) - after.totals[pool], 0)


def _recalled(division: Division, lender: int) -> Division:
    """The division if the lender needed its whole reservation."""
    needs = list(division.needs)
    needs[lender] = max(needs[lender], division.parts[lender].reservation)
    return divide(division.available, division.parts, needs)
