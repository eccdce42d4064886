"""What the counter makes of a client's spec: templates, demands, commands."""

import pytest

from derny.api.codec import encode
from derny.api.wire_in import job_spec, pool_spec
from derny.model.errors import Invalid
from derny.model.ids import PoolId
from derny.model.periods import Limits
from derny.model.resources import Resources
from derny.model.specs import Command, PoolResource, PortRequest
from derny.proto.mesos.v1 import (
    CommandInfo,
    ContainerInfo,
    ContainerInfoDockerInfo,
    ContainerInfoMesosInfo,
    Environment,
    EnvironmentVariable,
    Image,
    ImageDocker,
)
from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.peloton import Label, ResourcePoolId
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    PodSpec,
    PortSpec,
    PreemptionPolicy,
    ResourceSpec,
    RestartPolicy,
)
from derny.proto.peloton.api.v1alpha.pod import Environment as Variable
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.respool import ReservationType, ResourcePoolSpec
from derny.proto.peloton.api.v1alpha.respool import ResourceSpec as PoolResourceSpec

LIMITS = Limits()


def read(message, limits=LIMITS):
    return job_spec(message, encode(message), limits)


def template_of(job_message, **container):
    pod = PodSpec(containers=[ContainerSpec(**container)])
    return read(job_message(default_spec=pod)).templates[0]


def test_what_is_decided_on_is_taken_and_the_rest_rides_along(job_message):
    message = job_message(count=7, owner="me", sla=SlaSpec(priority=4, preemptible=True))
    spec = read(message)
    assert (spec.name, spec.pool, spec.instance_count) == ("hello", message.respool_id.value, 7)
    assert (spec.priority, spec.revocable, spec.wire) == (4, False, encode(message))
    (template,) = spec.templates
    assert template.demand == Resources(cpu=500, memory=32_000, disk=10_000)
    assert (template.containers[0].name, template.kill_grace_s) == ("main", 30)
    assert (template.preemptible, template.controller, template.health_checked) == (True, False, False)


def test_amounts_are_rounded_to_whole_thousandths(job_message):
    resource = ResourceSpec(cpu_limit=0.1 + 0.2, mem_limit_mb=1.0004, disk_limit_mb=1.0006, gpu_limit=0.25)
    assert template_of(job_message, resource=resource).demand == Resources(300, 1000, 1001, 250)


def test_a_revocable_pod_takes_its_cpu_from_slack_whatever_its_own_spec_says(job_message):
    spec = read(job_message(sla=SlaSpec(preemptible=True, revocable=True)))
    assert spec.revocable
    assert spec.templates[0].demand == Resources(0, 32_000, 10_000, 0, 500)
    message = job_message()
    message.default_spec.revocable = True
    spec = read(message)
    assert not spec.revocable
    assert spec.templates[0].demand.revocable_cpu == 0


def test_whether_pods_are_preemptible_is_for_the_sla_to_say(job_message):
    message = job_message(sla=SlaSpec(preemptible=True))
    message.default_spec.preemption_policy = PreemptionPolicy(kill_on_preempt=False)
    assert read(message).templates[0].preemptible
    message.sla = None
    assert not read(message).templates[0].preemptible


COMMANDS = {
    "none": ({}, None, Command("", (), False)),
    "the deprecated form is a shell's": (
        {"command": CommandInfo(value="a b")},
        None,
        Command("a b", (), True),
    ),
    "unless it says no": (
        {"command": CommandInfo(value="a", shell=False, arguments=["b"])},
        None,
        Command("a", ("b",), False),
    ),
    "the new form is none": ({"entrypoint": CommandSpec("a", ["b"])}, None, Command("a", ("b",), False)),
    "unless the pod says yes": (
        {"entrypoint": CommandSpec("a b")},
        MesosSpec(shell=True),
        Command("a b", (), True),
    ),
    "the pod's word is not for the deprecated form": (
        {"command": CommandInfo(value="a b")},
        MesosSpec(shell=False),
        Command("a b", (), True),
    ),
    "the new form is read where both are given": (
        {"entrypoint": CommandSpec("new"), "command": CommandInfo(value="old", shell=False)},
        None,
        Command("new", (), False),
    ),
}


@pytest.mark.parametrize(("container", "mesos", "expected"), COMMANDS.values(), ids=COMMANDS)
def test_commands_of_either_form(job_message, container, mesos, expected):
    pod = PodSpec(containers=[ContainerSpec(**container)], mesos_spec=mesos)
    assert read(job_message(default_spec=pod)).templates[0].containers[0].command == expected


