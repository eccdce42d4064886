"""ExplainPod and ExplainJob as clients see them."""

import asyncio

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.api import pod_insight
from derny.core.commands import HostSeen, SeeHosts
from derny.model.ids import HostName
from derny.model.resources import Resources
from derny.proto.derny.insight.v1 import (
    ExplainJobRequest,
    ExplainPodRequest,
    ObstacleKind,
    RemedyAction,
)
from derny.proto.peloton.api.v1alpha.job.stateless.svc import ListPodsRequest, QueryPodsRequest
from derny.proto.peloton.api.v1alpha.peloton import JobId, Label, PodName
from derny.proto.peloton.api.v1alpha.pod import (
    Constraint,
    ConstraintType,
    InstanceIdRange,
    LabelConstraint,
    LabelConstraintCondition,
    LabelConstraintKind,
    PodState,
    ResourceSpec,
)
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
LARGE = {"resource": ResourceSpec(cpu_limit=100, mem_limit_mb=32)}


async def explain(counter, name=f"{JOB}-0", limit=0):
    return await counter.insight.explain_pod(ExplainPodRequest(PodName(name), limit))


async def of_job(counter, job=JOB, limit=0):
    return [part async for part in counter.insight.explain_job(ExplainJobRequest(JobId(job), limit))]


async def status_of(counter, name=f"{JOB}-0"):
    return (await counter.pods.get_pod(GetPodRequest(PodName(name)))).current.status


async def test_a_pod_that_runs_says_so_and_where(counter, job_message):
    await counter.create(job_message())
    found, status = await explain(counter), await status_of(counter)
    assert (found.pod_name.value, found.pod_id) == (f"{JOB}-0", status.pod_id)
    assert (found.state, found.desired_state) == (PodState.RUNNING, PodState.RUNNING)
    assert (found.host, found.message, found.obstacles) == (status.host, status.message, [])
    assert found.since == status.start_time
    assert await of_job(counter) == []


@pytest.mark.parametrize(
    ("name", "limit", "status"),
    [
        ("nobody", 0, Status.INVALID_ARGUMENT),
        ("", 0, Status.INVALID_ARGUMENT),
        (f"{JOB}-0", 10_001, Status.INVALID_ARGUMENT),
        (f"{JOB}-1", 0, Status.NOT_FOUND),
        (f"bbbbbbbb{JOB[8:]}-0", 0, Status.NOT_FOUND),
    ],
)
async def test_what_can_not_be_explained_is_said(counter, job_message, name, limit, status):
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await explain(counter, name, limit)
    assert refused.value.status is status


async def test_a_job_that_is_not_there_is_not_found(counter):
    for job, limit, status in ((JOB, 0, Status.NOT_FOUND), (JOB, 10_001, Status.INVALID_ARGUMENT)):
        with pytest.raises(GRPCError) as refused:
            await of_job(counter, job, limit)
        assert refused.value.status is status


async def test_pool_and_hosts_are_told_at_once(counter, job_message, pod_message):
    await counter.create(
        job_message(default_spec=pod_message(resource=ResourceSpec(cpu_limit=300, mem_limit_mb=32)))
    )
    found = await explain(counter, limit=2)
    kinds = [obstacle.kind for obstacle in found.obstacles]
    assert kinds == [ObstacleKind.POOL_RULE] * 3 + [ObstacleKind.NO_HOST]
    rules = [obstacle.pool_rule for obstacle in found.obstacles[:3]]
    assert [(rule.path.value, rule.rule) for rule in rules] == [
        ("/default", "entitlement"),
        ("/default", "limit"),
        ("/", "limit"),
    ]
    assert {(rule.resource, rule.need, rule.left, rule.most) for rule in rules} == {("cpu", 300, 256, 256)}
    hosts = found.obstacles[3]
    (reason,) = hosts.host_reasons
    assert (reason.reason, reason.hosts, reason.hostnames) == (
        "INSUFFICIENT_RESOURCES",
        4,
        ["host-0", "host-1"],
    )
    assert (reason.resource, reason.shortfall) == ("cpu", 236)
    (remedy,) = hosts.remedies
    assert (remedy.action, remedy.resource, remedy.amount, remedy.hosts) == (
        RemedyAction.ASK_LESS,
        "cpu",
        64,
        4,
    )
    assert found.message == (await status_of(counter)).message
    assert all(obstacle.sentence in found.message for obstacle in found.obstacles[:3])


