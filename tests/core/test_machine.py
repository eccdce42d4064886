"""Commands and the time in, events out: the tables, refusals, budgets, turns, wakes and replay."""

from typing import get_args

import pytest

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.capacity.cycle import FEW_POOLS
from derny.core import commands, events
from derny.core.audit import audit, fingerprint
from derny.core.commands import Command
from derny.core.events import Event
from derny.core.machine import APPLIERS, Machine
from derny.model.errors import NotFound
from derny.model.periods import Limits, Periods
from derny.model.states import PodState, TaskState

S, T = PodState, TaskState


def entities(event: Event) -> int:
    """How many pods an event is about."""
    if isinstance(event, events.PodsCreated | events.PodsGoalSet):
        return event.end - event.first
    return len(getattr(event, "instances", ()))


def test_every_command_has_one_decider_and_every_event_one_applier() -> None:
    machine = Machine(Periods(), Limits())
    assert set(machine.deciders) == set(get_args(Command))
    assert set(APPLIERS) == set(get_args(Event))


def test_a_refusal_changes_nothing() -> None:
    bench = Bench()
    before = fingerprint(bench.machine.state)
    with pytest.raises(NotFound):
        bench.machine.handle(commands.StopJob(JOB, "1-1-1"), bench.at)
    assert fingerprint(bench.machine.state) == before
    assert bench.machine.take_effects() == []


def test_effects_are_taken_once() -> None:
    bench = Bench()
    bench.machine.handle(commands.CreateJob(JOB, a_job()), bench.at)
    bench.machine.advance(bench.at, 100)
    assert len(bench.machine.take_effects()) == 1
    assert bench.machine.take_effects() == []


@pytest.mark.parametrize("budget", [1, 3, 10, 50])
def test_no_pass_concerns_more_pods_than_the_budget(budget: int) -> None:
    bench = Bench(hosts=10)
    bench.do(commands.CreateJob(JOB, a_job(40)))
    more = True
    while more:
        happened, more = bench.advance(budget)
        for kind in set(map(type, happened)):
            assert sum(entities(event) for event in happened if type(event) is kind) <= budget
    assert bench.states() == [S.LAUNCHED] * 40


@pytest.mark.parametrize("budget", [1, 3, 10, 1000])
def test_the_budget_decides_the_pace_but_not_the_outcome(budget: int) -> None:
    """But for who comes first: what has not been created yet can't compete for a share."""
    bench = Bench(hosts=3, cpu=8)
    for number in range(4):
        spec = a_job(10, template=a_template(cpu=1, ports=number % 2), priority=number)
        bench.do(commands.CreateJob(job_id(number), spec))
    bench.settle(budget)
    bench.obey()
    assert bench.machine.state.tree.root.allocation.cpu == 24000
    states = [state for number in range(4) for state in bench.states(job_id(number))]
    assert (states.count(S.RUNNING), states.count(S.PENDING)) == (24, 16)


def test_the_machine_is_at_rest_when_it_says_so() -> None:
    bench = Bench()
    bench.running(a_job(3))
    bench.live(600)
    assert bench.advance(1) == ([], False)
    assert bench.machine.next_wake == bench.machine.state.round.due_at, "only to compare notes with agents"


def test_pools_take_turns_even_when_one_can_use_up_every_budget() -> None:
    """A pool whose long queue gets room all at once must not hold up the others until it is empty."""
    bench = Bench(hosts=1, cpu=1, part=0.5)
    bench.create(a_job(60, template=a_template(cpu=0.1, memory=0, disk=0)))
    assert bench.states().count(S.PENDING) == 55
    other = pool_id(2)
    capacity = bench.machine.state.tree.capacity
    bench.do(commands.CreatePool(other, a_pool(capacity, name="other", part=0.5)))
    # The first pool's limit is lifted by hand: changing pools is not a command yet.
    pool = bench.machine.state.tree.pools[POOL]
    pool.spec = a_pool(amounts(1000, 0, 0), name="pool")
    bench.do(commands.SeeHosts([a_host(n, cpu=8) for n in range(1, 9)]))
    bench.do(
        commands.CreateJob(job_id(2), a_job(1, pool=other, template=a_template(cpu=0.1, memory=0, disk=0)))
    )
    for _ in range(3):
        bench.advance(5)
    assert bench.states(job_id(2)) == [S.LAUNCHED]
    assert bench.states().count(S.PENDING) > 20


