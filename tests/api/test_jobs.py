"""JobService as clients see it: what CreateJob refuses and takes, what is read back, and the streams."""

import asyncio
import math
import uuid
from itertools import pairwise

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.answers.queries import job_ids
from derny.api.codec import encode
from derny.api.jobs import JobService
from derny.model.periods import Limits
from derny.model.states import TaskState
from derny.proto.mesos.v1 import (
    CommandInfo,
    ContainerInfo,
    ContainerInfoType,
    Environment,
    EnvironmentVariable,
    EnvironmentVariableType,
    ExecutorInfo,
    ExecutorInfoType,
)
from derny.proto.mesos.v1 import Volume as MesosVolume
from derny.proto.peloton.api.v1alpha.job.stateless import CreateSpec, JobSpec, JobState, SlaSpec
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    CreateJobRequest,
    DeleteJobRequest,
    GetJobCacheRequest,
    GetJobIdFromJobNameRequest,
    GetJobRequest,
    ListJobsRequest,
    ListPodsRequest,
    RefreshJobRequest,
    StartJobRequest,
    StopJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import (
    EntityVersion,
    JobId,
    Label,
    OpaqueData,
    PodName,
    ResourcePoolId,
    Revision,
    Secret,
)
from derny.proto.peloton.api.v1alpha.pod import (
    Constraint,
    ContainerSpec,
    HealthCheckSpec,
    InstanceIdRange,
    PersistentVolumeSpec,
    PodSpec,
    PodState,
    PortSpec,
    PortSpecPortType,
    PreemptionPolicy,
    ResourceSpec,
    RestartPolicy,
    VolumeMount,
)
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import (
    PodSpecExecutorSpec,
    PodSpecExecutorSpecExecutorType,
)
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodRequest
from derny.proto.peloton.api.v1alpha.respool import CreateResourcePoolRequest, ResourcePoolSpec
from derny.proto.peloton.api.v1alpha.volume import VolumeSpec

pytestmark = pytest.mark.asyncio

POOL = "11111111-1111-4111-8111-111111111111"
LIMITS = Limits()
JOB = "aaaaaaaa-0000-4000-8000-000000000001"
OTHER = "aaaaaaaa-0000-4000-8000-000000000002"


def spec_with(**fields):
    def change(request):
        for name, value in fields.items():
            setattr(request.spec, name, value)

    return change


def pod_with(**fields):
    def change(request):
        for name, value in fields.items():
            setattr(request.spec.default_spec, name, value)

    return change


def container_with(**fields):
    def change(request):
        for name, value in fields.items():
            setattr(request.spec.default_spec.containers[0], name, value)

    return change


def request_with(**fields):
    def change(request):
        for name, value in fields.items():
            setattr(request, name, value)

    return change


def override(pod, instance=1):
    return spec_with(instance_spec={instance: pod}, instance_count=3)


def together(*changes):
    def change(request):
        for each in changes:
            each(request)

    return change


CUSTOM = PodSpecExecutorSpecExecutorType.CUSTOM
SECRET_VARIABLE = CommandInfo(
    value="run",
    environment=Environment([EnvironmentVariable("A", type=EnvironmentVariableType.SECRET)]),
)
INVALID, UNIMPLEMENTED, NOT_FOUND = Status.INVALID_ARGUMENT, Status.UNIMPLEMENTED, Status.NOT_FOUND

