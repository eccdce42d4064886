"""The simulated agents on manual time: what is asked, and what is reported when."""

from collections import defaultdict

import hypothesis.strategies as st
import msgspec
import pytest
from hypothesis import given, settings

from derny.agents import simulated
from derny.agents.simulated import SimulatedAgents
from derny.agents.task import Latencies
from derny.core.commands import REASON_HEALTH, HostSeen, LoseHosts, PodReport, ReportPods, SeeHosts
from derny.core.effects import Effect, Kill, Launch, Reconcile
from derny.model.errors import NotFound
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.specs import CheckKind, Command, Container, HealthCheck, PodTemplate, PortRequest
from derny.model.states import TaskState

BIRTH = 1_000.0
HOST = HostName("host0")
HOSTS = [
    HostSeen(
        HostName(f"host{number}"), f"agent-{number}", "10.0.0.1", Resources(4000, 4000, 4000), (31000, 31003)
    )
    for number in range(3)
]
TERMINAL = {TaskState.FINISHED, TaskState.FAILED, TaskState.KILLED, TaskState.LOST}
ALL = 10**9


def the_agents(at: float = BIRTH, seed: int = 7, **latencies: tuple[float, float]) -> SimulatedAgents:
    """Agents that have registered and been listened to."""
    agents = SimulatedAgents(HOSTS, seed, Latencies(**latencies), at)
    agents.poll(at, ALL)
    return agents


def launch(
    pod: str, script: str = "", at: float = BIRTH, host: int = 0, ports: tuple[int, ...] = ()
) -> Launch:
    wanted = tuple(PortRequest(f"port{number}") for number in ports)
    template = PodTemplate(Resources(1000, 1000, 1000), Command(script), ports=wanted)
    return Launch(PodId(pod), HostName(f"host{host}"), template, ports, at)


def kill(pod: str, at: float, host: int = 0, grace_s: float = 30.0) -> Kill:
    return Kill(PodId(pod), HostName(f"host{host}"), grace_s, at)


def reports(agents: SimulatedAgents, at: float) -> list[PodReport]:
    found = [command.reports for command in agents.poll(at, ALL) if isinstance(command, ReportPods)]
    assert len(found) <= 1
    return found[0] if found else []


def dated(agents: SimulatedAgents, until: float) -> list[tuple[float, PodReport]]:
    """All reports until then with their moments, by polling just when there is something to hear."""
    found: list[tuple[float, PodReport]] = []
    while (at := agents.next_wake) is not None and at <= until:
        found += [(at, report) for report in reports(agents, at)]
    return found


def states(found: list[PodReport]) -> list[TaskState]:
    return [report.state for report in found]


def test_all_agents_register_at_birth_in_one_command() -> None:
    agents = SimulatedAgents(HOSTS, 7, Latencies(), BIRTH)
    assert agents.next_wake == BIRTH
    assert agents.poll(BIRTH, ALL) == [SeeHosts(HOSTS)]
    assert agents.next_wake is None
    assert agents.poll(BIRTH + 1e6, ALL) == []


def test_registration_takes_the_time_that_the_seed_says() -> None:
    agents = SimulatedAgents(HOSTS, 7, Latencies(registration_s=(1.0, 9.0)), BIRTH)
    seen: dict[str, float] = {}
    while (at := agents.next_wake) is not None:
        for command in agents.poll(at, ALL):
            assert isinstance(command, SeeHosts)
            seen.update({host.name: at - BIRTH for host in command.hosts})
    assert set(seen) == {host.name for host in HOSTS}
    assert len(set(seen.values())) == len(HOSTS)
    assert all(1.0 <= delay_s <= 9.01 for delay_s in seen.values())


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("sleep 5", PodReport(PodId("p-0-1"), TaskState.FINISHED, "Command exited with status 0", host=HOST)),
        (
            "sleep 5; exit 3",
            PodReport(
                PodId("p-0-1"),
                TaskState.FAILED,
                "Command exited with status 3",
                "REASON_COMMAND_EXECUTOR_FAILED",
                3,
                host=HOST,
            ),
        ),
    ],
)
def test_a_launch_starts_runs_and_ends_as_its_command_says(script: str, end: PodReport) -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", script)], BIRTH)
    (starting_at, starting), (running_at, running), (ended_at, ended) = dated(agents, BIRTH + 100)
    assert states([starting, running]) == [TaskState.STARTING, TaskState.RUNNING]
    assert starting.message and running.message
    assert BIRTH + 0.05 <= starting_at < running_at
    assert BIRTH + 0.1 <= running_at <= BIRTH + 0.31
    assert ended_at == pytest.approx(running_at + 5, abs=0.011)
    assert ended == end
    assert agents.next_wake is None


