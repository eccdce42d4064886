"""A pod of several containers: what is refused of it, and what its template says of all together."""

import pytest

from derny.api.codec import encode
from derny.api.wire_in import job_spec
from derny.model.errors import Invalid
from derny.model.periods import Limits
from derny.model.resources import Resources
from derny.model.specs import PortRequest
from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    Environment,
    HealthCheckSpec,
    PodSpec,
    PortSpec,
    PortSpecPortType,
    ResourceSpec,
)
from derny.proto.peloton.api.v1alpha.pod import HealthCheckSpecHealthCheckType as Kind
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpec as MesosSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import (
    PodSpecContainerType,
    PodSpecExecutorSpec,
    PodSpecExecutorSpecExecutorType,
)

A, B, INIT = ContainerSpec(name="a"), ContainerSpec(name="b"), ContainerSpec(name="init")
CHECK = HealthCheckSpec(enabled=True, type=Kind.GRPC)
CUSTOM = MesosSpec(executor_spec=PodSpecExecutorSpec(type=PodSpecExecutorSpecExecutorType.CUSTOM))


def needs(name: str, cpu: float = 0, memory: float = 0, fds: int = 0) -> ContainerSpec:
    return ContainerSpec(name=name, resource=ResourceSpec(cpu, memory, 1, fds))


def with_ports(name: str, *ports: PortSpec) -> ContainerSpec:
    return ContainerSpec(name=name, ports=list(ports))


def with_variables(name: str, *names: str, image: str = "i") -> ContainerSpec:
    return ContainerSpec(name=name, image=image, environment=[Environment(each, "x") for each in names])


@pytest.fixture
def template_of(job_message):
    def made(pod: PodSpec, **fields):
        message = job_message(default_spec=pod, **fields)
        return job_spec(message, encode(message), Limits()).templates[0]

    return made


REFUSED = {
    "a container without a name": (PodSpec(containers=[A, ContainerSpec()]), "containers[1].name is empty"),
    "an init container without a name": (
        PodSpec(containers=[A], init_containers=[ContainerSpec()]),
        "init_containers[0].name is empty",
    ),
    "a name twice": (PodSpec(containers=[A, B, A]), "containers[2].name is 'a', as is"),
    "a name of an init container": (
        PodSpec(containers=[A], init_containers=[A]),
        "containers[0].name is 'a', as is instance 0: spec.default_spec.init_containers[0].name",
    ),
    "a name that moves the cursor": (PodSpec(containers=[ContainerSpec(name="\n")]), "printable"),
    "a port with two meanings": (
        PodSpec(containers=[with_ports("a", PortSpec("p", 80)), with_ports("b", PortSpec("p", 81))]),
        "containers[1].ports has the name 'p' for another port than",
    ),
    "a number with two names": (
        PodSpec(containers=[with_ports("a", PortSpec("p", 80)), with_ports("b", PortSpec("q", 80))]),
        "containers[1].ports has the value 80 under the name 'q', another container under 'p'",
    ),
    "a check of an init container": (
        PodSpec(containers=[A], init_containers=[ContainerSpec(name="i", liveness_check=CHECK)]),
        "init_containers[0].liveness_check is enabled; init containers can't have health checks",
    ),
    "readiness of an init container": (
        PodSpec(containers=[A], init_containers=[ContainerSpec(name="i", readiness_check=CHECK)]),
        "init_containers[0].readiness_check is enabled",
    ),
    "what is wrong with the second container": (
        PodSpec(containers=[A, needs("b", cpu=-1)]),
        "containers[1].resource.cpu_limit is -1; expected 0 to",
    ),
    "what is wrong with an init container": (
        PodSpec(containers=[A], init_containers=[needs("b", memory=float("nan"))]),
        "init_containers[0].resource.mem_limit_mb is nan; expected 0 to",
    ),
    "a grace of a week": (
        PodSpec(containers=[A], kill_grace_period_seconds=604_800),
        "kill_grace_period_seconds is 604800; expected 0 for 30, or 1 to 86400",
    ),
    "a custom executor of nameless containers": (
        PodSpec(containers=[ContainerSpec()], mesos_spec=CUSTOM),
        "custom executor without data, which is made from the containers: instance 0:"
        " spec.default_spec.containers[0].name is empty",
    ),
    "a custom executor without an image": (
        PodSpec(containers=[A], mesos_spec=CUSTOM),
        "containers[0].image is empty; expected an image, or data",
    ),
    "a custom executor of containers with a variable in common": (
        PodSpec(containers=[with_variables("a", "X", "Y"), with_variables("b", "X")], mesos_spec=CUSTOM),
        "containers[1] has the variable 'X' of another container",
    ),
    "a port's name that is endless": (
        PodSpec(containers=[with_ports("a", PortSpec("p" * 256, 80))]),
        "ports[0].name is 'ppp",
    ),
    "a port's name that moves the cursor": (
        PodSpec(containers=[with_ports("a", PortSpec("\r", 80))]),
        "at most 255 printable characters",
    ),
    "a port of no known type": (
        PodSpec(containers=[with_ports("a", PortSpec("p", 80, type=PortSpecPortType(17)))]),
        "ports[0].type is 17; expected PORT_TYPE_STATIC or another",
    ),
    "a containerizer that nobody knows": (
        PodSpec(containers=[A], mesos_spec=MesosSpec(type=PodSpecContainerType(17))),
        "mesos_spec.type is 17; expected CONTAINER_TYPE_MESOS",
    ),
    "only init containers": (PodSpec(init_containers=[A]), "containers is empty; missing command"),
}