REFUSED = {
    "an id that is no UUID": (request_with(job_id=JobId("job-1")), INVALID, ["job_id", "'job-1'", "UUID"]),
    "no spec": (request_with(spec=None), INVALID, ["spec is unset"]),
    "no name": (spec_with(name=""), INVALID, ["spec.name", "empty"]),
    "a name as long as a novel": (spec_with(name="n" * 256), INVALID, ["spec.name", "256 characters", "255"]),
    "a name that moves the cursor": (spec_with(name="a\n\x1b[2J"), INVALID, ["spec.name", "printable"]),
    "a spec that could not be read back": (
        spec_with(description="d" * 1_500_000),
        Status.RESOURCE_EXHAUSTED,
        ["spec has 1500", "1500000", "limit spec_bytes_max"],
    ),
    "more containers than a pod may have": (
        spec_with(default_spec=PodSpec(containers=[ContainerSpec(name=f"c{n}") for n in range(51)])),
        Status.RESOURCE_EXHAUSTED,
        ["51 containers", "at most 50", "limit containers_per_pod_max"],
    ),
    "more ports than a pod may have": (
        spec_with(
            default_spec=PodSpec(
                containers=[
                    ContainerSpec(name=name, ports=[PortSpec(f"{name}{n}", n + first) for n in range(60)])
                    for name, first in (("a", 1), ("b", 1001))
                ]
            )
        ),
        Status.RESOURCE_EXHAUSTED,
        ["120 ports", "at most 100", "limit ports_per_pod_max"],
    ),
    "revocable by the pod's own word alone": (
        together(spec_with(sla=None), pod_with(revocable=True)),
        INVALID,
        ["spec.default_spec.revocable", "spec.sla"],
    ),
    "an unknown pool and what is not supported": (
        together(spec_with(respool_id=ResourcePoolId(OTHER)), pod_with(volume=PersistentVolumeSpec())),
        NOT_FOUND,
        ["pool", OTHER],
    ),
    "the root and what is wrong besides": (
        together(spec_with(respool_id=ResourcePoolId("root")), spec_with(sla=SlaSpec(revocable=True))),
        INVALID,
        ["spec.respool_id", "root"],
    ),
    "no pool": (spec_with(respool_id=None), INVALID, ["spec.respool_id", "unset"]),
    "an empty pool": (spec_with(respool_id=ResourcePoolId()), INVALID, ["spec.respool_id", "unset"]),
    "the root": (spec_with(respool_id=ResourcePoolId("root")), INVALID, ["spec.respool_id", "root", "leaf"]),
    "an unknown pool": (spec_with(respool_id=ResourcePoolId(OTHER)), NOT_FOUND, ["pool", OTHER]),
    "a constraint that says nothing": (
        pod_with(constraint=Constraint()),
        INVALID,
        ["spec.default_spec.constraint.type is CONSTRAINT_TYPE_INVALID"],
    ),
    "a malformed constraint in an override": (
        override(PodSpec(constraint=Constraint())),
        INVALID,
        ["spec.instance_spec[1].constraint.type"],
    ),
    "a persistent volume of no size": (
        pod_with(volume=PersistentVolumeSpec("/data")),
        INVALID,
        ["default_spec.volume.size_mb is 0"],
    ),
    "a volume of no type": (
        pod_with(volumes=[VolumeSpec(name="v")]),
        INVALID,
        ["default_spec.volumes[0].type"],
    ),
    "a host port": (pod_with(host_ports=[PortSpec(name="p")]), UNIMPLEMENTED, ["default_spec.host_ports"]),
    "a mount of nothing": (
        container_with(volume_mounts=[VolumeMount(name="v", mount_path="/v")]),
        INVALID,
        ["containers[0].volume_mounts[0].name 'v'"],
    ),
    "a Mesos volume": (
        container_with(container=ContainerInfo(type=ContainerInfoType.MESOS, volumes=[MesosVolume("x")])),
        INVALID,
        ["containers[0].container.volumes[0].container_path is 'x'"],
    ),
    "a variable that is a secret": (
        container_with(command=SECRET_VARIABLE),
        UNIMPLEMENTED,
        ["containers[0].command.environment", "variables that are secrets"],
    ),
    "a templated port": (
        container_with(ports=[PortSpec(name="p", type=PortSpecPortType.DYNAMIC_TEMPLATE_VAR)]),
        UNIMPLEMENTED,
        ["containers[0].ports", "template"],
    ),
    "revocable but not preemptible": (
        spec_with(sla=SlaSpec(revocable=True)),
        INVALID,
        ["spec.sla.revocable", "must be preemptible"],
    ),
    "a port without a name": (
        container_with(ports=[PortSpec(env_name="P")]),
        INVALID,
        ["spec.default_spec.containers[0].ports[0].name"],
    ),
    "a dynamic port without a variable": (
        container_with(ports=[PortSpec(name="http", value=80), PortSpec(name="dyn")]),
        INVALID,
        ["spec.default_spec.containers[0].ports[1].env_name", "'dyn'"],
    ),
    "a port number that is none": (
        container_with(ports=[PortSpec(name="http", value=65536)]),
        INVALID,
        ["ports[0].value is 65536", "65535"],
    ),
    "a port name twice": (
        container_with(ports=[PortSpec(name="a", value=1), PortSpec(name="a", value=2)]),
        INVALID,
        ["containers[0].ports", "'a'", "more than once"],
    ),
    "a static port twice": (
        container_with(ports=[PortSpec(name="a", value=7), PortSpec(name="b", value=7)]),
        INVALID,
        ["containers[0].ports", "7", "more than once"],
    ),
    "a port of an override": (
        override(PodSpec(containers=[ContainerSpec(ports=[PortSpec(name="x")])])),
        INVALID,
        ["instance 1: spec.instance_spec[1].containers[0].ports[0].env_name"],
    ),
    "more pods than supported": (
        spec_with(instance_count=1001),
        INVALID,
        ["1001", "requested", "1000", "supported"],
    ),
    "no spec for an instance": (
        together(spec_with(default_spec=None, instance_count=2)),
        INVALID,
        ["instance 0", "missing configuration", "spec.default_spec"],
    ),
    "no spec for the last instance": (
        spec_with(
            default_spec=None, instance_count=2, instance_spec={0: PodSpec(containers=[ContainerSpec()])}
        ),
        INVALID,
        ["instance 1", "missing configuration"],
    ),
    "no container": (pod_with(containers=[]), INVALID, ["instance 0", "containers", "missing command"]),
    "a controller besides instance 0": (
        together(pod_with(controller=True), spec_with(instance_count=2)),
        INVALID,
        ["instance 1", "controller", "only instance 0"],
    ),
    "a controller override": (
        override(PodSpec(controller=True), 2),
        INVALID,
        ["instance 2", "only instance 0"],
    ),
    "kill on preempt": (
        pod_with(preemption_policy=PreemptionPolicy(kill_on_preempt=True)),
        INVALID,
        ["preemption_policy.kill_on_preempt", "must be false"],
    ),
    "another executor": (
        pod_with(mesos_spec=MesosSpec(executor_spec=PodSpecExecutorSpec(data=b"x"))),
        INVALID,
        ["executor", "unsupported type"],
    ),
    "another executor, deprecated form": (
        container_with(executor=ExecutorInfo(type=ExecutorInfoType.DEFAULT, data=b"x")),
        INVALID,
        ["executor", "unsupported type"],
    ),
    "a custom executor without data": (
        pod_with(mesos_spec=MesosSpec(executor_spec=PodSpecExecutorSpec(type=CUSTOM))),
        INVALID,
        ["custom executor", "without data"],
    ),
    "a custom executor without data, deprecated form": (
        container_with(executor=ExecutorInfo(type=ExecutorInfoType.CUSTOM)),
        INVALID,
        ["custom executor", "without data"],
    ),
    "secrets that nothing mounts": (
        request_with(secrets=[Secret(path="/x")]),
        INVALID,
        ["spec.default_spec", "Mesos containerizer"],
    ),
}
for name in ("cpu_limit", "mem_limit_mb", "disk_limit_mb", "gpu_limit"):
    for amount in (-1.0, math.nan, math.inf, 1.1e9):
        REFUSED[f"{name} of {amount}"] = (
            container_with(resource=ResourceSpec(**{name: amount})),
            INVALID,
            [f"instance 0: spec.default_spec.containers[0].resource.{name} is {amount:g}", "expected 0 to"],
        )


