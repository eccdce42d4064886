"""The life of a pod, as events in and events out."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, POOL, Bench, a_host, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.core.effects import Kill, Launch
from derny.core.history import entries
from derny.core.pods import THROTTLED
from derny.model.errors import Invalid, NotFound
from derny.model.ids import HostName, PodId
from derny.model.periods import Periods
from derny.model.records import Termination
from derny.model.states import HealthState, JobState, PodState, TaskState, TerminationReason

S, T = PodState, TaskState


def history(bench: Bench, instance: int = 0) -> list[tuple[int, PodState]]:
    """The runs and states that were written of a pod, in order, repeats left out."""
    written = [(entry.run, entry.state) for entry in entries(bench.pod(instance), bench.machine.state.texts)]
    return [key for key, _ in itertools.groupby(written)]


def of_pods(happened: list[events.Event]) -> list[events.Event]:
    """Without the changes of the job's state and the steps of its workflow, which follow a second later."""
    of_jobs = (events.JobStateChanged, events.InstancesSettled, events.WorkflowMoved)
    return [event for event in happened if not isinstance(event, of_jobs)]


def end(bench: Bench, state: TaskState, times: int) -> None:
    """Let pod 0 run and come to this end, so many times; the last back-off has not passed."""
    for time in range(times):
        if time:
            bench.after(3600)
        bench.report(T.RUNNING, 0)
        bench.report(state, 0)


# Start


def test_a_new_pod_goes_through_every_state_to_launched() -> None:
    bench = Bench()
    pod = bench.create(a_job()).pods[0]
    assert history(bench) == [(1, S.INITIALIZED), (1, S.PENDING), (1, S.READY), (1, S.LAUNCHED)]
    assert (pod.host, pod.run, pod.reason) == ("host-0", 1, "REASON_UPDATE_OFFER")
    assert bench.effects == [Launch(PodId(f"{JOB}-0-1"), "host-0", pod.template, (), bench.at)]  # type: ignore[arg-type]  # spelled out on purpose


def test_one_decision_about_many_pods_is_one_event() -> None:
    bench = Bench(hosts=2)
    bench.do(commands.CreateJob(JOB, a_job(3)))
    assert bench.settle() == [
        events.PodsCreated(JOB, 0, 3),
        events.GangsAdmitted(JOB, [0, 1, 2]),
        events.PodsPlaced(JOB, [0, 1, 2], [0, 0, 1], []),
    ]


def test_starting_and_running_in_one_batch_are_recorded_in_this_order() -> None:
    bench = Bench()
    bench.create(a_job(2))
    one, other = f"{JOB}-0-1", f"{JOB}-1-1"
    bench.at += 5
    happened = bench.do(
        commands.ReportPods(
            [
                commands.PodReport(PodId(one), T.STARTING),
                commands.PodReport(PodId(one), T.RUNNING),
                commands.PodReport(PodId(other), T.STARTING),
            ]
        )
    )
    assert happened == [
        events.PodsReported(JOB, S.STARTING, [0, 1]),
        events.PodsReported(JOB, S.RUNNING, [0]),
    ]
    assert bench.states() == [S.RUNNING, S.STARTING]
    assert [pod.started_at for pod in bench.job().pods] == [1005.0, 0.0]


def test_dynamic_ports_are_given_in_the_order_of_the_requests_and_given_back_at_the_end() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job(2, template=a_template(ports=2)))
    assert [pod.ports for pod in bench.job().pods] == [(31000, 31001), (31002, 31003)]
    launches = [effect for effect in bench.effects if isinstance(effect, Launch)]
    assert [launch.ports for launch in launches] == [(31000, 31001), (31002, 31003)]
    bench.report(T.LOST, 0)
    assert bench.pod().run == 2
    assert bench.pod().ports == (31000, 31001)


@pytest.mark.parametrize(("checked", "health"), [(True, HealthState.UNKNOWN), (False, HealthState.DISABLED)])
def test_health_is_unknown_while_it_is_checked_and_invalid_after_the_end(
    checked: bool, health: HealthState
) -> None:
    bench = Bench()
    bench.running(a_job(template=a_template(health_checked=checked)))
    assert bench.pod().health is health
    bench.report(T.FAILED, 0)
    assert bench.pod().health is (HealthState.INVALID if checked else HealthState.DISABLED)
    bench.after(30)
    assert (bench.pod().run, bench.pod().health) == (2, health)


