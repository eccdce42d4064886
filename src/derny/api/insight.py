"""InsightService: why things are as they are, in numbers and in plain words.

One rule: it reads and explains, and changes nothing; like the simulator's own service it is told apart from
the contract by its package, `derny.insight.v1`. Registered by `app`.
"""

import asyncio
from functools import partial
from typing import Final

from derny.answers import pool_explanation, queries
from derny.answers.pool_explanation import Facts, KindExplanation, Loan
from derny.api import wire_in
from derny.api.job_plans import JobPlans
from derny.api.pod_insight import PodInsight
from derny.api.reply import made
from derny.api.times import rfc3339
from derny.core.state import State
from derny.model.errors import Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.model.resources import wire_units
from derny.proto.derny.insight import v1
from derny.proto.peloton.api.v1alpha.peloton import ResourcePoolId
from derny.proto.peloton.api.v1alpha.respool import ReservationType, ResourcePoolPath
from derny.runtime.loop import Loop

SIBLING_BYTES: Final = 300
"""A sibling to share with takes as long to explain as so many bytes to read, some 20 µs."""


class InsightService(PodInsight, JobPlans, v1.InsightServiceBase):
    """Explanations of the daemon's decisions."""

    def __init__(self, loop: Loop, limits: Limits) -> None:
        self._loop = loop
        self._limits = limits
        self._planning = asyncio.Lock()

    async def explain_resource_pool(
        self, message: v1.ExplainResourcePoolRequest
    ) -> v1.ExplainResourcePoolResponse:
        pool, path = wire_in.text_of(message.respool_id), wire_in.text_of(message.path)
        if pool and path:
            raise Invalid(f"both respool_id {pool!r} and path {path!r} are given; expected one of them")
        facts = await self._loop.read(partial(_facts, pool=pool, path=path))
        siblings = sum(len(level.siblings) for level in facts.levels)
        return await made(siblings * SIBLING_BYTES, _explained, facts)


def _facts(state: State, pool: str, path: str) -> Facts:
    found = queries.pool_id_at(state, path) if path else PoolId(pool or ROOT_POOL)
    return pool_explanation.facts_of(state, found)


def _explained(facts: Facts) -> v1.ExplainResourcePoolResponse:
    view = pool_explanation.explained(facts)
    return v1.ExplainResourcePoolResponse(
        ResourcePoolId(view.id),
        ResourcePoolPath(view.path),
        rfc3339(view.calculated_at),
        view.is_current,
        [_kind(kind) for kind in view.kinds],
    )


def _kind(kind: KindExplanation) -> v1.KindExplanation:
    static = kind.resource.static
    return v1.KindExplanation(
        kind=kind.resource.kind,
        reservation=wire_units(kind.resource.reservation),
        limit=wire_units(kind.resource.limit),
        share=kind.resource.share,
        type=ReservationType.STATIC if static else ReservationType.ELASTIC,
        demand=wire_units(kind.demand),
        slack_demand=wire_units(kind.slack_demand),
        entitlement=wire_units(kind.entitlement),
        non_slack_entitlement=wire_units(kind.non_slack_entitlement),
        slack_entitlement=wire_units(kind.slack_entitlement),
        allocation=wire_units(kind.allocation),
        slack_allocation=wire_units(kind.slack_allocation),
        borrowed=wire_units(kind.borrowed),
        lent=wire_units(kind.lent),
        gives_back_to=[_loan(loan) for loan in kind.gives_back_to],
        gets_back_from=[_loan(loan) for loan in kind.gets_back_from],
        steps=list(kind.steps),
    )


def _loan(loan: Loan) -> v1.Loan:
    return v1.Loan(ResourcePoolPath(loan.path), wire_units(loan.amount), ResourcePoolPath(loan.through))
