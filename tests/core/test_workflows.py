"""Workflows as clients ask for them: what is refused, how versions grow, what is remembered."""

import pytest

from builders import JOB, POOL, Bench, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.answers import queries
from derny.core import commands, events, workflow_log
from derny.core.audit import fingerprint
from derny.core.instances import ranges
from derny.model.errors import Exhausted, Invalid, NotFound, Refusal, WrongState, WrongVersion
from derny.model.periods import Limits, Periods
from derny.model.specs import JobSpec, WorkflowSpec
from derny.model.states import JobState, PodState, TaskState, TerminationReason, WorkflowType
from derny.model.states import WorkflowState as W

J, S, T = JobState, PodState, TaskState


def other(count: int = 3, run: str = "other", **fields: int) -> JobSpec:
    """A job whose pods differ from those of `a_job`."""
    return a_job(count, template=a_template(run=run), **fields)  # type: ignore[arg-type]  # all are numbers


def refused(bench: Bench, command: commands.Command, refusal: type[Refusal], words: str) -> None:
    """The command is refused with these words, and nothing has changed."""
    before = fingerprint(bench.machine.state)
    with pytest.raises(refusal, match=words):
        bench.do(command)
    assert fingerprint(bench.machine.state) == before


def done(bench: Bench) -> W:
    """Let agents obey and time pass until nothing more happens; returns the state of the workflow."""
    for _ in range(30):
        bench.obey()
        bench.live(2)
    return bench.workflow().state


def settled(count: int = 3, **fields: int) -> Bench:
    """A bench with a job whose creation is over."""
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(count, **fields))  # type: ignore[arg-type]  # all are numbers
    assert done(bench) is W.SUCCEEDED
    return bench


# Create


def test_a_creation_is_an_update_from_nothing() -> None:
    bench = Bench(periods=Periods())
    bench.create(a_job(3))
    workflow = bench.workflow()
    assert (workflow.type, workflow.state) == (WorkflowType.UPDATE, W.ROLLING_FORWARD)
    assert (workflow.version, workflow.prev_version) == ((1, 1, 1), (0, 1, 1))
    assert (workflow.added, workflow.total, list(workflow.current)) == ((0, 3), 3, [0, 1, 2])
    assert done(bench) is W.SUCCEEDED
    assert (workflow.done, workflow.failed, workflow.completed_at > 0) == (3, 0, True)


def test_a_creation_can_wait_for_a_resume() -> None:
    bench = Bench(periods=Periods())
    bench.do(commands.CreateJob(JOB, a_job(3), WorkflowSpec(start_paused=True)))
    bench.live(5)
    assert bench.job().pods == []
    assert (bench.workflow().state, bench.workflow().prev_state) == (W.PAUSED, W.INITIALIZED)
    assert (bench.workflow().added, bench.job().state) == ((0, 3), J.PENDING)
    bench.do(commands.ResumeWorkflow(JOB, "1-1-1"))
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING] * 3


def test_a_failed_creation_leaves_pods_uncreated_until_a_replace_makes_them() -> None:
    bench = Bench(periods=Periods())
    how = WorkflowSpec(batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=1)
    bench.do(commands.CreateJob(JOB, a_job(3), how))
    bench.settle()
    bench.report(T.FAILED, 0)
    assert (bench.workflow().state, len(bench.job().pods)) == (W.FAILED, 1)
    bench.live(5)
    assert (len(bench.job().pods), bench.job().state) == (1, J.PENDING)
    bench.replace(other())
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING] * 3


# Replace


def test_a_replace_has_the_next_version_and_new_runs_of_the_new_configuration() -> None:
    bench = settled()
    bench.replace(other(), opaque="why")
    assert (bench.version(), bench.job().spec) == ("2-1-2", other())
    assert (bench.workflow().version, bench.workflow().prev_version) == ((2, 1, 2), (1, 1, 1))
    assert bench.workflow().opaque == "why"
    assert done(bench) is W.SUCCEEDED
    assert [(pod.run, pod.config, pod.failures) for pod in bench.job().pods] == [(2, 2, 0)] * 3


