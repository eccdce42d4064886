"""QueryJobs and QueryPods as clients see them."""

import asyncio
import uuid
from datetime import UTC, datetime

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.api import queries
from derny.model.states import TaskState
from derny.proto.peloton.api.v1alpha.job.stateless import JobState, QuerySpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    CreateJobRequest,
    QueryJobsRequest,
    QueryPodsRequest,
    StopJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, Label, PodName, TimeRange
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec, PodState
from derny.proto.peloton.api.v1alpha.pod import QuerySpec as PodQuerySpec
from derny.proto.peloton.api.v1alpha.query import (
    OrderBy,
    OrderByOrder,
    Pagination,
    PaginationSpec,
    PropertyPath,
)
from derny.proto.peloton.api.v1alpha.respool import ResourcePoolPath

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
NOW = 1_000_000_000


async def names(counter, **fields):
    answer = await counter.jobs.query_jobs(QueryJobsRequest(QuerySpec(**fields)))
    return [record.name for record in answer.records]


def by(*keys: str, descending: bool = False) -> list[OrderBy]:
    order = OrderByOrder.BY_DESC if descending else OrderByOrder.BY_ASC
    return [OrderBy(order, PropertyPath(key)) for key in keys]


def span(first: float, end: float) -> TimeRange:
    return TimeRange(datetime.fromtimestamp(first, UTC), datetime.fromtimestamp(end, UTC))


@pytest.fixture
def three(counter, job_message):
    """Makes three jobs, a second apart; the second one is stopped."""

    async def make():
        fields = [
            {"owner": "ann", "labels": [Label("team", "web")], "description": "The FRONT page"},
            {"owner": "bob", "labels": [Label("team", "db"), Label("tier", "web")]},
            {"owner": "ann", "owning_team": "bob"},
        ]
        for number, more in enumerate(fields):
            job = str(uuid.UUID(int=number + 1))
            await counter.create(job_message(name=f"job-{number}", **more), job)
            await counter.after(1)
        stop = StopJobRequest(JobId(str(uuid.UUID(int=2))), EntityVersion("1-1-1"))
        await counter.jobs.stop_job(stop)
        await counter.after(2)

    return make


# Jobs.


async def test_all_jobs_come_newest_first_with_page_and_question(counter, three):
    await three()
    message = QueryJobsRequest(QuerySpec(pagination=PaginationSpec(limit=2), name="job"))
    answer = await counter.jobs.query_jobs(message)
    assert [record.name for record in answer.records] == ["job-2", "job-1"]
    assert answer.pagination == Pagination(0, 2, 3)
    assert answer.spec == message.spec
    record = answer.records[0]
    assert (record.owner, record.owning_team, record.instance_count) == ("ann", "bob", 1)
    assert record.status.state is JobState.RUNNING
    assert record.sla.preemptible


async def test_no_spec_asks_for_everything(counter, three):
    await three()
    answer = await counter.jobs.query_jobs(QueryJobsRequest())
    assert (len(answer.records), answer.pagination, answer.spec) == (3, Pagination(0, 0, 3), None)


@pytest.mark.parametrize(
    "fields, expected",
    [
        ({"labels": [Label("team", "web")]}, ["job-0"]),
        ({"labels": [Label("web", "team")]}, []),
        ({"labels": [Label("team", "db"), Label("tier", "web")]}, ["job-1"]),
        ({"keywords": ["front"]}, ["job-0"]),
        ({"keywords": ["BOB"]}, ["job-1"]),
        ({"keywords": ["the*page", "ann"]}, ["job-0"]),
        ({"owner": "ann"}, ["job-2", "job-0"]),
        ({"owner": "ANN"}, []),
        ({"name": "b-1"}, ["job-1"]),
        ({"job_states": [JobState.KILLED]}, ["job-1"]),
        ({"job_states": [JobState.KILLED, JobState.RUNNING]}, ["job-2", "job-1", "job-0"]),
        ({"respool": ResourcePoolPath("/default")}, ["job-2", "job-1", "job-0"]),
        ({"respool": ResourcePoolPath("")}, ["job-2", "job-1", "job-0"]),
        ({"creation_time_range": span(NOW, NOW + 2)}, ["job-1", "job-0"]),
        ({"completion_time_range": span(NOW, NOW + 100)}, ["job-1"]),
        ({"owner": "ann", "name": "2"}, ["job-2"]),
    ],
)
async def test_every_criterion_leaves_out_the_others(counter, three, fields, expected):
    await three()
    assert await names(counter, **fields) == expected


async def test_jobs_that_ended_long_ago_are_found_all_the_same(counter, three):
    await three()
    await counter.after(30 * 24 * 3600)
    assert await names(counter, job_states=[JobState.KILLED]) == ["job-1"]


