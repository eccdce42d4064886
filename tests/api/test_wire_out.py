"""Spellings and shapes of what is told; whole answers are in the tests of the services."""

import pytest

from derny.answers.queries import PodView
from derny.api.codec import encode
from derny.api.times import rfc3339, whole_seconds
from derny.api.wire_in import job_spec as read_job_spec
from derny.api.wire_out import job_spec, pod_status, revision
from derny.model.ids import HostName, JobId
from derny.model.periods import Limits
from derny.model.records import ContainerRun, Termination
from derny.model.resources import Resources
from derny.model.specs import CheckKind, Container, HealthCheck, PodTemplate, PortRequest
from derny.model.states import HealthState, PodState, TerminationReason
from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.peloton import Label, Revision
from derny.proto.peloton.api.v1alpha.pod import ContainerState, HealthCheckSpec, PodSpec, RestartPolicy

JOB = JobId("aaaaaaaa-0000-4000-8000-000000000001")


@pytest.mark.parametrize(
    ("at", "text"),
    [
        (0.0, ""),
        (1.0, "1970-01-01T00:00:01.000000Z"),
        (1_700_000_000.25, "2023-11-14T22:13:20.250000Z"),
        (1_700_000_000.9999999, "2023-11-14T22:13:21.000000Z"),
    ],
)
def test_times_are_utc_with_microseconds(at, text):
    assert rfc3339(at) == text


def test_events_leave_out_the_part_below_a_second():
    assert whole_seconds(1_700_000_000.75) == "2023-11-14T22:13:20Z"


def test_revisions_count_nanoseconds_without_noise():
    assert revision(3, 1_700_000_000.1, 0.0) == Revision(3, 1_700_000_000_100_000_000, 0)


def test_a_spec_comes_back_as_it_was_sent_besides_its_revision(job_message, pod_message):
    pod = pod_message(liveness_check=HealthCheckSpec(timeout_secs=3), readiness_check=HealthCheckSpec(True))
    pod.restart_policy = RestartPolicy(500)
    message = job_message(
        count=3,
        default_spec=pod,
        owner="me",
        owning_team="us",
        ldap_groups=["a"],
        description="said",
        labels=[Label("k", "v")],
        sla=SlaSpec(priority=1, preemptible=True, maximum_unavailable_instances=2),
        instance_spec={1: PodSpec(labels=[Label("i", "1")])},
    )
    spec = read_job_spec(message, encode(message), Limits())
    told = job_spec(spec, 4, 1000.0)
    assert told.revision == Revision(4, 10**12, 10**12)
    told.revision = None
    (container,) = told.default_spec.containers
    assert container.entrypoint.value == "sleep 1000"
    assert told.default_spec.mesos_spec.shell
    container.entrypoint = told.default_spec.mesos_spec = None
    assert told == message


def a_view(state=PodState.RUNNING, **fields):
    values = {
        "job": JOB,
        "instance": 3,
        "run": 2,
        "state": state,
        "goal": PodState.RUNNING,
        "config": 1,
        "desired_config": 2,
        "template": PodTemplate(Resources(cpu=1000, gpu=500)),
        "health": HealthState.DISABLED,
        "host": HostName("h"),
        "agent_id": "a",
        "ports": (),
        "changed_at": 50.0,
        "started_at": 10.0,
        "completed_at": 0.0,
        "failures": 0,
        "message": "said",
        "reason": "",
        "termination": Termination(TerminationReason.KILLED_ON_REQUEST),
        "revision": 9,
        "created_at": 5.0,
        "previous": None,
        "desired_run": 2,
        "desired_host": None,
        "volume": None,
    }
    return PodView(**(values | fields))


CONTAINER_STATES = {
    PodState.INVALID: "PENDING",
    PodState.INITIALIZED: "PENDING",
    PodState.PENDING: "PENDING",
    PodState.READY: "PENDING",
    PodState.PLACING: "PENDING",
    PodState.PLACED: "PENDING",
    PodState.RESERVED: "PENDING",
    PodState.LAUNCHING: "PENDING",
    PodState.LAUNCHED: "LAUNCHED",
    PodState.STARTING: "STARTING",
    PodState.RUNNING: "RUNNING",
    PodState.SUCCEEDED: "SUCCEEDED",
    PodState.FAILED: "FAILED",
    PodState.LOST: "FAILED",
    PodState.KILLING: "KILLING",
    PodState.PREEMPTING: "KILLING",
    PodState.KILLED: "KILLED",
    PodState.DELETED: "KILLED",
}