# Ends


@pytest.mark.parametrize(
    ("task", "state"),
    [(T.FINISHED, S.SUCCEEDED), (T.FAILED, S.FAILED), (T.ERROR, S.FAILED), (T.KILLED, S.KILLED)],
)
@pytest.mark.parametrize("reached", [[], [T.STARTING], [T.STARTING, T.RUNNING], [T.RUNNING]])
def test_a_launched_pod_may_end_from_everywhere_and_gives_everything_back(
    reached: list[TaskState], task: TaskState, state: PodState
) -> None:
    bench = Bench()
    bench.create(a_job(template=a_template(ports=1)))
    for step in reached:
        bench.report(step, 0)
    bench.at += 1
    bench.report(task, 0)
    assert bench.states() == [state]
    assert bench.pod().completed_at == bench.at
    assert bench.machine.state.tree.root.allocation == amounts()
    assert bench.machine.state.table.free(0) == a_host().capacity
    assert bench.machine.state.table.used_ports(0) == []


def test_a_failure_says_why() -> None:
    bench = Bench()
    bench.running(a_job())
    report = commands.PodReport(
        PodId(f"{JOB}-0-1"), T.FAILED, "Command exited with status 250", "REASON_X", 250, "Segmentation fault"
    )
    assert bench.do(commands.ReportPods([report])) == [
        events.PodsReported(
            JOB, S.FAILED, [0], "Command exited with status 250", "REASON_X", 250, "Segmentation fault"
        )
    ]
    pod = bench.pod()
    assert pod.termination == Termination(TerminationReason.FAILED, 250, "Segmentation fault")
    assert (pod.message, pod.reason) == ("Command exited with status 250", "REASON_X")


def test_the_reason_of_a_report_is_kept_for_unasked_ends_only() -> None:
    bench = Bench()
    bench.create(a_job())
    bench.do(commands.ReportPods([commands.PodReport(PodId(f"{JOB}-0-1"), T.RUNNING, "runs", "REASON_Y")]))
    assert (bench.pod().message, bench.pod().reason) == ("runs", "")


@pytest.mark.parametrize("task", [T.LOST, T.DROPPED, T.UNREACHABLE, T.GONE, T.GONE_BY_OPERATOR, T.UNKNOWN])
def test_a_lost_pod_runs_again_at_once_and_it_is_no_failure(task: TaskState) -> None:
    bench = Bench()
    bench.running(a_job())
    assert bench.report(task, 0)[0] == events.PodsReported(JOB, S.LOST, [0], f"Task LOST: said {task.name}")
    assert (bench.pod().state, bench.pod().run, bench.pod().failures) == (S.LAUNCHED, 2, 0)


def test_a_pod_that_was_to_be_killed_and_is_lost_counts_as_killed() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    report = commands.PodReport(PodId(f"{JOB}-0-1"), T.LOST, "gone", "REASON_RECONCILIATION")
    bench.do(commands.ReportPods([report]))
    pod = bench.pod()
    assert (pod.state, pod.message) == (S.KILLED, "Stopped task LOST event: gone")
    assert (pod.reason, pod.failures) == ("REASON_RECONCILIATION", 0)


# Failures and back-off


@pytest.mark.parametrize(
    ("task", "failures"), [(T.FAILED, 4), (T.FINISHED, 4), (T.KILLED, 4), (T.ERROR, 4), (T.LOST, 3)]
)
def test_unasked_ends_count_as_failures_but_not_losses(task: TaskState, failures: int) -> None:
    bench = Bench()
    bench.create(a_job())
    end(bench, T.FAILED, 3)
    assert bench.pod().failures == 3
    bench.after(3600)
    bench.report(T.RUNNING, 0)
    bench.report(task, 0)
    assert bench.pod().failures == failures


@pytest.mark.parametrize("task", [T.KILLED, T.FINISHED, T.LOST])
@pytest.mark.parametrize("start_again", [False, True])
def test_ends_that_we_asked_for_do_not_count(task: TaskState, start_again: bool) -> None:
    """In Peloton a start during KILLING made our own kill a failure; here it only means a new run at once."""
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    if start_again:
        bench.start()
    bench.report(task, 0)
    assert bench.pod().failures == 0
    assert (bench.pod().run, bench.states()) == ((2, [S.LAUNCHED]) if start_again else (1, bench.states()))


