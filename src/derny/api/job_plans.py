"""The part of InsightService that plans jobs: what CreateJob or ReplaceJob would do, and nothing is done.

One rule: the wish is read and refused as the real one is (`api.wishes`), and played through a turn at a time,
in turn with all other long looks, so that no plan holds the loop, however large. Plans are made one at a
time: each keeps a copy of all pods of a job.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final

from derny.answers.job_plan import JobPlan
from derny.api import wishes
from derny.api.pod_insight import explained, hosts_named, instance_ranges, with_hosts
from derny.api.reply import made
from derny.core.commands import CreateJob, ReplaceJob
from derny.core.instances import Range
from derny.core.state import State
from derny.model.errors import Invalid
from derny.model.periods import Limits
from derny.proto.derny.insight import v1
from derny.proto.peloton.api.v1alpha.peloton import JobId
from derny.runtime.loop import Loop

PLACEMENTS_TOLD: Final = 100
PLACEMENTS_TOLD_MAX: Final = 10_000
WAITS_MAX: Final = 100
BYTES_PER_POD: Final = 8
"""About what an instance weighs in a reply, where no two that follow one another share anything."""


class JobPlans:
    """What InsightService has of plans."""

    _loop: Loop
    _limits: Limits
    _planning: asyncio.Lock

    async def plan_job(self, message: v1.PlanJobRequest) -> v1.PlanJobResponse:
        names, told = hosts_named(message.hosts_limit), _placements_told(message.placements_limit)
        command = await self._wished(message)
        async with self._planning:
            plan = JobPlan(self._loop.terms, command, self._loop.clock.now())
            try:
                for step in (plan.prepare, partial(_step, plan.play), partial(_step, plan.read)):
                    while await self._loop.scan(step):
                        pass
                waits = [
                    await self._wait(plan, number, names)
                    for number in range(min(plan.sorts_waiting, WAITS_MAX))
                ]
                size = (plan.placed + plan.waiting) * BYTES_PER_POD
                response = await made(size, _planned, plan, waits, told)
                while await self._loop.scan(partial(_step, plan.let_go)):
                    pass
                return response
            finally:
                plan.end()

    async def _wished(self, message: v1.PlanJobRequest) -> CreateJob | ReplaceJob:
        if (message.create is None) == (message.replace is None):
            raise Invalid("expected either create or replace, the request that is to be planned")
        if message.create is not None:
            return await wishes.creation(self._loop, self._limits, message.create)
        assert message.replace is not None
        return await wishes.replacement(self._limits, message.replace)

    async def _wait(self, plan: JobPlan, number: int, names: int) -> v1.ExplainJobResponse:
        waiting = await self._loop.scan(lambda _state: plan.waits(number))
        first = waiting.first
        if waiting.search is not None:
            first = await with_hosts(first, waiting.search, names)
        return v1.ExplainJobResponse(
            _count(waiting.instances), instance_ranges(waiting.instances), explained(first)
        )


def _step(step: Callable[[], bool], _state: State) -> bool:
    """A slice that looks at the plan's own state."""
    return step()


def _placements_told(asked: int) -> int:
    if asked > PLACEMENTS_TOLD_MAX:
        raise Invalid(f"placements_limit is {asked}; expected at most {PLACEMENTS_TOLD_MAX}")
    return asked or PLACEMENTS_TOLD


def _planned(plan: JobPlan, waits: list[v1.ExplainJobResponse], told: int) -> v1.PlanJobResponse:
    hosts = islice(plan.hosts.items(), told)
    return v1.PlanJobResponse(
        JobId(plan.job),
        instance_ranges([plan.added] if plan.added else []),
        instance_ranges(plan.updated),
        instance_ranges([plan.removed] if plan.removed else []),
        instance_ranges(plan.unchanged),
        plan.repeats,
        plan.placed,
        plan.waiting,
        [v1.PlannedHost(host, _count(ranges), instance_ranges(ranges)) for host, ranges in hosts],
        len(plan.hosts),
        waits,
        plan.sorts_waiting,
        plan.complete,
    )


def _count(ranges: Sequence[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)
