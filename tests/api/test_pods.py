"""PodService as clients see it: a pod, its earlier runs, and its events."""

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.model.states import TaskState
from derny.proto.mesos.v1 import CommandInfo
from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import StopJobRequest
from derny.proto.peloton.api.v1alpha.peloton import (
    EntityVersion,
    JobId,
    Label,
    PodId,
    PodName,
    ResourcePoolId,
)
from derny.proto.peloton.api.v1alpha.pod import (
    ContainerSpec,
    ContainerState,
    HealthState,
    PodSpec,
    PodState,
    PortSpec,
    ResourceSpec,
    TerminationStatus,
)
from derny.proto.peloton.api.v1alpha.pod import TerminationStatusReason as Reason
from derny.proto.peloton.api.v1alpha.pod.svc import (
    BrowsePodSandboxRequest,
    DeletePodEventsRequest,
    GetPodCacheRequest,
    GetPodEventsRequest,
    GetPodRequest,
    RefreshPodRequest,
    RefreshPodResponse,
    RestartPodRequest,
    StartPodRequest,
    StopPodRequest,
)
from derny.proto.peloton.api.v1alpha.respool import CreateResourcePoolRequest, ResourcePoolSpec
from derny.proto.peloton.api.v1alpha.respool import ResourceSpec as PoolResource

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"
POD = PodName(f"{JOB}-0")


async def get(counter, **fields):
    return await counter.pods.get_pod(GetPodRequest(POD, **fields))


async def test_a_running_pod_tells_all_that_is_known(counter, job_message, pod_message):
    pod = pod_message(image="busybox", ports=[PortSpec("http", 0, "HTTP"), PortSpec("admin", 8080)])
    await counter.create(job_message(default_spec=pod, sla=SlaSpec(revocable=True, preemptible=True)))
    await counter.after(10)
    status = (await get(counter)).current.status
    assert (status.state, status.desired_state) == (PodState.RUNNING, PodState.RUNNING)
    assert (status.pod_id.value, status.desired_pod_id.value) == (f"{JOB}-0-1", f"{JOB}-0-1")
    assert status.prev_pod_id is None
    assert (status.version.value, status.desired_version.value) == ("1-0-0", "1-0-0")
    number = status.host.removeprefix("host-")
    assert (status.agent_id.value, status.host_id) == (f"agent-{number}", f"agent-{number}")
    assert status.start_time == "2001-09-09T01:46:40.000000Z"
    assert status.completion_time == ""
    assert status.resource_usage == {"cpu": 5.0, "gpu": 0.0, "memory": 320.0}
    assert status.revision.version > 1
    assert status.init_containers_status == []
    (container,) = status.containers_status
    assert (container.name, container.image, container.state) == ("main", "busybox", ContainerState.RUNNING)
    assert container.ports == {"http": 31000, "admin": 8080}
    assert container.healthy.state == HealthState.DISABLED
    assert (container.start_time, container.completion_time) == (status.start_time, "")
    assert container.termination_status is None


async def test_a_failed_run_tells_how_it_ended_and_what_it_used(counter, job_message):
    await counter.create(job_message())
    await counter.after(4)
    await counter.report(
        f"{JOB}-0-1", TaskState.FAILED, "exited with status 3", reason="REASON_X", exit_code=3
    )
    await counter.after(1)
    status = (await get(counter)).current.status
    assert (status.state, status.failure_count) == (PodState.FAILED, 1)
    assert status.completion_time == "2001-09-09T01:46:44.000000Z"
    assert status.resource_usage == {"cpu": 2.0, "gpu": 0.0, "memory": 128.0}
    assert status.reason == "REASON_X"
    (container,) = status.containers_status
    assert (container.state, container.failure_count) == (ContainerState.FAILED, 1)
    assert container.completion_time == status.completion_time
    assert container.termination_status == TerminationStatus(Reason.TERMINATION_STATUS_REASON_FAILED, 3)