@pytest.mark.parametrize("failures", range(1, 11))
def test_the_back_off_doubles_from_30_s_to_an_hour(failures: int) -> None:
    bench = Bench()
    bench.create(a_job())
    end(bench, T.FAILED, failures)
    assert bench.pod().failures == failures
    ended = bench.at
    bench.live(3 * 3600)
    restarts = [at for at, turn in bench.turns if at > ended and events.PodsRestarted(JOB, [0]) in turn]
    assert restarts[0] == pytest.approx(ended + min(30 * 2 ** (failures - 1), 3600), abs=0.011)
    assert restarts[0] >= ended + min(30 * 2 ** (failures - 1), 3600)


def test_no_count_of_failures_overflows() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.pod().failures = 2**32 - 1
    bench.report(T.FAILED, 0)
    assert bench.pod().state is S.FAILED
    bench.live(3601)
    assert bench.pod().run == 2


def test_while_it_waits_the_pod_says_that_it_is_throttled_once_and_only_until_the_new_run() -> None:
    bench = Bench()
    bench.running(a_job())
    happened = bench.report(T.FAILED, 0)
    assert happened.count(events.PodsThrottled(JOB, [0])) == 1
    assert (bench.pod().state, bench.pod().message) == (S.FAILED, THROTTLED)
    assert THROTTLED == "Task throttled due to failure"
    assert not of_pods(bench.after(29))
    assert bench.pod().message == THROTTLED
    bench.after(1.01)
    assert (bench.pod().state, bench.pod().message, bench.pod().run) == (S.LAUNCHED, "", 2)


def test_a_new_run_begins_clean() -> None:
    bench = Bench()
    bench.running(a_job(template=a_template(ports=1)))
    bench.report(T.FAILED, 0, code=3)
    bench.after(31)
    pod = bench.pod()
    assert (pod.run, pod.started_at, pod.completed_at, pod.termination, pod.failures) == (
        2,
        0.0,
        0.0,
        None,
        1,
    )
    assert history(bench)[-4:] == [(2, S.INITIALIZED), (2, S.PENDING), (2, S.READY), (2, S.LAUNCHED)]
    assert isinstance(bench.effects[-1], Launch)
    assert bench.effects[-1].pod == f"{JOB}-0-2"


def test_a_stopped_pod_waits_for_no_back_off_until_it_is_started_again() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(T.FAILED, 0)
    bench.stop()
    assert not of_pods(bench.after(7200))
    assert bench.states() == [S.FAILED]
    bench.start()
    assert (bench.states(), bench.pod().run) == ([S.LAUNCHED], 2)


# Time-outs


@pytest.mark.parametrize("reached", [None, T.STARTING])
def test_a_run_that_no_agent_confirms_is_killed_and_begun_anew(reached: TaskState | None) -> None:
    """Its host stays taken until the agent has answered: what may still run there must not run twice."""
    bench = Bench(periods=Periods(launch_timeout_s=60, start_timeout_s=50))
    bench.create(a_job())
    if reached is not None:
        bench.report(reached, 0)
    wait = 60 if reached is None else 50
    assert not of_pods(bench.after(wait - 1))
    assert bench.after(1)[0] == events.PodsKillRequested(JOB, [0])
    kill = next(effect for effect in bench.effects if isinstance(effect, Kill))
    assert (kill.pod, kill.host) == (f"{JOB}-0-1", "host-0")
    assert (bench.pod().run, bench.pod().state, bench.pod().host) == (1, S.KILLING, "host-0")
    bench.report(T.KILLED, 0)
    assert (bench.pod().run, bench.pod().state, bench.pod().failures) == (2, S.LAUNCHED, 0)


def test_a_run_that_is_lost_before_it_ran_waits_a_moment_before_the_next() -> None:
    """Where an agent refuses what we place, trying again at once would go on without end."""
    bench = Bench(periods=Periods(placing_retry_s=2))
    bench.create(a_job())
    assert not [event for event in bench.report(T.LOST, 0) if isinstance(event, events.PodsRestarted)]
    assert bench.pod().message != THROTTLED
    assert not of_pods(bench.after(1.9))
    bench.after(0.2)
    assert (bench.pod().run, bench.pod().state) == (2, S.LAUNCHED)


