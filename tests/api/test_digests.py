"""Which differences count: a pod is restarted for these and for no others."""

from copy import deepcopy

import pytest

from derny.api import pod_spec
from derny.api.codec import encode
from derny.api.wire_in import job_spec
from derny.model.periods import Limits
from derny.proto.mesos.v1 import (
    CommandInfo,
    ContainerInfo,
    ContainerInfoDockerInfo,
    ContainerInfoDockerInfoNetwork,
    ContainerInfoType,
)
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec, SlaSpec
from derny.proto.peloton.api.v1alpha.peloton import Label, ResourcePoolId, Revision
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    Environment,
    HealthCheckSpec,
    HealthCheckSpecHealthCheckType,
    PodSpec,
    PortSpec,
    ResourceSpec,
)
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec

CHECK = HealthCheckSpec(enabled=True, type=HealthCheckSpecHealthCheckType.GRPC)


def a_container() -> ContainerSpec:
    return ContainerSpec(
        name="main",
        resource=ResourceSpec(cpu_limit=0.5, mem_limit_mb=32),
        entrypoint=CommandSpec("run", ["fast"]),
        environment=[Environment("A", "1")],
        ports=[PortSpec("http", 80), PortSpec("rpc", 81)],
        image="image:1",
    )


def a_job() -> JobSpec:
    return JobSpec(
        name="job",
        instance_count=3,
        respool_id=ResourcePoolId("pool"),
        labels=[Label("team", "x"), Label("tier", "1")],
        sla=SlaSpec(preemptible=True),
        default_spec=PodSpec(
            containers=[a_container()],
            labels=[Label("a", "1"), Label("b", "2")],
            mesos_spec=MesosSpec(shell=False),
        ),
        instance_spec={1: PodSpec(kill_grace_period_seconds=20)},
    )


def read(job: JobSpec):
    return job_spec(job, encode(job), Limits())


def digests(job: JobSpec) -> list[bytes]:
    """Of each pod."""
    read_job = read(job)
    return [read_job.template(instance).digest for instance in range(job.instance_count)]


def container(job: JobSpec) -> ContainerSpec:
    return job.default_spec.containers[0]


MEANS_NOTHING = {
    "the name of the container": lambda job: setattr(container(job), "name", "other"),
    "the order of labels": lambda job: job.default_spec.labels.reverse(),
    "the order of ports": lambda job: container(job).ports.reverse(),
    "labels of the job": lambda job: job.labels.clear(),
    "the priority": lambda job: setattr(job.sla, "priority", 7),
    "preemptibility": lambda job: setattr(job.sla, "preemptible", False),
    "what may be unavailable": lambda job: setattr(job.sla, "maximum_unavailable_instances", 2),
    "the owner": lambda job: setattr(job, "owner", "me"),
    "the name of the job": lambda job: setattr(job, "name", "other"),
    "the revision": lambda job: setattr(job, "revision", Revision(7)),
    "both forms": pod_spec.fill_forms,
}

RESTARTS = {
    "cpu": lambda job: setattr(container(job).resource, "cpu_limit", 0.6),
    "the command": lambda job: setattr(container(job).entrypoint, "value", "walk"),
    "an argument": lambda job: container(job).entrypoint.arguments.append("now"),
    "a variable": lambda job: setattr(container(job).environment[0], "value", "2"),
    "the image": lambda job: setattr(container(job), "image", "image:2"),
    "a port": lambda job: setattr(container(job).ports[0], "value", 82),
    "a label of the pod": lambda job: setattr(job.default_spec.labels[0], "value", "2"),
    "a health check": lambda job: setattr(
        container(job),
        "liveness_check",
        CHECK,
    ),
    "a readiness check": lambda job: setattr(
        container(job), "readiness_check", HealthCheckSpec(interval_secs=1)
    ),
    "a shell": lambda job: setattr(job.default_spec.mesos_spec, "shell", True),
    "revocability": lambda job: setattr(job.sla, "revocable", True),
    "what nobody knows": lambda job: setattr(job.default_spec, "_unknown_fields", b"\xa0\x06\x01"),
}


@pytest.mark.parametrize("change", MEANS_NOTHING.values(), ids=MEANS_NOTHING)
def test_what_means_nothing_to_a_pod(change):
    job = a_job()
    change(job)
    assert digests(job) == digests(a_job())


@pytest.mark.parametrize("change", RESTARTS.values(), ids=RESTARTS)
def test_what_a_pod_is_restarted_for(change):
    job = a_job()
    change(job)
    assert not set(digests(job)) & set(digests(a_job()))


def test_an_override_concerns_its_instance_alone():
    job = a_job()
    job.instance_spec[1].kill_grace_period_seconds = 30
    before, after = digests(a_job()), digests(job)
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_the_deprecated_form_means_the_same_once_it_has_been_read_back():
    job = a_job()
    job.default_spec.mesos_spec = None
    job.default_spec.containers = [
        ContainerSpec(
            name="main",
            command=CommandInfo(value="sleep 10", shell=True),
            container=ContainerInfo(type=ContainerInfoType.DOCKER, docker=ContainerInfoDockerInfo(image="i")),
        )
    ]
    again = deepcopy(job)
    pod_spec.fill_forms(again)
    assert digests(again) == digests(job)
    named = deepcopy(job)
    container(named).container.docker.network = ContainerInfoDockerInfoNetwork.HOST
    assert digests(named) == digests(job)
    container(named).container.docker.network = ContainerInfoDockerInfoNetwork.BRIDGE
    assert digests(named) != digests(job)


def test_names_of_containers_count_where_there_are_several():
    job = a_job()
    job.default_spec.containers.append(ContainerSpec(name="side", entrypoint=CommandSpec("x")))
    other = deepcopy(job)
    other.default_spec.containers[1].name = "other"
    assert digests(other) != digests(job)


THE_SAME = {"the order of labels", "the order of ports", "the revision", "both forms"}


@pytest.mark.parametrize("name", [*MEANS_NOTHING, *RESTARTS])
def test_a_job_is_another_with_any_difference_but_of_order_revision_and_form(name):
    job = a_job()
    (MEANS_NOTHING | RESTARTS)[name](job)
    assert (read(job).digest == read(a_job()).digest) is (name in THE_SAME)


def test_the_message_is_left_as_it_was():
    job = a_job()
    read(job)
    assert job == a_job()
