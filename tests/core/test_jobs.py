"""The life of a job: what is refused, how versions grow, what state its pods give it."""

from collections.abc import Callable
from itertools import pairwise

import pytest

from builders import JOB, POOL, Bench, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.core.jobs import computed_state
from derny.core.state import new_counts
from derny.model.errors import Exhausted, Exists, Invalid, NotFound, Refusal, WrongState, WrongVersion
from derny.model.ids import PoolId
from derny.model.periods import Limits
from derny.model.records import Job, Pod
from derny.model.states import HealthState, JobState, PodState, TaskState

J, S, T = JobState, PodState, TaskState


def refused(bench: Bench, command: commands.Command, refusal: type[Refusal], words: str) -> None:
    """The command is refused with these words, and nothing has changed."""
    before = fingerprint(bench.machine.state)
    with pytest.raises(refusal, match=words):
        bench.do(command)
    assert fingerprint(bench.machine.state) == before
    assert not bench.machine.take_effects()


# Create


def test_a_new_job_has_its_first_version_and_wants_to_run() -> None:
    bench = Bench()
    assert bench.do(commands.CreateJob(JOB, a_job(3))) == [events.JobCreated(JOB, a_job(3))]
    job = bench.job()
    assert (bench.version(), job.state, job.goal, job.revision) == ("1-1-1", J.PENDING, J.RUNNING, 1)
    assert job.pods == []
    bench.settle()
    assert [pod.instance for pod in job.pods] == [0, 1, 2]


def test_pods_are_created_in_slices_of_the_budget() -> None:
    bench = Bench(hosts=8)
    bench.do(commands.CreateJob(JOB, a_job(25)))
    created = [event for event in bench.settle(budget=10) if isinstance(event, events.PodsCreated)]
    assert [(event.first, event.end) for event in created] == [(0, 10), (10, 20), (20, 25)]


def test_existence_is_looked_at_before_all_else() -> None:
    bench = Bench(limits=Limits(jobs_max=1))
    bench.create(a_job())
    refused(bench, commands.CreateJob(JOB, a_job(-1, PoolId("root"))), Exists, JOB)


@pytest.mark.parametrize(
    ("pool", "refusal", "words"),
    [
        (PoolId("root"), Invalid, "root pool"),
        (pool_id(7), NotFound, "does not exist"),
        (POOL, Invalid, "has children"),
    ],
)
def test_a_job_needs_a_pool_that_is_a_leaf(pool: PoolId, refusal: type[Refusal], words: str) -> None:
    bench = Bench()
    bench.do(commands.CreatePool(pool_id(1), a_pool(amounts(), parent=POOL, name="leaf")))
    refused(bench, commands.CreateJob(JOB, a_job(pool=pool)), refusal, words)


@pytest.mark.parametrize(
    ("limits", "count", "refusal"),
    [
        (Limits(pods_per_job_max=10), 11, Invalid),
        (Limits(jobs_max=1), 1, Exhausted),
        (Limits(pods_max=10), 9, Exhausted),
    ],
)
def test_limits_are_refused_by_name(limits: Limits, count: int, refusal: type[Refusal]) -> None:
    bench = Bench(limits=limits)
    bench.create(a_job(2), job_id(2))
    refused(bench, commands.CreateJob(JOB, a_job(count)), refusal, "pods_per_job_max|jobs_max|pods_max")


def test_limits_may_be_reached_and_deleted_jobs_make_room() -> None:
    bench = Bench(limits=Limits(jobs_max=2, pods_max=5, pods_per_job_max=3))
    bench.create(a_job(2), job_id(1))
    bench.create(a_job(3), job_id(2))
    bench.delete(job_id(2), force=True)
    bench.obey()
    bench.create(a_job(3), job_id(3))
    assert list(bench.machine.state.jobs) == [job_id(1), job_id(3)]


def test_an_empty_job_has_succeeded_and_can_be_stopped_and_deleted() -> None:
    bench = Bench()
    bench.create(a_job(0))
    assert bench.job().state is J.SUCCEEDED
    bench.stop()
    bench.live(2)
    assert bench.job().state is J.KILLED
    bench.delete()
    assert JOB not in bench.machine.state.jobs


# Start, stop, delete