def test_a_pod_that_is_started_again_before_its_kill_was_sent_has_no_reason_to_end() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.do(commands.StopJob(JOB, bench.version()))
    job = bench.job()
    bench.machine.replay(bench.at, [events.PodsGoalSet(JOB, 0, 1, S.KILLED)])
    assert bench.pod().termination is not None
    bench.machine.replay(bench.at, [events.PodsGoalSet(JOB, 0, 1, S.RUNNING)])
    assert (bench.pod().state, bench.pod().termination, job.id) == (S.RUNNING, None, JOB)


def test_a_run_that_fails_while_it_is_killed_has_not_failed() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    bench.start()
    bench.report(T.FAILED, 0, code=143)
    assert (bench.pod().failures, bench.pod().run) == (0, 2)


def test_a_pod_that_runs_in_time_is_left_alone() -> None:
    bench = Bench()
    bench.running(a_job())
    assert not of_pods(bench.live(10 * 86400))
    assert (bench.pod().run, bench.states()) == (1, [S.RUNNING])


def test_a_placing_pod_gives_its_share_to_those_that_wait() -> None:
    """It finds no host; when others of the pool wait, it queues again behind them after the time-out."""
    bench = Bench(hosts=2, cpu=8, periods=Periods(placing_timeout_s=20, placing_attempts=1))
    bench.create(a_job(1, template=a_template(cpu=12), name="wide"), job_id(1))
    bench.create(a_job(1, template=a_template(cpu=6), name="narrow"), job_id(2))
    assert bench.states(job_id(1)) == [S.PLACING]
    assert bench.states(job_id(2)) == [S.PENDING]
    assert not [e for e in bench.after(19) if isinstance(e, events.PodsRequeued)]
    bench.after(1)
    assert bench.states(job_id(1)) == [S.PENDING]
    assert bench.states(job_id(2)) == [S.LAUNCHED]


def test_a_placing_pod_keeps_its_share_while_nobody_waits() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.create(a_job(1, template=a_template(cpu=12)))
    assert not of_pods(bench.live(3600))
    assert bench.states() == [S.PLACING]
    assert bench.machine.state.tree.pools[POOL].allocation.cpu == 12_000


# No host


def test_a_pod_without_a_host_says_why_and_is_placed_when_it_looks_again() -> None:
    bench = Bench(hosts=2, cpu=8, periods=Periods(placing_retry_s=5, steady_s=0))
    bench.create(a_job(2, template=a_template(cpu=6)), job_id(1))
    bench.report(T.RUNNING, 0, 1, job=job_id(1))
    bench.create(a_job(1, template=a_template(cpu=4)), job_id(2))
    pod = bench.pod(job=job_id(2))
    assert pod.state is S.PLACING
    assert "insufficient_offer_resources" in pod.message
    bench.do(commands.SeeHosts([a_host(7)]))
    assert not of_pods(bench.settle())
    assert bench.machine.next_wake == bench.at + 5
    bench.after(5)
    assert (pod.state, pod.host, pod.message) == (S.LAUNCHED, "host-7", "")


def test_a_pod_that_has_not_looked_yet_looks_at_once_however_long_others_wait() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.create(a_job(template=a_template(cpu=9)), job_id(1))
    bench.create(a_job(template=a_template(cpu=2)), job_id(2))
    assert (bench.states(job_id(1)), bench.states(job_id(2))) == ([S.PLACING], [S.LAUNCHED])


def test_jobs_that_ask_alike_share_one_look_in_vain_and_its_reason() -> None:
    """It is forgotten as soon as room may have grown."""
    bench = Bench(hosts=3, cpu=8)
    for number in range(3):
        bench.create(a_job(template=a_template(cpu=5)), job_id(number))
    for number in (3, 4):
        bench.create(a_job(template=a_template(cpu=4)), job_id(number))
    waiting = [bench.pod(job=job_id(number)) for number in (3, 4)]
    assert [pod.state for pod in waiting] == [S.PLACING] * 2
    assert waiting[0].message == waiting[1].message != ""
    bench.do(commands.SeeHosts([a_host(7)]))
    bench.after(1)
    assert [pod.host for pod in waiting] == ["host-7"] * 2


# Kills


