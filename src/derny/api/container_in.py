"""One container of a pod spec becomes what agents need to know of it; what is wrong with one is said here.

One rule: as in `wire_in`; `place` begins each sentence and names the container. Health checks come in two
forms, as everything does: where both are given the new one is read. Called by `pod_in`, which has the rules
of all containers together. (Behaviour, jobs §7.7 and §9.4; API reference, ContainerSpec and HealthCheckSpec.)
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from derny.api import pod_spec
from derny.model.errors import Invalid
from derny.model.resources import Resources, whole_units
from derny.model.specs import CheckKind, Command, Container, HealthCheck
from derny.proto.mesos.v1 import EnvironmentVariableType, VolumeSourceType
from derny.proto.peloton.api.v1alpha.pod import (
    ContainerSpec,
    HealthCheckSpec,
    HealthCheckSpecHealthCheckType,
    PortSpec,
    PortSpecPortType,
)

AMOUNT_MAX: Final = 1e9
"""Of one resource of one container: a million cores or a petabyte, so that sums over a cluster are exact."""
NAME_MAX: Final = 255
"""Characters of a name, which every listing repeats."""
IMAGE_MAX: Final = 1_024
"""Characters of an image's name, which every status of a pod repeats; registries take some 500."""
PORT_MAX: Final = 65535

_SCHEMES = ("", "http", "https")


def check(place: str, container: ContainerSpec) -> None:
    """Refuse what no container may be."""
    if container.resource is not None:
        for name in ("cpu_limit", "mem_limit_mb", "disk_limit_mb", "gpu_limit"):
            check_amount(f"{place}.resource.{name}", getattr(container.resource, name), AMOUNT_MAX)
    _check_environment(f"{place}.environment", container)
    image = pod_spec.image_of(container)
    if len(image) > IMAGE_MAX or (image and not image.isprintable()):
        raise Invalid(
            f"{place}.image is {image[:40]!r} of {len(image)} characters; expected at most {IMAGE_MAX}"
            " printable ones"
        )
    if container.liveness_check is not None and container.liveness_check.enabled:
        _check_health(f"{place}.liveness_check", container.liveness_check)
    info = container.container
    for number, volume in enumerate(info.volumes if info is not None else []):
        if volume.source is not None and volume.source.type == VolumeSourceType.SECRET:
            raise Invalid(
                f"{place}.container.volumes[{number}] is a secret; expected it in the request's own field"
            )


def check_runs_once(place: str, container: ContainerSpec) -> None:
    """Refuse what is nothing for an init container (API reference, PodSpec.init_containers)."""
    for name in ("liveness_check", "readiness_check"):
        health = getattr(container, name)
        if health is not None and health.enabled:
            raise Invalid(f"{place}.{name} is enabled; init containers can't have health checks")


def check_amount(where: str, amount: float, most: float) -> None:
    """Refuse an amount that is negative, no number, or too much."""
    # Written so that NaN, which compares with nothing, is refused too.
    if not 0 <= amount <= most:
        raise Invalid(f"{where} is {amount:g}; expected 0 to {most:.0f}")


def check_ports(place: str, container: ContainerSpec, custom_executor: bool) -> None:
    """Refuse ports that can't be, or that are there twice."""
    for number, port in enumerate(container.ports):
        _check_port(f"{place}.ports[{number}]", port, custom_executor)
    names = Counter(port.name for port in container.ports)
    numbers = Counter(port.value for port in container.ports if port.value)
    for what, counted in (("name", names), ("value", numbers)):
        repeated = [value for value, times in counted.items() if times > 1]
        if repeated:
            raise Invalid(f"{place}.ports has the {what} {repeated[0]!r} more than once; expected each once")


def _check_port(where: str, port: PortSpec, custom_executor: bool) -> None:
    if not port.name or len(port.name) > NAME_MAX or not port.name.isprintable():
        raise Invalid(
            f"{where}.name is {port.name[:40]!r}; expected the name of the port, at most {NAME_MAX} printable"
            " characters"
        )
    if port.type not in tuple(PortSpecPortType):
        raise Invalid(f"{where}.type is {int(port.type)}; expected PORT_TYPE_STATIC or another of PortType")
    if port.value > PORT_MAX:
        raise Invalid(f"{where}.value is {port.value}; expected 0 for a dynamic port, or 1 to {PORT_MAX}")
    if not port.value and not port.env_name and not custom_executor:
        raise Invalid(
            f"{where}.env_name is empty; the dynamic port {port.name!r} needs an environment variable"
        )
    if port.env_name:
        _check_variable(f"{where}.env_name", port.env_name)


