"""Agents that an operator disturbs, and what of it outlives the daemon."""

from collections.abc import Sequence

import msgspec
import pytest

from derny.agents.operated import REASON_AGENT_RESTARTED, OperatedAgents
from derny.agents.simulated import REASON_AGENT_REMOVED
from derny.agents.task import Latencies
from derny.core.commands import (
    Command,
    HostSeen,
    LoseHosts,
    PodReport,
    ReconnectAgents,
    ReportPods,
    SeeHosts,
)
from derny.core.effects import BringUp, Effect, Kill, Launch, Reconcile, TakeDown
from derny.model.errors import Exists, NotFound
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.specs import Command as Script
from derny.model.specs import PodTemplate
from derny.model.states import AgentState, TaskState

BIRTH = 1_000.0
ALL = 10**9
A, T = AgentState, TaskState


def a_host(number: int, **labels: str) -> HostSeen:
    name = HostName(f"host{number}")
    capacity = Resources(4000, 4000, 4000)
    return HostSeen(name, f"agent-{name}", f"10.0.0.{number}", capacity, labels=tuple(labels.items()))


DESCRIBED = [a_host(number) for number in range(3)]


class Bench:
    """Agents, their time, and all that they were told to remember."""

    def __init__(self, at: float = BIRTH, registration_s: float = 0.0) -> None:
        self.at = at
        self.latencies = Latencies(registration_s=(registration_s, registration_s))
        self.agents = OperatedAgents(DESCRIBED, 7, self.latencies, at)
        self.notes: dict[str, bytes] = {}
        self.orders: list[Effect] = []

    def keep(self, notes: dict[str, bytes]) -> None:
        self.notes.update(notes)

    def ask(self, *orders: Effect) -> None:
        self.orders += orders
        self.agents.perform(orders, self.at)

    def hear(self, seconds: float = 0.0) -> list[Command]:
        """All that agents say in this time."""
        end, heard = self.at + seconds, []
        while (wake := self.agents.next_wake) is not None and wake <= end:
            self.at = max(self.at, wake)
            heard += self.agents.poll(self.at, ALL)
        self.at = end
        return heard

    def restart_daemon(self, down: Sequence[str] = ()) -> None:
        """Agents remember nothing but what they are told."""
        self.agents = OperatedAgents(DESCRIBED, 7, self.latencies, self.at)
        launches = [order for order in self.orders if isinstance(order, Launch)]
        kills = [order for order in self.orders if isinstance(order, Kill)]
        hosts = [HostName(name) for name in down]
        self.agents.perform([Reconcile(launches, kills, hosts, self.notes)], self.at)

    def states(self) -> dict[str, AgentState]:
        return {view.seen.name: view.state for view in self.agents.views(self.agents.names(), self.at)}

    def counts(self, host: str) -> tuple[int, int]:
        (view,) = self.agents.views([HostName(host)], self.at)
        return view.tasks, view.running


def launch(pod: str, bench: Bench, host: int = 0, script: str = "") -> Launch:
    template = PodTemplate(Resources(1000, 1000, 1000), Script(script))
    return Launch(PodId(pod), HostName(f"host{host}"), template, (), bench.at)


def said(heard: list[Command]) -> list[tuple[str, TaskState]]:
    return [(report.pod, report.state) for report in reports(heard)]


def reports(heard: list[Command]) -> list[PodReport]:
    return [report for command in heard if isinstance(command, ReportPods) for report in command.reports]


def hosts(heard: list[Command]) -> list[Command]:
    return [command for command in heard if not isinstance(command, ReportPods)]


def test_agents_are_seen_with_what_runs_on_them() -> None:
    bench = Bench(registration_s=5)
    assert set(bench.states().values()) == {A.REGISTERING}
    bench.hear(6)
    assert set(bench.states().values()) == {A.REGISTERED}
    bench.ask(launch("p-0-1", bench), launch("p-1-1", bench))
    assert bench.counts("host0") == (2, 0)
    bench.hear(1)
    assert bench.counts("host0") == (2, 2)
    assert bench.agents.views([HostName("ghost")], bench.at) == []


def test_only_agents_that_are_heard_need_be_waited_for() -> None:
    bench = Bench(registration_s=5)
    bench.agents.stop(HostName("host0"), bench.at)
    bench.ask(TakeDown([HostName("host1")]))
    assert bench.agents.heard() == ["host2"]
    bench.agents.cut_link(bench.at)
    assert bench.agents.heard() == []


