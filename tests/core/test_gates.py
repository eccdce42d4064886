"""Gates: what is closed lets nothing through, and what was held back happens when it opens."""

from typing import get_args

import pytest

from builders import JOB, Bench, a_job, a_template, job_id
from derny.core import commands, events
from derny.core.audit import audit, fingerprint
from derny.core.effects import Kill, Launch, Reconcile
from derny.core.gates import HEARD, NAMES, check_is_open
from derny.model.errors import Unavailable
from derny.model.ids import HostName, PodId, pod_id
from derny.model.states import Gate, JobState, PodState, TaskState

S = PodState


def close(bench: Bench, *gates: Gate) -> list[events.Event]:
    return bench.do(commands.CloseGates(list(gates)))


def reopen(bench: Bench, *gates: Gate) -> None:
    bench.do(commands.OpenGates(list(gates)))
    bench.settle()


def test_every_gate_has_its_name_in_the_contract() -> None:
    assert list(NAMES) == list(Gate)


def test_closing_adds_and_opening_takes_away() -> None:
    bench = Bench()
    assert close(bench, Gate.KILL, Gate.READ) == [events.GatesSet([Gate.READ, Gate.KILL])]
    assert close(bench, Gate.WRITE) == [events.GatesSet([Gate.READ, Gate.WRITE, Gate.KILL])]
    assert bench.do(commands.OpenGates([Gate.READ, Gate.LAUNCH])) == [
        events.GatesSet([Gate.WRITE, Gate.KILL])
    ]


def test_nothing_is_written_down_when_nothing_changes() -> None:
    bench = Bench()
    assert bench.do(commands.OpenGates([Gate.READ])) == []
    close(bench, Gate.READ)
    assert close(bench, Gate.READ) == []


def test_gates_stay_closed_across_a_restart() -> None:
    bench = Bench()
    close(bench, Gate.WRITE)
    again = bench.replayed()
    with pytest.raises(Unavailable, match="gate Write is closed"):
        again.handle(commands.CreateJob(JOB, a_job()), bench.at)


def test_an_open_gate_lets_everything_through() -> None:
    bench = Bench()
    close(bench, Gate.KILL)
    check_is_open(bench.machine.state, Gate.READ)
    with pytest.raises(Unavailable, match="gate Kill is closed by an operator"):
        check_is_open(bench.machine.state, Gate.KILL)


@pytest.mark.parametrize(
    "command",
    [
        commands.CreateJob(job_id(2), a_job()),
        commands.StopJob(JOB, "1-1-1"),
        commands.DeleteJob(JOB, "9-9-9"),
    ],
)
def test_nothing_is_changed_through_a_closed_write_gate(command: commands.Command) -> None:
    bench = Bench()
    bench.running(a_job())
    close(bench, Gate.WRITE)
    before = fingerprint(bench.machine.state)
    with pytest.raises(Unavailable, match="Write"):
        bench.do(command)
    assert fingerprint(bench.machine.state) == before


def test_agents_are_heard_through_a_closed_write_gate() -> None:
    bench = Bench()
    bench.create(a_job(2))
    close(bench, Gate.WRITE)
    bench.report(TaskState.RUNNING, 0, 1)
    bench.do(commands.LoseHosts([HostName("host-0")]))
    assert bench.states() == [S.RUNNING, S.RUNNING]


def test_no_pod_is_placed_through_a_closed_launch_gate() -> None:
    bench = Bench()
    close(bench, Gate.LAUNCH)
    bench.create(a_job(3))
    assert bench.states() == [S.READY] * 3
    assert bench.machine.next_wake is None or bench.machine.next_wake > bench.at
    bench.live(1000)
    assert bench.states() == [S.READY] * 3
    reopen(bench, Gate.LAUNCH)
    assert bench.states() == [S.LAUNCHED] * 3
    assert len([effect for effect in bench.effects if isinstance(effect, Launch)]) == 3


def test_no_agent_is_asked_to_kill_through_a_closed_kill_gate() -> None:
    bench = Bench()
    bench.running(a_job(3))
    close(bench, Gate.KILL)
    bench.stop()
    # They run on, and the job says that they are on their way down.
    assert bench.states() == [S.RUNNING] * 3
    assert bench.job().state is JobState.KILLING
    bench.live(1000)
    assert bench.states() == [S.RUNNING] * 3
    reopen(bench, Gate.KILL)
    assert bench.states() == [S.KILLING] * 3
    bench.obey()
    assert bench.states() == [S.KILLED] * 3


def test_a_waiting_pod_is_stopped_through_a_closed_kill_gate_since_no_agent_has_it() -> None:
    bench = Bench(hosts=0)
    bench.create(a_job(2))
    close(bench, Gate.KILL)
    bench.stop()
    assert bench.states() == [S.KILLED] * 2


def test_a_held_kill_is_forgotten_by_who_no_longer_wants_it() -> None:
    bench = Bench()
    bench.running(a_job(2))
    close(bench, Gate.KILL)
    bench.stop()
    bench.start()
    reopen(bench, Gate.KILL)
    assert bench.states() == [S.RUNNING] * 2