def test_a_server_runs_without_timers_until_killed() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "server")], BIRTH)
    assert states(reports(agents, BIRTH + 1)) == [TaskState.STARTING, TaskState.RUNNING]
    assert agents.next_wake is None
    agents.perform([kill("p-0-1", BIRTH + 50)], BIRTH + 50)
    [(ended_at, ended)] = dated(agents, BIRTH + 100)
    assert BIRTH + 50.1 <= ended_at <= BIRTH + 50.31
    assert ended == PodReport(
        PodId("p-0-1"),
        TaskState.KILLED,
        "Command terminated with signal Terminated",
        signal="Terminated",
        host=HOST,
    )


def test_a_container_deaf_to_sigterm_is_killed_after_its_grace_period() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "trap '' TERM; server")], BIRTH)
    reports(agents, BIRTH + 1)
    agents.perform([kill("p-0-1", BIRTH + 50, grace_s=20)], BIRTH + 50)
    agents.perform([kill("p-0-1", BIRTH + 55, grace_s=1)], BIRTH + 55)
    [(ended_at, ended)] = dated(agents, BIRTH + 100)
    assert ended_at == BIRTH + 70
    assert ended.message == "Command terminated with signal Killed"


def test_a_container_that_exits_in_its_grace_period_counts_as_killed() -> None:
    """Mesos' executor says so of all that ends after a kill; the exit status stands in the message."""
    agents = the_agents()
    agents.perform([launch("p-0-1", "trap '' TERM; sleep 10; exit 3")], BIRTH)
    agents.perform([kill("p-0-1", BIRTH + 5)], BIRTH + 5)
    ended = reports(agents, BIRTH + 11)[-1]
    assert ended == PodReport(PodId("p-0-1"), TaskState.KILLED, "Command exited with status 3", host=HOST)


def test_a_kill_before_the_start_prevents_it() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "server"), kill("p-0-1", BIRTH)], BIRTH)
    assert states(reports(agents, BIRTH + 100)) == [TaskState.KILLED]


def test_a_kill_that_overtakes_its_launch_is_answered_once_and_remembered() -> None:
    agents = the_agents()
    agents.perform([kill("p-0-1", BIRTH), kill("p-0-1", BIRTH)], BIRTH)
    agents.perform([launch("p-0-1", "server")], BIRTH + 1)
    [answer] = reports(agents, BIRTH + 100)
    assert (answer.state, answer.reason) == (TaskState.LOST, "REASON_RECONCILIATION")


def test_a_repeated_launch_is_ignored_before_and_after_the_end() -> None:
    agents = the_agents()
    for at in (BIRTH, BIRTH + 0.2, BIRTH + 5):
        agents.perform([launch("p-0-1", "sleep 1")], at)
    assert states(reports(agents, BIRTH + 100)) == [TaskState.STARTING, TaskState.RUNNING, TaskState.FINISHED]


@pytest.mark.parametrize("order", ["perform", "reconcile"])
def test_a_launch_decided_after_the_end_is_of_another_pod_with_the_same_id(order: str) -> None:
    """Its job was deleted, and created anew with its id."""
    agents = the_agents(BIRTH)
    agents.perform([launch("j-0-1", "exit 1")], BIRTH)
    assert dated(agents, BIRTH + 10)[-1][1].state is TaskState.FAILED
    late = launch("j-0-1", "sleep 100", BIRTH + 20)
    agents.perform([late] if order == "perform" else [Reconcile([late], [])], BIRTH + 20)
    assert dated(agents, BIRTH + 30)[-1][1].state is TaskState.RUNNING
    agents.perform([late], BIRTH + 31)
    assert dated(agents, BIRTH + 40) == []


