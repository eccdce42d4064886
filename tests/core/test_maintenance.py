"""Hosts on the way into maintenance and out of it, and the pods that stand in the way."""

import msgspec
import pytest

from builders import JOB, Bench, a_host, a_job, a_template, amounts, job_id
from derny.core import commands, events
from derny.core.audit import audit, fingerprint
from derny.core.effects import BringUp, Kill, Launch, TakeDown
from derny.core.maintenance import EVICTED, REASON
from derny.model.errors import NotFound
from derny.model.ids import HostName
from derny.model.specs import JobSpec
from derny.model.states import HostState, PodState, TaskState, TerminationReason

H, S, T = HostState, PodState, TaskState


def name(number: int) -> HostName:
    return HostName(f"host-{number}")


def drain(bench: Bench, *numbers: int) -> list[events.Event]:
    return bench.do(commands.StartMaintenance([name(n) for n in numbers])) + bench.settle()


def bring_back(bench: Bench, *numbers: int) -> list[events.Event]:
    return bench.do(commands.CompleteMaintenance([name(n) for n in numbers])) + bench.settle()


def state(bench: Bench, number: int = 0) -> tuple[HostState, HostState]:
    host = bench.machine.state.hosts[name(number)]
    return host.state, host.goal


def guarded(count: int, limit: int, cpu: float = 4) -> JobSpec:
    return msgspec.structs.replace(a_job(count, template=a_template(cpu=cpu)), unavailable_max=limit)


def on(bench: Bench, number: int) -> list[int]:
    """Instances on this host."""
    return [pod.instance for pod in bench.machine.state.hosts[name(number)].pods]


def test_an_empty_host_goes_down_step_by_step_at_once() -> None:
    bench = Bench(hosts=2)
    entered = [event.state for event in drain(bench, 0) if isinstance(event, events.HostStatesChanged)]
    assert entered == [H.DRAINING, H.DRAINED, H.DOWN]
    assert state(bench) == (H.DOWN, H.DOWN)
    assert state(bench, 1) == (H.UP, H.UP)
    assert bench.effects[-1] == TakeDown([name(0)])


def test_a_host_comes_up_once_its_agent_has_registered() -> None:
    bench = Bench(hosts=1)
    drain(bench, 0)
    bring_back(bench, 0)
    assert state(bench) == (H.DOWN, H.UP)
    assert bench.effects[-1] == BringUp([name(0)])
    bench.do(commands.SeeHosts([a_host(0)]))
    assert bench.settle() == [events.HostStatesChanged([name(0)], H.UP)]
    assert state(bench) == (H.UP, H.UP)


def test_an_agent_that_registers_while_its_host_is_down_is_not_let_in() -> None:
    bench = Bench(hosts=1)
    drain(bench, 0)
    assert bench.do(commands.SeeHosts([a_host(0, cpu=99)])) == []
    assert state(bench) == (H.DOWN, H.DOWN)


def test_a_host_that_is_wanted_down_again_before_it_is_up_is_sent_away_again() -> None:
    bench = Bench(hosts=1)
    drain(bench, 0)
    bring_back(bench, 0)
    drain(bench, 0)
    assert bench.effects[-1] == TakeDown([name(0)])
    bench.do(commands.SeeHosts([a_host(0)]))
    bench.settle()
    bring_back(bench, 0)
    assert state(bench) == (H.DOWN, H.UP), "it must register once more"


def test_an_agent_that_registers_just_before_its_host_is_wanted_down_again_must_register_once_more() -> None:
    """All of it within one turn, before anybody has looked at the host."""
    bench = Bench(hosts=1)
    drain(bench, 0)
    bench.do(commands.CompleteMaintenance([name(0)]))
    bench.do(commands.SeeHosts([a_host(0)]))
    bench.do(commands.StartMaintenance([name(0)]))
    bench.settle()
    bring_back(bench, 0)
    assert state(bench) == (H.DOWN, H.UP)


def test_hosts_in_maintenance_leave_capacity_and_placement() -> None:
    bench = Bench(hosts=3, cpu=8, memory=100, disk=100)
    drain(bench, 0)
    assert bench.machine.state.tree.capacity == amounts(16, 200, 200)
    bench.create(a_job(2, template=a_template(cpu=8)))
    assert sorted(pod.host for pod in bench.job().pods if pod.host) == [name(1), name(2)]
    bring_back(bench, 0)
    bench.do(commands.SeeHosts([a_host(0, memory=100, disk=100)]))
    bench.settle()
    assert bench.machine.state.tree.capacity == amounts(24, 300, 300)