def test_added_agents_register_in_a_while() -> None:
    bench = Bench(registration_s=5)
    bench.hear(6)
    bench.agents.add([a_host(7), a_host(8)], bench.at)
    assert bench.hear(4) == []
    assert bench.hear(2) == [SeeHosts([a_host(7), a_host(8)])]
    with pytest.raises(Exists, match="host8"):
        bench.agents.add([a_host(9), a_host(8)], bench.at)
    assert bench.agents.names() == ["host0", "host1", "host2", "host7", "host8"]


def test_a_removed_agent_takes_its_tasks_with_it() -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(1)
    bench.agents.remove(HostName("host0"), bench.at)
    heard = bench.hear(100)
    assert hosts(heard) == [LoseHosts([HostName("host0")])]
    (lost,) = reports(heard)
    assert (lost.pod, lost.state, lost.reason) == ("p-0-1", T.LOST, REASON_AGENT_REMOVED)
    with pytest.raises(NotFound, match="host0"):
        bench.agents.remove(HostName("host0"), bench.at)
    bench.ask(launch("p-0-2", bench))
    assert said(bench.hear()) == [("p-0-2", T.LOST)]


def test_a_stopped_agent_is_silent_then_lost_then_heard_again() -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(1)
    bench.agents.stop(HostName("host0"), bench.at)
    assert bench.states()["host0"] is A.SILENT
    heard = bench.hear(100)
    assert hosts(heard) == [LoseHosts([HostName("host0")])]
    assert said(heard) == [("p-0-1", T.LOST)]
    assert bench.states()["host0"] is A.LOST
    bench.agents.start(HostName("host0"), bench.at)
    assert bench.hear() == [SeeHosts([a_host(0)])]
    assert bench.counts("host0") == (0, 0)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_restarted_agent_is_there_without_its_tasks(stopped: bool) -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(1)
    if stopped:
        bench.agents.stop(HostName("host0"), bench.at)
    bench.agents.restart(HostName("host0"), bench.at)
    (lost,) = reports(bench.hear(100))
    assert (lost.state, lost.reason) == (T.LOST, REASON_AGENT_RESTARTED)
    assert bench.states()["host0"] is A.REGISTERED
    bench.ask(launch("p-0-2", bench))
    assert said(bench.hear(1))[-1] == ("p-0-2", T.RUNNING)


def test_other_attributes_are_registered_at_once_and_tasks_go_on() -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(1)
    bench.agents.set_labels(HostName("host0"), (("rack", "r"),), bench.at)
    assert bench.hear(100) == [SeeHosts([a_host(0, rack="r")])]
    assert bench.counts("host0") == (1, 1)


def test_nothing_passes_a_cut_link_and_nothing_spins() -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(0.01)
    bench.agents.cut_link(bench.at)
    bench.ask(launch("p-1-1", bench), Kill(PodId("p-0-1"), HostName("host0"), 30, bench.at))
    bench.agents.set_labels(HostName("host1"), (("rack", "r"),), bench.at)
    assert bench.hear(100) == []
    assert bench.agents.next_wake is None or bench.agents.next_wake > bench.at
    assert bench.counts("host0") == (1, 1)
    bench.agents.restore_link(bench.at)
    heard = bench.hear()
    assert hosts(heard) == [SeeHosts([a_host(1, rack="r")]), ReconnectAgents()]
    assert said(heard) == [("p-0-1", T.RUNNING)]
    assert bench.agents.is_link_up()


def test_orders_of_an_outage_count_from_its_end() -> None:
    bench = Bench()
    bench.hear()
    bench.agents.cut_link(bench.at)
    bench.at += 10
    order = launch("p-0-1", bench, script="sleep 50")
    bench.ask(order)
    bench.hear(90)
    bench.agents.restore_link(bench.at)
    bench.ask(Reconcile([order], []))
    assert said(bench.hear(40))[-1] == ("p-0-1", T.RUNNING)
    assert said(bench.hear(20)) == [("p-0-1", T.FINISHED)]


