"""The steps of a workflow: the window, the order, what counts as done or failed, and the way back."""

import pytest

from builders import JOB, Bench, a_job, a_template
from derny.core import commands, events
from derny.core.instances import ranges
from derny.model.periods import Periods
from derny.model.specs import JobSpec, WorkflowSpec
from derny.model.states import HealthState, JobState, PodState, TaskState
from derny.model.states import WorkflowState as W

J, S, T = JobState, PodState, TaskState


def other(count: int, run: str = "other", health_checked: bool = False) -> JobSpec:
    """A job whose pods differ from those of `a_job`."""
    return a_job(count, template=a_template(run=run, health_checked=health_checked))


def settled(count: int, **periods: float) -> Bench:
    """A bench with a job whose creation is over."""
    bench = Bench(hosts=8, periods=Periods(**periods))
    bench.running(a_job(count))
    bench.live(10)
    assert bench.workflow().state is W.SUCCEEDED
    return bench


def begun(happened: list[events.Event]) -> list[list[int]]:
    return [event.instances for event in happened if isinstance(event, events.InstancesBegun)]


def current(bench: Bench) -> list[int]:
    return sorted(bench.workflow().current)


def counts(bench: Bench) -> tuple[int, int, int]:
    """Done, failed, and how many there are in all."""
    workflow = bench.workflow()
    return workflow.done, workflow.failed, workflow.total


def obey_for(bench: Bench, seconds: int, launch: TaskState = T.RUNNING) -> None:
    for _ in range(seconds):
        bench.obey(launch)
        bench.live(1)


# The window


def test_the_window_slides_with_every_instance_that_is_done() -> None:
    bench = settled(5, steady_s=0)
    bench.replace(other(5), batch_size=2)
    assert current(bench) == [0, 1]
    bench.report(T.KILLED, 1)
    bench.report(T.RUNNING, 1)
    assert current(bench) == [0, 2]
    bench.report(T.KILLED, 0, 2)
    bench.report(T.RUNNING, 2)
    assert current(bench) == [0, 3]


def test_no_batch_size_means_all_at_once() -> None:
    bench = settled(5)
    bench.replace(other(5))
    assert current(bench) == [0, 1, 2, 3, 4]


def test_a_creation_has_a_window_too() -> None:
    bench = Bench(hosts=8, periods=Periods(steady_s=0))
    bench.do(commands.CreateJob(JOB, a_job(5), WorkflowSpec(batch_size=2)))
    bench.settle()
    assert bench.states() == [S.LAUNCHED] * 2
    bench.report(T.RUNNING, 0)
    assert bench.states() == [S.RUNNING, S.LAUNCHED, S.LAUNCHED]
    obey_for(bench, 3)
    assert (bench.states(), bench.workflow().state) == ([S.RUNNING] * 5, W.SUCCEEDED)


@pytest.mark.parametrize("budget", [1, 3, 100])
def test_a_large_workflow_comes_in_slices_and_to_the_same_end(budget: int) -> None:
    bench = settled(20)
    bench.do(commands.ReplaceJob(JOB, "1-1-1", other(25)))
    happened = bench.settle(budget)
    planned = [event for event in happened if isinstance(event, events.WorkflowPlanned)]
    assert all(len(event.updated) <= budget for event in planned)
    assert [event.complete for event in planned] == [False] * (len(planned) - 1) + [True]
    assert all(len(instances) <= budget for instances in begun(happened))
    obey_for(bench, 4)
    assert (bench.workflow().state, counts(bench)) == (W.SUCCEEDED, (25, 0, 25))


# The order


def test_added_come_before_updated_before_removed() -> None:
    bench = settled(3, steady_s=0)
    bench.replace(other(4), batch_size=1)
    order = [current(bench)]
    for _ in range(3):
        bench.obey()
        order.append(current(bench))
    assert order[0] == [3]
    assert bench.workflow().state is W.SUCCEEDED
    started = [event for event in bench.log if isinstance(event, events.PodsCreated | events.InstancesBegun)]
    assert isinstance(started[-4], events.PodsCreated)
    assert [event.instances for event in started[-3:]] == [[0], [1], [2]]  # type: ignore[union-attr]  # as just said
    bench.replace(a_job(2), batch_size=1)
    obey_for(bench, 8)
    assert begun(bench.log)[-4:] == [[0], [1], [3], [2]]
    assert bench.workflow().state is W.SUCCEEDED


def test_the_last_to_go_are_the_first_of_the_list() -> None:
    bench = settled(3)
    bench.replace(a_job(0), batch_size=2)
    assert current(bench) == [1, 2]
    assert [pod.goal for pod in bench.job().pods] == [S.RUNNING, S.DELETED, S.DELETED]
    bench.report(T.KILLED, 1)
    assert (current(bench), len(bench.job().pods)) == ([1, 2], 3)
    bench.report(T.KILLED, 2)
    assert (current(bench), len(bench.job().pods)) == ([0], 1)