def test_unknown_hosts_are_named_and_nothing_changes() -> None:
    bench = Bench(hosts=1)
    before = fingerprint(bench.machine.state)
    for command in (commands.StartMaintenance, commands.CompleteMaintenance):
        with pytest.raises(NotFound, match="'ghost', 'wraith'"):
            bench.do(command([name(0), HostName("ghost"), HostName("wraith"), HostName("ghost")]))
    with pytest.raises(NotFound, match="and 5 more"):
        bench.do(commands.StartMaintenance([HostName(f"ghost-{n}") for n in range(15)]))
    assert fingerprint(bench.machine.state) == before


def test_repeats_are_no_ops() -> None:
    bench = Bench(hosts=2)
    assert bring_back(bench, 0) == []
    bench.running(a_job(1))
    drain(bench, 0)
    assert drain(bench, 0) == []
    bench.obey()
    assert drain(bench, 0, 0) == []


def test_pods_are_evicted_and_run_elsewhere() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.running(a_job(2, template=a_template(cpu=8)))
    victim = on(bench, 0)[0]
    drain(bench, 0)
    pod = bench.pod(victim)
    assert state(bench) == (H.DRAINING, H.DOWN)
    assert (pod.state, pod.message, pod.reason) == (S.KILLING, EVICTED, REASON)
    assert pod.termination is not None
    assert pod.termination.reason is TerminationReason.KILLED_HOST_MAINTENANCE
    assert bench.pod(1 - victim).state is S.RUNNING
    bench.do(commands.SeeHosts([a_host(2)]))
    bench.obey()
    assert (pod.host, pod.state, pod.run, pod.failures) == (name(2), S.RUNNING, 2, 0)
    assert state(bench) == (H.DOWN, H.DOWN)


@pytest.mark.parametrize("so_far", [None, T.STARTING])
def test_a_pod_on_its_way_up_is_evicted_too(so_far: TaskState | None) -> None:
    """Peloton leaves those where they are until they run (behaviour, scheduler §10, item 17)."""
    bench = Bench(hosts=1)
    bench.create(a_job(1))
    if so_far is not None:
        bench.report(so_far, 0)
    drain(bench, 0)
    assert bench.states() == [S.KILLING]
    bench.obey(launch=T.STARTING)
    assert state(bench) == (H.DOWN, H.DOWN)


def test_pods_that_wait_for_a_host_or_have_ended_are_in_nobodys_way() -> None:
    bench = Bench(hosts=1, cpu=8)
    bench.create(a_job(2, template=a_template(cpu=5)))
    bench.running(a_job(1), job_id(2))
    bench.stop(job_id(2))
    assert bench.states() == [S.LAUNCHED, S.PENDING]
    drain(bench, 0)
    bench.obey()
    assert state(bench) == (H.DOWN, H.DOWN)


def test_a_pod_that_is_being_stopped_is_waited_for_and_not_evicted() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job(1))
    bench.stop()
    drain(bench, 0)
    pod = bench.pod()
    assert pod.termination is not None
    assert pod.termination.reason is TerminationReason.KILLED_ON_REQUEST
    assert state(bench) == (H.DRAINING, H.DOWN)
    bench.report(T.KILLED, 0)
    assert state(bench) == (H.DOWN, H.DOWN)


def test_a_drain_can_be_called_off() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job(1))
    drain(bench, 0)
    assert bring_back(bench, 0) == [
        events.HostGoalsSet([name(0)], H.UP),
        events.HostStatesChanged([name(0)], H.UP),
    ]
    bench.obey()
    assert (bench.pod().state, bench.pod().host) == (S.RUNNING, name(0))
    assert bench.live(60) == []


def test_no_more_pods_of_a_job_are_evicted_than_it_can_spare() -> None:
    bench = Bench(hosts=3, cpu=8)
    bench.running(guarded(4, limit=1))
    drain(bench, 0)
    first = [pod.instance for pod in bench.job().pods if pod.state is S.KILLING]
    assert len(first) == 1
    assert bench.live(60) == [], "nothing more while one of them is away"
    bench.obey()
    assert bench.states() == [S.RUNNING] * 4
    assert state(bench) == (H.DRAINING, H.DOWN)
    bench.live(bench.periods.drain_s)
    assert bench.states().count(S.KILLING) == 1
    bench.obey()
    assert state(bench) == (H.DOWN, H.DOWN)
    assert on(bench, 0) == []


