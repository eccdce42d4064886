"""What the containers of a simulated pod do together, from the moment at which its first one starts.

One rule: pure, and shared. A life is a list of moments, each a report that the agent makes; pods that are
alike share one, and so a task is little more than a place in it. Only pods whose commands ask who they are
have lives of their own. Init containers run one after the other; then the others side by side, until all have
exited with 0 or one has failed, with which the rest is stopped. Called by `agents.task`. (API reference,
PodSpec and PodState; behaviour, jobs §9.5.)
"""

import heapq
import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import msgspec

from derny.agents.behaviour import Behaviour, Files, Variables, plan
from derny.agents.checkup import results
from derny.core.commands import REASON_HEALTH, ContainerReport
from derny.core.effects import Launch
from derny.model.ids import parse_pod_id
from derny.model.specs import Container, PodTemplate
from derny.model.states import TaskState

REASON_EXIT: Final = "REASON_COMMAND_EXECUTOR_FAILED"

_JOB: Final = "PELOTON_JOB_ID"
_INSTANCE: Final = "PELOTON_INSTANCE_ID"
_TASK: Final = "PELOTON_TASK_ID"


class Moment(msgspec.Struct, frozen=True, gc=False):
    """A report of the agent, and when: in seconds from the start of the first container."""

    at_s: float
    state: TaskState
    message: str
    reason: str = ""
    exit_code: int = 0
    signal: str = ""
    healthy: bool | None = None
    containers: tuple[ContainerReport, ...] = ()


class Life:
    """The moments of a pod that nobody disturbs, made as they are asked for: a life may be endless."""

    def __init__(self, pod: "_Pod") -> None:
        self._made: list[Moment] = []
        self._rest = pod.moments()
        self._deaf = pod.deaf_spans()

    def moment(self, number: int) -> Moment | None:
        """The moment of this number, from 0; None when nothing happens any more."""
        while len(self._made) <= number:
            following = next(self._rest, None)
            if following is None:
                return None
            self._made.append(following)
        return self._made[number]

    def is_deaf(self, at_s: float) -> bool:
        """Whether a container ignores SIGTERM at this time."""
        return any(since <= at_s < until for since, until in self._deaf)


def life_of(launch: Launch) -> Life:
    """The life that this launch begins."""
    template = launch.template
    own = _own_variables(launch) if _asks_who_it_is(template) else ()
    # Most pods have neither secrets nor ports, and every launch comes by here.
    mounted = tuple((0.0, secret.path, True) for secret in launch.secrets) if launch.secrets else ()
    return _shared(template.init_containers, template.containers, template.kill_grace_s, own, mounted)


def _asks_who_it_is(template: PodTemplate) -> bool:
    """Whether a command may depend on what only this pod has among its variables."""
    names = tuple(port.env_name for port in template.ports if port.env_name) if template.ports else ()
    return _mentions(template.init_containers, template.containers, names)


@lru_cache(maxsize=4096)
def _mentions(init: tuple[Container, ...], main: tuple[Container, ...], ports: tuple[str, ...]) -> bool:
    texts: list[str] = []
    for container in (*init, *main):
        commands = [container.command, *([container.check.command] if container.check is not None else [])]
        for command in commands:
            texts += [command.value, *command.arguments]
        texts += [value for _, value in container.environment]
    return any(name in text for name in (_JOB, _INSTANCE, _TASK, *ports) for text in texts)


def _own_variables(launch: Launch) -> Variables:
    job, instance, _ = parse_pod_id(launch.pod)
    ports = [
        (port.env_name, str(number))
        for port, number in zip(launch.template.ports, launch.ports, strict=False)
        if port.env_name
    ]
    return ((_JOB, job), (_INSTANCE, str(instance)), (_TASK, f"{job}-{instance}"), *ports)


@lru_cache(maxsize=4096)
def _shared(
    init: tuple[Container, ...], main: tuple[Container, ...], grace_s: int, own: Variables, mounted: Files
) -> Life:
    return Life(_Pod(init, main, grace_s, own, mounted))