@pytest.mark.parametrize(("pod", "words"), REFUSED.values(), ids=REFUSED)
def test_a_pod_that_can_not_be_is_refused(template_of, pod, words):
    with pytest.raises(Invalid) as refused:
        template_of(pod)
    assert words in str(refused.value)


def test_a_pod_needs_the_most_that_it_needs_at_any_time(template_of):
    pod = PodSpec(
        containers=[needs("a", 1, 100, 10), needs("b", 2, 50, 20)],
        init_containers=[needs("i", 0.5, 500, 5), needs("j", 4, 1, 25)],
    )
    template = template_of(pod)
    assert template.demand == Resources(cpu=4000, memory=500_000, disk=2000)
    assert template.fds == 30
    slack = template_of(pod, sla=SlaSpec(preemptible=True, revocable=True))
    assert slack.demand == Resources(memory=500_000, disk=2000, revocable_cpu=4000)


def test_ports_are_united_and_each_container_keeps_its_own(template_of):
    http, admin, init = PortSpec("http", 0, "HTTP"), PortSpec("admin", 80), PortSpec("i", 81)
    template = template_of(
        PodSpec(
            containers=[with_ports("a", http, admin), with_ports("b", http)],
            init_containers=[with_ports("i", init)],
        )
    )
    assert template.ports == (PortRequest("http", 0, "HTTP"), PortRequest("admin", 80), PortRequest("i", 81))
    assert [each.ports for each in template.containers] == [("http", "admin"), ("http",)]
    assert template.init_containers[0].ports == ("i",)


def test_a_pod_of_one_is_plain_and_may_be_nameless(template_of):
    assert template_of(PodSpec(containers=[ContainerSpec()])).is_plain
    assert not template_of(PodSpec(containers=[A, B])).is_plain
    assert not template_of(PodSpec(containers=[A], init_containers=[INIT])).is_plain


def test_a_pod_is_checked_if_one_of_its_containers_is(template_of):
    assert not template_of(PodSpec(containers=[A, B])).health_checked
    checked = template_of(PodSpec(containers=[A, ContainerSpec(name="b", liveness_check=CHECK)]))
    assert checked.health_checked
    assert [each.check is not None for each in checked.containers] == [False, True]


def test_a_custom_executor_without_data_is_made_it_from_containers_that_say_enough(template_of):
    template = template_of(
        PodSpec(containers=[with_variables("a", "X"), with_variables("b", "Y", image="")], mesos_spec=CUSTOM)
    )
    assert [each.name for each in template.containers] == ["a", "b"]


def test_each_container_has_its_own_command(template_of):
    pod = PodSpec(
        containers=[
            ContainerSpec(name="a", entrypoint=CommandSpec("run", ["x"])),
            ContainerSpec(name="b", entrypoint=CommandSpec("stop")),
        ]
    )
    assert [each.command.value for each in template_of(pod).containers] == ["run", "stop"]