async def test_every_list_says_what_a_pending_pod_waits_for(counter, job_message, pod_message):
    await counter.create(job_message(30, default_spec=pod_message(resource=ResourceSpec(cpu_limit=300))))
    listed = [
        pod.status.message
        async for page in counter.jobs.list_pods(ListPodsRequest(JobId(JOB)))
        for pod in page.pods
    ]
    queried = await counter.jobs.query_pods(QueryPodsRequest(JobId(JOB)))
    assert [pod.status.message for pod in queried.pods] == listed[:10]
    for instance in (0, 1, 29):
        assert listed[instance] == (await explain(counter, f"{JOB}-{instance}")).message
    assert listed[1].startswith(f"waits behind {JOB}-0 in /default")
    assert len(set(listed)) == 2


async def test_alike_pods_of_a_job_are_told_together(counter, job_message, pod_message):
    rack = Label("rack", "r9")
    constraint = Constraint(
        ConstraintType.CONSTRAINT_TYPE_LABEL,
        LabelConstraint(
            LabelConstraintKind.LABEL_CONSTRAINT_KIND_HOST,
            LabelConstraintCondition.LABEL_CONSTRAINT_CONDITION_EQUAL,
            rack,
            1,
        ),
    )
    odd = pod_message()
    odd.constraint = constraint
    await counter.create(job_message(900, instance_spec={7: odd}))
    found = await of_job(counter, limit=1)
    by_state = {(part.pod.state, part.count): part for part in found}
    placing = by_state[PodState.PLACING, 1]
    assert placing.instances == [InstanceIdRange(7, 7)]
    (obstacle,) = placing.pod.obstacles
    reason = obstacle.host_reasons[-1]
    assert (reason.clause, reason.hosts, len(reason.hostnames)) == ("host label rack=r9 = 1", 4, 1)
    assert RemedyAction.LEAVE_OUT in [remedy.action for remedy in obstacle.remedies]
    pending = [part for part in found if part.pod.state is PodState.PENDING]
    assert sum(part.count for part in pending) == 900 - 512
    assert len(pending) == 2, "the first in line, and those behind it"


async def test_many_hosts_are_looked_at_in_the_thread_and_the_answer_is_the_same(
    counter, job_message, pod_message, monkeypatch
):
    await counter.create(job_message(default_spec=pod_message(**LARGE)))
    inline = await explain(counter)
    monkeypatch.setattr(pod_insight, "BYTES_PER_HOST", 1_000_000)
    assert await explain(counter) == inline


async def test_explaining_goes_on_while_the_fleet_changes(counter, job_message, pod_message, monkeypatch):
    monkeypatch.setattr(pod_insight, "BYTES_PER_HOST", 1_000_000)
    await counter.create(job_message(default_spec=pod_message(**LARGE)))
    asked = [asyncio.ensure_future(explain(counter)) for _ in range(5)]
    await counter.loop.submit(
        SeeHosts(
            [HostSeen(HostName(f"new-{n}"), f"new-{n}", "10.0.1.1", Resources(cpu=1000)) for n in range(50)]
        )
    )
    for found in await asyncio.gather(*asked):
        assert found.obstacles[-1].host_reasons[0].hosts in (4, 54)


async def test_nothing_is_changed_by_it(counter, job_message, pod_message):
    await counter.create(job_message(3, default_spec=pod_message(**LARGE)))
    revision, cursor = counter.loop.revision, counter.machine.state.cursor
    await explain(counter)
    await of_job(counter)
    await counter.rest()
    assert (counter.loop.revision, counter.machine.state.cursor) == (revision, cursor)