def test_a_stop_kills_what_runs_with_its_grace() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.at += 9
    assert of_pods(bench.stop())[1:] == [
        events.PodsGoalSet(JOB, 0, 2, S.KILLED),
        events.PodsKillRequested(JOB, [0, 1]),
    ]
    assert bench.states() == [S.KILLING] * 2
    assert bench.effects[-1] == Kill(PodId(f"{JOB}-1-1"), "host-1", 30, bench.at)  # type: ignore[arg-type]  # spelled out on purpose
    assert bench.pod().termination == Termination(TerminationReason.KILLED_ON_REQUEST)
    bench.report(T.KILLED, 0, 1)
    assert bench.states() == [S.KILLED] * 2
    assert bench.pod().termination == Termination(TerminationReason.KILLED_ON_REQUEST)


def test_a_pod_that_is_killed_never_runs_again() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    for state in (T.STAGING, T.STARTING, T.RUNNING, T.KILLING):
        assert not bench.report(state, 0)
    assert bench.states() == [S.KILLING]


def test_a_kill_that_nobody_confirms_is_asked_for_again() -> None:
    bench = Bench(periods=Periods(kill_timeout_s=100))
    bench.running(a_job())
    bench.stop()
    before = len(bench.effects)
    assert not of_pods(bench.after(99))
    assert bench.after(1) == [events.PodsKillRequested(JOB, [0])]
    bench.live(250)
    kills = [effect for effect in bench.effects[before:] if isinstance(effect, Kill)]
    assert len(kills) == 3
    assert {kill.pod for kill in kills if isinstance(kill, Kill)} == {f"{JOB}-0-1"}


def test_waiting_pods_are_killed_by_our_word_alone() -> None:
    """PENDING and PLACING pods, and READY ones between two sweeps: no agent is asked."""
    bench = Bench(hosts=2, cpu=8)
    bench.create(a_job(3, template=a_template(cpu=7)))
    assert bench.states() == [S.LAUNCHED, S.LAUNCHED, S.PENDING]
    bench.create(a_job(1, template=a_template(cpu=2), priority=9), job_id(2))
    assert bench.states(job_id(2)) == [S.PLACING]
    before = len(bench.effects)
    assert events.PodsKilled(JOB, [2], "Non-running pod killed") in bench.stop()
    bench.stop(job_id(2))
    assert bench.states() == [S.KILLING, S.KILLING, S.KILLED]
    assert bench.states(job_id(2)) == [S.KILLED]
    kills = [effect for effect in bench.effects[before:] if isinstance(effect, Kill)]
    assert [kill.pod for kill in kills] == [f"{JOB}-0-1", f"{JOB}-1-1"]
    assert len(kills) == len(bench.effects) - before


def test_ready_pods_are_killed_by_our_word_alone() -> None:
    """A pod is READY from one sweep to the next when looking for hosts for another has used up the budget."""
    bench = Bench(hosts=20, cpu=8)
    for number in range(2, 12):
        bench.create(a_job(template=a_template(cpu=9)), job_id(number))
    bench.do(commands.CreateJob(JOB, a_job()))
    seen = []
    for number in range(20, 28):
        bench.do(commands.SeeHosts([a_host(number)]))
        bench.at += 1
        bench.advance(1)
        seen += bench.states()
        if seen == [S.READY]:
            bench.do(commands.StopJob(JOB, bench.version()))
    assert seen[0] is S.READY
    assert seen[-1] is S.KILLED
    assert not bench.effects


def test_a_pod_started_while_it_is_killed_begins_a_new_run_after_its_end() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    assert not [e for e in bench.start() if isinstance(e, events.PodsRestarted)]
    assert bench.states() == [S.KILLING]
    assert events.PodsRestarted(JOB, [0]) in bench.report(T.KILLED, 0)
    assert (bench.pod().run, bench.pod().termination) == (2, None)


def test_a_start_of_what_runs_touches_no_pod() -> None:
    bench = Bench()
    bench.running(a_job(3))
    revisions = [pod.revision for pod in bench.job().pods]
    bench.start()
    assert [pod.revision for pod in bench.job().pods] == revisions
    assert [pod.run for pod in bench.job().pods] == [1, 1, 1]


# Reports that are no news


@pytest.mark.parametrize("state", [T.STAGING, T.STARTING, T.RUNNING, T.KILLING])
def test_a_run_that_is_not_the_current_one_is_killed_when_it_lives(state: TaskState) -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(T.LOST, 0)
    before = fingerprint(bench.machine.state)
    assert bench.report(state, 0, run=1) == [events.OrphansFound([PodId(f"{JOB}-0-1")], [HostName("")])]
    assert isinstance(bench.effects[-1], Kill)
    assert bench.effects[-1].pod == f"{JOB}-0-1"
    assert fingerprint(bench.machine.state) == before


