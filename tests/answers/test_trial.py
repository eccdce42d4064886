"""Trials: the machine on a fork; the properties of whole plans are in test_job_plan."""

import pytest

from builders import POOL, Bench, a_job, a_template, job_id
from derny.answers import trial as trials
from derny.answers.fork import fork
from derny.answers.trial import Trial
from derny.core.commands import CreateJob
from derny.model.periods import Periods
from derny.model.specs import JobSpec, WorkflowSpec
from derny.model.states import PodState

NEW = job_id(9)


def played(bench: Bench, spec: JobSpec, workflow: WorkflowSpec | None = None) -> tuple[Trial, int]:
    """A trial of a creation, and how many turns it took."""
    command = CreateJob(NEW, spec, workflow or WorkflowSpec())
    decide = bench.machine.deciders[CreateJob]
    trial = Trial(bench.machine.terms, fork(bench.machine.state, spec.templates, None, {}), NEW, bench.at)
    trial.begin(decide(bench.machine.state, command, bench.at))
    turns = 1
    while trial.turn():
        turns += 1
    return trial, turns


def states(trial: Trial) -> list[PodState]:
    return [pod.state for pod in trial.state.jobs[NEW].pods]


def test_pods_are_placed_and_agents_need_not_answer() -> None:
    trial, _turns = played(Bench(hosts=2), a_job(5))
    assert states(trial) == [PodState.LAUNCHED] * 5


def test_where_more_is_begun_only_then_agents_answer_and_time_passes() -> None:
    trial, _turns = played(Bench(hosts=2, periods=Periods()), a_job(5), WorkflowSpec(batch_size=2))
    assert states(trial) == [PodState.RUNNING] * 4 + [PodState.LAUNCHED]


def test_a_trial_of_what_never_fits_ends() -> None:
    trial, turns = played(Bench(hosts=2), a_job(3, template=a_template(cpu=9)))
    assert states(trial) == [PodState.PLACING, PodState.PENDING, PodState.PENDING]
    assert turns < 20
    assert not trial.was_cut


def test_a_trial_that_takes_too_long_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "TURNS_MAX", 3)
    trial, turns = played(Bench(hosts=2), a_job(9), WorkflowSpec(batch_size=1))
    assert (turns, trial.was_cut) == (3, True)


def test_nobody_is_preempted_in_a_trial_and_others_keep_still() -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(16, template=a_template(preemptible=True)))
    bench.create(a_job(2, name="waits", priority=5), job_id(2))
    at = bench.machine.state.tree.pools[POOL].blocked_at
    trial, _turns = played(bench, a_job(1))
    assert states(trial) == [PodState.PENDING]
    assert bench.machine.state.tree.pools[POOL].blocked_at == at
    assert bench.states() == [PodState.RUNNING] * 16
