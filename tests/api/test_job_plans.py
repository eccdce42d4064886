"""PlanJob as clients see it."""

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.api import job_plans
from derny.proto.derny.insight.v1 import ObstacleKind, PlanJobRequest
from derny.proto.peloton.api.v1alpha.job.stateless import CreateSpec, UpdateSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    CreateJobRequest,
    GetReplaceJobDiffRequest,
    ListPodsRequest,
    ReplaceJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange, PodState, ResourceSpec

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
NEW = "aaaaaaaa-0000-4000-8000-000000000002"
V1 = EntityVersion("1-1-1")


async def plan(counter, create=None, replace=None, **limits):
    return await counter.insight.plan_job(PlanJobRequest(create, replace, **limits))


async def hosts_of(counter, job):
    return [
        pod.status.host
        async for page in counter.jobs.list_pods(ListPodsRequest(JobId(job)))
        for pod in page.pods
    ]


def where(planned):
    return {
        instance: host.hostname
        for host in planned.hosts
        for span in host.instances
        for instance in range(span.from_, span.to + 1)
    }


async def test_a_creation_happens_as_planned(counter, job_message):
    spec = job_message(10)
    revision = counter.loop.revision
    planned = await plan(counter, CreateJobRequest(JobId(NEW), spec))
    assert counter.loop.revision == revision
    assert (planned.job_id.value, planned.placed, planned.waiting, planned.complete) == (NEW, 10, 0, True)
    assert planned.instances_added == [InstanceIdRange(0, 9)]
    assert (planned.hosts_total, sum(host.count for host in planned.hosts)) == (4, 10)
    await counter.create(spec, NEW)
    assert dict(enumerate(await hosts_of(counter, NEW))) == where(planned)


async def test_a_plan_needs_no_id_and_may_be_bounded(counter, job_message):
    planned = await plan(counter, CreateJobRequest(None, job_message(10)), placements_limit=1)
    assert len(planned.job_id.value) == 36
    assert (len(planned.hosts), planned.hosts_total, planned.placed) == (1, 4, 10)


async def test_what_would_wait_is_explained(counter, job_message, pod_message):
    odd = pod_message(resource=ResourceSpec(cpu_limit=65, mem_limit_mb=32))
    planned = await plan(counter, CreateJobRequest(None, job_message(3, instance_spec={1: odd})))
    (wait,) = planned.waits
    assert (planned.placed, planned.waiting, planned.waits_total) == (2, 1, 1)
    assert (wait.count, wait.instances, wait.pod.state) == (1, [InstanceIdRange(1, 1)], PodState.PLACING)
    (obstacle,) = wait.pod.obstacles
    assert obstacle.kind is ObstacleKind.NO_HOST
    assert obstacle.remedies[0].sentence == "ask for 64 cpu at most"


async def test_an_update_happens_as_planned_and_as_the_diff_says(counter, job_message, pod_message):
    await counter.create(job_message(6))
    before = await hosts_of(counter, JOB)
    other = pod_message(resource=ResourceSpec(cpu_limit=2, mem_limit_mb=32))
    spec = job_message(8, instance_spec={1: other, 7: other})
    planned = await plan(counter, replace=ReplaceJobRequest(JobId(JOB), V1, spec))
    diff = await counter.jobs.get_replace_job_diff(GetReplaceJobDiffRequest(JobId(JOB), V1, spec))
    assert planned.instances_added == diff.instances_added == [InstanceIdRange(6, 7)]
    assert planned.instances_updated == diff.instances_updated == [InstanceIdRange(1, 1)]
    assert planned.instances_unchanged == diff.instances_unchanged
    assert planned.instances_removed == diff.instances_removed == []
    await counter.jobs.replace_job(ReplaceJobRequest(JobId(JOB), V1, spec))
    await counter.rest()
    expected = dict(enumerate(before)) | where(planned)
    assert dict(enumerate(await hosts_of(counter, JOB))) == expected


async def test_refusals_are_those_of_the_wish(counter, job_message):
    await counter.create(job_message())
    for create, replace, call in (
        (CreateJobRequest(JobId(JOB), job_message()), None, counter.jobs.create_job),
        (CreateJobRequest(JobId("x"), job_message()), None, counter.jobs.create_job),
        (CreateJobRequest(None, job_message(1001)), None, counter.jobs.create_job),
        (CreateJobRequest(None, None), None, counter.jobs.create_job),
        (
            None,
            ReplaceJobRequest(JobId(JOB), EntityVersion("7-1-1"), job_message()),
            counter.jobs.replace_job,
        ),
        (None, ReplaceJobRequest(JobId(NEW), V1, job_message()), counter.jobs.replace_job),
        (None, ReplaceJobRequest(None, V1, job_message()), counter.jobs.replace_job),
    ):
        with pytest.raises(GRPCError) as planning:
            await plan(counter, create, replace)
        with pytest.raises(GRPCError) as doing:
            await call(replace if create is None else create)
        assert (planning.value.status, planning.value.message) == (doing.value.status, doing.value.message)


@pytest.mark.parametrize("limit", ["placements_limit", "hosts_limit"])
async def test_a_limit_that_is_too_large_is_refused(counter, job_message, limit):
    with pytest.raises(GRPCError) as refused:
        await plan(counter, CreateJobRequest(None, job_message()), **{limit: 10_001})
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert limit in refused.value.message


async def test_one_of_the_two_is_asked_about(counter, job_message):
    spec = job_message()
    both = CreateJobRequest(None, spec), ReplaceJobRequest(JobId(JOB), V1, spec)
    for create, replace in ((None, None), both):
        with pytest.raises(GRPCError) as refused:
            await plan(counter, create, replace)
        assert refused.value.status is Status.INVALID_ARGUMENT


async def test_batches_are_played_through_and_a_pause_is_told(counter, job_message):
    request = CreateJobRequest(None, job_message(7), create_spec=CreateSpec(batch_size=2))
    assert (await plan(counter, request)).placed == 7
    request.create_spec.start_paused = True
    paused = await plan(counter, request)
    assert (paused.placed, paused.waiting) == (0, 7)
    assert paused.waits[0].pod.obstacles[0].kind is ObstacleKind.WORKFLOW


async def test_the_same_update_once_more(counter, job_message, pod_message):
    await counter.create(job_message(3))
    counter.agents.silent = True
    spec = job_message(3, default_spec=pod_message("sleep 1"))
    request = ReplaceJobRequest(JobId(JOB), V1, spec, update_spec=UpdateSpec(batch_size=1))
    await counter.jobs.replace_job(request)
    await counter.rest()
    request.version = EntityVersion("2-1-2")
    planned = await plan(counter, replace=request)
    assert (planned.repeats, planned.hosts, planned.waits) == (True, [], [])


async def test_plans_take_turns_and_may_be_given_up(counter, job_message):
    request = CreateJobRequest(None, job_message(900))
    asked = [asyncio.ensure_future(plan(counter, request)) for _ in range(3)]
    await asyncio.sleep(0.01)
    asked[0].cancel()
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError) or done[0].placed
    assert {answer.placed for answer in done[1:]} == {512}


async def test_a_large_answer_is_made_in_the_thread(counter, job_message, monkeypatch):
    request = CreateJobRequest(JobId(NEW), job_message(30))
    small = await plan(counter, request)
    monkeypatch.setattr(job_plans, "BYTES_PER_POD", 10_000)
    assert await plan(counter, request) == small