@pytest.mark.parametrize("state", [T.FINISHED, T.FAILED, T.KILLED, T.LOST])
def test_the_end_of_an_old_run_is_no_news(state: TaskState) -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(T.LOST, 0)
    assert bench.report(state, 0, run=1) == []


@pytest.mark.parametrize("pod", [f"{job_id(9)}-0-1", f"{JOB}-5-1", f"{JOB}-0-2"])
def test_unknown_pods_are_killed_when_they_live_and_ignored_otherwise(pod: str) -> None:
    bench = Bench()
    bench.running(a_job())
    reports = [commands.PodReport(PodId(pod), state) for state in (T.FAILED, T.RUNNING)]
    assert bench.do(commands.ReportPods(reports)) == [events.OrphansFound([PodId(pod)], [HostName("")])]


def test_a_report_of_what_is_no_pod_id_is_nothing_of_ours_and_spoils_no_other() -> None:
    bench = Bench()
    bench.create(a_job())
    reports = [
        commands.PodReport(PodId("nonsense"), T.RUNNING, host=HostName("host-0")),
        commands.PodReport(PodId(f"{JOB}-0-1"), T.RUNNING, "up"),
    ]
    assert bench.do(commands.ReportPods(reports)) == [
        events.PodsReported(JOB, S.RUNNING, [0], "up"),
        events.OrphansFound([PodId("nonsense")], [HostName("host-0")]),
    ]
    assert isinstance(bench.effects[-1], Kill)
    assert bench.effects[-1].host == "host-0"


def test_a_lost_run_that_lives_after_all_is_killed() -> None:
    """It waits for its back-off, or was stopped: no new run tells them apart."""
    bench = Bench()
    bench.running(a_job())
    bench.report(T.FAILED, 0)
    bench.after(30)
    bench.report(T.LOST, 0)
    assert (bench.pod().state, bench.pod().run) == (S.LOST, 2)
    assert bench.report(T.RUNNING, 0) == [events.OrphansFound([PodId(f"{JOB}-0-2")], [HostName("")])]


def test_a_stopped_pod_no_longer_says_that_it_is_throttled() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(T.FAILED, 0)
    assert bench.pod().message == THROTTLED
    bench.do(commands.StopJob(JOB, bench.version()))
    bench.settle()
    assert (bench.pod().state, bench.pod().message) == (S.FAILED, "")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([T.STAGING, T.STARTING, T.RUNNING, T.FAILED]), max_size=8),
    st.integers(0, 3),
    st.booleans(),
)
def test_repeats_and_latecomers_change_nothing(noise: list[TaskState], cut: int, in_one_batch: bool) -> None:
    """Whatever is repeated, in whatever order: the run ends once, and never goes back."""
    bench = Bench()
    bench.create(a_job())
    story = [T.STARTING, T.RUNNING, T.FAILED]
    told = [*story[:cut], *noise, *story]
    reports = [commands.PodReport(PodId(f"{JOB}-0-1"), state) for state in told]
    if in_one_batch:
        bench.do(commands.ReportPods(reports))
    else:
        for report in reports:
            bench.do(commands.ReportPods([report]))
    pod = bench.pod()
    assert (pod.state, pod.failures, pod.run) == (S.FAILED, 1, 1)
    order = [S.INITIALIZED, S.PENDING, S.READY, S.LAUNCHED, S.STARTING, S.RUNNING, S.FAILED]
    ranks = [order.index(state) for _, state in history(bench)]
    assert ranks == sorted(set(ranks))


@settings(max_examples=40, deadline=None)
@given(st.permutations([(i, s) for i in range(3) for s in (T.STARTING, T.RUNNING, T.FINISHED)]))
def test_in_any_order_all_pods_have_ended_once_all_ends_are_told(
    order: list[tuple[int, TaskState]],
) -> None:
    bench = Bench()
    bench.create(a_job(3))
    for instance, state in order:
        bench.do(commands.ReportPods([commands.PodReport(PodId(f"{JOB}-{instance}-1"), state)]))
    assert bench.states() == [S.SUCCEEDED] * 3
    assert bench.machine.state.tree.root.allocation == amounts()
    bench.settle()
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)