def test_pods_that_serve_nobody_are_updated_first_then_those_that_are_stopped() -> None:
    bench = settled(5, restart_backoff_first_s=1000)
    bench.report(T.FAILED, 3)
    bench.do(commands.StopPod(JOB, 1))
    bench.obey()
    happened = bench.replace(other(5), batch_size=1)
    assert begun(happened) == [[3]]
    obey_for(bench, 20)
    assert begun(bench.log) == [[3], [1], [0], [2], [4]]


def test_a_pod_that_falls_ill_while_it_waits_moves_forward() -> None:
    bench = settled(5, restart_backoff_first_s=1000)
    bench.replace(other(5), batch_size=1)
    bench.report(T.FAILED, 4)
    obey_for(bench, 20)
    assert begun(bench.log) == [[0], [4], [1], [2], [3]]


# Done


def test_a_pod_is_done_once_it_has_run_for_a_moment() -> None:
    bench = settled(1, steady_s=5)
    bench.replace(other(1))
    bench.report(T.KILLED, 0)
    bench.report(T.RUNNING, 0)
    bench.live(4.9)
    assert counts(bench) == (0, 0, 1)
    bench.live(0.2)
    assert (counts(bench), bench.workflow().state) == ((1, 0, 1), W.SUCCEEDED)


def test_a_pod_that_crashes_at_the_start_is_not_done() -> None:
    bench = settled(1)
    bench.replace(other(1), max_instance_retries=1, max_tolerable_instance_failures=1)
    bench.report(T.KILLED, 0)
    bench.report(T.RUNNING, 0)
    bench.live(0.5)
    bench.report(T.FAILED, 0)
    assert (counts(bench), bench.workflow().state) == ((0, 1, 1), W.FAILED)


def test_a_pod_with_a_health_check_is_done_when_it_is_healthy() -> None:
    bench = settled(2)
    bench.replace(other(2, health_checked=True))
    bench.obey()
    bench.live(60)
    assert counts(bench) == (0, 0, 2)
    for pod, health in zip(bench.job().pods, (HealthState.HEALTHY, HealthState.UNHEALTHY), strict=True):
        pod.health = health
        bench.machine.state.record(pod, bench.at)
    bench.machine.state.touch(bench.job(), bench.at)
    bench.machine.advance(bench.at, 100)
    assert counts(bench) == (1, 0, 2)


# Failed


def test_an_instance_fails_with_its_last_retry_and_frees_its_slot() -> None:
    bench = settled(3, restart_backoff_first_s=1, restart_backoff_max_s=1)
    bench.replace(other(3), batch_size=1, max_instance_retries=2)
    bench.report(T.KILLED, 0)
    bench.report(T.FAILED, 0)
    assert (current(bench), counts(bench)) == ([0], (0, 0, 3))
    bench.live(1.1)
    bench.report(T.FAILED, 0)
    assert (current(bench), counts(bench)) == ([1], (0, 1, 3))
    obey_for(bench, 20)
    assert (bench.workflow().state, counts(bench)) == (W.SUCCEEDED, (2, 1, 3))
    assert bench.states() == [S.RUNNING] * 3


def test_without_a_limit_of_retries_no_instance_fails() -> None:
    bench = settled(1, restart_backoff_first_s=0)
    bench.replace(other(1), max_tolerable_instance_failures=1)
    bench.report(T.KILLED, 0)
    for _ in range(100):
        bench.report(T.FAILED, 0)
    assert bench.pod().failures == 100
    assert (counts(bench), bench.workflow().state) == ((0, 0, 1), W.ROLLING_FORWARD)


@pytest.mark.parametrize(("tolerated", "state"), [(3, W.FAILED), (4, W.SUCCEEDED)])
def test_as_many_failed_instances_as_the_limit_fail_the_update(tolerated: int, state: W) -> None:
    bench = settled(7, restart_backoff_first_s=1000)
    bench.replace(other(7), max_instance_retries=1, max_tolerable_instance_failures=tolerated)
    bench.report(T.KILLED, *range(7))
    bench.report(T.RUNNING, 0, 1, 2, 3)
    bench.live(2)
    assert counts(bench) == (4, 0, 7)
    bench.report(T.FAILED, 4, 5, 6)
    assert (bench.workflow().state, counts(bench)) == (state, (4, 3, 7))


def test_a_failed_update_stops_where_it_is_and_the_job_keeps_the_new_configuration() -> None:
    bench = settled(3, restart_backoff_first_s=1000)
    bench.replace(other(6), batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=1)
    obey_for(bench, 3, T.FAILED)
    assert (bench.workflow().state, len(bench.job().pods)) == (W.FAILED, 4)
    assert (bench.job().spec, counts(bench)) == (other(6), (0, 1, 6))


def test_a_shrink_with_a_bad_configuration_removes_nothing() -> None:
    bench = settled(3, restart_backoff_first_s=1000)
    bench.replace(other(2), batch_size=1, max_instance_retries=1, max_tolerable_instance_failures=1)
    obey_for(bench, 3, T.FAILED)
    assert (bench.workflow().state, len(bench.job().pods)) == (W.FAILED, 3)
    assert S.DELETED not in {pod.goal for pod in bench.job().pods}