def _check_environment(where: str, container: ContainerSpec) -> None:
    names: set[str] = set()
    for number, (name, value) in enumerate(pod_spec.environment_of(container)):
        _check_variable(f"{where}[{number}].name", name)
        if "\0" in value:
            # The value itself is not told: it may be one that nobody else should read.
            raise Invalid(f"{where}[{number}].value of {name!r} has a NUL; expected none")
        if name in names:
            raise Invalid(f"{where} has the name {name!r} more than once; expected each once")
        names.add(name)


def _check_variable(where: str, name: str) -> None:
    """What an environment can hold (POSIX.1-2017, XBD 8.1)."""
    if not name or "=" in name or "\0" in name:
        raise Invalid(f"{where} is {name[:40]!r}; expected the name of a variable, without '=' and NUL")


def _check_health(where: str, health: HealthCheckSpec) -> None:
    if health.type == HealthCheckSpecHealthCheckType.COMMAND:
        if not _command_of(health).value:
            raise Invalid(f"{where}.command is empty; a check of type COMMAND needs a command")
    elif health.type == HealthCheckSpecHealthCheckType.HTTP:
        _check_http(where, health)
    elif health.type != HealthCheckSpecHealthCheckType.GRPC:
        raise Invalid(
            f"{where}.type is {int(health.type)} and the check enabled; expected"
            " HEALTH_CHECK_TYPE_COMMAND, _HTTP or _GRPC"
        )


def _check_http(where: str, health: HealthCheckSpec) -> None:
    if health.http_get is not None:
        asked, name = health.http_get, "http_get"
        # A port that the scheduler picks has no number yet.
        port = asked.port_spec.value or 1 if asked.port_spec is not None else asked.port
        scheme, path = asked.scheme, asked.path
    elif health.http_check is not None:
        name, port = "http_check", health.http_check.port
        scheme, path = health.http_check.scheme, health.http_check.path
    else:
        raise Invalid(f"{where}.http_get is unset; a check of type HTTP needs the request to make")
    if not 1 <= port <= PORT_MAX:
        raise Invalid(f"{where}.{name}.port is {port}; expected 1 to {PORT_MAX}")
    if scheme not in _SCHEMES:
        raise Invalid(f"{where}.{name}.scheme is {scheme[:40]!r}; expected 'http', 'https' or none")
    if path and not path.startswith("/"):
        raise Invalid(f"{where}.{name}.path is {path[:40]!r}; expected one that begins with '/'")


def not_served(container: ContainerSpec) -> Iterator[tuple[str, str]]:
    """The fields that ask for what this release can't do, and what that is."""
    if any(
        port.template_name or port.type == PortSpecPortType.DYNAMIC_TEMPLATE_VAR for port in container.ports
    ):
        yield "ports", "ports as template variables"
    command = container.command
    variables = (
        command.environment.variables if command is not None and command.environment is not None else []
    )
    if any(variable.type == EnvironmentVariableType.SECRET for variable in variables):
        yield "command.environment", "variables that are secrets"


def translated(container: ContainerSpec, shell: bool, mounts: tuple[str, ...]) -> Container:
    """What agents need to know. `shell`: whether the container's command is a line for one."""
    value, arguments = pod_spec.command_of(container)
    health = container.liveness_check
    return Container(
        container.name,
        Command(value, tuple(arguments), shell),
        pod_spec.image_of(container),
        tuple(port.name for port in container.ports),
        tuple(pod_spec.environment_of(container)),
        _health_check(health) if health is not None and health.enabled else None,
        mounts,
    )


def _health_check(health: HealthCheckSpec) -> HealthCheck:
    by_command = health.type == HealthCheckSpecHealthCheckType.COMMAND
    unshared = (
        health.command is None
        and health.command_check is not None
        and health.command_check.unshare_environments
    )
    default = HealthCheck(CheckKind(health.type))
    return HealthCheck(
        default.kind,
        _command_of(health) if by_command else default.command,
        health.initial_interval_secs or default.initial_s,
        health.interval_secs or default.interval_s,
        health.max_consecutive_failures or default.failures_max,
        health.timeout_secs or default.timeout_s,
        health.success_threshold or default.successes,
        unshared,
    )


def _command_of(health: HealthCheckSpec) -> Command:
    """With arguments it is a program; else a line for a shell, as Mesos takes it (scheduler §8.6)."""
    if health.command is not None:
        arguments = tuple(health.command.arguments)
        return Command(health.command.value, arguments, not arguments)
    return Command(health.command_check.command if health.command_check is not None else "")


def demand(container: ContainerSpec) -> Resources:
    """What a container asks for, its cpu as ordinary cpu."""
    limit = container.resource
    if limit is None:
        return Resources()
    return Resources(
        whole_units(limit.cpu_limit),
        whole_units(limit.mem_limit_mb),
        whole_units(limit.disk_limit_mb),
        whole_units(limit.gpu_limit),
    )


def fds(container: ContainerSpec) -> int:
    """How many file descriptors a container asks for."""
    return container.resource.fd_limit if container.resource is not None else 0