@pytest.mark.parametrize(
    "version", ["", "1-1", "1-2-1", "1-2-3", "2-1-1", "1-1-2", " 1-1-1", "01-1-1", "1-1-1-1"]
)
@pytest.mark.parametrize("command", [commands.StartJob, commands.StopJob, commands.DeleteJob])
def test_another_version_than_the_current_one_is_refused(
    command: Callable[[str, str], commands.Command], version: str
) -> None:
    bench = Bench()
    bench.running(a_job())
    refused(bench, command(JOB, version), WrongVersion, "unexpected entity version")


@pytest.mark.parametrize("command", [commands.StartJob, commands.StopJob, commands.DeleteJob])
def test_an_unknown_job_is_not_found(command: Callable[[str, str], commands.Command]) -> None:
    refused(Bench(), command(job_id(9), "1-1-1"), NotFound, job_id(9))


def test_every_start_stop_and_delete_bumps_the_desired_state_version() -> None:
    bench = Bench()
    bench.running(a_job())
    seen = [bench.version()]
    for step in (bench.start, bench.start, bench.stop, bench.stop, bench.start, bench.stop):
        step()
        seen.append(bench.version())
    bench.delete(force=True)
    seen.append(bench.version())
    bench.delete(force=True)
    seen.append(bench.version())
    assert seen == [f"1-{n}-1" for n in range(1, 10)]


def test_a_job_that_is_being_deleted_takes_no_start_or_stop_but_another_delete() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.delete(force=True)
    assert bench.states() == [S.KILLING]
    refused(bench, commands.StartJob(JOB, bench.version()), Invalid, "deleted")
    refused(bench, commands.StopJob(JOB, bench.version()), Invalid, "deleted")
    bench.delete()
    bench.report(T.KILLED, 0)
    assert JOB not in bench.machine.state.jobs


def test_a_job_that_was_not_stopped_is_deleted_by_force_only() -> None:
    bench = Bench()
    bench.running(a_job(2))
    refused(bench, commands.DeleteJob(JOB, bench.version()), WrongState, "has not been stopped")
    bench.stop()
    refused(bench, commands.DeleteJob(JOB, bench.version()), WrongState, "has not been stopped")
    bench.report(T.KILLED, 0, 1)
    assert events.JobRemoved(JOB) in bench.delete()


@pytest.mark.parametrize("task", [T.FINISHED, T.FAILED, T.KILLED])
def test_a_stopped_job_can_be_deleted_whatever_its_end(task: TaskState) -> None:
    """In Peloton one that was stopped after its pods had failed or succeeded could never be deleted."""
    bench = Bench()
    bench.running(a_job(2))
    bench.report(task, 0, 1)
    bench.stop()
    bench.live(2)
    expected = {T.FINISHED: J.SUCCEEDED, T.FAILED: J.FAILED, T.KILLED: J.KILLED}
    assert bench.job().state is expected[task]
    bench.delete()
    assert JOB not in bench.machine.state.jobs


def test_what_counts_for_a_delete_is_the_pods_and_not_a_state_that_lags_behind_them() -> None:
    """The state is computed at most once a second, so it may still be the end of what runs again by now."""
    bench = Bench()
    bench.running(a_job())
    bench.report(T.FAILED, 0)
    bench.live(29.5)
    assert bench.job().state is J.FAILED
    bench.after(0.6)
    bench.job().state_at = bench.at
    bench.job().state = J.FAILED
    bench.report(T.RUNNING, 0)
    bench.do(commands.StopJob(JOB, bench.version()))
    refused(bench, commands.DeleteJob(JOB, bench.version()), WrongState, "has not been stopped")


@pytest.mark.parametrize("budget", [1, 7, 100])
def test_a_forced_delete_kills_everything_and_forgets_it(budget: int) -> None:
    bench = Bench(hosts=2)
    bench.running(a_job(30, name="gone"))
    bench.do(commands.DeleteJob(JOB, bench.version(), True))
    bench.settle(budget)
    bench.obey()
    state = bench.machine.state
    assert (state.jobs, state.names, state.pods_wanted) == ({}, {}, 0)
    assert state.tree.pools[POOL].jobs == 0
    assert state.tree.root.allocation == amounts()
    assert [int(state.table.free(row).cpu) for row in range(2)] == [8000, 8000]
    bench.live(86400)
    assert bench.machine.next_wake is None


