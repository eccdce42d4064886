"""Pods of several containers and health checks as clients see them, over simulated agents on virtual time.

(Behaviour, jobs §7.3 to 7.7 and §14.)
"""

import pytest

from derny.model.resources import Resources
from derny.proto.mesos.v1 import CommandInfo
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    GetJobRequest,
    ListPodsRequest,
    StartJobRequest,
    StopJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import EntityVersion, JobId, PodId, PodName
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    ContainerState,
    Environment,
    HealthCheckSpec,
    HealthState,
    HttpGetSpec,
    PodSpec,
    PodState,
    PortSpec,
    ResourceSpec,
    TerminationStatus,
)
from derny.proto.peloton.api.v1alpha.pod import HealthCheckSpecCommandCheck as CommandCheck
from derny.proto.peloton.api.v1alpha.pod import HealthCheckSpecHealthCheckType as Kind
from derny.proto.peloton.api.v1alpha.pod import TerminationStatusReason as Reason
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodEventsRequest, GetPodRequest, RestartPodRequest

pytestmark = pytest.mark.asyncio

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
HEALTH = "REASON_TASK_HEALTH_CHECK_STATUS_UPDATED"
C = ContainerState


def a_check(line: str, **fields) -> HealthCheckSpec:
    """With the contract's defaults: first after 15 s, then every 10 s, three failures."""
    return HealthCheckSpec(enabled=True, type=Kind.COMMAND, command_check=CommandCheck(line), **fields)


def a_container(name: str, run: str, cpu: float = 1, **fields) -> ContainerSpec:
    return ContainerSpec(
        name=name, command=CommandInfo(value=run), image=f"{name}:1", resource=ResourceSpec(cpu, 10), **fields
    )


async def status(cluster, instance: int = 0):
    request = GetPodRequest(PodName(f"{JOB}-{instance}"), status_only=True)
    return (await cluster.pods.get_pod(request)).current.status


async def events(cluster, run: int = 1, instance: int = 0):
    """Of a run, oldest first."""
    name = f"{JOB}-{instance}"
    response = await cluster.pods.get_pod_events(GetPodEventsRequest(PodName(name), PodId(f"{name}-{run}")))
    return response.events[::-1]


async def version(cluster) -> EntityVersion:
    found = await cluster.jobs.get_job(GetJobRequest(JobId(JOB), summary_only=True))
    return found.summary.status.version


async def test_a_health_check_that_passes_tells_of_health_once(cluster, job_message, pod_message):
    await cluster.create(
        job_message(3, default_spec=pod_message("sleep 100000", liveness_check=a_check("ls")))
    )
    await cluster.live(14)
    assert (await status(cluster)).containers_status[0].healthy.state == HealthState.UNKNOWN
    await cluster.live(3600)
    for instance in range(3):
        found = await status(cluster, instance)
        assert found.state == PodState.RUNNING
        assert found.containers_status[0].healthy.state == HealthState.HEALTHY
        told = [event.healthy for event in await events(cluster, instance=instance)]
        assert told.count("HEALTH_STATE_HEALTHY") == 1
        assert set(told) == {"HEALTH_STATE_UNKNOWN", "HEALTH_STATE_HEALTHY"}


async def test_a_health_check_that_fails_is_told_each_time_and_fails_the_pod(
    cluster, job_message, pod_message
):
    check = a_check("ls /no/such/path")
    await cluster.create(job_message(3, default_spec=pod_message("sleep 100000", liveness_check=check)))
    await cluster.live(36)
    told = [(event.actual_state, event.healthy, event.reason) for event in await events(cluster)]
    unwell = ("POD_STATE_RUNNING", "HEALTH_STATE_UNHEALTHY", HEALTH)
    assert told[-5:] == [
        *[unwell] * 3,
        ("POD_STATE_FAILED", "HEALTH_STATE_INVALID", HEALTH),
        ("POD_STATE_FAILED", "HEALTH_STATE_INVALID", HEALTH),  # says that it waits
    ]
    found = await status(cluster)
    assert (found.state, found.failure_count, found.reason) == (PodState.FAILED, 1, HEALTH)
    assert found.completion_time > found.start_time > ""
    (container,) = found.containers_status
    assert (container.state, container.failure_count) == (C.FAILED, 1)
    assert container.termination_status == TerminationStatus(
        Reason.TERMINATION_STATUS_REASON_FAILED, 0, "Terminated"
    )
    await cluster.live(35)
    found = await status(cluster)
    assert found.pod_id.value == f"{JOB}-0-2"
    assert found.containers_status[0].healthy.state == HealthState.UNKNOWN
    assert found.failure_count == 1