def test_a_replaced_run_ends_for_the_update_and_does_not_count_as_a_failure() -> None:
    bench = settled()
    bench.replace(other())
    assert {pod.termination.reason for pod in bench.job().pods if pod.termination} == {
        TerminationReason.KILLED_FOR_UPDATE
    }
    assert {(pod.config, pod.desired_config) for pod in bench.job().pods} == {(1, 2)}


def test_pods_that_do_not_change_get_the_new_number_without_a_new_run() -> None:
    bench = settled()
    bench.replace(a_job(3, name="renamed", unavailable_max=1))
    assert bench.workflow().state is W.SUCCEEDED
    assert [(pod.run, pod.config, pod.desired_config) for pod in bench.job().pods] == [(1, 2, 2)] * 3


def test_a_replace_by_the_same_is_a_new_workflow_that_has_nothing_to_do() -> None:
    bench = settled()
    bench.replace(a_job(3))
    assert (bench.version(), bench.workflow().state, bench.workflow().total) == ("2-1-2", W.SUCCEEDED, 0)


def test_only_instances_that_differ_are_restarted() -> None:
    bench = settled()
    bench.replace(a_job(3, others={1: a_template(run="other")}))
    assert done(bench) is W.SUCCEEDED
    assert ranges(bench.workflow().updated) == [(1, 1)]
    assert [pod.run for pod in bench.job().pods] == [1, 2, 1]


def test_a_job_grows_and_shrinks_and_instances_go_on_with_their_runs() -> None:
    bench = settled(3)
    for count, runs in ((5, [1, 1, 1, 1, 1]), (3, [1, 1, 1]), (5, [1, 1, 1, 2, 2]), (0, []), (1, [2])):
        bench.replace(a_job(count))
        assert done(bench) is W.SUCCEEDED
        assert [pod.run for pod in bench.job().pods] == runs
    assert bench.job().state is J.RUNNING
    entries = queries.pod_events(bench.machine.state, JOB, 0, 1)
    assert entries[-1].entry.run == 1


def test_the_events_of_a_removed_instance_are_kept_until_the_job_is_gone() -> None:
    bench = settled(3)
    bench.replace(a_job(2))
    assert done(bench) is W.SUCCEEDED
    latest = queries.pod_events(bench.machine.state, JOB, 2)[0].entry
    assert (latest.run, latest.state, latest.goal) == (1, S.KILLED, S.DELETED)
    with pytest.raises(NotFound):
        queries.pod_info(bench.machine.state, JOB, 2)


def test_ten_pods_become_eight_or_twelve() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(10))
    done(bench)
    bench.replace(a_job(8))
    assert bench.workflow().removed == (8, 10)
    assert (bench.workflow().updated, bench.workflow().total) == (b"", 2)
    assert bench.job().state is not J.SUCCEEDED
    assert done(bench) is W.SUCCEEDED
    bench.replace(other(12))
    assert (bench.workflow().added, ranges(bench.workflow().updated)) == ((8, 12), [(0, 7)])


def test_a_job_with_more_pods_than_it_shall_have_is_pending() -> None:
    bench = settled(3)
    bench.replace(a_job(2))
    bench.live(2)
    assert (len(bench.job().pods), bench.job().state) == (3, J.PENDING)
    done(bench)
    assert bench.job().state is J.RUNNING


def test_the_configuration_of_the_job_is_the_new_one_at_once() -> None:
    bench = settled()
    bench.replace(other(5), batch_size=1)
    view = queries.job_info(bench.machine.state, JOB)
    assert (view.spec.instance_count, view.spec_version, view.spec_created_at) == (5, 2, bench.at)
    assert queries.job_spec(bench.machine.state, JOB, 1)[0] == a_job(3)
    assert queries.job_spec(bench.machine.state, JOB, 0)[0].instance_count == 0


