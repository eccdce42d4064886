"""Workflows as clients see them: the requests, the answers, and who is refused what."""

import re
import threading

import pytest
import pytest_asyncio
from grpclib.const import Status
from grpclib.exceptions import GRPCError

from derny.api import workflow_out
from derny.model.states import TaskState
from derny.proto.peloton.api.v1alpha.job.stateless import (
    CreateSpec,
    JobSpec,
    JobState,
    RestartSpec,
    SlaSpec,
    UpdateSpec,
    WorkflowState,
    WorkflowType,
)
from derny.proto.peloton.api.v1alpha.job.stateless.svc import (
    AbortJobWorkflowRequest,
    CreateJobRequest,
    GetJobRequest,
    GetReplaceJobDiffRequest,
    GetWorkflowEventsRequest,
    ListJobUpdatesRequest,
    ListJobWorkflowsRequest,
    PatchJobRequest,
    PauseJobWorkflowRequest,
    ReplaceJobRequest,
    RestartJobRequest,
    ResumeJobWorkflowRequest,
    StopJobRequest,
)
from derny.proto.peloton.api.v1alpha.peloton import (
    EntityVersion,
    JobId,
    Label,
    OpaqueData,
    PodName,
    ResourcePoolId,
)
from derny.proto.peloton.api.v1alpha.pod import InstanceIdRange, PodSpec, PodState
from derny.proto.peloton.api.v1alpha.pod.svc import GetPodEventsRequest, GetPodRequest, StopPodRequest

pytestmark = [
    pytest.mark.asyncio,
    # The contract deprecates ListJobUpdates, and the stub says so.
    pytest.mark.filterwarnings("ignore:JobService.list_job_updates is deprecated"),
]

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
NOBODY = "aaaaaaaa-0000-4000-8000-00000000000f"
UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class Client:
    """A job of three pods and the shortest ways to change it."""

    def __init__(self, counter, job_message, pod_message):
        self.counter, self.jobs = counter, counter.jobs
        self.a_job, self.a_pod = job_message, pod_message

    async def info(self):
        return await self.jobs.get_job(GetJobRequest(JobId(JOB)))

    async def version(self) -> EntityVersion:
        return (await self.info()).job_info.status.version

    async def status(self):
        return (await self.info()).workflow_info.status

    async def replace(self, spec: JobSpec, opaque: str | None = None, **update) -> str:
        data = OpaqueData(opaque) if opaque is not None else None
        how = UpdateSpec(**update) if update else None
        request = ReplaceJobRequest(JobId(JOB), await self.version(), spec, [], how, data)
        answer = await self.jobs.replace_job(request)
        await self.counter.rest()
        return answer.version.value

    async def restart(self, **fields) -> str:
        answer = await self.jobs.restart_job(RestartJobRequest(JobId(JOB), await self.version(), **fields))
        await self.counter.rest()
        return answer.version.value

    async def done(self) -> WorkflowState:
        for _ in range(10):
            await self.counter.after(1.1)
        return (await self.status()).state

    def another(self, count: int = 3, **fields) -> JobSpec:
        return self.a_job(count, default_spec=self.a_pod("sleep 2000"), **fields)


@pytest_asyncio.fixture
async def client(counter, job_message, pod_message) -> Client:
    found = Client(counter, job_message, pod_message)
    await counter.create(job_message(3))
    assert await found.done() == WorkflowState.SUCCEEDED
    return found


async def refused(call, status: Status, words: str) -> None:
    with pytest.raises(GRPCError) as refusal:
        await call
    assert refusal.value.status is status
    assert re.search(words, refusal.value.message), refusal.value.message


# Create


async def test_a_creation_is_a_workflow_that_everyone_can_see(client):
    info = await client.info()
    status = info.job_info.status.workflow_status
    assert status == info.workflow_info.status
    assert (status.type, status.state) == (WorkflowType.UPDATE, WorkflowState.SUCCEEDED)
    assert (status.version.value, status.prev_version.value) == ("1-1-1", "0-1-1")
    assert (status.num_instances_completed, status.num_instances_remaining) == (3, 0)
    assert all(UTC.fullmatch(at) for at in (status.creation_time, status.update_time, status.completion_time))
    assert info.workflow_info.instances_added == [InstanceIdRange(0, 2)]
    assert info.workflow_info.opaque_data is None
    assert [event.state for event in info.workflow_info.events] == [
        WorkflowState.SUCCEEDED,
        WorkflowState.ROLLING_FORWARD,
        WorkflowState.INITIALIZED,
    ]
    assert re.fullmatch(r"[-\dT:]+Z", info.workflow_info.events[0].timestamp)
    summary = (await client.jobs.get_job(GetJobRequest(JobId(JOB), summary_only=True))).summary
    assert summary.status.workflow_status.state == WorkflowState.SUCCEEDED