async def test_intervals_and_failures_are_as_given(cluster, job_message, pod_message):
    given = {"initial_interval_secs": 5, "interval_secs": 2, "max_consecutive_failures": 4}
    check = a_check("false", **given)
    await cluster.create(job_message(1, default_spec=pod_message("sleep 100000", liveness_check=check)))
    await cluster.live(11)
    assert (await status(cluster)).state == PodState.RUNNING
    await cluster.live(0.5)
    assert (await status(cluster)).state == PodState.FAILED
    told = [event.healthy for event in await events(cluster)]
    assert told.count("HEALTH_STATE_UNHEALTHY") == 4


@pytest.mark.parametrize("kind", [Kind.HTTP, Kind.GRPC])
async def test_a_container_can_say_how_requests_of_its_checks_are_answered(cluster, job_message, kind):
    asked = HttpGetSpec(port=80, path="/health") if kind == Kind.HTTP else None
    check = HealthCheckSpec(enabled=True, type=kind, http_get=asked)
    unwell = [Environment("DERNY_UNHEALTHY_AFTER_S", "60")]
    container = a_container("a", "server", liveness_check=check)
    container.command, container.entrypoint, container.environment = None, CommandSpec("server"), unwell
    await cluster.create(job_message(1, default_spec=PodSpec(containers=[container])))
    await cluster.live(50)
    assert (await status(cluster)).containers_status[0].healthy.state == HealthState.HEALTHY
    await cluster.live(20)
    found = await status(cluster)
    assert (found.state, found.containers_status[0].healthy.state) == (
        PodState.RUNNING,
        HealthState.UNHEALTHY,
    )
    await cluster.live(20)
    assert (await status(cluster)).state == PodState.FAILED


async def test_our_own_kills_are_no_failures_of_checked_pods(cluster, job_message, pod_message):
    await cluster.create(
        job_message(2, default_spec=pod_message("sleep 100000", liveness_check=a_check("ls")))
    )
    await cluster.live(20)
    await cluster.pods.restart_pod(RestartPodRequest(PodName(f"{JOB}-0")))
    await cluster.live(20)
    await cluster.jobs.stop_job(StopJobRequest(JobId(JOB), await version(cluster)))
    await cluster.live(20)
    for instance in range(2):
        found = await status(cluster, instance)
        assert (found.state, found.failure_count) == (PodState.KILLED, 0)
        assert found.containers_status[0].state == C.KILLED
        assert found.containers_status[0].healthy.state == HealthState.INVALID
    await cluster.jobs.start_job(StartJobRequest(JobId(JOB), await version(cluster)))
    await cluster.live(20)
    assert [(await status(cluster, n)).failure_count for n in range(2)] == [0, 0]


async def test_init_containers_run_in_order_then_the_others_together(cluster, job_message):
    http = PortSpec("http", 0, "HTTP")
    pod = PodSpec(
        init_containers=[a_container("one", "sleep 100", 3), a_container("two", "sleep 50", 0.5)],
        containers=[
            a_container("web", "sleep 100000", 1, ports=[http], liveness_check=a_check("ls")),
            a_container("log", "sleep 1000", 1),
        ],
    )
    await cluster.create(job_message(1, default_spec=pod))

    async def told():
        found = await status(cluster)
        lists = (found.init_containers_status, found.containers_status)
        return found.state, *([each.state for each in containers] for containers in lists)

    await cluster.live(1)
    assert await told() == (PodState.STARTING, [C.RUNNING, C.PENDING], [C.PENDING, C.PENDING])
    await cluster.live(100)
    assert await told() == (PodState.STARTING, [C.SUCCEEDED, C.RUNNING], [C.PENDING, C.PENDING])
    await cluster.live(50)
    assert await told() == (PodState.RUNNING, [C.SUCCEEDED, C.SUCCEEDED], [C.RUNNING, C.RUNNING])
    await cluster.live(100)
    found = await status(cluster)
    web, log = found.containers_status
    one, two = found.init_containers_status
    assert [each.name for each in (one, two, web, log)] == ["one", "two", "web", "log"]
    assert (web.image, web.healthy.state, log.healthy.state) == (
        "web:1",
        HealthState.HEALTHY,
        HealthState.DISABLED,
    )
    assert list(web.ports) == ["http"] and log.ports == {}
    assert one.start_time < one.completion_time == two.start_time < two.completion_time == web.start_time
    assert found.start_time == web.start_time and web.completion_time == ""
    # The demand is that of the first init container, over the time that the pod has run.
    assert found.resource_usage["cpu"] / 3 == pytest.approx(100, abs=1)
    assert cluster.machine.state.jobs[JobId(JOB).value].pods[0].template.demand == Resources(3000, 20_000)

    await cluster.live(1000)
    assert await told() == (PodState.RUNNING, [C.SUCCEEDED, C.SUCCEEDED], [C.RUNNING, C.SUCCEEDED])
    lists = [
        [each.state for each in (*event.init_container_status, *event.container_status)]
        for event in await events(cluster)
    ]
    assert [C.SUCCEEDED, C.RUNNING, C.PENDING, C.PENDING] in lists
    assert lists[-1] == [C.SUCCEEDED, C.SUCCEEDED, C.RUNNING, C.SUCCEEDED]


