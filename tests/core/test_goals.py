"""The goal table: every (actual, goal) is either at rest or owed one step."""

from collections import deque

import pytest

from builders import JOB, Bench, a_job
from derny.core import events
from derny.core.goals import OWED, RECOVERY, SUPERSEDED, Step, owed_to_job, owed_to_pod
from derny.core.machine import EVENT_OF_STEP
from derny.core.state import AT_REST
from derny.model.periods import Periods
from derny.model.states import POD_MOVES, JobState, PodState, TaskState

S = PodState
GOALS = (S.RUNNING, S.KILLED, S.DELETED)


def reachable() -> set[tuple[PodState, PodState]]:
    """Whatever a pod can be while its goal is anything: moves know no goals, and goals change at any time."""
    seen, fresh = {S.INITIALIZED}, deque([S.INITIALIZED])
    while fresh:
        for to in POD_MOVES[fresh.popleft()] - seen:
            seen.add(to)
            fresh.append(to)
    return {(state, goal) for state in seen for goal in GOALS}


def test_owed_steps_and_rest_share_out_all_pairs_without_a_rest() -> None:
    assert set(OWED) | AT_REST == reachable()
    assert not set(OWED) & AT_REST


def test_every_step_has_an_event_and_every_step_is_owed_somewhere() -> None:
    assert set(EVENT_OF_STEP) == set(Step)
    assert {step for step, _delay in OWED.values()} | {Step.THROTTLE, RECOVERY[0]} == set(Step)


def test_a_superseded_run_is_owed_what_a_stopped_one_is_and_then_the_next() -> None:
    ends = {S.SUCCEEDED, S.FAILED, S.LOST, S.KILLED}
    for actual, goal in reachable():
        if goal is S.KILLED and actual is not S.INITIALIZED:
            expected = Step.RESTART if actual in ends else OWED[actual, S.KILLED][0]
            assert SUPERSEDED[actual][0] is expected


@pytest.mark.parametrize(
    ("actual", "goal", "step"),
    [
        (S.KILLED, S.RUNNING, Step.RESTART),
        (S.SUCCEEDED, S.RUNNING, Step.RESTART),
        (S.KILLED, S.KILLED, None),
        (S.FAILED, S.KILLED, None),
        (S.RUNNING, S.RUNNING, None),
        (S.PENDING, S.RUNNING, None),
        (S.RUNNING, S.KILLED, Step.KILL),
        (S.RUNNING, S.DELETED, Step.KILL),
        (S.LAUNCHED, S.KILLED, Step.KILL),
        (S.PENDING, S.KILLED, Step.KILL_WAITING),
        (S.PLACING, S.DELETED, Step.KILL_WAITING),
    ],
)
def test_rows_that_the_behaviour_names(actual: PodState, goal: PodState, step: Step | None) -> None:
    assert OWED.get((actual, goal), (None,))[0] is step


@pytest.mark.parametrize("failures", [0, 1, 2, 8, 9, 100, 2**31, 2**32 - 1])
def test_back_offs_stay_between_nothing_and_an_hour(failures: int) -> None:
    bench = Bench()
    pod = bench.create(a_job()).pods[0]
    pod.state, pod.failures, pod.changed_at = S.FAILED, failures, 0.0
    _step, delay = OWED[S.FAILED, S.RUNNING]
    exact = 0 if not failures else min(30 * 2 ** min(failures - 1, 20), 3600)
    assert delay(pod, Periods()) == exact


@pytest.mark.parametrize(("attempts", "cycle_s"), [(1, 20), (2, 50), (3, 90), (4, 140)])
def test_each_attempt_of_a_placement_cycle_is_longer_by_the_back_off(attempts: int, cycle_s: float) -> None:
    """20 s, then 30, then 40: behaviour, scheduler §4.4, with the development values."""
    pod = Bench().create(a_job()).pods[0]
    _step, delay = OWED[S.PLACING, S.RUNNING]
    assert delay(pod, Periods(placing_attempts=attempts)) == cycle_s
    assert delay(pod, Periods(placing_attempts=attempts, placing_backoff_s=0)) == 20 * attempts


def test_a_step_that_is_not_due_sets_a_timer_for_the_moment_at_which_it_is() -> None:
    bench = Bench()
    bench.create(a_job())
    state, pod = bench.machine.state, bench.pod()
    assert owed_to_pod(state, pod, 1059.0, Periods()) is None
    assert pod in list(state.timers)
    assert owed_to_pod(state, pod, 1060.0, Periods()) is Step.KILL


def test_a_back_off_of_zero_restarts_at_once() -> None:
    bench = Bench(periods=Periods(restart_backoff_first_s=0))
    bench.running(a_job())
    assert events.PodsRestarted(JOB, [0]) in bench.report(TaskState.FAILED, 0)


def test_a_slice_never_concerns_more_pods_than_the_budget() -> None:
    bench = Bench(hosts=8)
    bench.running(a_job(20))
    job = bench.job()
    job.told, job.goals_set = JobState.KILLED, 0
    assert owed_to_job(bench.machine.state, job, bench.at, 7, Periods()) == (
        events.PodsGoalSet(JOB, 0, 7, S.KILLED),
        7,
    )
