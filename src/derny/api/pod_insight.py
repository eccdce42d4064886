"""The part of InsightService that is about pods: why one does not run, and why those of a job don't.

One rule: nothing is found out here. The state is looked at in slices, hosts of a copy of their table, in the
thread if there are many, so that neither a large job nor a large fleet holds the loop. (Behaviour, scheduler
§6.3.)
"""

from collections.abc import AsyncIterator
from functools import partial
from typing import Final

from derny.answers import job_explanation, pod_explanation
from derny.answers.job_explanation import Alike
from derny.answers.obstacles import Obstacle, PoolRule, Remedy
from derny.answers.pod_explanation import HostSearch, PodExplanation
from derny.api import wire_in
from derny.api.times import rfc3339
from derny.core.instances import Range
from derny.edge.off_loop import off_loop
from derny.model.errors import Invalid, NotFound
from derny.model.ids import JobId, parse_pod_name, pod_id, pod_name
from derny.model.resources import wire_units
from derny.proto.derny.insight import v1
from derny.proto.peloton.api.v1alpha.peloton import PodId, PodName
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange, PodState
from derny.proto.peloton.api.v1alpha.respool import ResourcePoolPath
from derny.runtime.loop import Loop

HOSTS_NAMED: Final = 10
HOSTS_NAMED_MAX: Final = 10_000
PODS_PER_LOOK: Final = 2_000
"""Of a job, in one slice: some two milliseconds."""
COUNTED_PER_LOOK: Final = 5_000
BYTES_PER_HOST: Final = 16
"""What a look at a host weighs, compared with the reading of a message (`edge.off_loop`): with more than
2,000 hosts it is made by the thread."""

_WHOLE: Final = ("fds", "ports")


class PodInsight:
    """What InsightService has of pods."""

    _loop: Loop

    async def explain_pod(self, message: v1.ExplainPodRequest) -> v1.ExplainPodResponse:
        job, instance = parse_pod_name(wire_in.text_of(message.pod_name))
        return await self._explained(job, instance, hosts_named(message.hosts_limit))

    async def explain_job(self, message: v1.ExplainJobRequest) -> AsyncIterator[v1.ExplainJobResponse]:
        job, names = wire_in.existing_job(message.job_id), hosts_named(message.hosts_limit)
        alike: Alike = {}
        first: int | None = 0
        while first is not None:
            look = partial(job_explanation.gather, job=job, first=first, most=PODS_PER_LOOK, alike=alike)
            first = await self._loop.scan(look)
        for ranges in alike.values():
            try:
                pod = await self._explained(job, ranges[0][0], names)
            except NotFound:
                # It has gone meanwhile.
                continue
            yield v1.ExplainJobResponse(
                sum(last - first + 1 for first, last in ranges), instance_ranges(ranges), pod
            )

    async def _explained(self, job: JobId, instance: int, names: int) -> v1.ExplainPodResponse:
        template = await self._loop.read(partial(pod_explanation.template_of, job=job, instance=instance))
        count = partial(pod_explanation.counts_labels, templates=[template], budget=COUNTED_PER_LOOK)
        while await self._loop.scan(count):
            pass
        terms = self._loop.terms
        look = partial(
            pod_explanation.explain_pod,
            job=job,
            instance=instance,
            at=self._loop.clock.now(),
            periods=terms.periods,
            rules=terms.rules,
        )
        found = await self._loop.scan(look)
        if pod_explanation.needs_host(found):
            search = await self._loop.scan(partial(HostSearch, template=template, rules=terms.rules))
            found = await with_hosts(found, search, names)
        return explained(found)


def hosts_named(asked: int) -> int:
    """How many hosts to name for each reason; Invalid."""
    if asked > HOSTS_NAMED_MAX:
        raise Invalid(f"hosts_limit is {asked}; expected at most {HOSTS_NAMED_MAX}")
    return asked or HOSTS_NAMED


async def with_hosts(found: PodExplanation, search: HostSearch, names: int) -> PodExplanation:
    """The explanation with what the look at hosts finds, made by the thread where there are many."""
    hosts = await off_loop(search.hosts * BYTES_PER_HOST, search.made, names)
    return pod_explanation.with_hosts(found, hosts)


def explained(found: PodExplanation) -> v1.ExplainPodResponse:
    """An explanation as a message."""
    return v1.ExplainPodResponse(
        PodName(pod_name(found.job, found.instance)),
        PodId(pod_id(found.job, found.instance, found.run)) if found.run else None,
        PodState(found.state),
        PodState(found.goal),
        found.host or "",
        rfc3339(found.since),
        found.message,
        [obstacle(each) for each in found.obstacles],
    )


def obstacle(found: Obstacle) -> v1.Obstacle:
    """An obstacle as a message."""
    return v1.Obstacle(
        v1.ObstacleKind(found.kind),
        found.sentence,
        [_remedy(each) for each in found.remedies],
        rfc3339(found.until),
        _rule(found.pool) if found.pool is not None else None,
        PodName(pod_name(*found.behind)) if found.behind is not None else None,
        found.host or "",
        [
            v1.HostReason(
                str(each.reason),
                each.hosts,
                list(each.names),
                each.kind,
                _wire(each.kind, each.shortfall),
                each.clause,
            )
            for each in found.refusals
        ],
    )


def _rule(found: PoolRule) -> v1.PoolRule:
    return v1.PoolRule(
        ResourcePoolPath(found.path),
        found.rule.partition(",")[0],
        found.resource,
        wire_units(found.need),
        wire_units(found.left),
        wire_units(found.most),
    )


def _remedy(found: Remedy) -> v1.Remedy:
    amount = _wire(found.resource, found.amount) if found.resource else float(found.amount)
    return v1.Remedy(
        v1.RemedyAction(found.action), found.sentence, found.subject, found.resource, amount, found.hosts
    )


def _wire(kind: str, amount: int) -> float:
    return float(amount) if kind in _WHOLE else wire_units(amount)


def instance_ranges(ranges: list[Range]) -> list[InstanceIdRange]:
    """Ranges with inclusive ends, as answers have them."""
    return [InstanceIdRange(first, last) for first, last in ranges]