def test_pods_that_end_or_go_while_their_kill_is_held_do_no_harm() -> None:
    bench = Bench()
    bench.running(a_job(2))
    close(bench, Gate.KILL)
    bench.delete(force=True)
    bench.report(TaskState.FINISHED, 0, 1)
    assert JOB not in bench.machine.state.jobs
    reopen(bench, Gate.KILL)
    assert not bench.machine.state.held_kills


def test_held_kills_are_released_within_the_budget() -> None:
    bench = Bench()
    bench.running(a_job(20, template=a_template(cpu=0.1)))
    close(bench, Gate.KILL)
    bench.stop()
    bench.do(commands.OpenGates([Gate.KILL]))
    decided, more = bench.advance(budget=5)
    assert more
    assert [len(event.instances) for event in decided if isinstance(event, events.PodsKillRequested)] == [5]
    bench.settle()
    assert bench.states() == [S.KILLING] * 20


def test_held_kills_are_found_again_after_a_restart() -> None:
    bench = Bench()
    bench.running(a_job(2))
    close(bench, Gate.KILL)
    bench.stop()
    again = bench.replayed()
    assert again.advance(bench.at, 100)[1] is False
    assert again.take_effects() == []
    again.handle(commands.OpenGates([Gate.KILL]), bench.at)
    again.advance(bench.at, 100)
    assert len([effect for effect in again.take_effects() if isinstance(effect, Kill)]) == 2
    assert audit(again.state) == []


def test_orphans_are_left_alone_until_the_kill_gate_opens_even_across_a_restart() -> None:
    bench = Bench()
    close(bench, Gate.KILL)
    orphan, host = PodId(pod_id(job_id(9), 0, 1)), HostName("host-1")
    bench.do(commands.ReportPods([commands.PodReport(orphan, TaskState.RUNNING, host=host)]))
    assert bench.effects == []
    again = bench.replayed()
    assert fingerprint(again.state) == fingerprint(bench.machine.state)
    for machine in (again, bench.machine):
        machine.handle(commands.OpenGates([Gate.KILL]), bench.at)
        assert machine.take_effects() == [Kill(orphan, host, 0.0, bench.at)]
        assert not machine.state.held_orphans


def test_no_step_is_taken_while_the_engine_is_closed_and_nothing_turns_in_vain() -> None:
    bench = Bench()
    bench.running(a_job(2))
    close(bench, Gate.GOAL_STATE_ENGINE)
    bench.stop()
    assert bench.states() == [S.RUNNING] * 2
    bench.after(bench.periods.entitlement_s)  # what has changed counts in the next calculation
    assert bench.machine.next_wake == bench.machine.state.round.due_at, "only to compare notes with agents"
    assert bench.advance() == ([], False)
    bench.at += 1000
    reopen(bench, Gate.GOAL_STATE_ENGINE)
    assert bench.states() == [S.KILLING] * 2
    assert bench.job().state is JobState.KILLING


def test_timers_that_came_due_behind_a_closed_engine_are_kept() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(TaskState.FAILED, 0, code=1)
    close(bench, Gate.GOAL_STATE_ENGINE)
    bench.live(1000)
    assert bench.states() == [S.FAILED]
    reopen(bench, Gate.GOAL_STATE_ENGINE)
    assert bench.states() == [S.LAUNCHED]


def test_every_command_is_heard_or_a_wish() -> None:
    """Who adds a command says here whether a client may wish for it while writing is closed."""
    wishes = {
        *("CreatePool", "UpdatePool", "DeletePool"),
        *("CreateJob", "StartJob", "StopJob", "DeleteJob", "ReplaceJob", "RestartJob"),
        *("PauseWorkflow", "ResumeWorkflow", "AbortWorkflow"),
        *("StartPod", "StopPod", "RestartPod", "RefreshPods", "DeletePodEvents"),
        *("StartMaintenance", "CompleteMaintenance"),
        "DeleteVolume",
        *("CreateHostPool", "DeleteHostPool", "ChangeHostPool"),
    }
    assert {kind.__name__ for kind in get_args(commands.Command)} == wishes | {
        kind.__name__ for kind in HEARD
    }


def test_a_round_of_comparing_asks_nothing_through_closed_gates() -> None:
    bench = Bench()
    bench.create(a_job(3))
    bench.report(TaskState.RUNNING, 1, 2)
    bench.do(commands.StopPod(JOB, 2))
    bench.settle()
    assert bench.states() == [S.LAUNCHED, S.RUNNING, S.KILLING]
    for closed, launches, kills in (
        ([], [0, 1, 2], [2]),
        ([Gate.LAUNCH], [1, 2], [2]),
        ([Gate.KILL], [0, 1], []),
    ):
        bench.do(commands.OpenGates(list(Gate)))
        close(bench, *closed)
        bench.do(commands.ReconnectAgents())
        bench.advance()
        (order,) = [effect for effect in bench.effects if isinstance(effect, Reconcile)][-1:]
        assert [launch.pod for launch in order.launches] == [f"{JOB}-{n}-1" for n in launches]
        assert [kill.pod for kill in order.kills] == [f"{JOB}-{n}-1" for n in kills]