def test_a_job_deleted_before_it_has_any_pod_is_gone_at_once() -> None:
    bench = Bench()
    bench.do(commands.CreateJob(JOB, a_job(5)))
    bench.do(commands.DeleteJob(JOB, "1-1-1", True))
    assert bench.settle()[-1] == events.JobRemoved(JOB)
    assert not bench.effects


def test_the_id_of_a_deleted_job_can_be_used_again() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.delete(force=True)
    bench.obey()
    assert bench.create(a_job(2)).revision > 0
    assert bench.version() == "1-1-1"


def test_a_stop_before_all_pods_exist_has_the_rest_created_stopped() -> None:
    bench = Bench(hosts=8)
    bench.do(commands.CreateJob(JOB, a_job(30)))
    bench.advance(10)
    bench.do(commands.StopJob(JOB, bench.version()))
    bench.settle(10)
    bench.obey()
    bench.live(2)
    assert bench.states() == [S.KILLED] * 30
    assert bench.job().state is J.KILLED
    bench.start()
    bench.obey()
    assert bench.states() == [S.RUNNING] * 30


def test_a_goal_is_told_in_slices_and_the_last_word_stands() -> None:
    bench = Bench(hosts=8)
    bench.running(a_job(30))
    bench.do(commands.StopJob(JOB, bench.version()))
    bench.advance(10)
    told = sum(pod.goal is S.KILLED for pod in bench.job().pods)
    assert 0 < told < 30
    bench.do(commands.StartJob(JOB, bench.version()))
    bench.settle(10)
    bench.obey()
    assert {pod.goal for pod in bench.job().pods} == {S.RUNNING}
    assert bench.states() == [S.RUNNING] * 30
    assert sum(pod.run == 2 for pod in bench.job().pods) <= told


def test_several_jobs_may_have_one_name() -> None:
    bench = Bench()
    for number in (3, 1, 2):
        bench.create(a_job(name="twin"), job_id(number))
    assert bench.machine.state.names == {"twin": [job_id(3), job_id(1), job_id(2)]}
    bench.delete(job_id(1), force=True)
    bench.obey()
    assert bench.machine.state.names == {"twin": [job_id(3), job_id(2)]}


def test_jobs_take_turns() -> None:
    """A small job does not wait for all pods of a large one."""
    bench = Bench(hosts=8)
    bench.do(commands.CreateJob(job_id(1), a_job(60)))
    bench.do(commands.CreateJob(job_id(2), a_job(1)))
    for _ in range(3):
        bench.advance(10)
    assert bench.states(job_id(2)) == [S.LAUNCHED]
    assert len(bench.job(job_id(1)).pods) < 60


# The state by its pods


def with_pods(wanted: int, goal: JobState, state: JobState, controller: bool, **counts: int) -> Job:
    """A job with so many pods of each state, in the order in which they are named."""
    template = a_template(controller=controller)
    job = Job(JOB, {1: a_job(wanted, template=template)}, state, goal, 0.0, 0.0, new_counts())
    for name, count in counts.items():
        job.counts[S[name]] += count
        for _ in range(count):
            pod = Pod(JOB, len(job.pods), template, S[name], S.RUNNING, 1, 1, 1, 0.0, HealthState.DISABLED)
            job.pods.append(pod)
    job.goals_set = len(job.pods)
    return job