class _Pod:
    """The containers of a pod, what each does by itself, and where they are."""

    def __init__(
        self,
        init: tuple[Container, ...],
        main: tuple[Container, ...],
        grace_s: int,
        own: Variables,
        mounted: Files,
    ) -> None:
        self._init, self._main, self._grace_s, self._own = init, main, grace_s, own
        self._begin = [self._plan(each, mounted) for each in init]
        self._work = [self._plan(each, mounted) for each in main]
        self._now = [ContainerReport(TaskState.STAGING)] * (len(init) + len(main))

    def _plan(self, container: Container, mounted: Files) -> Behaviour:
        volumes = tuple((0.0, path, True) for path in container.mounts)
        return plan(container.command, (*container.environment, *self._own), (*mounted, *volumes))

    def deaf_spans(self) -> list[tuple[float, float]]:
        """When a container ignores SIGTERM: from, until."""
        spans, start_s = [], 0.0
        for behaviour in self._begin:
            spans.append((start_s + behaviour.deaf_after_s, start_s + behaviour.runs_s))
            start_s += behaviour.runs_s
        spans += [(start_s + each.deaf_after_s, start_s + each.runs_s) for each in self._work]
        return [(since, until) for since, until in spans if since < until]

    def moments(self) -> Iterator[Moment]:
        """All that happens, in its order."""
        start_s = 0.0
        for number, behaviour in enumerate(self._begin):
            self._now[number] = ContainerReport(TaskState.RUNNING)
            yield self._moment(start_s, TaskState.STARTING, "Init container is running")
            if behaviour.runs_s == math.inf:
                return
            start_s += behaviour.runs_s
            if behaviour.exit_code:
                yield self._failed(start_s, number, behaviour)
                return
            self._now[number] = ContainerReport(TaskState.FINISHED)
        for number in range(len(self._begin), len(self._now)):
            self._now[number] = ContainerReport(TaskState.RUNNING)
        yield self._moment(start_s, TaskState.RUNNING, "Container is running")
        yield from self._side_by_side(start_s)

    def _side_by_side(self, start_s: float) -> Iterator[Moment]:
        left = len(self._main)
        ends = sorted(
            (start_s + behaviour.runs_s, number, None, False)
            for number, behaviour in enumerate(self._work)
            if behaviour.runs_s < math.inf
        )
        for at_s, number, healthy, is_last in heapq.merge(
            ends, *self._checks(start_s), key=lambda what: what[0]
        ):
            place, behaviour = len(self._begin) + number, self._work[number]
            if self._now[place].state is not TaskState.RUNNING:
                continue
            if healthy is not None:
                yield self._checked(at_s, place, healthy)
                if is_last:
                    yield self._unwell(at_s, place, behaviour, start_s)
                    return
            elif behaviour.exit_code:
                yield self._failed(at_s, place, behaviour)
                return
            else:
                left -= 1
                self._now[place] = ContainerReport(TaskState.FINISHED)
                if not left:
                    yield self._moment(at_s, TaskState.FINISHED, "Command exited with status 0")
                    return
                yield self._moment(at_s, TaskState.RUNNING, "Container is running")

    def _checks(self, start_s: float) -> list[Iterator[tuple[float, int, bool | None, bool]]]:
        """Of each container with a check: when it finds what, and whether that is once too often."""

        def of(number: int, container: Container) -> Iterator[tuple[float, int, bool | None, bool]]:
            for at_s, healthy, is_last in results(container, self._work[number], self._own):
                yield start_s + at_s, number, healthy, is_last

        return [of(number, each) for number, each in enumerate(self._main) if each.check is not None]

    def _checked(self, at_s: float, place: int, healthy: bool) -> Moment:
        """The pod is well once all are that are checked, and unwell with each that is not."""
        self._now[place] = ContainerReport(TaskState.RUNNING, healthy=healthy)
        checked = [
            self._now[len(self._begin) + number].healthy
            for number, container in enumerate(self._main)
            if container.check is not None and self._now[len(self._begin) + number].state is TaskState.RUNNING
        ]
        if healthy and not all(checked):
            return self._moment(at_s, TaskState.RUNNING, "Container is running")
        message = "Health check passed" if healthy else "Health check failed"
        return self._moment(at_s, TaskState.RUNNING, message, REASON_HEALTH, healthy=healthy)

    def _unwell(self, at_s: float, place: int, behaviour: Behaviour, start_s: float) -> Moment:
        """The agent kills what has been unwell for too long, and calls it a failure."""
        deaf = at_s - start_s >= behaviour.deaf_after_s
        signal = "Killed" if deaf else "Terminated"
        self._stop_all(place, ContainerReport(TaskState.FAILED, 0, signal))
        message = f"Command terminated with signal {signal}: the health check has failed too often in a row"
        at_s += self._grace_s if deaf else 0
        return self._moment(
            at_s, TaskState.FAILED, message + self._whose(place), REASON_HEALTH, signal=signal
        )

    def _failed(self, at_s: float, place: int, behaviour: Behaviour) -> Moment:
        code = behaviour.exit_code
        self._stop_all(place, ContainerReport(TaskState.FAILED, code))
        message = f"Command exited with status {code}" + self._whose(place)
        return self._moment(at_s, TaskState.FAILED, message, REASON_EXIT, code)

    def _stop_all(self, culprit: int, end: ContainerReport) -> None:
        """Stopped at once: what the others take to stop is not simulated."""
        for place, now in enumerate(self._now):
            if place == culprit:
                self._now[place] = end
            elif now.state is TaskState.RUNNING:
                self._now[place] = ContainerReport(TaskState.KILLED)

    def _whose(self, place: int) -> str:
        containers = (*self._init, *self._main)
        return f" (container {containers[place].name!r})" if len(containers) > 1 else ""

    def _moment(
        self,
        at_s: float,
        state: TaskState,
        message: str,
        reason: str = "",
        exit_code: int = 0,
        signal: str = "",
        healthy: bool | None = None,
    ) -> Moment:
        told = tuple(self._now) if len(self._now) > 1 else ()
        return Moment(at_s, state, message, reason, exit_code, signal, healthy, told)
