"""Alike pods of a job are told together, whatever the slices."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, Bench, a_job, a_template, job_id
from derny.answers.job_explanation import Alike, gather
from derny.core import commands
from derny.core.instances import Range
from derny.core.state import State
from derny.model.errors import NotFound
from derny.model.specs import WorkflowSpec
from derny.model.states import PodState, TaskState


def gathered(state: State, most: int = 3) -> list[tuple[PodState, list[Range]]]:
    alike: Alike = {}
    first: int | None = 0
    while first is not None:
        first = gather(state, JOB, first, most, alike)
    return [(likeness.state, ranges) for likeness, ranges in alike.items()]


def test_pods_that_run_are_not_told_of() -> None:
    bench = Bench()
    bench.running(a_job(5))
    assert gathered(bench.machine.state) == []
    bench.report(TaskState.FAILED, 1, 2)
    assert gathered(bench.machine.state) == [(PodState.FAILED, [(1, 2)])]


def test_a_job_that_is_not_there() -> None:
    with pytest.raises(NotFound):
        gather(Bench().machine.state, JOB, 0, 9, {})


@pytest.mark.parametrize("most", [1, 7, 1000])
def test_two_templates_and_the_first_in_line_are_told_apart(most: int) -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(20, template=a_template(cpu=9), others={4: a_template(cpu=8.5)}))
    found = gathered(bench.machine.state, most)
    assert found == [
        (PodState.PENDING, [(0, 0)]),
        (PodState.PENDING, [(1, 3), (5, 19)]),
        (PodState.PENDING, [(4, 4)]),
    ]


def test_instances_that_are_not_begun_are_told_of() -> None:
    bench = Bench()
    bench.do(commands.CreateJob(JOB, a_job(9), WorkflowSpec(batch_size=2)))
    bench.settle()
    assert gathered(bench.machine.state) == [(PodState.LAUNCHED, [(0, 1)]), (PodState.INITIALIZED, [(2, 8)])]


@given(st.integers(1, 30), st.integers(1, 40), st.sets(st.integers(0, 29)))
@settings(max_examples=30, deadline=None)
def test_every_pod_that_does_not_run_is_told_of_once(count: int, most: int, failing: set[int]) -> None:
    bench = Bench(hosts=2)
    bench.create(a_job(1, name="other", template=a_template(cpu=4)), job_id(2))
    bench.create(a_job(count))
    placed = [n for n, state in enumerate(bench.states()) if state is PodState.LAUNCHED]
    bench.report(TaskState.RUNNING, *placed)
    bench.report(TaskState.FAILED, *sorted(failing.intersection(placed)))
    told = [
        n
        for _state, ranges in gathered(bench.machine.state, most)
        for a, b in ranges
        for n in range(a, b + 1)
    ]
    running = [n for n, state in enumerate(bench.states()) if state is PodState.RUNNING]
    assert sorted(told + running) == list(range(count))