def test_maintenance_reaches_the_master_all_the_same() -> None:
    bench = Bench()
    bench.hear()
    bench.agents.cut_link(bench.at)
    bench.ask(TakeDown([HostName("host0")]))
    assert bench.states()["host0"] is A.DOWN
    bench.ask(BringUp([HostName("host0")]))
    assert bench.states()["host0"] is A.REGISTERED


def test_an_agent_that_is_down_gets_nothing_until_it_is_brought_up() -> None:
    bench = Bench(registration_s=5)
    bench.hear(6)
    bench.ask(TakeDown([HostName("host0"), HostName("ghost")]))
    bench.ask(launch("p-0-1", bench))
    assert said(bench.hear(100)) == [("p-0-1", T.LOST)]
    bench.ask(BringUp([HostName("host0")]))
    assert bench.hear(4) == []
    assert bench.hear(2) == [SeeHosts([a_host(0)])]


def test_a_stopped_agent_that_is_brought_up_is_not_heard() -> None:
    bench = Bench()
    bench.hear()
    bench.agents.stop(HostName("host0"), bench.at)
    bench.ask(TakeDown([HostName("host0")]))
    bench.ask(BringUp([HostName("host0")]))
    assert bench.hear(1000) == []
    bench.agents.start(HostName("host0"), bench.at)
    assert bench.hear() == [SeeHosts([a_host(0)])]


def test_a_restart_of_the_daemon_undoes_nothing() -> None:
    bench = Bench()
    bench.hear()
    agents = bench.agents
    bench.keep(agents.add([a_host(7), a_host(8)], bench.at))
    bench.keep(agents.remove(HostName("host1"), bench.at))
    bench.keep(agents.remove(HostName("host8"), bench.at))
    bench.keep(agents.set_labels(HostName("host0"), (("rack", "a"),), bench.at))
    bench.keep(agents.set_labels(HostName("host7"), (("rack", "b"),), bench.at))
    bench.keep(agents.stop(HostName("host2"), bench.at))
    bench.restart_daemon(down=["host7"])
    assert bench.agents.hosts() == [a_host(0, rack="a"), a_host(2), a_host(7, rack="b")]
    assert bench.states() == {"host0": A.REGISTERED, "host2": A.SILENT, "host7": A.DOWN}
    assert LoseHosts([HostName("host2")]) in bench.hear(100)
    bench.keep(bench.agents.start(HostName("host2"), bench.at))
    bench.restart_daemon()
    assert set(bench.states().values()) == {A.REGISTERED}


def test_an_agent_that_was_to_be_given_up_while_the_daemon_was_away_is() -> None:
    bench = Bench()
    bench.ask(launch("p-0-1", bench))
    bench.hear(1)
    bench.keep(bench.agents.stop(HostName("host0"), bench.at))
    bench.at += 1000
    bench.restart_daemon()
    heard = bench.hear()
    assert LoseHosts([HostName("host0")]) in heard
    assert said(heard) == [("p-0-1", T.LOST)]
    bench.keep(bench.agents.stop(HostName("host0"), bench.at))
    bench.restart_daemon()
    assert bench.states()["host0"] is A.LOST


def test_an_outage_goes_on_after_a_restart_of_the_daemon() -> None:
    bench = Bench()
    early = launch("p-0-1", bench)
    bench.ask(early)
    bench.hear(10)
    bench.keep(bench.agents.cut_link(bench.at))
    bench.at += 10
    late = launch("p-1-1", bench)
    bench.ask(late, Kill(PodId("p-0-1"), HostName("host0"), 30, bench.at))
    bench.restart_daemon()
    assert bench.hear(100) == []
    assert bench.counts("host0") == (1, 1), "what began before the outage, and it was not killed"
    bench.keep(bench.agents.restore_link(bench.at))
    bench.ask(Reconcile([early, late], [Kill(PodId("p-0-1"), HostName("host0"), 30, bench.at - 100)]))
    heard = said(bench.hear(10))
    assert heard[0] == ("p-0-1", T.RUNNING)
    assert {("p-0-1", T.KILLED), ("p-1-1", T.RUNNING)} <= set(heard)


def test_notes_are_small() -> None:
    bench = Bench()
    notes = bench.agents.stop(HostName("host0"), bench.at)
    assert list(notes) == ["agent/host0"]
    assert len(notes["agent/host0"]) < 20
    assert len(msgspec.msgpack.encode(bench.agents.add([a_host(7)], bench.at))) < 100