def test_reports_of_like_ends_are_one_event_and_of_unlike_ends_several() -> None:
    bench = Bench()
    bench.running(a_job(4))
    reports = [commands.PodReport(PodId(f"{JOB}-{i}-1"), T.FAILED, "m", exit_code=i % 2) for i in range(4)]
    assert bench.do(commands.ReportPods(reports)) == [
        events.PodsReported(JOB, S.FAILED, [0, 2], "m", "", 0),
        events.PodsReported(JOB, S.FAILED, [1, 3], "m", "", 1),
    ]


# Mixed jobs


def test_instances_with_templates_of_their_own_get_what_they_ask_for() -> None:
    bench = Bench()
    bench.running(a_job(4, others={1: a_template(cpu=3), 3: a_template(ports=1)}))
    assert bench.states() == [S.RUNNING] * 4
    assert bench.machine.state.tree.root.allocation.cpu == 6000
    assert [len(pod.ports) for pod in bench.job().pods] == [0, 0, 0, 1]


def test_a_revocable_pod_takes_slack_and_ordinary_memory() -> None:
    bench = Bench(hosts=1, revocable_cpu=4)
    bench.running(a_job(4, template=a_template(cpu=1, revocable=True), revocable=True))
    pool = bench.machine.state.tree.pools[POOL]
    assert pool.allocation == pool.slack == amounts(memory=400, disk=40, revocable_cpu=4)
    assert bench.machine.state.table.free(0).cpu == 8000
    bench.create(a_job(1, template=a_template(cpu=1, revocable=True), revocable=True), job_id(2))
    assert bench.states(job_id(2)) == [S.PENDING]


def test_pods_of_other_pools_are_charged_all_the_way_up() -> None:
    bench = Bench()
    tree = bench.machine.state.tree
    above, below = pool_id(1), pool_id(2)
    bench.do(commands.CreatePool(above, a_pool(tree.capacity, name="above", part=0.0)))
    bench.do(commands.CreatePool(below, a_pool(tree.capacity, parent=above, name="below", part=0.0)))
    job = bench.create(a_job(2, template=a_template(cpu=0, memory=0, disk=0), pool=below))
    assert [pod.state for pod in job.pods] == [S.LAUNCHED] * 2
    bench.create(a_job(1, pool=below), job_id(2))
    assert bench.states(job_id(2)) == [S.PENDING]
    assert job.goal is JobState.RUNNING


def test_a_restarted_pod_is_killed_and_begins_the_next_run_at_once_without_a_failure() -> None:
    bench = Bench()
    pod = bench.running(a_job()).pods[0]
    (event,) = bench.do(commands.RestartPod(JOB, 0))
    assert event == events.RunsSuperseded(
        JOB, [0], TerminationReason.KILLED_FOR_RESTART, "Restarting the pod"
    )
    assert (pod.run, pod.desired_run, pod.termination) == (
        1,
        2,
        Termination(TerminationReason.KILLED_FOR_RESTART),
    )
    assert bench.do(commands.RestartPod(JOB, 0)) == [], "until the new run begins the wish stands already"
    bench.settle()
    assert (pod.state, pod.message) == (PodState.KILLING, "Restarting the pod")
    bench.report(TaskState.KILLED, 0)
    assert (pod.state, pod.run, pod.desired_run, pod.failures, pod.termination) == (
        PodState.LAUNCHED,
        2,
        2,
        0,
        None,
    )


def test_a_pod_that_waits_is_restarted_too() -> None:
    bench = Bench(hosts=1, cpu=1)
    bench.create(a_job(2))
    waiting = next(pod for pod in bench.job().pods if pod.state is not PodState.LAUNCHED)
    bench.do(commands.RestartPod(JOB, waiting.instance))
    bench.settle()
    assert (waiting.run, waiting.superseded) == (2, False)


def test_a_stopped_pod_stays_stopped_until_it_is_started_and_then_begins_at_once() -> None:
    bench = Bench()
    bench.running(a_job(2))
    for _ in range(2):
        bench.report(TaskState.FAILED, 0)
        bench.after(3600)
        bench.report(TaskState.RUNNING, 0)
    pod = bench.pod()
    bench.do(commands.StopPod(JOB, 0))
    bench.settle()
    bench.report(TaskState.KILLED, 0)
    bench.live(10_000)
    assert (pod.state, pod.goal, pod.failures) == (PodState.KILLED, PodState.KILLED, 2)
    assert pod.termination == Termination(TerminationReason.KILLED_ON_REQUEST)
    assert bench.job().goal is JobState.RUNNING
    assert bench.do(commands.StopPod(JOB, 0)) == []
    run = pod.run
    bench.do(commands.StartPod(JOB, 0))
    bench.settle()
    assert (pod.state, pod.run, pod.failures) == (PodState.LAUNCHED, run + 1, 2)
    assert bench.do(commands.StartPod(JOB, 0)) == []