async def test_a_creation_in_batches_that_starts_paused(counter, job_message):
    how = CreateSpec(1, max_instance_retries=2, max_tolerable_instance_failures=3, start_paused=True)
    await counter.jobs.create_job(
        CreateJobRequest(JobId(JOB), job_message(2), create_spec=how, opaque_data=OpaqueData("mine"))
    )
    await counter.rest()
    info = await counter.jobs.get_job(GetJobRequest(JobId(JOB)))
    assert info.job_info.status.state == JobState.PENDING
    assert info.workflow_info.status.state == WorkflowState.PAUSED
    assert info.workflow_info.status.prev_state == WorkflowState.INITIALIZED
    assert info.workflow_info.opaque_data == OpaqueData("mine")
    assert info.workflow_info.update_spec == UpdateSpec(1, False, 2, 3, True)
    counter.agents.silent = True
    answer = await counter.jobs.resume_job_workflow(
        ResumeJobWorkflowRequest(JobId(JOB), EntityVersion("1-1-1"))
    )
    assert answer.version.value == "1-1-2"
    await counter.rest()
    status = (await counter.jobs.get_job(GetJobRequest(JobId(JOB)))).workflow_info.status
    assert (status.state, status.instances_current) == (WorkflowState.ROLLING_FORWARD, [0])


# Replace


async def test_a_replace_brings_all_pods_to_the_new_configuration(client):
    assert await client.replace(client.another(5), opaque="why") == "2-1-2"
    assert await client.done() == WorkflowState.SUCCEEDED
    info = await client.info()
    assert info.job_info.spec.default_spec.containers[0].command.value == "sleep 2000"
    assert info.job_info.spec.revision.version == 2
    assert info.workflow_info.opaque_data.data == "why"
    assert info.workflow_info.instances_updated == [InstanceIdRange(0, 2)]
    assert info.workflow_info.instances_added == [InstanceIdRange(3, 4)]
    stats = info.job_info.status.pod_stats_by_configuration_version
    assert {key: value.state_stats for key, value in stats.items()} == {"2-0-0": {"POD_STATE_RUNNING": 5}}
    pod = await client.counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-0")))
    assert (pod.current.status.pod_id.value, pod.current.status.version.value) == (f"{JOB}-0-2", "2-0-0")
    assert pod.current.spec.containers[0].command.value == "sleep 2000"
    assert pod.previous[0].spec.containers[0].command.value == "sleep 1000"


async def test_what_is_no_matter_of_pods_restarts_none(client):
    spec = client.a_job(
        3, labels=[Label("a", "b")], sla=SlaSpec(preemptible=True, maximum_unavailable_instances=1)
    )
    await client.replace(spec)
    assert (await client.status()).state == WorkflowState.SUCCEEDED
    pod = await client.counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-1")))
    assert (pod.current.status.pod_id.value, pod.current.status.version.value) == (f"{JOB}-1-1", "2-0-0")


