"""A pod spec becomes a template; all that clients get wrong in one is said here.

One rule: as in `wire_in`, the first fault is refused in a sentence that names the field, its value and what
would be accepted, and what this release can't do is refused, never dropped. Here are the rules of all
containers of a pod together; those of one are in `container_in`. Called by `wire_in`, with the effective spec
of an instance. (Behaviour, jobs §9.3, §9.4 and §9.6; API reference, PodSpec.)
"""

from collections.abc import Callable, Iterator

from derny.api import container_in, pod_spec, volume_spec
from derny.api.container_in import NAME_MAX
from derny.model.errors import Exhausted, Invalid, Unimplemented
from derny.model.periods import Limits
from derny.model.resources import NOTHING, Resources
from derny.model.specs import Constraint, Container, PodTemplate, PortRequest
from derny.proto.peloton.api.v1alpha.job.stateless import SlaSpec
from derny.proto.peloton.api.v1alpha.pod import ContainerSpec, PodSpec, PortSpec
from derny.proto.peloton.api.v1alpha.pod.apachemesos import PodSpecContainerType

KILL_GRACE_S = 30
KILL_GRACE_MAX_S = 86_400
"""A day: whatever needs longer to stop does not stop by being asked."""


def check_extent(where: str, pod: PodSpec, limits: Limits) -> None:
    """Exhausted for more containers or ports than a pod may have."""
    every = [container for _place, container in _each(where, pod)]
    ports = sum(len(container.ports) for container in every)
    for what, count, most, limit in (
        ("containers", len(every), limits.containers_per_pod_max, "containers_per_pod_max"),
        ("ports", ports, limits.ports_per_pod_max, "ports_per_pod_max"),
    ):
        if count > most:
            raise Exhausted(f"{where} has {count} {what}; at most {most} are supported (limit {limit})")


def check(where: str, instance: int, pod: PodSpec, sla: SlaSpec | None) -> None:
    """Refuse what no pod may be; `where` begins the sentence. (Behaviour, jobs §9.4, from 5 on.)"""
    if pod.revocable and sla is None:
        raise Invalid(
            f"{where}.revocable is true and spec.sla unset; revocable pods must be preemptible, so expected"
            " spec.sla with revocable and preemptible"
        )
    check_ports(where, pod)
    if not pod.containers:
        raise Invalid(f"{where}.containers is empty; missing command, expected at least one container")
    if pod.controller and instance != 0:
        raise Invalid(f"{where}.controller is true; only instance 0 may be a controller")
    if pod.preemption_policy is not None and pod.preemption_policy.kill_on_preempt:
        raise Invalid(
            f"{where}.preemption_policy.kill_on_preempt is true; it must be false for a service job"
        )
    _check_executors(where, pod)
    if pod.mesos_spec is not None and pod.mesos_spec.type not in tuple(PodSpecContainerType):
        raise Invalid(
            f"{where}.mesos_spec.type is {int(pod.mesos_spec.type)}; expected CONTAINER_TYPE_MESOS,"
            " CONTAINER_TYPE_DOCKER or none"
        )
    _check_names(where, pod)
    if pod.kill_grace_period_seconds > KILL_GRACE_MAX_S:
        raise Invalid(
            f"{where}.kill_grace_period_seconds is {pod.kill_grace_period_seconds}; expected 0 for"
            f" {KILL_GRACE_S}, or 1 to {KILL_GRACE_MAX_S}"
        )
    volume_spec.check(where, pod)
    for number, container in enumerate(pod.init_containers):
        container_in.check_runs_once(f"{where}.init_containers[{number}]", container)
    for place, container in _each(where, pod):
        container_in.check(place, container)


def _each(where: str, pod: PodSpec) -> Iterator[tuple[str, ContainerSpec]]:
    """All containers, each with what sentences call it."""
    for field in ("init_containers", "containers"):
        for number, container in enumerate(getattr(pod, field)):
            yield f"{where}.{field}[{number}]", container


def _check_names(where: str, pod: PodSpec) -> None:
    """Only the container of a pod of one may have no name: who has several must tell them apart."""
    alone = len(pod.containers) + len(pod.init_containers) == 1
    places: dict[str, str] = {}
    for place, container in _each(where, pod):
        name = container.name
        if not name and not alone:
            raise Invalid(f"{place}.name is empty; in a pod of several containers each needs a name")
        if len(name) > NAME_MAX or (name and not name.isprintable()):
            raise Invalid(f"{place}.name is {name[:40]!r}; expected at most {NAME_MAX} printable characters")
        if places.setdefault(name, place) != place:
            raise Invalid(f"{place}.name is {name!r}, as is {places[name]}.name; expected each once")


