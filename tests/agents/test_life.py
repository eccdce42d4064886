"""What the containers of a pod do together."""

import math
from itertools import count, takewhile

import pytest

from derny.agents.life import Life, Moment, life_of
from derny.core.commands import REASON_HEALTH
from derny.core.effects import Launch
from derny.model.ids import HostName, PodId
from derny.model.resources import NOTHING
from derny.model.specs import CheckKind, Command, Container, HealthCheck, PodTemplate, PortRequest
from derny.model.states import TaskState as T

JOB = "aaaaaaaa-0000-4000-8000-000000000001"
CHECK = HealthCheck(CheckKind.COMMAND, Command("ls"), 15, 10, 3)


def a_container(name: str, run: str, check: HealthCheck | None = None, **variables: str) -> Container:
    return Container(name, Command(run), check=check, environment=tuple(variables.items()))


def a_life(*main: Container, init: tuple[Container, ...] = (), instance: int = 0) -> Life:
    template = PodTemplate(NOTHING, containers=main, init_containers=init, kill_grace_s=30)
    return life_of(Launch(PodId(f"{JOB}-{instance}-1"), HostName("h"), template, (), 0.0))


def moments(life: Life) -> list[Moment]:
    return list(takewhile(lambda moment: moment is not None, map(life.moment, count())))  # type: ignore[arg-type]  # up to the first None


def told(life: Life) -> list[tuple[float, T, str]]:
    """When, the pod's state, and the states of its containers by their initials."""
    return [
        (moment.at_s, moment.state, " ".join(each.state.name for each in moment.containers))
        for moment in moments(life)
    ]


def test_one_container_is_the_pod() -> None:
    assert told(a_life(a_container("a", "sleep 5"))) == [(0, T.RUNNING, ""), (5, T.FINISHED, "")]
    assert told(a_life(a_container("a", "server"))) == [(0, T.RUNNING, "")]
    last = moments(a_life(a_container("a", "sleep 5; exit 3")))[-1]
    assert (last.state, last.message, last.exit_code) == (T.FAILED, "Command exited with status 3", 3)


def test_init_containers_run_in_order_then_the_others_side_by_side() -> None:
    init = (a_container("i", "sleep 2"), a_container("j", "sleep 3"))
    assert told(a_life(a_container("a", "sleep 10"), a_container("b", "sleep 4"), init=init)) == [
        (0, T.STARTING, "RUNNING STAGING STAGING STAGING"),
        (2, T.STARTING, "FINISHED RUNNING STAGING STAGING"),
        (5, T.RUNNING, "FINISHED FINISHED RUNNING RUNNING"),
        (9, T.RUNNING, "FINISHED FINISHED RUNNING FINISHED"),
        (15, T.FINISHED, "FINISHED FINISHED FINISHED FINISHED"),
    ]


def test_an_init_container_that_fails_fails_the_pod() -> None:
    init = (a_container("i", "sleep 2; exit 9"), a_container("j", "true"))
    life = a_life(a_container("a", "server"), init=init)
    assert told(life) == [
        (0, T.STARTING, "RUNNING STAGING STAGING"),
        (2, T.FAILED, "FAILED STAGING STAGING"),
    ]
    assert moments(life)[-1].message == "Command exited with status 9 (container 'i')"
    assert told(a_life(a_container("a", "x"), init=(a_container("i", "server"),))) == [
        (0, T.STARTING, "RUNNING STAGING")
    ]


def test_one_that_fails_stops_the_others() -> None:
    life = a_life(a_container("a", "server"), a_container("b", "true"), a_container("c", "sleep 3; exit 1"))
    assert told(life)[-1] == (3, T.FAILED, "KILLED FINISHED FAILED")


def test_alike_pods_share_a_life_and_those_that_ask_who_they_are_do_not() -> None:
    server, asks = a_container("a", "server"), a_container("a", "sleep $PELOTON_INSTANCE_ID")
    assert a_life(server, instance=1) is a_life(server, instance=2)
    assert [moments(a_life(asks, instance=number))[-1].at_s for number in (1, 2)] == [1, 2]


def test_a_command_sees_its_job_its_task_and_its_ports() -> None:
    script = f'[ "$PELOTON_JOB_ID/$PELOTON_TASK_ID/$HTTP" = {JOB}/{JOB}-7/31005 ]'
    template = PodTemplate(
        NOTHING,
        ports=(PortRequest("admin", 80), PortRequest("http", 0, "HTTP")),
        containers=(a_container("a", script, HTTP="the client's own"),),
    )
    launch = Launch(PodId(f"{JOB}-7-1"), HostName("h"), template, (80, 31005), 0.0)
    assert moments(life_of(launch))[-1].state is T.FINISHED


def test_a_healthy_pod_says_so_once_and_then_nothing() -> None:
    found = moments(a_life(a_container("a", "server", CHECK)))
    assert [(m.at_s, m.state, m.healthy, m.reason) for m in found] == [
        (0, T.RUNNING, None, ""),
        (15, T.RUNNING, True, REASON_HEALTH),
    ]


def test_an_unhealthy_pod_says_so_each_time_and_is_killed_as_failed() -> None:
    check = HealthCheck(CheckKind.COMMAND, Command("ls /no/such/path"), 15, 10, 3)
    found = moments(a_life(a_container("a", "server", check)))
    assert [(m.at_s, m.state, m.healthy) for m in found[1:]] == [
        (15, T.RUNNING, False),
        (25, T.RUNNING, False),
        (35, T.RUNNING, False),
        (35, T.FAILED, None),
    ]
    assert (found[-1].reason, found[-1].signal) == (REASON_HEALTH, "Terminated")
    deaf = moments(a_life(a_container("a", "trap '' TERM; server", check)))[-1]
    assert (deaf.at_s, deaf.signal) == (65, "Killed")


def test_a_pod_is_well_once_all_its_checked_containers_are() -> None:
    late = HealthCheck(CheckKind.HTTP, initial_s=40)
    found = moments(a_life(a_container("a", "server", CHECK), a_container("b", "x", late)))
    assert [(m.at_s, m.healthy) for m in found] == [(0, None), (15, None), (40, True)]
    assert [each.healthy for each in found[1].containers] == [True, None]


def test_what_has_ended_is_not_checked() -> None:
    found = moments(a_life(a_container("a", "sleep 5", CHECK), a_container("b", "sleep 100")))
    assert [(m.at_s, m.healthy) for m in found] == [(0, None), (5, None), (100, None)]


@pytest.mark.parametrize(("at_s", "deaf"), [(-1, False), (0.5, False), (1, True), (3, False), (6, True)])
def test_a_pod_is_deaf_while_one_of_its_containers_is(at_s: float, deaf: bool) -> None:
    init = (a_container("i", "sleep 1; trap '' TERM; sleep 1"),)
    life = a_life(a_container("a", "x"), a_container("b", "sleep 2; trap '' TERM; server"), init=init)
    assert life.is_deaf(at_s) is deaf
    assert not a_life(a_container("a", "x")).is_deaf(math.inf)


def test_each_container_sees_the_volumes_that_it_mounts() -> None:
    looks = Command("ls /data || exit 3; exit 0")
    sees, does_not = Container("a", looks, mounts=("/data",)), Container("b", looks)
    assert told(a_life(sees))[-1][1] is T.FINISHED
    assert told(a_life(does_not))[-1][1] is T.FAILED
