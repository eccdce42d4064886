"""One container: what is refused of it, and what agents need to know of it."""

import pytest

from derny.api.container_in import check, translated
from derny.model.errors import Invalid
from derny.model.specs import CheckKind, Command, HealthCheck
from derny.proto.mesos.v1 import CommandInfo, ContainerInfo, ContainerInfoType, VolumeSource, VolumeSourceType
from derny.proto.mesos.v1 import Environment as MesosEnvironment
from derny.proto.mesos.v1 import EnvironmentVariable as MesosVariable
from derny.proto.mesos.v1 import Volume as MesosVolume
from derny.proto.peloton.api.v1alpha.pod import (
    CommandSpec,
    ContainerSpec,
    Environment,
    HealthCheckSpec,
    HealthCheckSpecCommandCheck,
    HealthCheckSpecHttpCheck,
    HttpGetSpec,
    PortSpec,
)
from derny.proto.peloton.api.v1alpha.pod import HealthCheckSpecHealthCheckType as Kind


def checked(kind: Kind, **fields) -> ContainerSpec:
    return ContainerSpec(liveness_check=HealthCheckSpec(enabled=True, type=kind, **fields))


def http(**fields) -> ContainerSpec:
    return checked(Kind.HTTP, http_get=HttpGetSpec(**{"port": 80} | fields))


def variables(*names: str) -> ContainerSpec:
    return ContainerSpec(environment=[Environment(name, "1") for name in names])


SECRET = MesosVolume("/x", source=VolumeSource(type=VolumeSourceType.SECRET))
REFUSED = {
    "NUL in a value": (
        ContainerSpec(environment=[Environment("K", "s\0t")]),
        "environment[0].value of 'K' has",
    ),
    "an endless image": (ContainerSpec(image="x" * 2000), "image is 'xxx"),
    "an image that can't be read": (
        ContainerSpec(image="a\u202eb"),
        "of 3 characters; expected at most 1024",
    ),
    "no type": (checked(Kind.UNKNOWN), "liveness_check.type is 0 and the check enabled; expected"),
    "an unknown type": (checked(Kind(99)), "liveness_check.type is 99"),
    "no command": (checked(Kind.COMMAND), "liveness_check.command is empty"),
    "an empty command": (
        checked(Kind.COMMAND, command_check=HealthCheckSpecCommandCheck()),
        "liveness_check.command is empty",
    ),
    "no request": (checked(Kind.HTTP), "liveness_check.http_get is unset"),
    "no port": (http(port=0), "liveness_check.http_get.port is 0; expected 1 to 65535"),
    "a port that is none": (http(port=65536), "http_get.port is 65536"),
    "a port that is none, deprecated form": (
        checked(Kind.HTTP, http_check=HealthCheckSpecHttpCheck(port=70000)),
        "liveness_check.http_check.port is 70000",
    ),
    "a port of the container that is none": (http(port_spec=PortSpec("p", 65536)), "port is 65536"),
    "a scheme": (http(scheme="ftp"), "http_get.scheme is 'ftp'"),
    "a path": (http(path="health"), "http_get.path is 'health'"),
    "a variable without a name": (variables("A", ""), "environment[1].name is ''"),
    "a variable with an equals sign": (variables("A=B"), "environment[0].name is 'A=B'"),
    "a variable with a NUL": (variables("A\0"), "environment[0].name is 'A\\x00'"),
    "a variable twice": (variables("A", "B", "A"), "environment has the name 'A' more than once"),
    "a variable twice, deprecated form": (
        ContainerSpec(
            command=CommandInfo(environment=MesosEnvironment([MesosVariable("A"), MesosVariable("A")]))
        ),
        "environment has the name 'A' more than once",
    ),
    "a secret among the volumes": (
        ContainerSpec(container=ContainerInfo(type=ContainerInfoType.MESOS, volumes=[SECRET])),
        "container.volumes[0] is a secret",
    ),
}


@pytest.mark.parametrize(("container", "words"), REFUSED.values(), ids=REFUSED)
def test_a_container_that_can_not_be_is_refused(container, words):
    with pytest.raises(Invalid) as refused:
        check("containers[0]", container)
    assert str(refused.value).startswith("containers[0]")
    assert words in str(refused.value)


TAKEN = {
    "a disabled check of no type": ContainerSpec(liveness_check=HealthCheckSpec()),
    "gRPC": checked(Kind.GRPC),
    "HTTP": http(scheme="https", path="/health"),
    "HTTP on a port that is yet to be picked": http(port=0, port_spec=PortSpec("p", 0, "P")),
    "HTTP, deprecated form": checked(Kind.HTTP, http_check=HealthCheckSpecHttpCheck(port=80)),
}


@pytest.mark.parametrize("container", TAKEN.values(), ids=TAKEN)
def test_a_container_that_can_be_is_taken(container):
    check("containers[0]", container)


def check_of(container: ContainerSpec) -> HealthCheck | None:
    return translated(container, True, ()).check


def test_what_a_check_does_not_say_has_the_contract_s_defaults():
    assert check_of(checked(Kind.GRPC)) == HealthCheck(CheckKind.GRPC, Command(), 15, 10, 3, 20, 1)
    given = checked(
        Kind.HTTP,
        initial_interval_secs=1,
        interval_secs=2,
        max_consecutive_failures=4,
        timeout_secs=5,
        success_threshold=6,
    )
    assert check_of(given) == HealthCheck(CheckKind.HTTP, Command(), 1, 2, 4, 5, 6)
    assert check_of(ContainerSpec(liveness_check=HealthCheckSpec(type=Kind.GRPC))) is None
    assert check_of(ContainerSpec(readiness_check=HealthCheckSpec(enabled=True, type=Kind.GRPC))) is None


def test_commands_of_either_form():
    old = HealthCheckSpecCommandCheck("ls /x", unshare_environments=True)
    found = check_of(checked(Kind.COMMAND, command_check=old))
    assert (found.command, found.unshared) == (Command("ls /x", (), True), True)
    found = check_of(checked(Kind.COMMAND, command_check=old, command=CommandSpec("ls /y")))
    assert (found.command, found.unshared) == (Command("ls /y", (), True), False)
    program = checked(Kind.COMMAND, command=CommandSpec("ls", ["/y"]))
    assert check_of(program).command == Command("ls", ("/y",), False)