def test_pods_that_are_unavailable_already_use_up_the_limit() -> None:
    bench = Bench(hosts=3, cpu=8)
    bench.running(guarded(3, limit=1, cpu=8))
    bench.do(commands.LoseHosts([name(2)]))
    bench.report(T.LOST, *on(bench, 2))
    drain(bench, 0)
    bench.live(100)
    assert state(bench) == (H.DRAINING, H.DOWN)
    assert bench.states().count(S.RUNNING) == 2
    # What is on a draining host counts at its pool, though the host no longer counts for capacity.
    bench.do(commands.SeeHosts([a_host(2), a_host(3)]))
    bench.settle()
    bench.obey()
    assert bench.states() == [S.RUNNING] * 3
    bench.live(bench.periods.drain_s)
    bench.obey()
    assert state(bench) == (H.DOWN, H.DOWN)


def test_jobs_without_a_limit_lose_all_their_pods_at_once() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.running(a_job(4, template=a_template(cpu=4)))
    drain(bench, 0, 1)
    assert bench.states() == [S.KILLING] * 4
    bench.obey()
    assert [state(bench, n) for n in range(2)] == [(H.DOWN, H.DOWN)] * 2
    assert S.RUNNING not in bench.states()


def test_a_full_host_is_emptied_in_slices_and_every_pod_is_looked_at() -> None:
    bench = Bench(hosts=2, cpu=100)
    guard = guarded(20, limit=1, cpu=1)
    bench.running(guard)
    bench.running(a_job(60, template=a_template(cpu=1)), job_id(2))
    bench.do(commands.StartMaintenance([name(0), name(1)]))
    for _ in range(60):
        evicted, more = bench.advance(4)
        assert sum(len(e.instances) for e in evicted if isinstance(e, events.RunsSuperseded)) <= 8
        if not more:
            break
    assert bench.states(job_id(2)) == [S.KILLING] * 60
    assert bench.states().count(S.KILLING) == 1


def test_the_wait_for_the_next_look_has_one_timer_however_often_it_is_looked_at() -> None:
    bench = Bench(hosts=1)
    bench.running(guarded(2, limit=1, cpu=1))
    drain(bench, 0)
    for _ in range(20):
        bench.do(commands.SeeHosts([a_host(0, cpu=9)]))
        bench.do(commands.SeeHosts([a_host(0, cpu=8)]))
        bench.settle()
    timers = [item for item in bench.machine.state.timers if item is bench.machine.state.hosts[name(0)]]
    assert len(timers) == 1


def test_a_host_lost_in_a_drain_goes_down_once_its_pods_are_known_to_be_gone() -> None:
    bench = Bench(hosts=2)
    bench.running(guarded(2, limit=1, cpu=8))
    drain(bench, 0)
    bench.do(commands.LoseHosts([name(0)]))
    bench.live(30)
    assert state(bench) == (H.DRAINING, H.DOWN)
    bench.report(T.LOST, *on(bench, 0))
    assert state(bench) == (H.DOWN, H.DOWN)


def test_a_lost_host_can_be_taken_down_and_comes_up_with_its_agent() -> None:
    bench = Bench(hosts=1)
    bench.do(commands.LoseHosts([name(0)]))
    drain(bench, 0)
    assert state(bench) == (H.DOWN, H.DOWN)
    bring_back(bench, 0)
    assert state(bench) == (H.DOWN, H.UP)
    bench.do(commands.SeeHosts([a_host(0)]))
    bench.settle()
    assert state(bench) == (H.UP, H.UP)


def test_a_drain_goes_on_after_a_replay() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.running(guarded(4, limit=1))
    drain(bench, 0)
    again = bench.replayed()
    assert fingerprint(again.state) == fingerprint(bench.machine.state)
    assert audit(again.state) == []
    assert next(again.reconciliation()).down == []
    bench.machine = again
    bench.obey()
    bench.live(60)
    assert bench.states().count(S.RUNNING) >= 3
    assert audit(again.state) == []


def test_agents_are_told_after_a_replay_which_hosts_are_down() -> None:
    bench = Bench(hosts=3)
    drain(bench, 0, 1)
    bring_back(bench, 1)
    assert next(bench.replayed().reconciliation()).down == [name(0)]


def test_an_evicted_run_is_killed_once_and_launched_once_more() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(1))
    before = len(bench.effects)
    drain(bench, 0)
    bench.obey()
    bench.live(100)
    kinds = [type(effect) for effect in bench.effects[before:]]
    assert kinds.count(Kill) == kinds.count(Launch) == 1
    assert bench.pod().run == 2
    assert bench.job(JOB).counts[S.RUNNING] == 1
