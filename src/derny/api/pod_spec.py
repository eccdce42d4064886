"""Pod specs as clients write them: an instance's own spec laid over the default, and two forms of one thing.

The contract has two ways to say what a container runs: the deprecated `command`, `container` and `executor`
in Mesos' words, and the new `entrypoint`, `environment`, `image` with the pod's `mesos_spec`. One rule: where
both are given the new form is read, and nothing that a client sent is ever overwritten. `wire_in` asks here
what a spec means, `wire_out` has the form filled in that the client left out. (Behaviour, jobs §9.1, §9.7.)
"""

from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any, TypeVar

import betterproto2

from derny.model.specs import Labels
from derny.proto.mesos.v1 import (
    CommandInfo,
    CommandInfoUri,
    ContainerInfo,
    ContainerInfoDockerInfo,
    ContainerInfoMesosInfo,
    ContainerInfoType,
    EnvironmentVariable,
    ExecutorId,
    ExecutorInfo,
    ExecutorInfoType,
    Image,
    ImageDocker,
    ImageType,
    Parameter,
    Resource,
    ValueScalar,
    ValueType,
)
from derny.proto.mesos.v1 import Environment as MesosEnvironment
from derny.proto.peloton.api.v1alpha.job.stateless import JobSpec
from derny.proto.peloton.api.v1alpha.peloton import Label
from derny.proto.peloton.api.v1alpha.pod import CommandSpec, ContainerSpec, Environment, PodSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import (
    PodSpec as MesosSpec,
)
from derny.proto.peloton.api.v1alpha.pod.apachemesos import (
    PodSpecContainerType,
    PodSpecExecutorSpec,
    PodSpecExecutorSpecExecutorType,
)

_M = TypeVar("_M", bound=betterproto2.Message)

_MESOS_TYPE = {
    PodSpecContainerType.DOCKER: ContainerInfoType.DOCKER,
    PodSpecContainerType.MESOS: ContainerInfoType.MESOS,
}


def effective(default: PodSpec | None, override: PodSpec | None) -> PodSpec | None:
    """The spec of an instance: `override` laid over `default`; the one there is; None when there is neither.

    Field by field: a message, list or map of the override replaces the default's as a whole; empty text and 0
    keep the default's; booleans are always the override's. Containers that the override has under names of
    the default's are laid over those in the same way, and the default's others stay; where each has one
    container, names are not asked for. Any other list of containers replaces the default's.
    """
    if default is None or override is None:
        return override if default is None else default
    pod = _overlaid(default, override)
    pod.containers = _overlaid_containers(default.containers, override.containers)
    pod.init_containers = _overlaid_containers(default.init_containers, override.init_containers)
    return pod


def _overlaid_containers(base: list[ContainerSpec], over: list[ContainerSpec]) -> list[ContainerSpec]:
    if len(base) == len(over) == 1:
        return [_overlaid_container(base[0], over[0])]
    given = {container.name: container for container in over}
    if len(given) < len(over) or not given.keys() <= {container.name for container in base}:
        # Names that the default has not, or one of them twice, which will be refused.
        return over
    return [
        _overlaid_container(container, given[container.name]) if container.name in given else container
        for container in base
    ]


def _overlaid(base: _M, over: _M) -> _M:
    values = {field.name: getattr(over, field.name) for field in fields(over)}  # type: ignore[arg-type]  # generated classes are dataclasses, their base is not
    given = {k: v for k, v in values.items() if v or isinstance(v, bool | betterproto2.Message)}
    merged = replace(base, **given)  # type: ignore[type-var]  # as above
    merged._unknown_fields = bytes(base._unknown_fields) + bytes(over._unknown_fields)
    return merged


def _overlaid_container(base: ContainerSpec, over: ContainerSpec) -> ContainerSpec:
    """What is run is one thing, with its variables, in either form; so is what it is run in.

    Else the default's would show through where the override uses the other form.
    """
    hidden: dict[str, Any] = {}
    if over.command is not None or over.entrypoint is not None or over.environment:
        hidden |= {"command": None, "entrypoint": None, "environment": []}
    if over.container is not None or over.image:
        hidden |= {"container": None, "image": ""}
    return _overlaid(replace(base, **hidden), over)


def runs_in_shell(container: ContainerSpec, mesos: MesosSpec | None) -> bool:
    """Whether the command is a line for a shell; in the deprecated form, as in Mesos, unless it says no."""
    if container.command is not None and container.command.value:
        return container.command.shell is not False
    return mesos is not None and mesos.shell


def command_of(container: ContainerSpec) -> tuple[str, list[str]]:
    """The command and its arguments; both empty leave it to the image."""
    if container.entrypoint is not None:
        return container.entrypoint.value, container.entrypoint.arguments
    if container.command is not None:
        return container.command.value or "", container.command.arguments
    return "", []


def environment_of(container: ContainerSpec) -> list[tuple[str, str]]:
    """Names and values of the variables that the client gave."""
    if container.environment:
        return [(variable.name, variable.value) for variable in container.environment]
    if container.command is None or container.command.environment is None:
        return []
    return [
        (variable.name or "", variable.value or "") for variable in container.command.environment.variables
    ]


def labels_of(messages: Iterable[Label]) -> Labels:
    """Keys and values, sorted: their order means nothing."""
    return tuple(sorted((label.key, label.value) for label in messages))


