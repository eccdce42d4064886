"""QueryJobs and QueryPods: criteria and pages of the wire, looks over all jobs or pods a slice at a time.

One rule: however much there is to look through, the loop is held for one slice only. So a query is no
snapshot: it goes through what there was when it began, judges each job or pod at the moment of its slice,
and tells of those on the page as they are when the page is made; what is gone by then is left out. What
each slice is looked at for is in `answers.job_query` and `answers.pod_query`. Called by `api.jobs`. (API
reference, stateless_svc.proto; behaviour, jobs §2.13 and §2.14.)
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final, TypeVar, cast

import betterproto2

from derny.answers import job_query, pod_query, queries
from derny.answers.job_query import NEWEST_FIRST, JobCriteria, JobRow, JobTexts
from derny.answers.ordering import Key, OrderBy, Ranking
from derny.answers.pod_query import PodCriteria
from derny.api import records, wire_in
from derny.api.codec import decode, encode, without_fields
from derny.api.container_in import NAME_MAX
from derny.api.paging import Page, check_names, check_terms, combined, page_of, slices, span_of, states_of
from derny.core.state import State
from derny.edge.off_loop import off_loop
from derny.model.errors import Exhausted, Invalid
from derny.model.ids import JobId
from derny.model.periods import Limits
from derny.model.states import JobState, PodState
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, svc
from derny.proto.peloton.api.v1alpha.job.stateless import QuerySpec as JobQuerySpec
from derny.proto.peloton.api.v1alpha.pod import QuerySpec as PodQuerySpec
from derny.proto.peloton.api.v1alpha.query import PaginationSpec
from derny.runtime.loop import Loop

T = TypeVar("T")
M = TypeVar("M", bound=betterproto2.Message)

JOBS_REACHED: Final = 100
"""Jobs that pages can reach where max_limit is 0, as Peloton has it; the total counts all the same."""
JOBS_PER_LOOK: Final = 500
JOBS_READ_PER_LOOK: Final = 50
"""Where the texts of each are wanted."""
PODS_PER_LOOK: Final = 1000
ITEMS_PER_STEP: Final = 1000
"""Of a ranking, merged between two rounds of the loop."""
PAGE_BYTES: Final = 4 * 1024 * 1024 - 64 * 1024
"""Of all records of a page; clients accept messages of 4 MiB unless they are told otherwise."""

_NO_TEXTS = frozenset({1, 2, 4, 5, 8, 9, 10, 11, 12})
"""Numbers of the fields of JobSpec that hold none of the texts that are looked for."""


async def query_jobs(loop: Loop, limits: Limits, message: svc.QueryJobsRequest) -> svc.QueryJobsResponse:
    """The jobs that match, a page at a time. Invalid: an unknown pool, state or order, or a span of time
    that holds no moment; Exhausted: too many criteria, or a page too large for one message."""
    asked = message.spec or JobQuerySpec()
    paging = asked.pagination or PaginationSpec()
    page = page_of(paging, job_query.SORTED_BY, NEWEST_FIRST, JOBS_REACHED, limits)
    criteria = await _job_criteria(loop, limits, asked)
    reads = criteria.asks_texts or any(by.field == "owner" for by in page.order)
    ranking = Ranking[JobId](page.end)
    ids = await loop.read(queries.job_ids)
    for first, end in slices(len(ids), JOBS_READ_PER_LOOK if reads else JOBS_PER_LOOK):
        look = partial(
            _look_at_jobs,
            criteria=criteria,
            order=page.order,
            reads=reads,
            ids=ids[first:end],
            first=first,
        )
        ranked, large = await loop.scan(look)
        for row in large:
            ranked += await off_loop(len(row.spec.wire), _judged, criteria, page.order, row, reads)
        ranking.add(ranked)
    found = records.jobs(loop, await _page(ranking, page))
    rest = svc.QueryJobsResponse(pagination=page.told(ranking.total), spec=message.spec)
    return await _reply(found, rest)


async def _job_criteria(loop: Loop, limits: Limits, asked: JobQuerySpec) -> JobCriteria:
    check_terms("labels", asked.labels, limits)
    check_terms("keywords", asked.keywords, limits)
    for number, keyword in enumerate(asked.keywords):
        if len(keyword) > NAME_MAX:
            raise Invalid(f"keywords[{number}] has {len(keyword)} characters; expected at most {NAME_MAX}")
    path = asked.respool.value if asked.respool is not None else ""
    return JobCriteria(
        states=states_of(asked.job_states, JobState, "job_states", limits),
        pools=await loop.read(partial(job_query.pools_at, path=path)) if path else None,
        name=asked.name,
        created=span_of(asked.creation_time_range, "creation_time_range"),
        completed=span_of(asked.completion_time_range, "completion_time_range"),
        owner=asked.owner,
        labels=tuple((label.key, label.value) for label in asked.labels),
        keywords=tuple(map(job_query.pieces_of, asked.keywords)),
    )


def _look_at_jobs(
    state: State,
    criteria: JobCriteria,
    order: Sequence[OrderBy],
    reads: bool,
    ids: Sequence[JobId],
    first: int,
) -> tuple[list[tuple[Key, JobId]], list[JobRow]]:
    """Those that match, and those that may, but whose texts are too large to be read on the loop."""
    ranked: list[tuple[Key, JobId]] = []
    large: list[JobRow] = []
    for row in job_query.rows(state, criteria, ids, first):
        if reads and len(row.spec.wire) > records.SMALL_BYTES:
            large.append(row)
        else:
            ranked += _judged(criteria, order, row, reads)
    return ranked, large


def _judged(
    criteria: JobCriteria, order: Sequence[OrderBy], row: JobRow, reads: bool
) -> list[tuple[Key, JobId]]:
    """The job and its key, if it matches."""
    texts = _texts(row.spec.wire) if reads else JobTexts()
    return [(job_query.key_of(order, row, texts), row.id)] if job_query.is_met(criteria, row, texts) else []


def _texts(wire: bytes) -> JobTexts:
    spec = decode(JobSpec, without_fields(wire, _NO_TEXTS))
    labels = tuple((label.key, label.value) for label in spec.labels)
    return JobTexts(spec.owner, spec.description, labels)


async def query_pods(loop: Loop, limits: Limits, message: svc.QueryPodsRequest) -> svc.QueryPodsResponse:
    """The pods of a job that match, a page at a time. NotFound: no such job; Invalid: an unknown state or
    order; Exhausted: too many criteria, or a page too large for one message.

    Of the two places for a pagination, `spec.pagination` goes before the request's, field by field.
    """
    job = wire_in.existing_job(message.job_id)
    asked = message.spec or PodQuerySpec()
    page = page_of(combined(asked.pagination, message.pagination), pod_query.SORTED_BY, (), None, limits)
    check_names("names", asked.names, limits)
    check_names("hosts", asked.hosts, limits)
    criteria = PodCriteria(
        states=states_of(asked.pod_states, PodState, "pod_states", limits),
        names=frozenset(name.value for name in asked.names),
        hosts=frozenset(asked.hosts),
    )
    ranking = Ranking[int](page.end)
    count = await loop.read(lambda state: len(state.job(job).pods))
    for first, end in slices(count, PODS_PER_LOOK):
        look = partial(pod_query.ranked, job=job, criteria=criteria, order=page.order, first=first, end=end)
        ranking.add(await loop.scan(look))
    found = records.pod_infos(loop, job, await _page(ranking, page), not message.summary_only)
    return await _reply(found, svc.QueryPodsResponse(pagination=page.told(ranking.total)))


async def _page(ranking: Ranking[T], page: Page) -> list[T]:
    """The items of the page, with a pause now and then."""
    found: list[T] = []
    for number, item in enumerate(ranking.items()):
        if number >= page.first:
            found.append(item)
        if number % ITEMS_PER_STEP == ITEMS_PER_STEP - 1:
            await asyncio.sleep(0)
    return found


async def _reply(found: AsyncIterator[bytes], rest: M) -> M:
    """The response made of records and the rest of it, which the codec passes on as the bytes they are."""
    parts: list[bytes] = []
    size = 0
    async for record in found:
        size += len(record)
        if size > PAGE_BYTES:
            raise Exhausted(
                f"the page has more than {PAGE_BYTES} bytes after {len(parts)} records;"
                " ask for a smaller limit, or for less of each"
            )
        parts.append(record)
    return cast(M, b"".join([*parts, encode(rest)]))