def test_failures_are_looked_at_when_a_paused_update_goes_on() -> None:
    bench = settled(2, restart_backoff_first_s=1000)
    bench.replace(other(2), max_instance_retries=1, max_tolerable_instance_failures=1)
    bench.do(commands.PauseWorkflow(JOB, bench.version()))
    obey_for(bench, 2, T.FAILED)
    assert (bench.workflow().state, counts(bench)) == (W.PAUSED, (0, 2, 2))
    bench.do(commands.ResumeWorkflow(JOB, bench.version()))
    bench.settle()
    assert bench.workflow().state is W.FAILED


# The way back

BACK = {"max_instance_retries": 1, "max_tolerable_instance_failures": 1, "rollback_on_failure": 1}


def test_the_way_back_has_a_number_of_its_own_and_makes_a_clients_version_stale() -> None:
    bench = settled(3, restart_backoff_first_s=1000)
    bench.replace(other(3), batch_size=1, **BACK)
    bench.report(T.KILLED, 0)
    bench.report(T.FAILED, 0)
    workflow = bench.workflow()
    assert (workflow.state, workflow.prev_state) == (W.ROLLING_BACKWARD, W.ROLLING_FORWARD)
    assert (workflow.version, workflow.prev_version) == ((3, 1, 2), (2, 1, 2))
    assert (bench.version(), bench.job().spec) == ("3-1-2", a_job(3))
    obey_for(bench, 5)
    assert (workflow.state, workflow.spec.batch_size) == (W.ROLLED_BACK, 1)
    assert [(pod.state, pod.config) for pod in bench.job().pods] == [(S.RUNNING, 3)] * 3
    assert [pod.run for pod in bench.job().pods] == [3, 1, 1]


@pytest.mark.parametrize("count", [1, 3, 5])
def test_the_way_back_brings_the_old_count_back(count: int) -> None:
    bench = settled(3, restart_backoff_first_s=1000)
    bench.replace(other(count), **BACK)
    bench.report(T.KILLED, 0)
    bench.report(T.FAILED, 0)
    assert bench.workflow().state is W.ROLLING_BACKWARD
    obey_for(bench, 8)
    assert bench.workflow().state is W.ROLLED_BACK
    assert bench.states() == [S.RUNNING] * 3
    assert {pod.config for pod in bench.job().pods} == {3}


def test_from_ten_back_to_five_five_are_removed_and_five_updated() -> None:
    bench = settled(5, restart_backoff_first_s=1000)
    bench.replace(other(10), max_instance_retries=1, max_tolerable_instance_failures=2, rollback_on_failure=1)
    bench.report(T.KILLED, 0, 1, 2, 3, 4)
    bench.report(T.RUNNING, 0, 1, 2, 3, 4, 5, 6, 7)
    bench.report(T.FAILED, 8, 9)
    workflow = bench.workflow()
    assert workflow.state is W.ROLLING_BACKWARD
    assert (workflow.version[0], workflow.prev_version[0], bench.job().config) == (3, 2, 3)
    assert (workflow.removed, ranges(workflow.updated)) == ((5, 10), [(0, 4)])
    # The two that had failed are gone at once.
    assert (counts(bench), len(bench.job().pods)) == ((2, 0, 10), 8)


def test_a_way_back_that_fails_ends_there() -> None:
    bench = settled(2, restart_backoff_first_s=1000)
    bench.replace(other(2), **BACK)
    obey_for(bench, 3, T.FAILED)
    assert (bench.workflow().state, bench.version()) == (W.FAILED, "3-1-2")


def test_a_creation_has_no_way_back() -> None:
    bench = Bench(hosts=8, periods=Periods())
    how = WorkflowSpec(max_instance_retries=1, max_tolerable_instance_failures=1)
    bench.do(commands.CreateJob(JOB, a_job(2), how))
    bench.settle()
    bench.report(T.FAILED, 0)
    assert bench.workflow().state is W.FAILED


# In place


def test_an_update_in_place_wants_the_hosts_it_is_on() -> None:
    bench = settled(3)
    hosts = [pod.host for pod in bench.job().pods]
    bench.replace(other(3), in_place=True)
    assert [pod.desired_host for pod in bench.job().pods] == hosts
    bench.live(2)
    obey_for(bench, 3)
    assert bench.workflow().state is W.SUCCEEDED
    assert {pod.desired_host for pod in bench.job().pods} == {None}


# What it costs


def test_a_turn_looks_at_what_has_changed_and_not_at_all_pods() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.do(commands.CreateJob(JOB, a_job(40)))
    bench.settle()
    bench.report(T.RUNNING, 7)
    rollout = bench.machine.state.rollouts[JOB]
    assert (list(rollout.changed), [instances for _, instances in rollout.steady]) == ([], [[7]])
    bench.live(1.5)
    assert (counts(bench), list(rollout.steady)) == ((1, 0, 40), [])