def test_a_renamed_job_is_found_by_its_new_name_among_others_by_age() -> None:
    bench = settled()
    bench.create(a_job(0, name="new"), job_id(2))
    bench.replace(a_job(3, name="new"))
    state = bench.machine.state
    assert queries.job_ids_named(state, "new") == [job_id(2), JOB]
    with pytest.raises(NotFound):
        queries.job_ids_named(state, "job")


def test_the_pods_of_all_jobs_are_limited() -> None:
    bench = Bench(limits=Limits(pods_max=5, pods_per_job_max=4))
    bench.running(a_job(3))
    refused(bench, commands.ReplaceJob(JOB, "1-1-1", a_job(5)), Invalid, "pods_per_job_max")
    bench.create(a_job(2), job_id(2))
    refused(bench, commands.ReplaceJob(JOB, "1-1-1", a_job(4)), Exhausted, "6 pods.*pods_max")
    bench.replace(a_job(1))
    assert bench.machine.state.pods_wanted == 3


def test_the_pool_is_fixed_and_asked_for_before_the_version() -> None:
    bench = settled()
    bench.do(commands.CreatePool(pool_id(1), a_pool(amounts(), name="leaf")))
    command = commands.ReplaceJob(JOB, "9-9-9", a_job(3, pool=pool_id(1)))
    refused(bench, command, Invalid, "respool_id.*fixed")


@pytest.mark.parametrize(
    "command",
    [
        commands.ReplaceJob(JOB, "1-2-3", a_job()),
        commands.RestartJob(JOB, "1-2-3"),
        commands.PauseWorkflow(JOB, ""),
        commands.ResumeWorkflow(JOB, "1-2-3"),
        commands.AbortWorkflow(JOB, "1-2-3"),
    ],
    ids=lambda command: type(command).__name__,
)
def test_another_version_or_no_job_is_refused(command: commands.Command) -> None:
    refused(settled(), command, WrongVersion, "unexpected entity version")
    refused(Bench(), command, NotFound, JOB)


def test_a_job_that_is_being_deleted_takes_no_workflow() -> None:
    bench = settled()
    bench.delete(force=True)
    refused(bench, commands.ReplaceJob(JOB, bench.version(), other()), Invalid, "going to be deleted")
    refused(bench, commands.RestartJob(JOB, bench.version()), Invalid, "going to be deleted")


def test_a_deleted_job_gives_up_its_workflow() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1)
    bench.delete(force=True)
    assert bench.workflow().state is W.ABORTED
    bench.obey()
    bench.live(1)
    assert JOB not in bench.machine.state.jobs
    assert not bench.machine.state.rollouts


# Repeats and overwriting


def test_the_same_update_twice_is_one() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1, opaque="a")
    assert bench.do(commands.ReplaceJob(JOB, "2-1-2", other(), WorkflowSpec(1), "a")) == []
    assert (bench.version(), len(bench.job().workflows)) == ("2-1-2", 2)


def test_the_same_update_with_other_opaque_data_keeps_those() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1, opaque="a")
    bench.replace(other(), batch_size=1, opaque="b")
    assert (bench.version(), bench.workflow().opaque, len(bench.job().workflows)) == ("2-1-3", "b", 2)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_an_update_takes_the_place_of_an_update_unless_it_is_the_same(batch_size: int) -> None:
    bench = settled()
    bench.replace(other(), batch_size=1)
    spec = other() if batch_size == 2 else other(run="yet another")
    bench.replace(spec, batch_size=batch_size)
    assert [workflow.state for workflow in bench.job().workflows[-2:]] == [W.ABORTED, W.ROLLING_FORWARD]
    assert done(bench) is W.SUCCEEDED
    assert {pod.config for pod in bench.job().pods} == {3}


def test_a_paused_update_is_no_repeat() -> None:
    bench = settled()
    bench.replace(other(), start_paused=True)
    bench.replace(other(), start_paused=True)
    assert (bench.version(), [w.state for w in bench.job().workflows[1:]]) == ("3-1-3", [W.ABORTED, W.PAUSED])


def test_a_replace_during_the_creation_ends_on_the_new_configuration() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.do(commands.CreateJob(JOB, a_job(3)))
    bench.replace(other(4))
    assert done(bench) is W.SUCCEEDED
    assert [pod.config for pod in bench.job().pods] == [2] * 4