@pytest.mark.parametrize(("change", "status", "words"), REFUSED.values(), ids=REFUSED)
async def test_a_job_that_can_not_be_is_refused_and_nothing_changes(
    counter, job_message, change, status, words
):
    request = CreateJobRequest(spec=job_message(count=1))
    change(request)
    revision = counter.loop.revision
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.create_job(request)
    assert refused.value.status is status
    assert all(word in refused.value.message for word in words), refused.value.message
    await counter.rest()
    assert (await counter.loop.read(job_ids), counter.loop.revision) == ([], revision)


TAKEN = {
    "the defaults": lambda request: None,
    "an empty job id": request_with(job_id=JobId()),
    "no pods": spec_with(instance_count=0),
    "no pods and no spec of any": spec_with(instance_count=0, default_spec=None),
    "as many pods as supported": spec_with(instance_count=1000),
    "a controller alone": pod_with(controller=True),
    "no kill on preempt": pod_with(preemption_policy=PreemptionPolicy(kill_on_preempt=False)),
    "a restart policy": pod_with(restart_policy=RestartPolicy(1000)),
    "a disabled liveness check": container_with(liveness_check=HealthCheckSpec(initial_interval_secs=3)),
    "a readiness check": container_with(readiness_check=HealthCheckSpec(enabled=True)),
    "no resource": container_with(resource=None),
    "a custom executor with data": pod_with(
        mesos_spec=MesosSpec(executor_spec=PodSpecExecutorSpec(type=CUSTOM, data=b"x"))
    ),
    "a port without a variable for a custom executor": together(
        container_with(ports=[PortSpec(name="dyn")]),
        pod_with(mesos_spec=MesosSpec(executor_spec=PodSpecExecutorSpec(type=CUSTOM, data=b"x"))),
    ),
    "every instance with its own spec": spec_with(
        default_spec=None,
        instance_count=2,
        instance_spec={i: PodSpec(containers=[ContainerSpec(name=f"c{i}")]) for i in range(2)},
    ),
    "an empty create_spec and opaque data": request_with(create_spec=CreateSpec(), opaque_data=OpaqueData()),
    "revocable and preemptible": spec_with(sla=SlaSpec(revocable=True, preemptible=True)),
}


