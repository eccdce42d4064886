"""The link, its outages, and what waits for their end."""

import math

from derny.agents.link import OUTAGES_MAX, Link, Outbox, hold
from derny.core.commands import PodReport
from derny.core.effects import Kill, Launch, Reconcile
from derny.model.ids import HostName, PodId
from derny.model.resources import Resources
from derny.model.specs import Command, PodTemplate
from derny.model.states import TaskState

T = TaskState


def report(pod: str, state: TaskState, healthy: bool | None = None) -> PodReport:
    return PodReport(PodId(pod), state, reason="" if healthy is None else "health", healthy=healthy)


def test_orders_of_an_outage_get_through_at_its_end() -> None:
    link = Link()
    link.cut(10)
    assert link.is_down
    assert [link.passes_at(at) for at in (9, 10, 11)] == [9, math.inf, math.inf]
    link.restore(20)
    assert not link.is_down
    assert [link.passes_at(at) for at in (9, 10, 19, 20, 30)] == [9, 20, 20, 20, 30]
    link.cut(40)
    assert [link.passes_at(at) for at in (15, 25, 41)] == [20, 25, math.inf]


def test_a_cut_link_is_cut_once_and_restored_once() -> None:
    link = Link()
    link.restore(5)
    assert link.outages == []
    link.cut(10)
    link.cut(15)
    link.restore(20)
    link.restore(25)
    assert link.outages == [(10, 20)]


def test_only_so_many_outages_are_remembered() -> None:
    link = Link()
    for at in range(0, 10 * OUTAGES_MAX, 2):
        link.cut(at)
        link.restore(at + 1)
    assert len(link.outages) == OUTAGES_MAX


def test_an_order_is_cut_down_to_what_has_passed() -> None:
    link = Link(outages=[(10, 20)], cut_at=30)
    template = PodTemplate(Resources(1), Command(""))
    launches = [Launch(PodId(f"p-0-{at}"), HostName("h"), template, (), at) for at in (5, 15, 35)]
    kills = [Kill(launch.pod, HostName("h"), 3.0, launch.at + 1) for launch in launches]
    passed, killed = link.passed(Reconcile(launches, kills))
    assert [(launch.pod, launch.at) for launch in passed] == [("p-0-5", 5), ("p-0-15", 20)]
    assert {pod: kill.at for pod, kill in killed.items()} == {"p-0-5": 6, "p-0-15": 20}


def test_of_what_is_held_the_last_of_each_pod_stands_with_its_health() -> None:
    held: dict[PodId, PodReport] = {}
    for told in (report("a", T.RUNNING, True), report("b", T.STARTING), report("a", T.RUNNING)):
        hold(held, told)
    assert list(held.values()) == [report("b", T.STARTING), report("a", T.RUNNING, True)]
    hold(held, report("a", T.FAILED))
    assert held[PodId("a")] == report("a", T.FAILED)


def test_reports_wait_while_the_link_is_down() -> None:
    link, outbox = Link(), Outbox()
    outbox.add(report("a", T.STARTING), link)
    link.cut(1)
    outbox.add(report("a", T.RUNNING), link)
    outbox.add(report("a", T.FAILED), link)
    link.restore(2)
    outbox.release()
    outbox.add(report("b", T.RUNNING), link)
    assert outbox.take(2) == [report("a", T.STARTING), report("a", T.FAILED)]
    assert outbox.take(9) == [report("b", T.RUNNING)]
    assert not outbox