def test_restarting_a_stopped_pod_starts_it() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.do(commands.StopPod(JOB, 0))
    bench.settle()
    bench.report(TaskState.KILLED, 0)
    bench.do(commands.RestartPod(JOB, 0))
    bench.settle()
    assert (bench.pod().state, bench.pod().run) == (PodState.LAUNCHED, 2)


def test_starting_one_pod_of_a_stopped_job_lets_the_job_run_and_leaves_the_others_stopped() -> None:
    bench = Bench()
    bench.running(a_job(3))
    bench.stop()
    bench.report(TaskState.KILLED, 0, 1, 2)
    version = bench.version()
    bench.do(commands.StartPod(JOB, 1))
    bench.settle()
    assert bench.states() == [PodState.KILLED, PodState.LAUNCHED, PodState.KILLED]
    assert (bench.job().goal, bench.version()) == (JobState.RUNNING, version)


def test_a_pod_started_while_its_job_is_still_being_stopped_is_started() -> None:
    bench = Bench(hosts=8)
    bench.running(a_job(20))
    bench.do(commands.StopJob(JOB, bench.version()))
    bench.advance(5)
    bench.do(commands.StartPod(JOB, 2))
    bench.do(commands.StopPod(JOB, 19))
    bench.settle(5)
    assert [pod.instance for pod in bench.job().pods if pod.goal is PodState.RUNNING] == [2]
    assert bench.job().exempt == {}


def test_a_pod_is_not_started_beyond_its_job_or_while_it_is_being_deleted() -> None:
    bench = Bench()
    bench.running(a_job(2))
    for beyond in (commands.StartPod(JOB, 2), commands.StopPod(JOB, 2), commands.RestartPod(JOB, 2)):
        with pytest.raises(NotFound, match="the job has 2 pods"):
            bench.do(beyond)
    bench.do(commands.DeleteJob(JOB, bench.version(), True))
    for command in (commands.StartPod(JOB, 0), commands.RestartPod(JOB, 0)):
        with pytest.raises(Invalid, match="going to be deleted"):
            bench.do(command)


def test_failures_are_forgotten_after_a_long_run_and_not_before() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.report(TaskState.FAILED, 0)
    bench.after(30)
    bench.report(TaskState.RUNNING, 0)
    bench.live(bench.periods.failures_forgiven_s - 1)
    assert bench.pod().failures == 1
    bench.live(2)
    assert bench.pod().failures == 0
    assert events.FailuresForgiven(JOB, [0]) in bench.log


def test_a_run_superseded_by_another_configuration_ends_without_counting_and_keeps_its_host_in_mind() -> None:
    bench = Bench()
    job = bench.running(a_job())
    bench.live(2)
    pod, host = job.pods[0], job.pods[0].host
    job.specs[2] = a_job()
    reason = TerminationReason.KILLED_FOR_UPDATE
    event = events.RunsSuperseded(JOB, [0], reason, "Updating", config=2, in_place=True, forgiven=True)
    bench.machine.replay(bench.at, [event])
    assert (pod.desired_config, pod.desired_host, pod.desired_run) == (2, host, 1)
    bench.settle()
    bench.report(TaskState.FAILED, 0)
    assert (pod.config, pod.run, pod.failures) == (2, 2, 0)


def test_a_stopped_pod_takes_note_of_another_configuration_and_stays_stopped() -> None:
    bench = Bench()
    job = bench.running(a_job())
    bench.stop()
    bench.report(TaskState.KILLED, 0)
    job.specs[2] = a_job()
    bench.machine.replay(
        bench.at, [events.RunsSuperseded(JOB, [0], TerminationReason.KILLED_FOR_UPDATE, config=2)]
    )
    assert bench.settle() == []
    assert (bench.pod().state, bench.pod().config, bench.pod().desired_config) == (PodState.KILLED, 1, 2)
