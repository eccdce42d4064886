"""Agents are told again what they should be running: all after a replay, in slices from time to time."""

import pytest

from builders import JOB, Bench, a_host, a_job, a_template, job_id
from derny.core import commands, events, reconciliation
from derny.core.audit import fingerprint
from derny.core.effects import Kill, Reconcile
from derny.core.reconciliation import PACE_S
from derny.model.ids import HostName, PodId
from derny.model.periods import Periods
from derny.model.states import TaskState

T = TaskState


def test_reconciliation_lists_what_should_run_and_the_kills_still_owed() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.at += 10
    bench.create(a_job(1, name="launched"), job_id(2))
    bench.at += 10
    bench.create(a_job(300, name="too many"), job_id(3))
    bench.running(a_job(1, name="ended", template=a_template(0, 0, 0), priority=1), job_id(4))
    bench.report(T.FAILED, 0, job=job_id(4))
    bench.running(a_job(1, name="dying", template=a_template(0, 0, 0), priority=1), job_id(5))
    bench.at += 10
    bench.stop(job_id(5))
    [order] = bench.machine.reconciliation()
    assert isinstance(order, Reconcile)
    asked = {(launch.pod, launch.at) for launch in order.launches if str(job_id(3)) not in launch.pod}
    assert asked == {
        (f"{JOB}-0-1", 1000.0),
        (f"{JOB}-1-1", 1000.0),
        (f"{job_id(2)}-0-1", 1010.0),
        (f"{job_id(5)}-0-1", 1020.0),
    }
    assert order.kills == [Kill(PodId(f"{job_id(5)}-0-1"), a_host().name, 30, 1030.0)]
    waiting = sum(pod.host is None for pod in bench.job(job_id(3)).pods)
    assert waiting and len(order.launches) == 304 - waiting


def test_reconciliation_is_the_same_after_a_replay() -> None:
    bench = Bench()
    bench.running(a_job(3, template=a_template(ports=1)))
    bench.stop()
    assert [*bench.replayed().reconciliation()] == [*bench.machine.reconciliation()]


def test_a_replay_is_told_of_in_orders_of_some_pods(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciliation, "WHOLE_PODS", 4)
    bench = Bench()
    for number, count in enumerate((3, 3, 9), start=1):
        bench.running(a_job(count, name=f"job-{number}", template=a_template(0, 0, 0)), job_id(number))
    bench.stop(job_id(3))
    told = [*bench.machine.reconciliation()]
    assert [len(order.launches) for order in told] == [3, 3, 4, 4, 1]
    assert [len(order.kills) for order in told] == [0, 0, 4, 4, 1]
    assert [order.down for order in told] == [[], None, None, None, None]


def orders(bench: Bench, after: int = 0) -> list[Reconcile]:
    return [effect for effect in bench.effects[after:] if isinstance(effect, Reconcile)]


def test_a_round_comes_some_time_after_the_start_and_then_at_intervals() -> None:
    bench = Bench(periods=Periods(reconcile_first_s=60, reconcile_s=1800))
    bench.running(a_job(2))
    bench.live(59)
    assert orders(bench) == []
    bench.live(1)
    (first,) = orders(bench)
    assert [launch.pod for launch in first.launches] == [f"{JOB}-0-1", f"{JOB}-1-1"]
    assert (first.kills, first.down) == ([], [])
    bench.live(1799)
    assert len(orders(bench)) == 1
    bench.live(1)
    assert len(orders(bench)) == 2


def test_a_round_comes_at_once_when_the_link_is_there_again() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(2))
    bench.stop()
    bench.do(commands.StartMaintenance([HostName("host-1")]))
    bench.settle()
    bench.report(T.KILLED, 1)
    assert bench.do(commands.ReconnectAgents()) == [events.AgentsReconnected()]
    assert bench.settle() == []
    (order,) = orders(bench)
    assert [launch.pod for launch in order.launches] == [f"{JOB}-0-1"]
    assert [kill.pod for kill in order.kills] == [f"{JOB}-0-1"]
    assert order.down == [HostName("host-1")] or bench.pod(1).host == "host-0"


@pytest.mark.parametrize("budget", [1, 3, 7])
def test_a_round_is_cut_into_slices_that_leave_nobody_out(budget: int) -> None:
    bench = Bench(hosts=4)
    for number in range(1, 4):
        bench.running(a_job(5, template=a_template(cpu=1)), job_id(number))
    bench.running(a_job(0, name="empty"), job_id(9))
    bench.settle()
    before = len(bench.effects)
    bench.do(commands.ReconnectAgents())
    for _ in range(30):
        bench.advance(budget)
        bench.at += PACE_S
    found = orders(bench, before)
    assert [order.down is None for order in found] == [False] + [True] * (len(found) - 1)
    assert all(len(order.launches) <= budget for order in found)
    told = [launch.pod for order in found for launch in order.launches]
    assert told == [f"{job_id(number)}-{i}-1" for number in range(1, 4) for i in range(5)]


def test_jobs_that_go_during_a_round_are_passed_over() -> None:
    bench = Bench(hosts=4)
    for number in range(1, 4):
        bench.running(a_job(2, template=a_template(cpu=1)), job_id(number))
    bench.do(commands.ReconnectAgents())
    before = len(bench.effects)
    bench.advance(1)
    bench.delete(job_id(2), force=True)
    bench.obey()
    assert job_id(2) not in bench.machine.state.jobs
    bench.live(10)
    told = {launch.pod for order in orders(bench, before) for launch in order.launches}
    assert f"{job_id(3)}-1-1" in told


def test_nobody_is_woken_to_compare_nothing() -> None:
    bench = Bench()
    bench.settle()
    assert bench.machine.next_wake is None


def test_notes_are_kept_by_key_and_given_back_after_a_replay() -> None:
    bench = Bench()
    bench.do(commands.NoteAgents({"a": b"1", "b": b"2"}))
    assert bench.do(commands.NoteAgents({"a": b"3", "b": b"2"})) == [events.AgentsNoted({"a": b"3"})]
    assert bench.do(commands.NoteAgents({"a": b"3"})) == []
    again = bench.replayed()
    assert fingerprint(again.state) == fingerprint(bench.machine.state)
    assert next(again.reconciliation()).notes == {"a": b"3", "b": b"2"}