def check_ports(where: str, pod: PodSpec) -> None:
    """Refuse ports that can't be. Two containers may share one, if they mean the same by its name."""
    ports: dict[str, tuple[str, PortSpec]] = {}
    numbers: dict[int, str] = {}
    for place, container in _each(where, pod):
        container_in.check_ports(place, container, _is_custom(pod, container))
        for port in container.ports:
            other, known = ports.setdefault(port.name, (place, port))
            if (port.value, port.env_name) != (known.value, known.env_name):
                raise Invalid(
                    f"{place}.ports has the name {port.name!r} for another port than {other}.ports has;"
                    " expected one meaning in all containers of a pod"
                )
            if port.value and numbers.setdefault(port.value, port.name) != port.name:
                raise Invalid(
                    f"{place}.ports has the value {port.value} under the name {port.name!r}, another"
                    f" container under {numbers[port.value]!r}; expected each number once in a pod"
                )


def _is_custom(pod: PodSpec, container: ContainerSpec) -> bool:
    executor = pod_spec.executor_of(pod, container)
    return executor is not None and executor[0]


def _check_executors(where: str, pod: PodSpec) -> None:
    for _, container in _each(where, pod):
        executor = pod_spec.executor_of(pod, container)
        if executor is None:
            continue
        custom, data = executor
        if not custom:
            raise Invalid(
                f"{where} has an executor of an unsupported type; expected EXECUTOR_TYPE_CUSTOM or none"
            )
        if not data:
            _check_foldable(where, pod)


def _check_foldable(where: str, pod: PodSpec) -> None:
    """A custom executor without data is made its data from the containers, which therefore have to say more
    than others (behaviour, jobs §9.6)."""
    because = f"{where} has a custom executor without data, which is made from the containers:"
    variables: set[str] = set()
    for place, container in _each(where, pod):
        if not container.name:
            raise Invalid(f"{because} {place}.name is empty; expected a name, or data")
        for name, _ in pod_spec.environment_of(container):
            if name in variables:
                raise Invalid(
                    f"{because} {place} has the variable {name!r} of another container; expected each name"
                    " once in the pod, or data"
                )
            variables.add(name)
    if not pod_spec.image_of(pod.containers[0]):
        raise Invalid(f"{because} {where}.containers[0].image is empty; expected an image, or data")


_LATER: tuple[tuple[str, Callable[[PodSpec], object], str], ...] = (
    ("host_ports", lambda pod: pod.host_ports, "host ports"),
)


def check_served(where: str, pod: PodSpec) -> None:
    """Refuse what this release would have to drop."""
    for field, asked, what in _LATER:
        # A message that is set asks for something even when it is empty.
        if asked(pod) not in (None, False, []):
            raise later(f"{where}.{field}", what)
    for place, container in _each(where, pod):
        for field, what in container_in.not_served(container):
            raise later(f"{place}.{field}", what)


def later(where: str, what: str) -> Unimplemented:
    """The refusal of what another release will do."""
    return Unimplemented(f"{where} asks for {what}, which this release does not support yet")


def template(pod: PodSpec, revocable: bool, preemptible: bool, constraint: Constraint | None) -> PodTemplate:
    """What is decided on of a pod; one that `check` has passed."""
    containers = tuple(_container(pod, each) for each in pod.containers)
    return PodTemplate(
        _demand(pod, revocable),
        ports=_ports(pod),
        kill_grace_s=pod.kill_grace_period_seconds or KILL_GRACE_S,
        preemptible=preemptible,
        controller=pod.controller,
        health_checked=any(container.check is not None for container in containers),
        constraint=constraint,
        labels=pod_spec.labels_of(pod.labels),
        fds=_fds(pod),
        containers=containers,
        init_containers=tuple(_container(pod, each) for each in pod.init_containers),
        revocable=revocable,
        volume=volume_spec.persistent(pod),
    )


def _container(pod: PodSpec, container: ContainerSpec) -> Container:
    shell = pod_spec.runs_in_shell(container, pod.mesos_spec)
    return container_in.translated(container, shell, volume_spec.mounts(pod, container))


def _ports(pod: PodSpec) -> tuple[PortRequest, ...]:
    """Those of all containers, united by name."""
    found: dict[str, PortRequest] = {}
    for container in (*pod.containers, *pod.init_containers):
        for port in container.ports:
            found.setdefault(port.name, PortRequest(port.name, port.value, port.env_name))
    return tuple(found.values())


def _demand(pod: PodSpec, revocable: bool) -> Resources:
    """The most that the pod needs at any time: init containers run one by one, the others side by side.

    The disk of its volume comes on top. A revocable pod takes its cpu from slack; the other kinds are
    ordinary (behaviour, scheduler §6.8).
    """
    volume = volume_spec.persistent(pod)
    most = NOTHING
    for container in pod.containers:
        most = most.plus(container_in.demand(container))
    for container in pod.init_containers:
        most = Resources(*map(max, most, container_in.demand(container)))
    if volume is not None:
        most = most.plus(Resources(disk=volume.size))
    return most._replace(cpu=0, revocable_cpu=most.cpu) if revocable else most


def _fds(pod: PodSpec) -> int:
    together = sum(map(container_in.fds, pod.containers))
    return max(together, *map(container_in.fds, pod.init_containers), 0)