def test_a_stop_gets_through_while_more_pods_are_in_motion_than_a_turn_can_look_at() -> None:
    bench = Bench(hosts=10, cpu=20)
    bench.create(a_job(100), job_id(1))
    bench.running(a_job(3), job_id(2))
    for pod in bench.job(job_id(1)).pods:
        bench.machine.state.dirty_pods[pod] = None
    bench.do(commands.StopJob(job_id(2), bench.version(job_id(2))))
    bench.advance(5)
    assert {pod.goal for pod in bench.job(job_id(2)).pods} == {S.KILLED}
    assert len(bench.machine.state.dirty_pods) > 90


def test_groups_take_turns_at_placement() -> None:
    """When hosts come, one group with many waiting pods does not have them all before the others look."""
    bench = Bench(hosts=4, cpu=100)
    for number in range(3):
        template = a_template(cpu=0.1, static_ports=[80 + number])
        bench.create(a_job(40, template=template), job_id(number))
        assert bench.states(job_id(number)).count(S.PLACING) == 36
    bench.do(commands.SeeHosts([a_host(number) for number in range(4, 50)]))
    bench.at += 1
    for _ in range(3):
        bench.advance(10)
    assert [bench.states(job_id(number)).count(S.PLACING) for number in range(3)] == [26, 26, 26]


def test_who_waits_for_admission_when_the_budget_ran_out_is_not_forgotten() -> None:
    bench = Bench(hosts=10)
    bench.do(commands.CreateJob(JOB, a_job(30)))
    for _ in range(20):
        _events, more = bench.advance(1)
        assert more
    bench.settle(1)
    assert bench.states() == [S.LAUNCHED] * 30


def test_a_timer_is_set_for_what_was_placed_last() -> None:
    """The sweep that places a pod is not the last one: the launch time-out must be armed."""
    bench = Bench(hosts=1, cpu=1)
    bench.running(a_job(), job_id(1))
    bench.create(a_job(), job_id(2))
    bench.live(3600)
    bench.report(T.FAILED, 0, job=job_id(1))
    bench.stop(job_id(1))
    while bench.states(job_id(2)) != [S.LAUNCHED]:
        _events, more = bench.advance()
        assert more
    bench.settle()
    assert events.PodsKillRequested(job_id(2), [0]) in bench.live(61)


def test_next_wake_is_the_earliest_moment_at_which_time_alone_owes_a_step() -> None:
    bench = Bench(periods=Periods(launch_timeout_s=60, job_status_s=1))
    bench.create(a_job())
    bench.live(30)
    wake = bench.machine.next_wake
    assert wake is not None
    assert 1060 <= wake <= 1060.011


def test_timers_of_pods_that_are_gone_are_harmless() -> None:
    bench = Bench()
    bench.create(a_job(5))
    bench.delete(force=True)
    bench.obey()
    assert bench.machine.next_wake is not None
    assert bench.live(1e6) == []


def test_replay_brings_back_the_state_and_asks_nothing_of_agents() -> None:
    bench = Bench()
    bench.running(a_job(3, template=a_template(ports=1)))
    bench.create(a_job(90), job_id(2))
    bench.report(T.FAILED, 1)
    bench.stop(job_id(2))
    bench.do(commands.LoseHosts([a_host(3).name]))
    again = bench.replayed()
    assert fingerprint(again.state) == fingerprint(bench.machine.state)
    assert audit(again.state) == []
    assert again.take_effects() == []


def test_after_a_replay_the_owed_steps_are_taken_as_if_nothing_had_been() -> None:
    """Timers are not journaled: what is owed follows from the state."""
    bench = Bench()
    bench.running(a_job(2))
    bench.report(T.FAILED, 0)
    bench.stop()
    bench.start()
    machine = bench.replayed()
    machine.advance(bench.at, 100)
    assert machine.next_wake is not None
    machine.advance(bench.at + 40, 100)
    machine.advance(bench.at + 40, 100)
    pod = machine.state.jobs[JOB].pods[0]
    assert (pod.state, pod.run) == (S.LAUNCHED, 2)


def test_a_calculation_of_more_pools_than_the_budget_has_a_turn_to_itself() -> None:
    bench = Bench()
    for number in range(FEW_POOLS):
        bench.do(commands.CreatePool(pool_id(number), a_pool(amounts(), name=f"p{number}")))
    bench.machine.handle(commands.CreateJob(JOB, a_job()), bench.at)
    bench.at += 10
    done, more = bench.machine.advance(bench.at, FEW_POOLS)
    assert ([type(event) for event in done], more) == ([events.PodsCreated], True)
    done, more = bench.machine.advance(bench.at, FEW_POOLS)
    assert [type(event) for event in done] == [events.GangsAdmitted, events.PodsPlaced]