def test_a_restart_takes_nobodys_place_and_no_update_that_of_a_restart() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1)
    refused(bench, commands.RestartJob(JOB, "2-1-2"), Invalid, "UPDATE.*RESTART")
    bench.do(commands.AbortWorkflow(JOB, "2-1-2"))
    bench.restart(batch_size=1)
    refused(bench, commands.ReplaceJob(JOB, "3-1-4", other()), Invalid, "RESTART.*UPDATE")
    refused(bench, commands.RestartJob(JOB, "3-1-4"), Invalid, "RESTART.*RESTART")
    assert bench.version() == "3-1-4"


def test_growing_back_while_a_shrink_is_under_way_keeps_what_is_still_there() -> None:
    bench = settled(4)
    bench.replace(a_job(1), batch_size=2)
    assert [pod.goal for pod in bench.job().pods] == [S.RUNNING, S.RUNNING, S.DELETED, S.DELETED]
    bench.replace(a_job(3))
    assert [pod.goal for pod in bench.job().pods] == [S.RUNNING, S.RUNNING, S.RUNNING, S.DELETED]
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING] * 3


def test_the_way_back_by_hand_is_a_replace_by_the_old_configuration() -> None:
    for count in (5, 1):
        bench = settled(3)
        bench.replace(other(count), batch_size=1)
        bench.obey()
        bench.replace(a_job(3), batch_size=1)
        assert done(bench) is W.SUCCEEDED
        assert [pod.config for pod in bench.job().pods] == [3] * 3


# Restart


def test_a_restart_gives_new_runs_and_a_new_number_to_the_same_configuration() -> None:
    bench = settled()
    bench.restart()
    assert (bench.version(), bench.job().spec) == ("2-1-2", a_job(3))
    assert {pod.termination.reason for pod in bench.job().pods if pod.termination} == {
        TerminationReason.KILLED_FOR_RESTART
    }
    assert done(bench) is W.SUCCEEDED
    assert [(pod.run, pod.config) for pod in bench.job().pods] == [(2, 2)] * 3


def test_a_restart_of_some_leaves_the_others_running() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(6))
    done(bench)
    bench.restart((0, 2), (1, 2), (4, 6), batch_size=1)
    assert done(bench) is W.SUCCEEDED
    assert [pod.run for pod in bench.job().pods] == [2, 2, 1, 1, 2, 2]
    assert {pod.config for pod in bench.job().pods} == {2}


@pytest.mark.parametrize("asked", [(2, 2), (3, 2), (0, 4), (3, 4), (5, 2**32 - 1)])
def test_ranges_must_be_within_the_job(asked: tuple[int, int]) -> None:
    said = f"ranges has from {asked[0]} to {asked[1]}; .* the 3 instances"
    refused(settled(3), commands.RestartJob(JOB, "1-1-1", ranges=(asked,)), Invalid, said)


def test_the_largest_number_is_the_end_of_the_job() -> None:
    bench = settled(3)
    bench.restart((1, 2**32 - 1))
    assert bench.workflow().asked == ((1, 3),)


def test_the_same_restart_twice_is_one_and_other_ranges_make_it_another() -> None:
    bench = settled()
    bench.restart((0, 2), batch_size=1)
    assert bench.do(commands.RestartJob(JOB, "2-1-2", WorkflowSpec(1), ((0, 1), (1, 2)))) == []
    refused(bench, commands.RestartJob(JOB, "2-1-2", WorkflowSpec(1), ((0, 3),)), Invalid, "RESTART")


def test_a_restart_of_a_stopped_job_starts_what_it_touches() -> None:
    bench = settled()
    bench.stop()
    bench.obey()
    bench.restart((0, 2))
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING, S.RUNNING, S.KILLED]
    assert (bench.job().goal, bench.job().state) == (J.RUNNING, J.RUNNING)


