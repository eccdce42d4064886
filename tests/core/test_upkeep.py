"""Upkeep: looking again asks agents once more, and what is deleted is forgotten."""

import pytest

from builders import JOB, Bench, a_job, job_id
from derny.answers import queries
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.core.effects import Kill, Launch
from derny.model.errors import NotFound
from derny.model.states import Gate, PodState, TaskState


def refresh(bench: Bench, first: int = 0, end: int = 100) -> list[object]:
    """What agents are asked by a look at these pods."""
    asked = len(bench.effects)
    bench.do(commands.RefreshPods(JOB, first, end))
    return [(type(effect), effect.pod) for effect in bench.effects[asked:]]  # type: ignore[union-attr]  # never a Reconcile


def test_what_is_on_its_way_is_asked_for_once_more() -> None:
    bench = Bench()
    bench.create(a_job(3))
    bench.report(TaskState.RUNNING, 1)
    assert refresh(bench) == [(Launch, f"{JOB}-0-1"), (Launch, f"{JOB}-2-1")]
    assert refresh(bench, 2, 3) == [(Launch, f"{JOB}-2-1")]
    bench.stop()
    assert refresh(bench, 0, 2) == [(Kill, f"{JOB}-0-1"), (Kill, f"{JOB}-1-1")]


def test_a_repeat_has_the_times_of_the_first_asking() -> None:
    bench = Bench()
    bench.create(a_job())
    first = bench.effects[-1]
    bench.at += 7
    refresh(bench)
    assert bench.effects[-1] == first


def test_closed_gates_hold_repeats_back_too() -> None:
    bench = Bench()
    bench.create(a_job(2))
    bench.report(TaskState.RUNNING, 0)
    bench.stop()
    bench.do(commands.CloseGates([Gate.KILL, Gate.LAUNCH]))
    assert refresh(bench) == []


def test_looking_again_changes_nothing_that_is_as_it_shall_be() -> None:
    bench = Bench()
    bench.running(a_job(3))
    before = fingerprint(bench.machine.state)
    bench.do(commands.RefreshPods(JOB, 0, 2))
    assert list(bench.machine.state.dirty_pods) == bench.job().pods[:2]
    assert list(bench.machine.state.dirty_jobs) == [JOB]
    assert bench.settle() == []
    assert fingerprint(bench.machine.state) == before


def test_pods_that_are_not_there_are_passed_over_and_jobs_are_not() -> None:
    bench = Bench()
    bench.running(a_job(3))
    assert bench.do(commands.RefreshPods(JOB, 2, 500)) == [events.PodsRefreshed(JOB, 2, 3)]
    assert bench.do(commands.RefreshPods(JOB, 500, 1000)) == [events.PodsRefreshed(JOB, 3, 3)]
    with pytest.raises(NotFound):
        bench.do(commands.RefreshPods(job_id(9), 0, 1))


@pytest.fixture
def ran_twice() -> Bench:
    bench = Bench()
    bench.running(a_job(2))
    bench.report(TaskState.LOST, 0)
    bench.after(60)
    bench.report(TaskState.RUNNING, 0)
    assert bench.pod().run == 2
    return bench


def events_of(bench: Bench, run: int) -> list[PodState]:
    found = queries.pod_events(bench.machine.state, JOB, 0, run)
    return [event.entry.state for event in found]


@pytest.mark.parametrize("run", [1, 2])
def test_the_events_of_one_run_are_deleted_and_no_others(ran_twice: Bench, run: int) -> None:
    other = events_of(ran_twice, 3 - run)
    assert ran_twice.do(commands.DeletePodEvents(JOB, 0, run)) == [events.PodEventsDeleted(JOB, 0, run)]
    assert events_of(ran_twice, run) == []
    assert events_of(ran_twice, 3 - run) == other != []
    # A repeat is harmless, and leaves no trace.
    assert ran_twice.do(commands.DeletePodEvents(JOB, 0, run)) == []
    assert fingerprint(ran_twice.replayed().state) == fingerprint(ran_twice.machine.state)


def test_what_happens_after_a_deletion_is_written_down(ran_twice: Bench) -> None:
    ran_twice.do(commands.DeletePodEvents(JOB, 0, 2))
    ran_twice.report(TaskState.FAILED, 0)
    assert PodState.FAILED in events_of(ran_twice, 2)


@pytest.mark.parametrize("job, instance, run", [(JOB, 0, 3), (JOB, 0, 0), (JOB, 2, 1), (job_id(9), 0, 1)])
def test_events_of_what_never_was_are_not_found(ran_twice: Bench, job: str, instance: int, run: int) -> None:
    with pytest.raises(NotFound):
        ran_twice.do(commands.DeletePodEvents(job, instance, run))  # type: ignore[arg-type]  # a job id