def test_the_memory_of_ended_runs_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs remembered: the older is forgotten, and would run again; the newer is ignored."""
    monkeypatch.setattr(simulated, "ENDED_MAX", 4)
    agents = the_agents()
    for number in range(5):
        agents.perform([launch(f"p-0-{number}", "true", BIRTH + number)], BIRTH + number)
    reports(agents, BIRTH + 10)
    agents.perform([launch("p-0-0", "true", BIRTH), launch("p-0-4", "true", BIRTH + 4)], BIRTH + 10)
    assert {report.pod for report in reports(agents, BIRTH + 20)} == {"p-0-0"}


def test_an_order_the_host_can_not_carry_out_is_answered_lost() -> None:
    agents = the_agents()
    agents.perform([launch(f"p-{number}-1", "server") for number in range(5)], BIRTH)
    agents.perform([launch("p-9-1", "server", host=9)], BIRTH)
    lost = {
        report.pod: report.reason for report in reports(agents, BIRTH + 1) if report.state is TaskState.LOST
    }
    assert lost == {"p-4-1": "REASON_INVALID_OFFERS", "p-9-1": "REASON_AGENT_UNKNOWN"}


def test_room_and_ports_come_back_at_the_end() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "sleep 1", ports=(31000, 31001))], BIRTH)
    agents.perform([launch("p-1-1", "sleep 1", ports=(31001,))], BIRTH)
    agents.perform([launch("p-2-1", "sleep 1", ports=(31004,))], BIRTH)
    agents.perform([launch("p-3-1", "sleep 1", ports=(31002, 31002))], BIRTH)
    lost = [report for report in reports(agents, BIRTH + 5) if report.state is TaskState.LOST]
    assert [(report.pod, report.reason) for report in lost] == [
        ("p-1-1", "REASON_INVALID_OFFERS"),
        ("p-2-1", "REASON_INVALID_OFFERS"),
        ("p-3-1", "REASON_INVALID_OFFERS"),
    ]
    later = [launch(f"p-{number}-2", "server", BIRTH + 5, ports=(31000 + number,)) for number in range(4)]
    agents.perform(later, BIRTH + 5)
    assert sorted(states(reports(agents, BIRTH + 6))) == [TaskState.STARTING] * 4 + [TaskState.RUNNING] * 4
    agents.perform([launch("p-5-1", "server", BIRTH + 6)], BIRTH + 6)
    assert states(reports(agents, BIRTH + 7)) == [TaskState.LOST]


def test_a_static_port_may_lie_outside_the_offered_range_but_is_taken_once() -> None:
    agents = the_agents()
    template = PodTemplate(Resources(1), Command("server"), ports=(PortRequest("http", 80),))
    for pod in ("p-0-1", "p-1-1"):
        agents.perform([Launch(PodId(pod), HostName("host0"), template, (80,), BIRTH)], BIRTH)
    last = {report.pod: report.state for report in reports(agents, BIRTH + 1)}
    assert last == {"p-0-1": TaskState.RUNNING, "p-1-1": TaskState.LOST}


def test_a_silent_agent_is_lost_with_its_tasks_and_registers_again() -> None:
    agents = the_agents()
    agents.perform(
        [launch("p-0-1", "server"), launch("p-1-1", "sleep 30"), launch("p-2-1", "server", host=1)], BIRTH
    )
    reports(agents, BIRTH + 1)
    agents.stop_agent(HostName("host0"), BIRTH + 20)
    lost_at = agents.next_wake
    assert lost_at is not None
    while lost_at < BIRTH + 60:  # The end of `sleep 30` is not heard.
        assert agents.poll(lost_at, ALL) == []
        lost_at = agents.next_wake
        assert lost_at is not None
    assert BIRTH + 20 + 75 - 15 <= lost_at <= BIRTH + 20 + 75.01
    commands = agents.poll(lost_at, ALL)
    assert commands[0] == LoseHosts([HostName("host0")])
    assert isinstance(commands[1], ReportPods)
    assert [(report.pod, report.state, report.reason) for report in commands[1].reports] == [
        ("p-0-1", TaskState.LOST, "REASON_AGENT_REMOVED"),
        ("p-1-1", TaskState.LOST, "REASON_AGENT_REMOVED"),
    ]
    agents.perform([launch("p-3-1", "server"), kill("p-0-1", lost_at)], lost_at)
    [refused] = reports(agents, lost_at)
    assert (refused.pod, refused.reason) == ("p-3-1", "REASON_AGENT_REMOVED")
    agents.start_agent(HostName("host0"), lost_at + 100)
    assert agents.poll(lost_at + 100, ALL) == [SeeHosts([HOSTS[0]])]
    agents.perform([launch(f"p-{number}-2", "server", lost_at + 100) for number in range(4)], lost_at + 100)
    assert TaskState.LOST not in states(reports(agents, lost_at + 200))


def test_an_agent_that_returns_in_time_says_the_last_of_each_pod() -> None:
    agents = the_agents()
    agents.stop_agent(HostName("host0"), BIRTH)
    agents.stop_agent(HostName("host0"), BIRTH + 1)
    agents.perform([launch("p-0-1", "sleep 10", BIRTH + 1), launch("p-1-1", "server", BIRTH + 1)], BIRTH + 1)
    assert agents.poll(BIRTH + 50, ALL) == []
    agents.start_agent(HostName("host0"), BIRTH + 50)
    found = reports(agents, BIRTH + 50)
    assert [(report.pod, report.state) for report in found] == [
        ("p-1-1", TaskState.RUNNING),
        ("p-0-1", TaskState.FINISHED),
    ]
    assert agents.poll(BIRTH + 1000, ALL) == []


def test_only_silence_costs_timers() -> None:
    agents = the_agents()
    agents.stop_agent(HostName("host1"), BIRTH + 5)
    agents.start_agent(HostName("host1"), BIRTH + 6)
    assert agents.poll(BIRTH + 1000, ALL) == []
    assert agents.next_wake is None


def test_an_unknown_agent_can_not_be_stopped() -> None:
    agents = the_agents()
    with pytest.raises(NotFound, match="host9"):
        agents.stop_agent(HostName("host9"), BIRTH)
    with pytest.raises(NotFound, match="host9"):
        agents.start_agent(HostName("host9"), BIRTH)


def test_a_poll_hands_over_no_more_reports_than_asked_for() -> None:
    agents = the_agents()
    agents.perform([launch(f"p-{number}-1", "server", host=number % 3) for number in range(5)], BIRTH)
    everything: list[PodReport] = []
    for _ in range(4):
        [command] = agents.poll(BIRTH + 1, 3)
        assert isinstance(command, ReportPods)
        assert 0 < len(command.reports) <= 3
        everything += command.reports
        assert agents.next_wake == (BIRTH + 1 if len(everything) < 10 else None)
    assert {report.pod for report in everything} == {f"p-{number}-1" for number in range(5)}
    assert states(everything[-1:]) == [TaskState.RUNNING]


def test_a_distant_end_survives_rearmed_timers() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "sleep 1d")], BIRTH)
    *_, (ended_at, ended) = dated(agents, BIRTH + 1e6)
    assert ended.state is TaskState.FINISHED
    assert ended_at == pytest.approx(BIRTH + 86400.2, abs=0.2)


def test_killed_tasks_leave_the_wheel_in_time() -> None:
    agents = the_agents()
    agents.perform([launch("p-0-1", "sleep 365d")], BIRTH)
    reports(agents, BIRTH + 1)
    agents.perform([kill("p-0-1", BIRTH + 1)], BIRTH + 1)
    assert states(reports(agents, BIRTH + 2)) == [TaskState.KILLED]
    assert agents.poll(BIRTH + 700, ALL) == []
    assert agents.next_wake is None


def test_reconciling_with_living_agents_states_the_present() -> None:
    agents = the_agents()
    orders = [launch("p-0-1", "server"), launch("p-1-1", "exit 2"), launch("p-2-1", "server")]
    agents.perform(orders, BIRTH)
    reports(agents, BIRTH + 10)
    agents.perform([Reconcile([*orders, launch("p-3-1", host=9)], [kill("p-2-1", BIRTH + 10)])], BIRTH + 10)
    found = reports(agents, BIRTH + 10)
    assert {report.reason for report in found} == {"REASON_RECONCILIATION", "REASON_AGENT_UNKNOWN"}
    assert {report.pod: (report.state, report.exit_code) for report in found} == {
        "p-0-1": (TaskState.RUNNING, 0),
        "p-1-1": (TaskState.FAILED, 2),
        "p-2-1": (TaskState.RUNNING, 0),
        "p-3-1": (TaskState.LOST, 0),
    }
    assert states(reports(agents, BIRTH + 20)) == [TaskState.KILLED]


def test_what_a_silent_agent_holds_back_is_not_reconciled_behind_its_back() -> None:
    agents = the_agents()
    order = launch("p-0-1", "sleep 1")
    agents.perform([order], BIRTH)
    agents.stop_agent(HostName("host0"), BIRTH)
    agents.perform([Reconcile([order], [])], BIRTH + 10)
    assert agents.poll(BIRTH + 10, ALL) == []
    agents.start_agent(HostName("host0"), BIRTH + 11)
    assert states(reports(agents, BIRTH + 11)) == [TaskState.FINISHED]


CHECKED = PodTemplate(
    Resources(1000, 1000, 1000),
    containers=(Container("c", Command("server"), check=HealthCheck(CheckKind.HTTP)),),
    health_checked=True,
)


def checked_launch(pod: str) -> Launch:
    return Launch(PodId(pod), HOST, CHECKED, (), BIRTH)


def test_a_healthy_container_is_quiet_and_its_health_is_told_anew_when_agents_are_compared() -> None:
    agents = the_agents()
    agents.perform([checked_launch("p-0-1")], BIRTH)
    assert [report.healthy for _, report in dated(agents, BIRTH + 20)] == [None, None, True]
    assert agents.next_wake is None
    agents.perform([Reconcile([checked_launch("p-0-1")], [])], BIRTH + 50)
    stated, health = reports(agents, BIRTH + 50)
    assert (stated.reason, stated.healthy) == ("REASON_RECONCILIATION", None)
    assert (health.state, health.reason, health.healthy) == (TaskState.RUNNING, REASON_HEALTH, True)


def test_what_a_health_check_found_while_nobody_listened_is_told() -> None:
    reborn = the_agents(BIRTH + 50)
    reborn.perform([Reconcile([checked_launch("p-0-1")], [])], BIRTH + 50)
    assert [report.healthy for report in reports(reborn, BIRTH + 50)] == [None, True]
    assert dated(reborn, BIRTH + 9999) == []
    early = the_agents(BIRTH + 5)
    early.perform([Reconcile([checked_launch("p-0-1")], [])], BIRTH + 5)
    assert [report.healthy for report in reports(early, BIRTH + 5)] == [None]
    assert [report.healthy for _, report in dated(early, BIRTH + 9999)] == [True]


def test_a_silent_agent_keeps_the_last_result_of_a_health_check() -> None:
    agents = the_agents()
    log = Container("log", Command("sleep 20"))
    pair = msgspec.structs.replace(CHECKED, containers=(*CHECKED.containers, log))
    agents.stop_agent(HOST, BIRTH)
    agents.perform([Launch(PodId("p-0-1"), HOST, pair, (), BIRTH)], BIRTH)
    agents.start_agent(HOST, BIRTH + 30)
    (held,) = reports(agents, BIRTH + 30)
    assert (held.state, held.healthy, held.reason) == (TaskState.RUNNING, True, REASON_HEALTH)
    assert [each.state for each in held.containers] == [TaskState.RUNNING, TaskState.FINISHED]


def test_an_end_a_moment_before_the_kill_counts_live_and_after_a_restart() -> None:
    """Both fall into one slot of the timers."""
    order, late_kill = launch("p-0-1", "true"), kill("p-0-1", BIRTH + 0.205)
    agents = the_agents(start_s=(0.203, 0.203))
    agents.perform([order], BIRTH)
    agents.perform([late_kill], BIRTH + 0.205)
    assert states(reports(agents, BIRTH + 10))[-1] is TaskState.FINISHED
    reborn = the_agents(start_s=(0.203, 0.203), at=BIRTH + 1)
    reborn.perform([Reconcile([order], [late_kill])], BIRTH + 1)
    assert states(reports(reborn, BIRTH + 10)) == [TaskState.FINISHED]


def test_a_kill_before_a_restart_decides_the_end_before_the_restart() -> None:
    reborn = the_agents(at=BIRTH + 8)
    order = launch("p-0-1", "trap '' TERM; sleep 6")
    reborn.perform([Reconcile([order], [kill("p-0-1", BIRTH + 3)])], BIRTH + 8)
    [end] = reports(reborn, BIRTH + 100)
    assert (end.state, end.message) == (TaskState.KILLED, "Command exited with status 0")


SCRIPTS = [
    "server",
    "true",
    "sleep 1",
    "sleep 3; exit 4",
    "trap '' TERM; sleep 6",
    "sleep 1; trap '' TERM; server",
]

moments = st.integers(0, 800).map(lambda hundredths: BIRTH + hundredths / 100)
pods = st.integers(0, 15)
launches = st.builds(
    lambda pod, at: launch(
        f"p-{pod}-1", SCRIPTS[pod % len(SCRIPTS)], at, pod % 3, (31000 + pod // 3,) if pod % 2 else ()
    ),
    pods,
    moments,
)
kills = st.builds(lambda pod, at: kill(f"p-{pod}-1", at, pod % 3, grace_s=pod % 4 + 0.5), pods, moments)


def in_order(found: list[Launch | Kill]) -> list[Launch | Kill]:
    """By their moments, each pod launched once and killed later, if both: a launch after the end would be of
    another pod."""
    ordered = sorted(found, key=lambda order: order.at)
    first: dict[PodId, Launch] = {}
    for order in ordered:
        if isinstance(order, Launch):
            first.setdefault(order.pod, order)
    return [
        order
        for order in ordered
        if order.pod not in first
        or order is first[order.pod]
        or (isinstance(order, Kill) and order.at > first[order.pod].at)
    ]


orders = st.lists(st.one_of(launches, kills), max_size=30).map(in_order)


def told(agents: SimulatedAgents, orders: list[Launch | Kill], polls: list[float]) -> list[PodReport]:
    """All reports, when these orders are given at their moments and one polls at those."""
    found: list[PodReport] = []
    calls: list[tuple[float, Effect | None]] = [(order.at, order) for order in orders]
    for at, order in sorted([*calls, *((poll, None) for poll in polls)], key=lambda call: call[0]):
        if order is None:
            found += reports(agents, at)
        else:
            agents.perform([order], at)
    return found + reports(agents, BIRTH + 1e5)


def by_pod(found: list[PodReport]) -> dict[PodId, list[PodReport]]:
    grouped: dict[PodId, list[PodReport]] = defaultdict(list)
    for report in found:
        grouped[report.pod].append(report)
    return grouped


@settings(deadline=None, max_examples=100)
@given(orders, st.lists(moments), st.lists(moments))
def test_each_pod_has_a_legal_life_however_one_polls(
    orders: list[Launch | Kill], polls: list[float], others: list[float]
) -> None:
    found = told(the_agents(), orders, polls)
    assert found == told(the_agents(), orders, others)
    for told_of_pod in by_pod(found).values():
        life = states(told_of_pod)
        assert life == sorted(life, key=lambda state: (state in TERMINAL, state))
        assert len(set(life)) == len(life)
        assert sum(state in TERMINAL for state in life) <= 1
    ended = {report.pod for report in found if report.state in TERMINAL}
    assert {order.pod for order in orders if isinstance(order, Kill)} <= ended


@settings(deadline=None, max_examples=100)
@given(orders)
def test_no_host_ever_carries_more_than_it_has(orders: list[Launch | Kill]) -> None:
    agents = the_agents()
    ended: set[PodId] = set()
    accepted: dict[PodId, Launch] = {}
    for order in orders:
        for report in reports(agents, order.at):
            if report.state in TERMINAL:
                ended.add(report.pod)
        agents.perform([order], order.at)
        if isinstance(order, Launch):
            accepted.setdefault(order.pod, order)
        for report in reports(agents, order.at):
            if report.state in TERMINAL:
                ended.add(report.pod)
        for host in HOSTS:
            running = [one for pod, one in accepted.items() if pod not in ended and one.host == host.name]
            assert len(running) <= 4
            ports = [port for one in running for port in one.ports]
            assert len(ports) == len(set(ports))


@settings(deadline=None, max_examples=100)
@given(orders, moments)
def test_after_a_restart_every_life_goes_on_as_if_nothing_had_happened(
    orders: list[Launch | Kill], restart: float
) -> None:
    """New agents that are told what the journal has say the same ends at the same moments."""
    lasting = the_agents()
    before: list[tuple[float, PodReport]] = []
    launched: dict[PodId, Launch] = {}
    killed: dict[PodId, Kill] = {}
    done = [order for order in orders if order.at <= restart]
    for order in done:
        before += dated(lasting, order.at)
        lasting.perform([order], order.at)
        if isinstance(order, Launch):
            launched.setdefault(order.pod, order)
        elif order.pod in launched:
            killed.setdefault(order.pod, order)
    before += dated(lasting, restart)
    ended = {report.pod for _, report in before if report.state in TERMINAL}
    owed = [one for pod, one in launched.items() if pod not in ended]
    after = {
        report.pod: (at, report) for at, report in dated(lasting, BIRTH + 1e5) if report.state in TERMINAL
    }

    reborn = the_agents(at=restart)
    reborn.perform([Reconcile(owed, [one for pod, one in killed.items() if pod not in ended])], restart)
    answers = reports(reborn, restart)
    assert [report.pod for report in answers if report.pod in launched] == [report.pod for report in answers]
    assert sorted(report.pod for report in answers) == sorted(order.pod for order in owed)
    assert {report.reason for report in answers} <= {"REASON_RECONCILIATION"}
    ends = {report.pod: (restart, report) for report in answers if report.state in TERMINAL}
    ends |= {
        report.pod: (at, report) for at, report in dated(reborn, BIRTH + 1e5) if report.state in TERMINAL
    }
    assert set(ends) == set(after)
    for pod, (at, report) in ends.items():
        ended_at, end = after[pod]
        assert (report.state, report.message, report.exit_code) == (end.state, end.message, end.exit_code)
        assert at == ended_at or restart <= ended_at <= restart + 0.01


@given(st.lists(moments, max_size=5), st.integers(0, len(SCRIPTS) - 1))
def test_repeats_of_a_launch_change_nothing_whenever_they_come(repeats: list[float], script: int) -> None:
    found = []
    for times in ([], sorted(repeats)):
        agents, order = the_agents(), launch("p-0-1", SCRIPTS[script])
        agents.perform([order], BIRTH)
        told = []
        for at in times:
            told += dated(agents, at)
            agents.perform([order], at)
        found.append(told + dated(agents, BIRTH + 1e5))
    assert found[0] == found[1]


@pytest.mark.parametrize("other", [8, -7, 2**70])
def test_the_seed_decides_when_things_happen(other: int) -> None:
    heard = []
    for seed in (7, 7, other):
        agents = the_agents(seed=seed)
        agents.perform([launch(f"p-{number}-1", "server", host=number % 3) for number in range(9)], BIRTH)
        heard.append(dated(agents, BIRTH + 10))
    assert heard[0] == heard[1] != heard[2]


def test_moments_do_not_depend_on_string_hashing() -> None:
    """Figures written down once: they hold in every process and on every machine."""
    agents = the_agents(seed=1)
    agents.perform([launch("p-0-1", "sleep 1")], BIRTH)
    assert [at for at, _ in dated(agents, BIRTH + 10)] == [1000.08, 1000.16, 1001.16]