def test_a_restart_while_the_job_is_being_stopped_is_not_stuck() -> None:
    bench = settled()
    bench.stop()
    assert bench.job().state is J.KILLING
    bench.restart()
    assert done(bench) is W.SUCCEEDED
    assert bench.job().state is J.RUNNING


def test_a_restart_does_not_mind_failures() -> None:
    bench = settled()
    bench.restart(max_instance_retries=1, max_tolerable_instance_failures=1)
    bench.obey(launch=T.FAILED)
    assert bench.workflow().state is W.ROLLING_FORWARD


# Pause, resume, abort


def test_what_is_paused_begins_nothing_and_what_was_begun_goes_on() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1)
    bench.do(commands.PauseWorkflow(JOB, "2-1-2"))
    assert done(bench) is W.PAUSED
    assert [pod.run for pod in bench.job().pods] == [2, 1, 1]
    assert (bench.version(), bench.workflow().done, bench.workflow().prev_state) == (
        "2-1-3",
        1,
        W.ROLLING_FORWARD,
    )
    bench.do(commands.ResumeWorkflow(JOB, "2-1-3"))
    assert bench.workflow().state is W.ROLLING_FORWARD
    assert done(bench) is W.SUCCEEDED


def test_a_pause_before_the_start_is_resumed_to_the_start() -> None:
    bench = settled()
    bench.do(commands.ReplaceJob(JOB, "1-1-1", other()))
    bench.do(commands.PauseWorkflow(JOB, "2-1-2"))
    assert done(bench) is W.PAUSED
    assert [pod.run for pod in bench.job().pods] == [1] * 3
    bench.do(commands.ResumeWorkflow(JOB, "2-1-3"))
    assert bench.workflow().state is W.INITIALIZED
    assert done(bench) is W.SUCCEEDED


def test_an_update_that_starts_paused_has_no_lists_until_it_is_resumed() -> None:
    bench = settled()
    bench.replace(other(4), start_paused=True)
    assert (bench.workflow().updated, bench.workflow().added, bench.workflow().total) == (b"", (0, 0), 0)
    bench.do(commands.ResumeWorkflow(JOB, "2-1-2"))
    bench.settle()
    assert (ranges(bench.workflow().updated), bench.workflow().added) == ([(0, 2)], (3, 4))


def test_what_is_aborted_ends_at_once_and_what_was_begun_converges() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1)
    bench.do(commands.AbortWorkflow(JOB, "2-1-2"))
    assert bench.workflow().state is W.ABORTED
    assert done(bench) is W.ABORTED
    assert [pod.config for pod in bench.job().pods] == [2, 1, 1]
    assert bench.job().spec == other()
    bench.replace(other())
    assert done(bench) is W.SUCCEEDED
    assert [pod.config for pod in bench.job().pods] == [3, 3, 3]
    assert [pod.run for pod in bench.job().pods] == [2, 2, 2]


def test_pods_that_an_aborted_shrink_had_begun_to_remove_go_all_the_same() -> None:
    bench = settled(4)
    bench.replace(a_job(1), batch_size=1)
    bench.do(commands.AbortWorkflow(JOB, bench.version()))
    done(bench)
    assert (len(bench.job().pods), bench.job().state) == (3, J.PENDING)
    bench.start()
    assert done(bench) is W.ABORTED
    assert len(bench.job().pods) == 3


@pytest.mark.parametrize("command", [commands.PauseWorkflow, commands.ResumeWorkflow, commands.AbortWorkflow])
def test_without_anything_to_steer_it_is_the_version_alone_that_grows(
    command: type[commands.PauseWorkflow | commands.ResumeWorkflow | commands.AbortWorkflow],
) -> None:
    bench = settled()
    before = len(bench.workflow().log)
    bench.do(command(JOB, "1-1-1"))
    bench.do(command(JOB, "1-1-2", "kept"))
    assert (bench.version(), bench.workflow().state) == ("1-1-3", W.SUCCEEDED)
    assert (bench.workflow().opaque, len(bench.workflow().log)) == ("kept", before)