async def test_a_pod_fails_with_its_init_container(cluster, job_message):
    pod = PodSpec(
        init_containers=[a_container("one", "sleep 2; exit 7")], containers=[a_container("web", "server")]
    )
    await cluster.create(job_message(1, default_spec=pod))
    await cluster.live(5)
    found = await status(cluster)
    assert (found.state, found.failure_count, found.start_time) == (PodState.FAILED, 1, "")
    (one,), (web,) = found.init_containers_status, found.containers_status
    assert (one.state, one.termination_status.exit_code, one.failure_count) == (C.FAILED, 7, 1)
    assert (web.state, web.failure_count, web.termination_status) == (C.PENDING, 0, None)
    await cluster.live(28)
    found = await status(cluster)
    assert (found.pod_id.value, found.init_containers_status[0].failure_count) == (f"{JOB}-0-2", 1)


async def test_one_container_that_fails_stops_the_others_and_all_that_succeed_end_the_pod(
    cluster, job_message
):
    failing = PodSpec(containers=[a_container("a", "sleep 9; exit 3"), a_container("b", "server")])
    ending = PodSpec(containers=[a_container("a", "sleep 5"), a_container("b", "sleep 3")])
    await cluster.create(job_message(2, default_spec=failing, instance_spec={1: ending}))
    await cluster.live(6)
    found = await status(cluster, 1)
    assert found.state == PodState.SUCCEEDED
    assert [each.state for each in found.containers_status] == [C.SUCCEEDED] * 2
    assert (await events(cluster, 1, 1))[-1].actual_state == "POD_STATE_SUCCEEDED"
    await cluster.live(4)
    a, b = (await status(cluster)).containers_status
    assert (a.state, b.state) == (C.FAILED, C.KILLED)
    assert (a.termination_status.exit_code, a.failure_count) == (3, 1)
    assert (b.termination_status.reason, b.failure_count) == (Reason.TERMINATION_STATUS_REASON_FAILED, 0)


async def test_a_pod_of_several_that_is_stopped_stops_all(cluster, job_message):
    pod = PodSpec(containers=[a_container("a", "trap '' TERM; server"), a_container("b", "server")])
    await cluster.create(job_message(1, default_spec=pod))
    await cluster.live(5)
    await cluster.jobs.stop_job(StopJobRequest(JobId(JOB), await version(cluster)))
    await cluster.live(5)
    assert [each.state for each in (await status(cluster)).containers_status] == [C.KILLING] * 2
    await cluster.live(30)
    found = await status(cluster)
    assert [each.state for each in found.containers_status] == [C.KILLED] * 2
    asked = Reason.TERMINATION_STATUS_REASON_KILLED_ON_REQUEST
    assert {each.termination_status.reason for each in found.containers_status} == {asked}


async def test_a_readiness_check_is_kept_and_never_run(cluster, job_message, pod_message):
    ready = a_check("false")
    await cluster.create(job_message(1, default_spec=pod_message("sleep 100000", readiness_check=ready)))
    await cluster.live(100)
    found = await cluster.pods.get_pod(GetPodRequest(PodName(f"{JOB}-0")))
    assert found.current.spec.containers[0].readiness_check == ready
    assert found.current.status.state == PodState.RUNNING
    assert found.current.status.containers_status[0].healthy.state == HealthState.DISABLED


async def test_simulated_commands_see_who_they_are(cluster, job_message, pod_message):
    run = "sleep $PELOTON_INSTANCE_ID; [ $PELOTON_TASK_ID = $PELOTON_JOB_ID-$PELOTON_INSTANCE_ID ] && server"
    await cluster.create(job_message(3, default_spec=pod_message(run)))
    await cluster.live(60)
    listed = [message async for message in cluster.jobs.list_pods(ListPodsRequest(JobId(JOB)))]
    assert [pod.status.state for message in listed for pod in message.pods] == [PodState.RUNNING] * 3