def test_variables_and_images_of_either_form(job_message):
    old = CommandInfo(environment=Environment([EnvironmentVariable("A", "1")]))
    assert template_of(job_message, command=old).containers[0].environment == (("A", "1"),)
    assert template_of(job_message, environment=[Variable("A", "1")]).containers[0].environment == (
        ("A", "1"),
    )
    docker = ContainerInfo(docker=ContainerInfoDockerInfo(image="d"))
    mesos = ContainerInfo(mesos=ContainerInfoMesosInfo(Image(docker=ImageDocker("m"))))
    assert template_of(job_message, container=docker).containers[0].image == "d"
    assert template_of(job_message, container=mesos).containers[0].image == "m"
    assert template_of(job_message, container=mesos, image="i").containers[0].image == "i"
    assert template_of(job_message, container=ContainerInfo()).containers[0].image == ""


def test_ports_and_grace(job_message):
    message = job_message()
    message.default_spec.kill_grace_period_seconds = 7
    message.default_spec.containers[0].ports = [PortSpec("http", 0, "HTTP"), PortSpec("admin", 80)]
    (template,) = read(message).templates
    assert template.ports == (PortRequest("http", 0, "HTTP"), PortRequest("admin", 80, ""))
    assert template.kill_grace_s == 7


def test_instances_share_a_template_where_nothing_differs_that_a_restart_would_bring(job_message):
    large = PodSpec(containers=[ContainerSpec(resource=ResourceSpec(cpu_limit=4))])
    overrides = {
        0: PodSpec(controller=True),
        2: large,
        3: PodSpec(labels=[Label("k", "w"), Label("k", "v")]),
        4: PodSpec(restart_policy=RestartPolicy(3)),
        5: large,
        6: PodSpec(labels=[Label("k", "v"), Label("k", "w")]),
    }
    spec = read(job_message(count=7, instance_spec=overrides))
    assert len(spec.templates) == 5
    assert [spec.template(i).controller for i in range(6)] == [True] + [False] * 5
    assert [spec.template(i).demand.cpu for i in range(6)] == [500, 500, 4000, 500, 500, 4000]
    assert [spec.template(i).labels for i in (2, 3)] == [(), (("k", "v"), ("k", "w"))]
    # What nothing is decided on counts too: a pod is restarted to have it.
    assert set(spec.template_of) == {0, 2, 3, 4, 5, 6}
    assert spec.template(3) is spec.template(6)


def test_file_descriptors_are_asked_for(job_message):
    message = job_message()
    message.default_spec.containers[0].resource.fd_limit = 4096
    assert read(message).templates[0].fds == 4096


def test_without_a_default_the_first_instance_s_template_comes_first(job_message):
    pods = {i: PodSpec(containers=[ContainerSpec(name=f"c{i % 2}")]) for i in range(4)}
    spec = read(job_message(count=4, default_spec=None, instance_spec=pods))
    assert [spec.template(i).containers[0].name for i in range(4)] == ["c0", "c1", "c0", "c1"]
    assert spec.template_of == {1: 1, 3: 1}


def test_a_job_without_pods_has_no_template(job_message):
    spec = read(job_message(count=0))
    assert (spec.instance_count, spec.templates, spec.template_of) == (0, (), {})


def test_the_count_is_checked_before_instances_are(job_message):
    message = job_message(count=2**32 - 1, default_spec=None)
    with pytest.raises(Invalid, match="4294967295 pods requested, at most 10 supported"):
        read(message, Limits(pods_per_job_max=10))


def test_a_pool_has_every_kind_in_whole_thousandths():
    message = ResourcePoolSpec(
        name="p",
        parent=ResourcePoolId("root"),
        resources=[
            PoolResourceSpec("memory", 1.5, 2.5, 3, ReservationType.STATIC),
            PoolResourceSpec("cpu", 0.1, 0.2, 0, ReservationType.ELASTIC),
        ],
    )
    spec = pool_spec(message, encode(message), Limits())
    assert (spec.name, spec.parent, spec.wire) == ("p", PoolId("root"), encode(message))
    assert spec.resources == (
        PoolResource("cpu", 100, 200, 0),
        PoolResource("gpu"),
        PoolResource("memory", 1500, 2500, 3, True),
        PoolResource("disk"),
    )


def test_an_override_beyond_the_count_waits_until_the_job_has_so_many(job_message):
    own = PodSpec(labels=[Label("k", "v")])
    spec, grown = (read(job_message(count=count, instance_spec={5: own})) for count in (5, 6))
    assert len(spec.templates) == 1
    assert grown.template(5).labels == (("k", "v"),)