def test_opaque_data_stay_are_replaced_or_go() -> None:
    bench = settled()
    bench.replace(other(), batch_size=1, opaque="first")
    for number, (opaque, kept) in enumerate([(None, "first"), ("second", "second"), ("", "")]):
        bench.do(commands.PauseWorkflow(JOB, f"2-1-{2 + number}", opaque))
        assert bench.workflow().opaque == kept


# Together with start and stop


def test_an_update_of_a_stopped_job_is_done_at_once_and_a_start_runs_it() -> None:
    bench = settled()
    bench.stop()
    bench.obey()
    bench.replace(other(5))
    assert bench.workflow().state is W.SUCCEEDED
    assert bench.states() == [S.KILLED] * 5
    bench.live(2)
    assert bench.job().state is J.KILLED
    bench.start()
    bench.obey()
    assert bench.states() == [S.RUNNING] * 5
    assert {pod.config for pod in bench.job().pods} == {2}


def test_a_stopped_job_can_shrink() -> None:
    bench = settled()
    bench.stop()
    bench.obey()
    bench.replace(a_job(1))
    assert (bench.workflow().state, bench.states()) == (W.SUCCEEDED, [S.KILLED])


def test_surplus_pods_that_are_stopped_already_go() -> None:
    bench = settled(3)
    bench.do(commands.StopPod(JOB, 1))
    bench.do(commands.StopPod(JOB, 2))
    done(bench)
    bench.replace(a_job(1))
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_job_that_is_stopped_while_it_is_updated_ends_its_update(count: int) -> None:
    bench = settled(3)
    bench.replace(other(count), batch_size=1)
    bench.stop()
    assert done(bench) is W.SUCCEEDED
    assert (bench.states(), bench.job().spec) == ([S.KILLED] * count, other(count))
    assert {pod.desired_config for pod in bench.job().pods} == {2}


def test_a_stop_during_a_restart_is_not_undone_by_what_the_restart_has_yet_to_reach() -> None:
    bench = settled()
    bench.restart(batch_size=1)
    bench.stop()
    assert done(bench) is W.SUCCEEDED
    assert (bench.job().goal, bench.job().state) == (J.KILLED, J.KILLED)
    assert bench.states() == [S.KILLED] * 3


def test_a_stop_while_an_update_with_start_pods_is_paused_outlasts_it() -> None:
    bench = settled()
    bench.stop()
    done(bench)
    bench.replace(other(), start_pods=True, start_paused=True)
    bench.stop()
    bench.do(commands.ResumeWorkflow(JOB, bench.version(), None))
    assert done(bench) is W.SUCCEEDED
    assert (bench.job().goal, bench.states()) == (J.KILLED, [S.KILLED] * 3)
    bench.start()
    done(bench)
    assert [(pod.state, pod.config) for pod in bench.job().pods] == [(S.RUNNING, 2)] * 3


def test_a_start_during_the_update_of_a_stopped_job_runs_the_new_configuration() -> None:
    bench = settled()
    bench.stop()
    bench.obey()
    bench.do(commands.ReplaceJob(JOB, bench.version(), other()))
    bench.start()
    assert done(bench) is W.SUCCEEDED
    assert [(pod.state, pod.config) for pod in bench.job().pods] == [(S.RUNNING, 2)] * 3


def test_an_update_can_start_the_pods() -> None:
    bench = settled()
    bench.stop()
    bench.obey()
    bench.replace(other(4), start_pods=True)
    refused(bench, commands.StopJob(JOB, bench.version()), WrongState, "start_pods")
    assert done(bench) is W.SUCCEEDED
    assert bench.states() == [S.RUNNING] * 4


def test_pods_can_not_be_started_while_their_job_is_on_its_way_down() -> None:
    bench = settled()
    bench.stop()
    command = commands.ReplaceJob(JOB, bench.version(), other(), WorkflowSpec(start_pods=True))
    refused(bench, command, WrongState, "start_pods")


# What is remembered