@pytest.mark.parametrize("state", PodState)
def test_a_container_s_state_follows_the_pod_s(state):
    (container,) = pod_status(a_view(state), 60.0).containers_status
    assert container.state == ContainerState[CONTAINER_STATES[state]]
    assert (container.termination_status is not None) == (CONTAINER_STATES[state] in ("FAILED", "KILLED"))


def test_usage_counts_from_the_start_to_the_end_or_to_now():
    assert pod_status(a_view(), 60.0).resource_usage == {"cpu": 50.0, "gpu": 25.0, "memory": 0.0}
    assert pod_status(a_view(completed_at=12.0), 60.0).resource_usage["cpu"] == 2.0
    assert pod_status(a_view(started_at=0.0), 60.0).resource_usage["cpu"] == 0.0
    assert pod_status(a_view(), 9.0).resource_usage["cpu"] == 0.0


def test_what_a_pod_waits_for_stands_in_place_of_its_message():
    assert pod_status(a_view(), 60.0, "room").message == "room"
    assert pod_status(a_view(), 60.0).message == "said"


def test_versions_tell_the_run_s_configuration_and_the_wanted_one():
    status = pod_status(a_view(), 60.0)
    assert (status.version.value, status.desired_version.value) == ("1-0-0", "2-0-0")


CHECK = HealthCheck(CheckKind.HTTP)
PAIR = PodTemplate(
    Resources(cpu=1000),
    ports=(PortRequest("http"), PortRequest("log")),
    containers=(
        Container("web", image="web:1", ports=("http",), check=CHECK),
        Container("log", ports=("log", "http")),
    ),
    init_containers=(Container("init"),),
    health_checked=True,
)
DONE = ContainerRun(PodState.SUCCEEDED, started_at=1.0, completed_at=2.0)


def test_of_a_pod_of_several_each_container_is_told_as_it_is_known():
    runs = (
        DONE,
        ContainerRun(PodState.RUNNING, HealthState.HEALTHY, 3.0),
        ContainerRun(PodState.FAILED, started_at=3.0, completed_at=4.0, exit_code=2, signal="", failures=5),
    )
    view = a_view(PodState.RUNNING, template=PAIR, ports=(80, 81), containers=runs, termination=None)
    status = pod_status(view, 60.0)
    (init,), (web, log) = status.init_containers_status, status.containers_status
    assert (init.name, init.state, init.message) == ("init", ContainerState.SUCCEEDED, "")
    assert (web.state, web.message, web.image) == (ContainerState.RUNNING, "said", "web:1")
    assert (web.healthy.state, log.healthy.state) == (HealthState.HEALTHY, HealthState.DISABLED)
    assert (web.ports, log.ports) == ({"http": 80}, {"http": 80, "log": 81})
    assert (log.state, log.failure_count, log.termination_status.exit_code) == (ContainerState.FAILED, 5, 2)
    assert log.start_time < log.completion_time


def test_containers_follow_a_pod_that_is_started_or_stopped():
    runs = (DONE, ContainerRun(PodState.RUNNING, started_at=3.0), ContainerRun())
    asked = Termination(TerminationReason.KILLED_ON_REQUEST)
    for state, expected in {
        PodState.KILLING: ["SUCCEEDED", "KILLING", "PENDING"],
        PodState.LAUNCHED: ["SUCCEEDED", "RUNNING", "LAUNCHED"],
        PodState.RUNNING: ["SUCCEEDED", "RUNNING", "PENDING"],
    }.items():
        status = pod_status(a_view(state, template=PAIR, containers=runs, termination=asked), 60.0)
        told = [*status.init_containers_status, *status.containers_status]
        assert [each.state for each in told] == [ContainerState[name] for name in expected]
    killed = (DONE, ContainerRun(PodState.KILLED, HealthState.INVALID, 3.0, 4.0), DONE)
    status = pod_status(a_view(PodState.KILLED, template=PAIR, containers=killed, termination=asked), 60.0)
    assert status.containers_status[0].termination_status.reason == TerminationReason.KILLED_ON_REQUEST


def test_before_anything_is_heard_all_containers_are_as_the_pod_is():
    status = pod_status(a_view(PodState.LAUNCHED, template=PAIR, health=HealthState.UNKNOWN), 60.0)
    told = [*status.init_containers_status, *status.containers_status]
    assert {each.state for each in told} == {ContainerState.LAUNCHED}
    assert [each.healthy.state for each in told] == [
        HealthState.DISABLED,
        HealthState.UNKNOWN,
        HealthState.DISABLED,
    ]