async def test_old_configurations_can_be_read_and_brought_back(client):
    await client.replace(client.another(4))
    await client.done()
    old = await client.jobs.get_job(GetJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    assert (old.job_info.spec.instance_count, old.job_info.spec.revision.version) == (3, 1)
    assert await client.replace(old.job_info.spec) == "3-1-3"
    assert await client.done() == WorkflowState.SUCCEEDED
    assert (await client.info()).job_info.spec.instance_count == 3


async def test_a_repeat_changes_nothing_and_is_told_the_same_version(client):
    client.counter.agents.silent = True
    assert await client.replace(client.another(), opaque="a", batch_size=1) == "2-1-2"
    assert await client.replace(client.another(), opaque="a", batch_size=1) == "2-1-2"
    assert await client.replace(client.another(), opaque="b", batch_size=1) == "2-1-3"
    assert (await client.info()).workflow_info.opaque_data.data == "b"


async def test_the_way_back(client):
    client.counter.agents.silent = True
    await client.replace(
        client.another(),
        batch_size=1,
        rollback_on_failure=True,
        max_instance_retries=1,
        max_tolerable_instance_failures=1,
    )
    await client.counter.report(f"{JOB}-0-1", TaskState.KILLED)
    await client.counter.report(f"{JOB}-0-2", TaskState.FAILED, "exited with 1")
    status = await client.status()
    assert (status.state, status.prev_state) == (
        WorkflowState.ROLLING_BACKWARD,
        WorkflowState.ROLLING_FORWARD,
    )
    assert (status.version.value, status.prev_version.value) == ("3-1-2", "2-1-2")
    await client.counter.report(f"{JOB}-0-3", TaskState.RUNNING)
    assert await client.done() == WorkflowState.ROLLED_BACK
    info = await client.info()
    assert info.job_info.spec.default_spec.containers[0].command.value == "sleep 1000"
    assert info.workflow_info.update_spec.rollback_on_failure


REFUSED = {
    "an id that is no UUID": (
        {"job_id": JobId("job")},
        Status.INVALID_ARGUMENT,
        "job_id 'job' is not a UUID",
    ),
    "no spec": ({"spec": None}, Status.INVALID_ARGUMENT, "spec is unset"),
    "no such job": ({"job_id": JobId(NOBODY)}, Status.NOT_FOUND, NOBODY),
    "no version": ({"version": None}, Status.ABORTED, "unexpected entity version"),
    "another version": ({"version": EntityVersion("1-2-3")}, Status.ABORTED, "unexpected entity version"),
}


@pytest.mark.parametrize(("fields", "status", "words"), REFUSED.values(), ids=REFUSED)
async def test_who_is_refused_a_replace_or_its_difference(client, fields, status, words):
    values = {"job_id": JobId(JOB), "version": EntityVersion("1-1-1"), "spec": client.another()} | fields
    await refused(client.jobs.replace_job(ReplaceJobRequest(**values)), status, words)
    await refused(client.jobs.get_replace_job_diff(GetReplaceJobDiffRequest(**values)), status, words)
    assert (await client.version()).value == "1-1-1"


async def test_a_bad_spec_is_refused_before_the_version_of_a_replace_and_after_that_of_a_difference(client):
    spec = client.a_job(3, sla=SlaSpec(revocable=True))
    values = (JobId(JOB), EntityVersion("9-9-9"), spec)
    await refused(client.jobs.replace_job(ReplaceJobRequest(*values)), Status.INVALID_ARGUMENT, "preemptible")
    await refused(
        client.jobs.get_replace_job_diff(GetReplaceJobDiffRequest(*values)),
        Status.ABORTED,
        "unexpected entity version",
    )


async def test_the_pool_must_be_sent_again_and_be_the_same(client):
    for pool, words in ((None, "spec.respool_id is unset"), (ResourcePoolId(NOBODY), "respool_id.*fixed")):
        spec = client.another()
        spec.respool_id = pool
        request = ReplaceJobRequest(JobId(JOB), EntityVersion("1-1-1"), spec)
        await refused(client.jobs.replace_job(request), Status.INVALID_ARGUMENT, words)


async def test_a_stop_is_refused_while_an_update_starts_pods(client):
    await client.jobs.stop_job(StopJobRequest(JobId(JOB), EntityVersion("1-1-1")))
    await client.counter.after(2)
    client.counter.agents.silent = True
    assert await client.replace(client.another(), start_pods=True) == "2-2-2"
    assert (await client.info()).workflow_info.update_spec.start_pods
    request = StopJobRequest(JobId(JOB), EntityVersion("2-2-2"))
    await refused(client.jobs.stop_job(request), Status.ABORTED, "start_pods")


# Patch


async def test_a_patch_changes_what_it_gives_and_nothing_else(client):
    spec = JobSpec(name="patched", instance_count=4, sla=SlaSpec(priority=3))
    request = PatchJobRequest(JobId(JOB), EntityVersion("1-1-1"), spec, opaque_data=OpaqueData("p"))
    assert (await client.jobs.patch_job(request)).version.value == "2-1-2"
    await client.counter.rest()
    info = await client.info()
    assert (info.job_info.spec.name, info.job_info.spec.instance_count) == ("patched", 4)
    assert info.job_info.spec.sla == SlaSpec(priority=3, preemptible=True)
    assert info.job_info.spec.default_spec.containers[0].command.value == "sleep 1000"
    assert info.workflow_info.opaque_data.data == "p"
    assert (info.workflow_info.instances_added, info.workflow_info.instances_updated) == (
        [InstanceIdRange(3, 3)],
        [],
    )


async def test_a_patch_with_containers_restarts_pods_in_batches(client):
    client.counter.agents.silent = True
    spec = JobSpec(default_spec=client.a_pod("sleep 3"))
    request = PatchJobRequest(JobId(JOB), EntityVersion("1-1-1"), spec, update_spec=UpdateSpec(2))
    await client.jobs.patch_job(request)
    await client.counter.rest()
    assert (await client.status()).instances_current == [0, 1]


async def test_who_is_refused_a_patch(client):
    bad = JobSpec(default_spec=PodSpec(controller=True))
    for values, status, words in (
        ((JobId("job"), EntityVersion("1-1-1"), JobSpec()), Status.INVALID_ARGUMENT, "not a UUID"),
        ((JobId(NOBODY), EntityVersion("1-1-1"), JobSpec()), Status.NOT_FOUND, NOBODY),
        ((JobId(JOB), EntityVersion("2-1-1"), JobSpec()), Status.ABORTED, "unexpected entity version"),
        ((JobId(JOB), EntityVersion("1-1-1"), None), Status.INVALID_ARGUMENT, "spec is unset"),
        ((JobId(JOB), EntityVersion("1-1-1"), bad), Status.INVALID_ARGUMENT, "only instance 0"),
    ):
        await refused(client.jobs.patch_job(PatchJobRequest(*values)), status, words)
    assert (await client.version()).value == "1-1-1"


# Restart


@pytest.mark.parametrize(
    "fields",
    [
        {"restart_spec": RestartSpec(1, [InstanceIdRange(0, 2)])},
        {"batch_size": 1, "ranges": [InstanceIdRange(0, 2)]},
    ],
    ids=["released", "reference"],
)
async def test_a_restart_is_asked_for_in_either_form_and_told_in_both(client, fields):
    assert await client.restart(**fields, opaque_data=OpaqueData("r")) == "2-1-2"
    assert await client.done() == WorkflowState.SUCCEEDED
    workflow = (await client.info()).workflow_info
    assert workflow.status.type == WorkflowType.RESTART
    assert workflow.restart_spec == RestartSpec(1, [InstanceIdRange(0, 1)])
    assert (workflow.restart_batch_size, workflow.restart_ranges) == (1, [InstanceIdRange(0, 1)])
    assert (workflow.opaque_data.data, workflow.update_spec) == ("r", None)
    runs = [
        (await client.counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-{n}")))).current.status.pod_id.value
        for n in range(3)
    ]
    assert runs == [f"{JOB}-0-2", f"{JOB}-1-2", f"{JOB}-2-1"]


async def test_a_restart_of_the_range_that_the_command_line_sends_is_one_of_all(client):
    await client.restart(ranges=[InstanceIdRange(0, 2**32 - 1)])
    assert (await client.info()).workflow_info.restart_ranges == [InstanceIdRange(0, 2)]


async def test_who_is_refused_a_restart(client):
    for values, status, words in (
        ((JobId(NOBODY), EntityVersion("1-1-1")), Status.NOT_FOUND, NOBODY),
        ((JobId(JOB), EntityVersion("1-2-3")), Status.ABORTED, "unexpected entity version"),
        (
            (JobId(JOB), EntityVersion("1-1-1"), None, [InstanceIdRange(3, 4)]),
            Status.INVALID_ARGUMENT,
            "ranges has from 3 to 4; expected .* the 3 instances",
        ),
    ):
        await refused(client.jobs.restart_job(RestartJobRequest(*values)), status, words)


async def test_more_ranges_than_one_restart_may_have_are_refused(client):
    ranges = [InstanceIdRange(0, 1)] * 10_001
    request = RestartJobRequest(JobId(JOB), EntityVersion("1-1-1"), RestartSpec(ranges=ranges))
    await refused(client.jobs.restart_job(request), Status.RESOURCE_EXHAUSTED, "restart_ranges_max")
    assert (await client.version()).value == "1-1-1"


# Pause, resume, abort


async def test_a_workflow_is_paused_resumed_and_aborted(client):
    client.counter.agents.silent = True
    await client.replace(client.another(), opaque="x", batch_size=1)
    steps = (
        (client.jobs.pause_job_workflow, PauseJobWorkflowRequest, "2-1-3", WorkflowState.PAUSED),
        (client.jobs.pause_job_workflow, PauseJobWorkflowRequest, "2-1-4", WorkflowState.PAUSED),
        (client.jobs.resume_job_workflow, ResumeJobWorkflowRequest, "2-1-5", WorkflowState.ROLLING_FORWARD),
        (client.jobs.abort_job_workflow, AbortJobWorkflowRequest, "2-1-6", WorkflowState.ABORTED),
        (client.jobs.resume_job_workflow, ResumeJobWorkflowRequest, "2-1-7", WorkflowState.ABORTED),
    )
    for call, request, version, state in steps:
        answer = await call(request(JobId(JOB), await client.version()))
        assert answer.version.value == version
        assert (await client.status()).state == state
    assert (await client.status()).num_instances_remaining == 3
    assert (await client.info()).workflow_info.opaque_data.data == "x"


async def test_opaque_data_are_kept_replaced_or_cleared(client):
    for data, kept in (
        (OpaqueData("new"), OpaqueData("new")),
        (None, OpaqueData("new")),
        (OpaqueData(), None),
    ):
        await client.jobs.pause_job_workflow(
            PauseJobWorkflowRequest(JobId(JOB), await client.version(), data)
        )
        assert (await client.info()).workflow_info.opaque_data == kept


async def test_more_opaque_data_than_an_answer_has_room_for_are_refused(client):
    job, version, much = JobId(JOB), EntityVersion("1-1-1"), OpaqueData("ä" * 32_769)
    spec = (await client.info()).job_info.spec
    for call in (
        client.jobs.pause_job_workflow(PauseJobWorkflowRequest(job, version, much)),
        client.jobs.restart_job(RestartJobRequest(job, version, opaque_data=much)),
        client.jobs.replace_job(ReplaceJobRequest(job, version, spec, opaque_data=much)),
        client.jobs.create_job(CreateJobRequest(None, spec, opaque_data=much)),
    ):
        await refused(call, Status.RESOURCE_EXHAUSTED, "65538 bytes.*opaque_bytes_max")
    assert (await client.version()).value == "1-1-1"


@pytest.mark.parametrize("name", ["pause", "resume", "abort"])
async def test_who_is_refused_to_steer(client, name):
    call = getattr(client.jobs, f"{name}_job_workflow")
    request = {
        "pause": PauseJobWorkflowRequest,
        "resume": ResumeJobWorkflowRequest,
        "abort": AbortJobWorkflowRequest,
    }
    await refused(call(request[name](JobId(NOBODY), EntityVersion("1-1-1"))), Status.NOT_FOUND, NOBODY)
    await refused(call(request[name](JobId(JOB), None)), Status.ABORTED, "unexpected entity version")


# What has become of it


async def test_the_events_of_an_instance_come_latest_first(client):
    await client.replace(client.another(), batch_size=1)
    await client.done()
    answer = await client.jobs.get_workflow_events(GetWorkflowEventsRequest(JobId(JOB), 2))
    states = [WorkflowState.SUCCEEDED, WorkflowState.ROLLING_FORWARD, WorkflowState.INITIALIZED]
    assert [event.state for event in answer.events] == states
    assert {event.type for event in answer.events} == {WorkflowType.UPDATE}
    limited = await client.jobs.get_workflow_events(GetWorkflowEventsRequest(JobId(JOB), 2, 1))
    assert limited.events == answer.events[:1]
    assert (await client.jobs.get_workflow_events(GetWorkflowEventsRequest(JobId(JOB), 77))).events == []


async def test_workflows_are_listed_newest_first(client):
    await client.replace(client.another(2))
    await client.done()
    await client.restart()
    await client.done()
    listed = await client.jobs.list_job_workflows(ListJobWorkflowsRequest(JobId(JOB)))
    assert [info.status.version.value for info in listed.workflow_infos] == ["3-1-3", "2-1-2", "1-1-1"]
    assert listed.workflow_infos[1].instances_removed == [InstanceIdRange(2, 2)]
    assert not any(info.instance_events for info in listed.workflow_infos)
    updates = await client.jobs.list_job_updates(ListJobUpdatesRequest(JobId(JOB)))
    assert updates.workflow_infos == listed.workflow_infos
    some = await client.jobs.list_job_workflows(ListJobWorkflowsRequest(JobId(JOB), 1))
    assert some.workflow_infos == listed.workflow_infos[:1]


async def test_the_events_of_instances_are_listed_added_removed_then_updated(client):
    await client.replace(client.another(2))
    await client.done()
    request = ListJobWorkflowsRequest(JobId(JOB), 1, True, 1)
    (info,) = (await client.jobs.list_job_workflows(request)).workflow_infos
    assert [instance.instance_id for instance in info.instance_events] == [2, 0, 1]
    assert [len(instance.events) for instance in info.instance_events] == [1, 1, 1]
    assert info.instance_events[0].events[0].state == WorkflowState.SUCCEEDED


async def test_events_of_instances_are_told_off_the_loop_however_short_the_log(client, monkeypatch):
    told_by = []

    def tell(*args, tell=workflow_out.workflow_infos):
        told_by.append(threading.current_thread())
        return tell(*args)

    monkeypatch.setattr(workflow_out, "workflow_infos", tell)
    for with_instances in (False, True):
        await client.jobs.list_job_workflows(
            ListJobWorkflowsRequest(JobId(JOB), instance_events=with_instances)
        )
    assert [thread is threading.main_thread() for thread in told_by] == [True, False]


async def test_more_events_than_an_answer_has_room_for_are_refused(client, monkeypatch):
    monkeypatch.setattr(workflow_out, "INSTANCE_EVENTS_MAX", 8)
    request = ListJobWorkflowsRequest(JobId(JOB), instance_events=True)
    await refused(client.jobs.list_job_workflows(request), Status.RESOURCE_EXHAUSTED, "instance_events_limit")
    request.instance_events_limit = 1
    await client.jobs.list_job_workflows(request)


async def test_who_is_refused_to_read(client):
    for call, request, status in (
        (client.jobs.get_workflow_events, GetWorkflowEventsRequest(JobId("x")), Status.INVALID_ARGUMENT),
        (client.jobs.get_workflow_events, GetWorkflowEventsRequest(JobId(NOBODY)), Status.NOT_FOUND),
        (client.jobs.list_job_workflows, ListJobWorkflowsRequest(), Status.INVALID_ARGUMENT),
        (client.jobs.list_job_workflows, ListJobWorkflowsRequest(JobId(NOBODY)), Status.NOT_FOUND),
        (client.jobs.list_job_updates, ListJobUpdatesRequest(), Status.INVALID_ARGUMENT),
        (client.jobs.list_job_updates, ListJobUpdatesRequest(JobId(NOBODY)), Status.NOT_FOUND),
    ):
        await refused(call(request), status, "job")


async def test_the_difference_to_what_the_job_has_is_none(client):
    spec = (await client.info()).job_info.spec
    request = GetReplaceJobDiffRequest(JobId(JOB), EntityVersion("1-1-1"), spec)
    found = await client.jobs.get_replace_job_diff(request)
    assert (found.instances_added, found.instances_removed, found.instances_updated) == ([], [], [])
    assert found.instances_unchanged == [InstanceIdRange(0, 2)]


async def test_the_difference_is_what_the_replace_then_does(client):
    spec = client.a_job(5, instance_spec={1: client.a_pod("other")})
    request = GetReplaceJobDiffRequest(JobId(JOB), EntityVersion("1-1-1"), spec)
    found = await client.jobs.get_replace_job_diff(request)
    assert found.instances_unchanged == [InstanceIdRange(0, 0), InstanceIdRange(2, 2)]
    await client.replace(spec)
    workflow = (await client.info()).workflow_info
    assert found.instances_added == workflow.instances_added == [InstanceIdRange(3, 4)]
    assert found.instances_updated == workflow.instances_updated == [InstanceIdRange(1, 1)]
    assert found.instances_removed == workflow.instances_removed == []


async def test_a_removed_instance_keeps_its_events_and_goes_on_when_it_is_there_again(client):
    await client.replace(client.a_job(2))
    await client.done()
    name = PodName(f"{JOB}-2")
    events = (await client.counter.pods.get_pod_events(GetPodEventsRequest(name))).events
    assert events[0].desired_state == "POD_STATE_DELETED"
    await refused(client.counter.pods.get_pod(GetPodRequest(name)), Status.NOT_FOUND, "2 pods")
    await client.replace(client.a_job(3))
    await client.done()
    pod = await client.counter.pods.get_pod(GetPodRequest(name))
    assert (pod.current.status.pod_id.value, pod.current.status.prev_pod_id.value) == (
        f"{JOB}-2-2",
        f"{JOB}-2-1",
    )


async def test_a_pod_that_was_stopped_stays_stopped_and_takes_note(client):
    await client.counter.pods.stop_pod(StopPodRequest(PodName(f"{JOB}-1")))
    await client.counter.rest()
    await client.replace(client.another())
    assert await client.done() == WorkflowState.SUCCEEDED
    status = (await client.counter.pods.get_pod(GetPodRequest(PodName(f"{JOB}-1")))).current.status
    assert (status.state, status.version.value, status.desired_version.value) == (
        PodState.KILLED,
        "1-0-0",
        "2-0-0",
    )