@pytest.mark.parametrize(
    ("counts", "goal", "expected"),
    [
        ({"FAILED": 50, "SUCCEEDED": 50}, J.RUNNING, J.FAILED),
        ({"RUNNING": 50, "SUCCEEDED": 50}, J.RUNNING, J.RUNNING),
        ({"SUCCEEDED": 100}, J.RUNNING, J.SUCCEEDED),
        ({"SUCCEEDED": 50, "PENDING": 50}, J.RUNNING, J.PENDING),
        ({"SUCCEEDED": 50, "KILLING": 50}, J.KILLED, J.KILLING),
        ({"FAILED": 50, "KILLED": 50}, J.RUNNING, J.KILLED),
        ({"FAILED": 50, "KILLED": 50}, J.KILLED, J.KILLED),
        ({"FAILED": 49, "KILLED": 49}, J.RUNNING, J.PENDING),
        ({"KILLED": 100}, J.KILLED, J.KILLED),
        ({"RUNNING": 100}, J.RUNNING, J.RUNNING),
        ({"RUNNING": 1, "PLACING": 99}, J.RUNNING, J.RUNNING),
        ({"LAUNCHED": 50, "STARTING": 50}, J.RUNNING, J.PENDING),
        ({"LOST": 50, "SUCCEEDED": 50}, J.RUNNING, J.FAILED),
        ({"LOST": 33, "FAILED": 33}, J.DELETED, J.FAILED),
        ({"LOST": 33, "FAILED": 33}, J.KILLED, J.FAILED),
        ({"LOST": 33, "FAILED": 33, "KILLED": 33}, J.DELETED, J.KILLED),
        ({"LOST": 33, "FAILED": 33, "KILLED": 33}, J.KILLED, J.KILLED),
        ({"LOST": 33, "FAILED": 33, "KILLED": 33}, J.RUNNING, J.PENDING),
        ({"RUNNING": 99}, J.RUNNING, J.PENDING),
        ({}, J.DELETED, J.KILLED),
        ({}, J.KILLED, J.KILLED),
        ({}, J.RUNNING, J.PENDING),
        ({"SUCCEEDED": 100}, J.KILLED, J.SUCCEEDED),
        ({"FAILED": 100}, J.KILLED, J.FAILED),
    ],
)
def test_the_state_follows_from_the_pods(counts: dict[str, int], goal: JobState, expected: JobState) -> None:
    """The cases of behaviour, jobs §6.2, each of a hundred wanted pods."""
    assert computed_state(with_pods(100, goal, J.KILLING, False, **counts)) is expected


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({"SUCCEEDED": 1, "FAILED": 99}, J.SUCCEEDED),
        ({"LOST": 1, "SUCCEEDED": 99}, J.FAILED),
        ({"FAILED": 1, "KILLED": 99}, J.FAILED),
        ({"KILLED": 1, "FAILED": 99}, J.KILLED),
        ({"SUCCEEDED": 1, "RUNNING": 99}, J.RUNNING),
    ],
)
def test_a_controller_decides_how_its_job_ended_but_not_that_it_ended(
    counts: dict[str, int], expected: JobState
) -> None:
    """The first pod is the controller."""
    assert computed_state(with_pods(100, J.RUNNING, J.RUNNING, True, **counts)) is expected


def test_the_state_follows_the_pods_at_most_once_a_second() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.live(1)
    assert bench.job().state is J.RUNNING
    bench.at += 0.25
    bench.report(T.LOST, 0)
    bench.report(T.RUNNING, 0)
    bench.live(5)
    changes = [at for at, turn in bench.turns for event in turn if isinstance(event, events.JobStateChanged)]
    assert bench.job().state is J.RUNNING
    assert all(later - earlier >= 1 for earlier, later in pairwise(changes))


def test_a_stop_is_seen_as_killing_at_once_and_as_killed_with_the_last_pod() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.stop()
    assert bench.job().state is J.KILLING
    bench.report(T.KILLED, 0)
    assert bench.job().state is J.KILLING
    bench.report(T.KILLED, 1)
    assert bench.job().state is J.KILLED


def test_a_start_ends_killing() -> None:
    """In Peloton a job could stay KILLING for good."""
    bench = Bench()
    bench.running(a_job(2))
    bench.stop()
    bench.start()
    bench.obey()
    bench.live(3)
    assert bench.job().state is J.RUNNING
    assert [pod.run for pod in bench.job().pods] == [2, 2]


def test_every_change_that_clients_can_see_bumps_the_revision() -> None:
    bench = Bench()
    bench.create(a_job())
    steps: list[Callable[[], object]] = [
        lambda: bench.report(T.RUNNING, 0),
        bench.stop,
        lambda: bench.report(T.KILLED, 0),
        bench.start,
    ]
    for step in steps:
        before = bench.job().revision
        bench.at += 10
        step()
        assert bench.job().revision > before
        assert bench.job().updated_at == bench.at
    before = bench.job().revision
    bench.live(59)
    bench.do(commands.ReportPods([]))
    bench.settle()
    assert bench.job().revision <= before + 1