@pytest.mark.parametrize("change", TAKEN.values(), ids=TAKEN)
async def test_a_job_that_can_be_is_taken(counter, job_message, change):
    request = CreateJobRequest(spec=job_message())
    change(request)
    created = await counter.jobs.create_job(request)
    assert uuid.UUID(created.job_id.value).version == 4
    assert created.version.value == "1-1-1"
    await counter.rest()
    assert await counter.loop.read(job_ids) == [created.job_id.value]


async def test_a_taken_id_is_told_before_anything_else_that_is_wrong(counter, job_message):
    await counter.create(job_message())
    revision = counter.loop.revision
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.create_job(CreateJobRequest(JobId(JOB), JobSpec()))
    assert refused.value.status is Status.ALREADY_EXISTS
    assert JOB in refused.value.message
    assert counter.loop.revision == revision


async def test_a_pool_with_children_takes_no_jobs(counter, job_message):
    child = ResourcePoolSpec(name="child", parent=ResourcePoolId(POOL))
    await counter.pools.create_resource_pool(CreateResourcePoolRequest(spec=child))
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.create_job(CreateJobRequest(spec=job_message()))
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert "has children" in refused.value.message


async def test_start_stop_and_delete_answer_with_the_version_they_made(counter, job_message):
    await counter.create(job_message())
    stopped = await counter.jobs.stop_job(StopJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    assert stopped.version.value == "1-2-1"
    started = await counter.jobs.start_job(StartJobRequest(JobId(JOB), EntityVersion("1-2-1")))
    assert started.version.value == "1-3-1"
    await counter.jobs.delete_job(DeleteJobRequest(JobId(JOB), EntityVersion("1-3-1"), force=True))
    await counter.after(5)
    assert await counter.loop.read(job_ids) == []


@pytest.mark.parametrize("version", [None, EntityVersion(), EntityVersion("1-2-3"), EntityVersion("one")])
@pytest.mark.parametrize("method", ["start_job", "stop_job", "delete_job"])
async def test_another_version_is_aborted_in_the_words_that_clients_know(
    counter, job_message, method, version
):
    await counter.create(job_message())
    request = {"start_job": StartJobRequest, "stop_job": StopJobRequest, "delete_job": DeleteJobRequest}[
        method
    ]
    with pytest.raises(GRPCError) as refused:
        await getattr(counter.jobs, method)(request(JobId(JOB), version))
    assert refused.value.status is Status.ABORTED
    assert "unexpected entity version" in refused.value.message


@pytest.mark.parametrize("job", [JobId(OTHER), JobId("no such job")])
@pytest.mark.parametrize(
    ("method", "request_of"),
    [
        ("start_job", lambda job: StartJobRequest(job, EntityVersion("1-1-1"))),
        ("stop_job", lambda job: StopJobRequest(job, EntityVersion("1-1-1"))),
        ("delete_job", lambda job: DeleteJobRequest(job, EntityVersion("1-1-1"))),
        ("get_job", lambda job: GetJobRequest(job)),
        ("get_job", lambda job: GetJobRequest(job, summary_only=True)),
        ("get_job", lambda job: GetJobRequest(job, EntityVersion("1-1-1"))),
    ],
)
async def test_a_job_that_is_not_there_is_not_found(counter, method, request_of, job):
    with pytest.raises(GRPCError) as refused:
        await getattr(counter.jobs, method)(request_of(job))
    assert refused.value.status is Status.NOT_FOUND
    assert job.value in refused.value.message


async def test_a_request_without_a_job_id_is_invalid(counter):
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.get_job(GetJobRequest())
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert "job_id" in refused.value.message


async def test_a_job_must_be_stopped_before_it_is_deleted(counter, job_message):
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.delete_job(DeleteJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    assert refused.value.status is Status.ABORTED
    assert "not been stopped" in refused.value.message


async def test_get_job_tells_configuration_and_status(counter, job_message):
    await counter.create(job_message(count=3, labels=[Label("k", "v")], owner="me", description="said"))
    await counter.after(5)
    answer = await counter.jobs.get_job(GetJobRequest(JobId(JOB)))
    assert answer.summary is None
    assert answer.job_info.job_id.value == JOB
    spec, status = answer.job_info.spec, answer.job_info.status
    assert (spec.name, spec.owner, spec.description, spec.labels) == (
        "hello",
        "me",
        "said",
        [Label("k", "v")],
    )
    born = 1_000_000_000 * 10**9
    assert spec.revision == Revision(1, born, born)
    assert (status.state, status.desired_state) == (JobState.RUNNING, JobState.RUNNING)
    assert status.version.value == "1-1-1"
    assert status.creation_time == "2001-09-09T01:46:40.000000Z"
    assert status.revision.version > 1
    assert status.revision.created_at == born
    assert set(status.pod_stats) == {state.proto_name for state in PodState}
    assert {state: n for state, n in status.pod_stats.items() if n} == {"POD_STATE_RUNNING": 3}
    by_version = status.pod_stats_by_configuration_version
    assert {version: stats.state_stats for version, stats in by_version.items()} == {
        "1-0-0": {"POD_STATE_RUNNING": 3}
    }


async def test_get_job_with_summary_only_tells_nothing_else(counter, job_message):
    sla = SlaSpec(priority=3, preemptible=True, maximum_unavailable_instances=1)
    await counter.create(
        job_message(count=2, owner="me", owning_team="us", labels=[Label("k", "v")], sla=sla)
    )
    # The version is not even looked at.
    request = GetJobRequest(JobId(JOB), EntityVersion("nonsense"), summary_only=True)
    answer = await counter.jobs.get_job(request)
    assert answer.job_info is None
    summary = answer.summary
    assert (summary.job_id.value, summary.name, summary.instance_count) == (JOB, "hello", 2)
    assert (summary.owner, summary.owning_team, summary.labels) == ("me", "us", [Label("k", "v")])
    assert (summary.respool_id.value, summary.sla) == (POOL, sla)
    assert summary.status.pod_stats["POD_STATE_RUNNING"] == 2


async def test_get_job_at_a_version_tells_only_that_configuration(counter, job_message):
    await counter.create(job_message())
    for version in ("1-1-1", "1-9-9"):
        answer = await counter.jobs.get_job(GetJobRequest(JobId(JOB), EntityVersion(version)))
        assert answer.job_info.status is None
        assert answer.job_info.spec.name == "hello"
        assert answer.job_info.spec.revision.version == 1


async def test_the_configuration_before_the_first_is_the_empty_job(counter, job_message):
    await counter.create(job_message(count=3))
    answer = await counter.jobs.get_job(GetJobRequest(JobId(JOB), EntityVersion("0-1-1")))
    assert answer.job_info.spec.revision.version == 0
    assert answer.job_info.spec.instance_count == 0
    assert answer.job_info.spec.default_spec is None


@pytest.mark.parametrize(
    ("version", "status"),
    [("", INVALID), ("1-1", INVALID), ("a-1-1", INVALID), ("-1-1-1", INVALID), ("2-1-1", NOT_FOUND)],
)
async def test_a_version_that_is_none_or_not_kept_is_told_so(counter, job_message, version, status):
    await counter.create(job_message())
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.get_job(GetJobRequest(JobId(JOB), EntityVersion(version)))
    assert refused.value.status is status


async def test_names_lead_to_ids_newest_first(counter, job_message):
    for job, name in ((JOB, "twice"), (OTHER, "twice")):
        await counter.create(job_message(name=name), job)
    found = await counter.jobs.get_job_id_from_job_name(GetJobIdFromJobNameRequest("twice"))
    assert [job.value for job in found.job_id] == [OTHER, JOB]
    with pytest.raises(GRPCError) as refused:
        await counter.jobs.get_job_id_from_job_name(GetJobIdFromJobNameRequest("twic"))
    assert refused.value.status is Status.NOT_FOUND


async def test_list_jobs_streams_all_in_batches_in_order_of_creation(counter, job_message):
    jobs = [str(uuid.UUID(int=number)) for number in range(1, 231)]
    for job in jobs:
        await counter.create(job_message(count=0), job)
    batches = [
        [s.job_id.value for s in batch.jobs] async for batch in counter.jobs.list_jobs(ListJobsRequest())
    ]
    assert [len(batch) for batch in batches] == [100, 100, 30]
    assert [job for batch in batches for job in batch] == jobs


async def test_list_jobs_without_any_ends_at_once(counter):
    assert [batch async for batch in counter.jobs.list_jobs(ListJobsRequest())] == []


async def list_instances(counter, limits=None):
    batches = [batch async for batch in counter.jobs.list_pods(ListPodsRequest(JobId(JOB), limits))]
    return [[int(pod.pod_name.value.rpartition("-")[2]) for pod in batch.pods] for batch in batches]


async def test_list_pods_streams_all_in_batches_ascending(counter, job_message):
    await counter.create(job_message(count=510, default_spec=PodSpec(containers=[ContainerSpec()])))
    batches = await list_instances(counter)
    assert [len(batch) for batch in batches] == [250, 250, 10]
    assert [instance for batch in batches for instance in batch] == list(range(510))


@pytest.mark.parametrize(
    ("first", "end", "expected"),
    [(0, 3, [0, 1, 2]), (2, 4, [2, 3]), (3, 99, [3, 4]), (9, 99, []), (0, 0, []), (4, 4, [])],
)
async def test_ranges_of_list_pods_are_half_open(counter, job_message, first, end, expected):
    await counter.create(job_message(count=5))
    batches = await list_instances(counter, InstanceIdRange(first, end))
    assert [instance for batch in batches for instance in batch] == expected


async def test_a_range_of_list_pods_that_runs_backwards_is_refused(counter, job_message):
    await counter.create(job_message(count=5))
    with pytest.raises(GRPCError) as refused:
        await list_instances(counter, InstanceIdRange(4, 2))
    assert refused.value.status is Status.INVALID_ARGUMENT
    assert "to is 2, below range.from, 4" in refused.value.message


@pytest.mark.parametrize("limits", [None, InstanceIdRange(0, 0)])
async def test_list_pods_of_no_job_is_not_found(counter, limits):
    with pytest.raises(GRPCError) as refused:
        await list_instances(counter, limits)
    assert refused.value.status is Status.NOT_FOUND


async def turns_between(stream) -> list[int]:
    """How often others had a turn between two messages of a stream."""
    turns, seen = 0, []

    async def others():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    async for _ in stream:
        seen.append(turns)
    task.cancel()
    return [after - before for before, after in pairwise(seen)]


async def test_streams_give_others_a_turn_after_every_message(counter, job_message):
    # Asked without a connection in between, whose own waits would do.
    service = JobService(counter.loop, LIMITS)
    await counter.create(job_message(count=600, default_spec=PodSpec(containers=[ContainerSpec()])))
    for number in range(1, 250):
        await counter.create(job_message(count=0), str(uuid.UUID(int=number)))
    assert [turns > 0 for turns in await turns_between(service.list_pods(ListPodsRequest(JobId(JOB))))] == [
        True,
        True,
    ]
    assert [turns > 0 for turns in await turns_between(service.list_jobs(ListJobsRequest()))] == [True, True]


async def test_listed_pods_tell_their_status(counter, job_message):
    await counter.create(job_message(count=1))
    (batch,) = [batch async for batch in counter.jobs.list_pods(ListPodsRequest(JobId(JOB)))]
    (pod,) = batch.pods
    assert pod.pod_name.value == f"{JOB}-0"
    assert (pod.status.state, pod.status.pod_id.value) == (PodState.RUNNING, f"{JOB}-0-1")
    assert pod.status.host.startswith("host-")


async def test_the_client_s_bytes_come_back_even_where_nobody_knows_the_field(counter, job_message):
    """Fields of a newer contract are kept, wherever they stand."""
    message = job_message()
    newer = b"\xc2\x3e\x04late"  # field 1000, length-delimited
    message._unknown_fields = newer
    message.default_spec.containers[0]._unknown_fields = newer
    await counter.create(message)
    spec = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info.spec
    assert bytes(spec._unknown_fields) == newer
    assert bytes(spec.default_spec.containers[0]._unknown_fields) == newer


async def test_a_failing_pod_shows_in_the_status(counter, job_message):
    await counter.create(job_message(count=2))
    await counter.report(f"{JOB}-0-1", TaskState.FAILED, "exited", exit_code=3)
    status = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info.status
    assert status.pod_stats["POD_STATE_FAILED"] == 1
    assert status.pod_stats["POD_STATE_RUNNING"] == 1


async def test_the_revision_that_a_client_sends_is_not_its_to_say(counter, job_message):
    await counter.create(job_message(revision=Revision(77, 1, 2, "me")))
    spec = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info.spec
    assert (spec.revision.version, spec.revision.updated_by) == (1, "")


async def test_deprecated_commands_are_taken_as_well(counter, job_message):
    pod = PodSpec(
        containers=[ContainerSpec(command=CommandInfo(value="/bin/date", shell=False, arguments=["-u"]))]
    )
    await counter.create(job_message(default_spec=pod))
    spec = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info.spec
    command = spec.default_spec.containers[0].command
    assert (command.value, command.shell, command.arguments) == ("/bin/date", False, ["-u"])


async def test_listed_jobs_come_in_messages_that_clients_accept(counter, job_message):
    """However much their owners wrote into their specs; and none is left out."""
    names = [f"job-{number}" for number in range(5)]
    for name in names:
        message = job_message(count=0, name=name, owner="o" * 1_000_000)
        await counter.jobs.create_job(CreateJobRequest(spec=message))
    batches = [batch async for batch in counter.jobs.list_jobs(ListJobsRequest())]
    assert [job.name for batch in batches for job in batch.jobs] == names
    assert max(len(encode(batch)) for batch in batches) < 4 * 1024 * 1024


async def test_an_instance_keeps_what_nobody_knows_of_its_own_spec(counter, job_message):
    newer, newest = b"\xc2\x3e\x04late", b"\xca\x3e\x06latest"  # fields 1000 and 1001
    message = job_message(count=2)
    message.default_spec._unknown_fields = newer
    message.instance_spec = {1: PodSpec(labels=[Label("k", "v")])}
    message.instance_spec[1]._unknown_fields = newest
    await counter.create(message)
    for instance, kept in ((0, newer), (1, newer + newest)):
        pod = await counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-{instance}")))
        assert bytes(pod.current.spec._unknown_fields) == kept


async def test_the_cache_of_a_job_is_its_configuration_and_its_status(counter, job_message):
    await counter.create(job_message(2))
    info = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info
    cached = await counter.jobs.get_job_cache(GetJobCacheRequest(JobId(JOB)))
    assert (cached.spec, cached.status) == (info.spec, info.status)


@pytest.mark.parametrize("count", [0, 1, 999, 1000])
async def test_lost_launches_are_repeated_by_a_refresh_of_the_job(counter, job_message, count):
    counter.agents.silent = True
    await counter.create(job_message(count, default_spec=PodSpec(containers=[ContainerSpec()])))
    counter.agents.silent = False
    await counter.jobs.refresh_job(RefreshJobRequest(JobId(JOB)))
    await counter.after(1)
    status = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).job_info.status
    assert status.pod_stats["POD_STATE_RUNNING"] == count


@pytest.mark.parametrize(
    "method, kind", [("refresh_job", RefreshJobRequest), ("get_job_cache", GetJobCacheRequest)]
)
async def test_no_such_job_has_a_cache_or_can_be_refreshed(counter, method, kind):
    for job, status in ((JobId(JOB), Status.NOT_FOUND), (None, Status.INVALID_ARGUMENT)):
        with pytest.raises(GRPCError) as refused:
            await getattr(counter.jobs, method)(kind(job))
        assert refused.value.status is status
