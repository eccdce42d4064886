"""When entitlements are calculated anew: at once where it may matter, else on a period, never for nothing.

It may matter when pools or hosts have changed, or anything has while a pool waits for more than it may hold.
Then there is a rest between two calculations only as long as keeps all of them together a small part of the
time; with few pools there is none. One rule: derived throughout; a restarted daemon calculates before it
admits anybody. Called by `core.machine` before each admission. (Behaviour, scheduler §2.1.)
"""

from collections.abc import Sequence
from typing import Final

from derny.capacity.entitlement import Claim, claims_of, entitle
from derny.capacity.tree import PoolTree
from derny.model.records import Pool
from derny.model.resources import NOTHING

REST_PER_POOL_S: Final = 0.0002
"""Between two calculations, for each pool: some twenty times what it takes, so 0.2 s for a thousand pools."""
FEW_POOLS: Final = 20
"""So many take a quarter of a millisecond and need no rest: whoever waits is served in the same turn."""


class Cycle:
    """The last calculation: when it was, of which claims and which capacity."""

    def __init__(self) -> None:
        self.at = 0.0
        self.claims: Sequence[Claim] = ()
        self.capacity = NOTHING
        self._changes: int | None = None
        self._reshaped = 0

    def run(self, tree: PoolTree, at: float, period_s: float) -> int:
        """Give all pools their entitlements if that is due; the tree's version grows if any has changed.

        Returns how many pools it has looked at: all of them, or none.
        """
        if self._changes is not None and at < self.at + min(_rest_s(tree), period_s):
            # Not looked at any closer: with many pools that takes its time too, in every turn.
            return 0
        due = self.next_due(tree, period_s)
        if due is None or at < due:
            return 0
        self.at, self._changes, self._reshaped = at, tree.changes, tree.reshaped
        self.claims, self.capacity = claims_of(tree), tree.capacity
        changed = False
        for claim, found in zip(self.claims, entitle(self.claims, self.capacity), strict=True):
            pool = tree.pools[claim.pool]
            changed |= found != (pool.entitlement, pool.non_slack_entitlement, pool.slack_entitlement)
            pool.entitlement, pool.non_slack_entitlement, pool.slack_entitlement = found
        tree.version += changed
        return len(self.claims)

    def next_due(self, tree: PoolTree, period_s: float) -> float | None:
        """When the next calculation is due; None as long as nothing has changed since the last."""
        if self._changes is None:
            return self.at
        if self.is_current(tree):
            return None
        matters = self._reshaped != tree.reshaped or any(_lacks(tree.pools[pool]) for pool in tree.waiting)
        return self.at + (min(_rest_s(tree), period_s) if matters else period_s)

    def is_current(self, tree: PoolTree) -> bool:
        """Whether nothing has changed since the last calculation."""
        return self._changes == tree.changes


def _rest_s(tree: PoolTree) -> float:
    return REST_PER_POOL_S * max(len(tree.pools) - FEW_POOLS, 0)


def _lacks(pool: Pool) -> bool:
    """Whether a pool holds and waits for more than it may have."""
    slack = pool.slack.plus(pool.slack_demand)
    hard = pool.allocation.minus(pool.slack).plus(pool.demand)
    return not (
        (pool.demand == NOTHING or hard.fits(pool.non_slack_entitlement))
        and (pool.slack_demand == NOTHING or slack.fits(pool.slack_entitlement))
    )