def test_ten_workflows_are_remembered_and_what_belongs_to_them() -> None:
    bench = settled(1)
    for number in range(12):
        bench.replace(other(1, f"run {number}"))
        assert done(bench) is W.SUCCEEDED
    job = bench.job()
    assert [workflow.config for workflow in job.workflows] == list(range(4, 14))
    assert sorted(job.specs) == list(range(3, 14))
    assert set(job.specs_at) <= set(job.specs)
    bench.delete(force=True)
    bench.obey()
    bench.live(1)
    assert JOB not in bench.machine.state.jobs


def test_the_configuration_of_a_pod_is_kept_however_old() -> None:
    bench = Bench(limits=Limits(workflows_per_job_max=2))
    bench.running(a_job(2))
    for number in range(5):
        bench.replace(other(2, f"run {number}"), start_paused=True)
    assert {pod.config for pod in bench.job().pods} == {1}
    assert sorted(bench.job().specs) == [1, 4, 5, 6]


def test_instances_and_the_workflow_have_their_events() -> None:
    bench = settled(2)
    bench.replace(other(2), batch_size=1)
    assert done(bench) is W.SUCCEEDED
    log = bytes(bench.workflow().log)
    assert [state for _, state in workflow_log.own_events(log)] == [
        W.SUCCEEDED,
        W.ROLLING_FORWARD,
        W.INITIALIZED,
    ]
    for instance in (0, 1):
        assert [state for _, state in workflow_log.events_of(log, instance)] == [
            W.SUCCEEDED,
            W.ROLLING_FORWARD,
            W.INITIALIZED,
        ]


def test_those_in_progress_are_told_of_a_pause_and_an_abort() -> None:
    bench = settled(2)
    bench.replace(other(2), batch_size=1)
    bench.do(commands.PauseWorkflow(JOB, "2-1-2"))
    bench.do(commands.AbortWorkflow(JOB, "2-1-3"))
    log = bytes(bench.workflow().log)
    assert [state for _, state in workflow_log.events_of(log, 0, 2)] == [W.ABORTED, W.PAUSED]
    assert [state for _, state in workflow_log.events_of(log, 1)] == [W.INITIALIZED]


def test_a_workflow_survives_a_replay() -> None:
    bench = settled()
    bench.replace(other(5), batch_size=1, max_instance_retries=2)
    bench.obey()
    bench.do(commands.PauseWorkflow(JOB, bench.version()))
    again = bench.replayed()
    assert fingerprint(again.state) == fingerprint(bench.machine.state)
    assert list(again.state.rollouts) == [JOB]


def test_a_priority_that_changes_is_heeded_in_the_queue() -> None:
    bench = Bench(hosts=1, cpu=4, part=0.5)
    bench.create(a_job(4))
    assert bench.states() == [S.LAUNCHED] * 2 + [S.PENDING] * 2
    bench.create(a_job(1), job_id(2))
    bench.replace(a_job(4, priority=-1))
    bench.delete(force=True)
    bench.obey()
    assert bench.states(job_id(2)) == [S.RUNNING]
    assert not bench.machine.state.tree.waiting


def test_an_event_of_old_has_no_workflow_and_the_default_one_is_made() -> None:
    bench = Bench(periods=Periods())
    bench.machine.replay(1.0, [events.JobCreated(JOB, a_job(1))])
    assert bench.workflow().spec == WorkflowSpec()


@pytest.mark.parametrize("run", [True, False])
def test_a_class_that_changes_is_counted_anew_without_a_restart(run: bool) -> None:
    bench = Bench(hosts=2, cpu=2, part=0.5)
    bench.create(a_job(4, template=a_template(preemptible=False)))
    if run:
        bench.report(T.RUNNING, 0, 1)
    states, pool = bench.states(), bench.machine.state.tree.pools[POOL]
    assert set(states) == {S.RUNNING if run else S.LAUNCHED, S.PENDING}
    assert pool.non_preemptible.cpu == 2000
    bench.replace(a_job(4, name="new", template=a_template(preemptible=True)))
    assert (pool.non_preemptible.cpu, bench.states()) == (0, states)
    assert {(pod.run, pod.config, pod.template.preemptible) for pod in bench.job().pods} == {(1, 2, True)}