async def test_a_pod_that_was_killed_tells_why(counter, job_message):
    await counter.create(job_message())
    await counter.jobs.stop_job(StopJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    await counter.after(1)
    status = (await get(counter)).current.status
    assert (status.state, status.desired_state) == (PodState.KILLED, PodState.KILLED)
    assert status.containers_status[0].termination_status == TerminationStatus(
        Reason.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    )


async def test_a_pending_pod_tells_what_it_waits_for(counter, job_message, pod_message):
    large = pod_message(resource=ResourceSpec(cpu_limit=257))
    await counter.create(job_message(default_spec=large))
    status = (await get(counter)).current.status
    assert status.state == PodState.PENDING
    assert "cpu" in status.message
    assert "257 needed" in status.message
    assert (status.host, status.agent_id, status.start_time) == ("", None, "")
    assert status.resource_usage == {"cpu": 0.0, "gpu": 0.0, "memory": 0.0}
    assert status.containers_status[0].state == ContainerState.PENDING


async def test_the_spec_is_the_instance_s_own(counter, job_message, pod_message):
    own = PodSpec(labels=[Label("k", "v")], containers=[ContainerSpec(resource=ResourceSpec(cpu_limit=2))])
    await counter.create(job_message(count=2, instance_spec={1: own}))
    plain = (await get(counter)).current.spec
    assert (plain.pod_name, plain.labels) == (POD, [])
    assert plain.containers[0].resource.cpu_limit == 0.5
    name = PodName(f"{JOB}-1")
    spec = (await counter.pods.get_pod(GetPodRequest(name))).current.spec
    assert (spec.pod_name, spec.labels) == (name, [Label("k", "v")])
    assert (spec.containers[0].name, spec.containers[0].resource) == ("main", ResourceSpec(cpu_limit=2))
    assert spec.containers[0].command.value == "sleep 1000"


async def test_with_status_only_no_spec_is_told(counter, job_message):
    await counter.create(job_message())
    answer = await get(counter, status_only=True)
    assert answer.current.spec is None
    assert answer.current.status.state == PodState.RUNNING


async def fail_often(counter, times):
    for run in range(1, times + 1):
        await counter.report(f"{JOB}-0-{run}", TaskState.FAILED, f"end of run {run}")
        await counter.after(4000)


@pytest.mark.parametrize(
    ("limit", "expected"), [(0, [3, 2, 1]), (1, []), (2, [3]), (3, [3, 2]), (9, [3, 2, 1])]
)
async def test_previous_runs_are_told_newest_first_and_never_the_current(
    counter, job_message, limit, expected
):
    await counter.create(job_message())
    await fail_often(counter, 3)
    answer = await get(counter, limit=limit)
    assert answer.current.status.pod_id.value == f"{JOB}-0-4"
    assert answer.current.status.prev_pod_id.value == f"{JOB}-0-3"
    assert [info.status.pod_id.value for info in answer.previous] == [f"{JOB}-0-{run}" for run in expected]
    for run, info in zip(expected, answer.previous, strict=True):
        status = info.status
        assert (status.state, status.desired_state) == (PodState.FAILED, PodState.RUNNING)
        assert status.host.startswith("host-")
        assert status.agent_id.value == status.host_id
        assert status.version.value == "1-0-0"
        assert (status.prev_pod_id.value if status.prev_pod_id else None) == (
            f"{JOB}-0-{run - 1}" if run > 1 else None
        )
        assert info.spec.containers[0].command == CommandInfo(value="sleep 1000")
        (container,) = status.containers_status
        assert (container.name, container.state) == ("main", ContainerState.FAILED)
        assert status.start_time == container.start_time > ""
        assert status.completion_time == container.completion_time >= status.start_time


async def test_why_an_earlier_run_was_ended_is_told_and_no_exit_code_that_is_not_kept(counter, job_message):
    await counter.create(job_message())
    await counter.pods.restart_pod(RestartPodRequest(POD))
    await counter.after(5)
    await counter.report(f"{JOB}-0-2", TaskState.FAILED, "Command exited with status 3", exit_code=3)
    await counter.after(4000)
    failed, restarted = (await get(counter)).previous
    (container,) = restarted.status.containers_status
    assert container.state == ContainerState.KILLED
    assert container.termination_status.reason == Reason.TERMINATION_STATUS_REASON_KILLED_FOR_RESTART
    (container,) = failed.status.containers_status
    assert (container.state, container.termination_status) == (ContainerState.FAILED, None)


async def test_events_tell_every_write_of_the_current_run_newest_first(counter, job_message):
    await counter.create(job_message())
    answer = await counter.pods.get_pod_events(GetPodEventsRequest(POD))
    states = [event.actual_state.removeprefix("POD_STATE_") for event in answer.events]
    assert states == ["RUNNING", "LAUNCHED", "READY", "PENDING", "INITIALIZED"]
    newest = answer.events[0]
    assert newest.pod_id.value == newest.desired_pod_id.value == f"{JOB}-0-1"
    assert newest.prev_pod_id.value == f"{JOB}-0-0"
    assert newest.desired_state == "POD_STATE_RUNNING"
    assert newest.timestamp == "2001-09-09T01:46:40Z"
    assert (newest.version.value, newest.desired_version.value) == ("1-0-0", "1-0-0")
    assert newest.hostname.startswith("host-")
    assert newest.agent_id.startswith("agent-")
    assert newest.healthy == "HEALTH_STATE_DISABLED"
    assert (answer.events[-1].hostname, answer.events[-1].agent_id) == ("", "")


async def test_events_of_an_earlier_run_are_told_on_request(counter, job_message):
    await counter.create(job_message())
    await fail_often(counter, 1)
    run_1 = await counter.pods.get_pod_events(GetPodEventsRequest(POD, PodId(f"{JOB}-0-1")))
    assert {event.pod_id.value for event in run_1.events} == {f"{JOB}-0-1"}
    assert "POD_STATE_FAILED" in [event.actual_state for event in run_1.events]
    current = await counter.pods.get_pod_events(GetPodEventsRequest(POD))
    assert {event.pod_id.value for event in current.events} == {f"{JOB}-0-2"}
    assert {event.prev_pod_id.value for event in current.events} == {f"{JOB}-0-1"}


@pytest.mark.parametrize(
    "name", [None, PodName(), PodName("Test_1234"), PodName(f"{JOB}-1x"), PodName(f"{JOB}-")]
)
async def test_what_is_no_pod_name_is_invalid(counter, name):
    for call, request in (
        (counter.pods.get_pod, GetPodRequest(name)),
        (counter.pods.get_pod_events, GetPodEventsRequest(name)),
    ):
        with pytest.raises(GRPCError) as refused:
            await call(request)
        assert refused.value.status is Status.INVALID_ARGUMENT
        assert "pod_name" in refused.value.message


@pytest.mark.parametrize("name", [f"{JOB}-1", f"{OTHER}-0"])
async def test_a_pod_that_is_not_there_is_not_found(counter, job_message, name):
    await counter.create(job_message())
    for call, request in (
        (counter.pods.get_pod, GetPodRequest(PodName(name))),
        (counter.pods.get_pod_events, GetPodEventsRequest(PodName(name))),
    ):
        with pytest.raises(GRPCError) as refused:
            await call(request)
        assert refused.value.status is Status.NOT_FOUND


@pytest.mark.parametrize(
    ("pod_id", "status"),
    [
        ("nonsense", Status.INVALID_ARGUMENT),
        (f"{JOB}-0-abc", Status.INVALID_ARGUMENT),
        (f"{JOB}-1-1", Status.INVALID_ARGUMENT),
        (f"{JOB}-0-2", Status.NOT_FOUND),
    ],
)
async def test_events_of_what_is_no_run_of_the_pod_are_refused(counter, job_message, pod_id, status):
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await counter.pods.get_pod_events(GetPodEventsRequest(POD, PodId(pod_id)))
    assert refused.value.status is status


async def test_runs_far_back_are_told_without_a_spec_that_would_not_fit(counter, job_message, pod_message):
    """Each run repeats the spec; together they must stay below what clients accept."""
    pod = pod_message()
    pod.labels = [Label("k", "v" * 500_000)]
    await counter.create(job_message(default_spec=pod))
    await fail_often(counter, 10)
    answer = await get(counter)
    infos = [answer.current, *answer.previous]
    assert len(infos) == 11
    assert [info.spec is not None for info in infos] == [True] * 4 + [False] * 7
    assert all(info.status is not None for info in infos)


async def test_a_pod_is_stopped_started_and_restarted_by_name(counter, job_message):
    await counter.create(job_message(count=2))
    await counter.pods.stop_pod(StopPodRequest(POD))
    await counter.after(1)
    status = (await get(counter)).current.status
    assert (status.state, status.desired_state) == (PodState.KILLED, PodState.KILLED)
    await counter.pods.start_pod(StartPodRequest(POD))
    await counter.after(1)
    status = (await get(counter)).current.status
    assert (status.state, status.pod_id, status.prev_pod_id) == (
        PodState.RUNNING,
        PodId(f"{JOB}-0-2"),
        PodId(f"{JOB}-0-1"),
    )
    counter.agents.silent = True
    await counter.pods.restart_pod(RestartPodRequest(POD))
    await counter.after(1)
    status = (await get(counter)).current.status
    assert (status.state, status.pod_id, status.desired_pod_id) == (
        PodState.KILLING,
        PodId(f"{JOB}-0-2"),
        PodId(f"{JOB}-0-3"),
    )


async def test_a_restart_that_the_sla_can_t_bear_is_aborted(counter, job_message):
    sla = SlaSpec(preemptible=True, maximum_unavailable_instances=1)
    await counter.create(job_message(count=2, sla=sla))
    counter.agents.silent = True
    await counter.pods.restart_pod(RestartPodRequest(POD, check_sla=True))
    other = PodName(f"{JOB}-1")
    with pytest.raises(GRPCError, match="within the SLA") as refused:
        await counter.pods.restart_pod(RestartPodRequest(other, check_sla=True))
    assert refused.value.status is Status.ABORTED


@pytest.mark.parametrize("name", ["", "Test-1234", f"{JOB}-1234test"])
async def test_what_is_no_pod_name_starts_nothing(counter, name):
    for call, request in (
        (counter.pods.start_pod, StartPodRequest(PodName(name))),
        (counter.pods.stop_pod, StopPodRequest(PodName(name))),
        (counter.pods.restart_pod, RestartPodRequest(PodName(name))),
    ):
        with pytest.raises(GRPCError, match="is not a pod name") as refused:
            await call(request)
        assert refused.value.status is Status.INVALID_ARGUMENT


# Looking deeper, and tidying up.


async def test_the_sandbox_of_a_run_is_told(counter, job_message):
    await counter.create(job_message())
    host = (await get(counter)).current.status.host
    latest = await counter.pods.browse_pod_sandbox(BrowsePodSandboxRequest(POD))
    assert latest.hostname == f"10.0.0.{host.removeprefix('host-')}"
    assert [path.rpartition("/")[2] for path in latest.paths] == ["stdout", "stderr"]
    assert all(f"/{JOB}-0-1/" in path for path in latest.paths)
    assert await counter.pods.browse_pod_sandbox(BrowsePodSandboxRequest(POD, PodId(f"{JOB}-0-1"))) == latest


@pytest.mark.parametrize(
    "message, status",
    [
        (BrowsePodSandboxRequest(POD), Status.ABORTED),
        (BrowsePodSandboxRequest(POD, PodId(f"{JOB}-0-1")), Status.ABORTED),
        (BrowsePodSandboxRequest(POD, PodId(f"{JOB}-0-2")), Status.NOT_FOUND),
        (BrowsePodSandboxRequest(PodName(f"{JOB}-1")), Status.NOT_FOUND),
        (BrowsePodSandboxRequest(PodName(f"{OTHER}-0")), Status.NOT_FOUND),
        (BrowsePodSandboxRequest(POD, PodId(f"{OTHER}-0-1")), Status.INVALID_ARGUMENT),
        (BrowsePodSandboxRequest(PodName("nonsense")), Status.INVALID_ARGUMENT),
        (BrowsePodSandboxRequest(), Status.INVALID_ARGUMENT),
    ],
)
async def test_a_sandbox_that_is_not_there(counter, job_message, message, status):
    counter.agents.silent = True
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await counter.pods.browse_pod_sandbox(message)
    assert refused.value.status is status


async def test_the_cache_of_a_pod_is_its_status_and_its_labels(counter, job_message, pod_message):
    pod = pod_message()
    pod.labels = [Label("k", "v"), Label("a", "b")]
    await counter.create(job_message(default_spec=pod))
    cached = await counter.pods.get_pod_cache(GetPodCacheRequest(POD))
    assert cached.status == (await get(counter)).current.status
    assert cached.labels == [Label("a", "b"), Label("k", "v")]


async def test_a_lost_launch_is_repeated_by_a_refresh(counter, job_message):
    counter.agents.silent = True
    await counter.create(job_message())
    counter.agents.silent = False
    assert (await get(counter)).current.status.state is PodState.LAUNCHED
    assert await counter.pods.refresh_pod(RefreshPodRequest(POD)) == RefreshPodResponse()
    await counter.rest()
    assert (await get(counter)).current.status.state is PodState.RUNNING


@pytest.mark.parametrize(
    "method, kind", [("refresh_pod", RefreshPodRequest), ("get_pod_cache", GetPodCacheRequest)]
)
async def test_no_such_pod_has_a_cache_or_can_be_refreshed(counter, job_message, method, kind):
    await counter.create(job_message())
    for name, status in (
        (f"{JOB}-1", Status.NOT_FOUND),
        (f"{OTHER}-0", Status.NOT_FOUND),
        (JOB, Status.INVALID_ARGUMENT),
    ):
        with pytest.raises(GRPCError) as refused:
            await getattr(counter.pods, method)(kind(PodName(name)))
        assert refused.value.status is status


async def test_events_of_one_run_are_deleted_and_the_pod_goes_on(counter, job_message):
    await counter.create(job_message())
    await counter.report(f"{JOB}-0-1", TaskState.FAILED, exit_code=1)
    await counter.after(40)
    await counter.pods.delete_pod_events(DeletePodEventsRequest(POD, PodId(f"{JOB}-0-1")))
    events = GetPodEventsRequest(POD, PodId(f"{JOB}-0-1"))
    assert (await counter.pods.get_pod_events(events)).events == []
    assert (await get(counter)).previous == []
    assert (await counter.pods.get_pod_events(GetPodEventsRequest(POD))).events != []
    await counter.pods.delete_pod_events(DeletePodEventsRequest(POD, PodId(f"{JOB}-0-2")))
    assert (await counter.pods.get_pod_events(GetPodEventsRequest(POD))).events == []
    assert (await get(counter)).current.status.state is PodState.RUNNING


@pytest.mark.parametrize(
    "message, status",
    [
        (DeletePodEventsRequest(POD), Status.INVALID_ARGUMENT),
        (DeletePodEventsRequest(POD, PodId(f"{JOB}-0-2")), Status.NOT_FOUND),
        (DeletePodEventsRequest(PodName(f"{JOB}-1"), PodId(f"{JOB}-1-1")), Status.NOT_FOUND),
        (DeletePodEventsRequest(POD, PodId(f"{JOB}-1-1")), Status.INVALID_ARGUMENT),
        (DeletePodEventsRequest(POD, PodId("nonsense")), Status.INVALID_ARGUMENT),
    ],
)
async def test_events_that_can_not_be_deleted(counter, job_message, message, status):
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await counter.pods.delete_pod_events(message)
    assert refused.value.status is status


async def pools_without_reservations(counter, *names: str) -> list[ResourcePoolId]:
    made = []
    for name in names:
        resources = [
            PoolResource(kind, 0, amount, 1)
            for kind, amount in (("cpu", 256.0), ("memory", 1e5), ("disk", 1e6))
        ]
        spec = ResourcePoolSpec(name=name, parent=ResourcePoolId("root"), resources=resources)
        created = await counter.pools.create_resource_pool(CreateResourcePoolRequest(None, spec))
        made.append(created.respool_id)
    return made


async def test_a_pod_that_is_preempted_says_so_from_the_notice_to_the_next_run(
    counter, job_message, pod_message
):
    """And whoever waits says for what, and behind whom."""
    mine, other = await pools_without_reservations(counter, "mine", "other")
    pod = pod_message(resource=ResourceSpec(cpu_limit=32, mem_limit_mb=32, disk_limit_mb=10))
    for job, pool in ((JOB, mine), (OTHER, other)):
        message = job_message(count=8, default_spec=pod)
        message.respool_id = pool
        await counter.create(message, job)
        await counter.after(1)
    waiting = [
        (await counter.pods.get_pod(GetPodRequest(PodName(f"{OTHER}-{n}")))).current.status for n in range(2)
    ]
    assert [status.state for status in waiting] == [PodState.PENDING] * 2
    assert waiting[0].message == "/ has 0 of 256 cpu left, 32 needed (limit)"
    assert waiting[1].message == f"waits behind {OTHER}-0 in /other; {waiting[0].message}"

    last = PodName(f"{JOB}-7")
    for _ in range(3):
        await counter.after(10)
    status = (await counter.pods.get_pod(GetPodRequest(last))).current.status
    assert (status.state, status.reason) == (PodState.PREEMPTING, "REASON_PREEMPTION")
    assert status.message == "To be evicted: /mine holds more than its entitlement"
    await counter.after(10)
    answer = await counter.pods.get_pod(GetPodRequest(last))
    assert (answer.current.status.state, answer.current.status.pod_id.value) == (
        PodState.PENDING,
        f"{JOB}-7-2",
    )
    assert answer.current.status.containers_status[0].failure_count == 0
    events = (await counter.pods.get_pod_events(GetPodEventsRequest(last, PodId(f"{JOB}-7-1")))).events
    assert [event.actual_state for event in events][:4] == [
        f"POD_STATE_{name}" for name in ("KILLED", "KILLING", "PREEMPTING", "PREEMPTING")
    ]
    assert {event.message for event in events[1:3]} == {"Pod evicted: /mine holds more than its entitlement"}
    first = (await counter.pods.get_pod(GetPodRequest(PodName(f"{OTHER}-0")))).current.status
    assert first.state == PodState.RUNNING