async def test_an_order_is_followed_key_by_key(counter, three):
    await three()
    keys = by("owner") + by("config.name")
    assert await names(counter, pagination=PaginationSpec(order_by=keys)) == ["job-0", "job-2", "job-1"]
    keys = by("owner", descending=True) + by("creation_time")
    assert await names(counter, pagination=PaginationSpec(order_by=keys)) == ["job-1", "job-0", "job-2"]


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"respool": ResourcePoolPath("/nowhere")}, "'/nowhere'"),
        ({"respool": ResourcePoolPath("default")}, "'default'"),
        ({"job_states": [0]}, "job_states has 0"),
        ({"job_states": [77]}, "job_states has 77"),
        ({"creation_time_range": span(5, 5)}, "creation_time_range"),
        ({"completion_time_range": TimeRange()}, "completion_time_range.min is unset"),
        ({"pagination": PaginationSpec(order_by=by("colour"))}, "expected one of creation_time, "),
    ],
)
async def test_what_makes_no_sense_is_refused_and_says_why(counter, fields, said):
    with pytest.raises(GRPCError) as refused:
        await names(counter, **fields)
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert said in refused.value.message


async def test_too_many_keywords_are_refused(counter):
    for field in ({"keywords": ["a"] * 101}, {"labels": [Label("a", "b")] * 101}):
        with pytest.raises(GRPCError) as refused:
            await names(counter, **field)
        assert refused.value.status is Status.RESOURCE_EXHAUSTED
        assert "query_terms_max" in refused.value.message


async def test_a_keyword_longer_than_any_name_is_refused(counter):
    with pytest.raises(GRPCError) as refused:
        await names(counter, keywords=["a", "*" * 256])
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert "keywords[1] has 256 characters" in refused.value.message


async def test_pages_reach_as_far_as_max_limit_and_the_total_tells_all(counter, job_message):
    for number in range(120):
        await counter.jobs.create_job(CreateJobRequest(spec=job_message(0, name=f"{number:03}")))

    async def page(offset: int, limit: int, max_limit: int = 0):
        asked = PaginationSpec(offset, limit, by("name"), max_limit)
        answer = await counter.jobs.query_jobs(QueryJobsRequest(QuerySpec(asked)))
        assert answer.pagination == Pagination(offset, limit, 120)
        return [int(record.name) for record in answer.records]

    assert await page(0, 0) == list(range(10))
    assert await page(95, 10) == list(range(95, 100))
    assert await page(95, 10, 120) == list(range(95, 105))
    assert await page(0, 1000, 1000) == list(range(120))
    assert await page(500, 10, 1000) == []


async def test_large_specs_are_looked_through_and_told_as_well(counter, job_message):
    """Off the loop, where small ones are read on it."""
    for number in range(3):
        large = "x" * 20_000 + f"needle{number}"
        await counter.jobs.create_job(
            CreateJobRequest(spec=job_message(0, name=f"{number}", description=large))
        )
    assert await names(counter, keywords=["needle"], pagination=PaginationSpec(order_by=by("name"))) == list(
        "012"
    )
    assert await names(counter, keywords=["needle1"]) == ["1"]


async def test_a_page_too_large_for_a_message_is_refused(counter, job_message):
    for _ in range(5):
        await counter.jobs.create_job(CreateJobRequest(spec=job_message(0, owner="o" * 1_000_000)))
    with pytest.raises(GRPCError) as refused:
        await names(counter)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED
    assert "ask for a smaller limit" in refused.value.message
    assert len(await names(counter, pagination=PaginationSpec(limit=3))) == 3


async def test_others_have_their_turns_while_jobs_are_looked_through(counter, job_message, monkeypatch):
    monkeypatch.setattr(queries, "JOBS_PER_LOOK", 10)
    for _ in range(100):
        await counter.jobs.create_job(CreateJobRequest(spec=job_message(0)))
    turns = 0

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    # Asked without a connection in between, whose own waits would do.
    await queries.query_jobs(counter.loop, counter.limits, QueryJobsRequest())
    task.cancel()
    assert turns >= 10


# Pods.


async def pods(counter, message: QueryPodsRequest):
    answer = await counter.jobs.query_pods(message)
    return [int(pod.spec.pod_name.value.rpartition("-")[2]) for pod in answer.pods], answer.pagination


def asking(pagination=None, top=None, summary_only=False, **fields) -> QueryPodsRequest:
    spec = PodQuerySpec(pagination=pagination, **fields)
    return QueryPodsRequest(JobId(JOB), spec, top, summary_only)