def image_of(container: ContainerSpec) -> str:
    """The name of the container's image; empty when it has none of its own."""
    if container.image or container.container is None:
        return container.image
    info = container.container
    if info.docker is not None and info.docker.image:
        return info.docker.image
    image = info.mesos.image if info.mesos is not None else None
    return (image.docker.name or "") if image is not None and image.docker is not None else ""


def executor_of(pod: PodSpec, container: ContainerSpec) -> tuple[bool, bytes] | None:
    """Whether the executor that the client asks for is a custom one, and its data; None for no wish."""
    if pod.mesos_spec is not None and pod.mesos_spec.executor_spec is not None:
        spec = pod.mesos_spec.executor_spec
        return spec.type == PodSpecExecutorSpecExecutorType.CUSTOM, spec.data
    if container.executor is not None:
        return container.executor.type == ExecutorInfoType.CUSTOM, container.executor.data or b""
    return None


def fill_forms(job: JobSpec) -> None:
    """Fill in, for every pod spec of a decoded job, the form that its client left out.

    Sent again, the job means the same, but for overrides of `mesos_spec.shell` alone: the command of the
    default then says by itself whether it is a shell's.
    """
    default = job.default_spec
    # What the default did not say must be asked before it is filled in.
    inherited = default.mesos_spec if default is not None else None
    for override in job.instance_spec.values():
        fill_form(override, inherited)
    if default is not None:
        fill_form(default)


def fill_form(pod: PodSpec, inherited: MesosSpec | None = None) -> None:
    """Fill in the form that was left out. `inherited`: the `mesos_spec` that holds where `pod` has none."""
    mesos = pod.mesos_spec if pod.mesos_spec is not None else inherited
    for container in (*pod.containers, *pod.init_containers):
        shell = runs_in_shell(container, mesos)
        if mesos is None and _is_deprecated(container):
            pod.mesos_spec = mesos = _mesos_spec(container, shell)
        _fill_new(container)
        _fill_deprecated(container, mesos, shell)


def _is_deprecated(container: ContainerSpec) -> bool:
    """Whether the deprecated form says what the new one would say in the pod's `mesos_spec`."""
    command = container.command is not None and container.command.value and container.entrypoint is None
    return bool(command or container.container is not None or container.executor is not None)


def _mesos_spec(container: ContainerSpec, shell: bool) -> MesosSpec:
    kinds = {theirs: ours for ours, theirs in _MESOS_TYPE.items()}
    info, executor = container.container, container.executor
    spec = MesosSpec(shell=shell)
    if info is not None and info.type in kinds:
        spec.type = kinds[info.type]
    if executor is not None:
        spec.executor_spec = PodSpecExecutorSpec(
            # The numbers of both enums are the same.
            type=PodSpecExecutorSpecExecutorType(executor.type or 0),
            executor_id=(executor.executor_id.value or "") if executor.executor_id is not None else "",
            data=executor.data or b"",
        )
    return spec


def _fill_new(container: ContainerSpec) -> None:
    value, arguments = command_of(container)
    if container.entrypoint is None and (value or arguments):
        container.entrypoint = CommandSpec(value, list(arguments))
    if not container.environment:
        container.environment = [Environment(name, value) for name, value in environment_of(container)]
    container.image = image_of(container)


def _fill_deprecated(container: ContainerSpec, mesos: MesosSpec | None, shell: bool) -> None:
    if container.command is None and (container.entrypoint is not None or container.environment):
        container.command = _command_info(container, mesos, shell)
    if mesos is None:
        return
    if container.container is None and container.image and mesos.type in _MESOS_TYPE:
        container.container = _container_info(container.image, mesos)
    if container.executor is None and mesos.executor_spec is not None:
        container.executor = _executor_info(mesos.executor_spec)


def _command_info(container: ContainerSpec, mesos: MesosSpec | None, shell: bool) -> CommandInfo:
    value, arguments = command_of(container)
    variables = [EnvironmentVariable(name, value) for name, value in environment_of(container)]
    uris = [
        CommandInfoUri(uri.value, uri.executable, uri.extract, uri.cache, uri.output_file or None)
        for uri in (mesos.uris if mesos is not None else [])
    ]
    return CommandInfo(
        uris=uris,
        environment=MesosEnvironment(variables) if variables else None,
        value=value,
        shell=shell,
        arguments=list(arguments),
    )


def _container_info(image: str, mesos: MesosSpec) -> ContainerInfo:
    info = ContainerInfo(type=_MESOS_TYPE[mesos.type])
    if mesos.type == PodSpecContainerType.DOCKER:
        parameters = [Parameter(parameter.key, parameter.value) for parameter in mesos.docker_parameters]
        info.docker = ContainerInfoDockerInfo(image=image, parameters=parameters)
    else:
        info.mesos = ContainerInfoMesosInfo(Image(type=ImageType.DOCKER, docker=ImageDocker(image)))
    return info


def _executor_info(spec: PodSpecExecutorSpec) -> ExecutorInfo:
    amounts = {"cpus": spec.resources.cpu, "mem": spec.resources.mem_mb} if spec.resources is not None else {}
    return ExecutorInfo(
        type=ExecutorInfoType(spec.type),
        executor_id=ExecutorId(spec.executor_id),
        data=spec.data,
        resources=[
            Resource(name=name, type=ValueType.SCALAR, scalar=ValueScalar(amount))
            for name, amount in amounts.items()
        ],
    )