async def test_pods_come_ascending_ten_to_a_page(counter, job_message):
    await counter.create(job_message(25))
    assert await pods(counter, QueryPodsRequest(JobId(JOB))) == (list(range(10)), Pagination(0, 0, 25))
    assert await pods(counter, asking(PaginationSpec(20, 100))) == (
        list(range(20, 25)),
        Pagination(20, 100, 25),
    )
    assert await pods(counter, asking(PaginationSpec(25))) == ([], Pagination(25, 0, 25))
    assert await pods(counter, asking(PaginationSpec(max_limit=3))) == ([0, 1, 2], Pagination(0, 0, 25))


async def test_both_places_for_a_pagination_count_the_spec_s_before_the_other(counter, job_message):
    await counter.create(job_message(25))
    top = PaginationSpec(3, 2, by("instanceId", descending=True))
    assert await pods(counter, asking(None, top)) == ([21, 20], Pagination(3, 2, 25))
    spec = PaginationSpec(limit=4)
    assert await pods(counter, asking(spec, top)) == ([21, 20, 19, 18], Pagination(3, 4, 25))


async def test_filters_of_pods(counter, job_message):
    await counter.create(job_message(4))
    await counter.report(f"{JOB}-2-1", TaskState.FAILED, "gone", exit_code=1)
    assert (await pods(counter, asking(pod_states=[PodState.FAILED])))[0] == [2]
    assert (await pods(counter, asking(names=[PodName(f"{JOB}-1"), PodName(f"{JOB}-3")])))[0] == [1, 3]
    assert (await pods(counter, asking(names=[PodName("main")])))[0] == [0, 1, 2, 3]
    infos = (await counter.jobs.query_pods(asking())).pods
    host = infos[1].status.host
    there = [n for n, info in enumerate(infos) if info.status.host == host]
    assert (await pods(counter, asking(hosts=[host])))[0] == there
    assert await pods(counter, asking(hosts=["nowhere"])) == ([], Pagination(0, 0, 0))


async def test_status_and_spec_are_those_of_the_pod(counter, job_message, pod_message):
    override = PodSpec(containers=[ContainerSpec(image="other")])
    await counter.create(
        job_message(2, default_spec=pod_message(image="busybox"), instance_spec={1: override})
    )
    first, second = (await counter.jobs.query_pods(asking())).pods
    assert (first.status.state, first.status.pod_id.value) == (PodState.RUNNING, f"{JOB}-0-1")
    assert [info.spec.containers[0].image for info in (first, second)] == ["busybox", "other"]
    assert [info.spec.pod_name.value for info in (first, second)] == [f"{JOB}-0", f"{JOB}-1"]


async def test_with_summary_only_there_is_no_spec(counter, job_message):
    await counter.create(job_message(2))
    answer = await counter.jobs.query_pods(asking(summary_only=True))
    assert [info.spec for info in answer.pods] == [None, None]
    assert [info.status.state for info in answer.pods] == [PodState.RUNNING] * 2


async def test_a_pending_pod_says_what_it_waits_for(counter, job_message, pod_message):
    huge = pod_message()
    huge.containers[0].resource.cpu_limit = 100_000
    await counter.create(job_message(default_spec=huge))
    (info,) = (await counter.jobs.query_pods(asking(summary_only=True))).pods
    assert info.status.state is PodState.PENDING
    assert info.status.message


@pytest.mark.parametrize("size", [10, 100_000])
async def test_specs_of_any_size_are_told_and_too_many_large_ones_refused(
    counter, job_message, pod_message, size
):
    pod = pod_message(f"echo {'x' * size}")
    await counter.create(job_message(60, default_spec=pod))
    assert (await pods(counter, asking(PaginationSpec(limit=5))))[0] == [0, 1, 2, 3, 4]
    everything = asking(PaginationSpec(limit=60))
    if size == 10:
        assert (await pods(counter, everything))[0] == list(range(60))
        return
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.query_pods(everything)
    assert refused.value.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    "message, status",
    [
        (QueryPodsRequest(JobId(JOB)), Status.NOT_FOUND),
        (QueryPodsRequest(), Status.INVALID_ARGUMENT),
        (asking(pod_states=[0]), Status.INVALID_ARGUMENT),
        (asking(pod_states=[PodState.RUNNING] * 101), Status.RESOURCE_EXHAUSTED),
        (asking(names=[PodName("a")] * 10_001), Status.RESOURCE_EXHAUSTED),
        (asking(hosts=["a"] * 10_001), Status.RESOURCE_EXHAUSTED),
        (asking(PaginationSpec(order_by=by("colour"))), Status.INVALID_ARGUMENT),
        (asking(None, PaginationSpec(order_by=by("colour"))), Status.INVALID_ARGUMENT),
    ],
)
async def test_questions_about_pods_that_are_refused(counter, message, status):
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.query_pods(message)
    assert refused.value.status is status
