"""What becomes of agents' reports (behaviour, jobs §7.4 to 7.7; scheduler §11.3)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, Bench, a_job, a_template, job_id
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.core.commands import REASON_HEALTH, ContainerReport, PodReport
from derny.core.effects import Kill, Launch
from derny.core.history import entries
from derny.model.ids import PodId, parse_pod_id, pod_id
from derny.model.specs import CheckKind, Container, HealthCheck, PodTemplate
from derny.model.states import HealthState as H
from derny.model.states import PodState as S
from derny.model.states import TaskState as T
from derny.model.states import TerminationReason

RUN = PodId(f"{JOB}-0-1")


def say(bench: Bench, *reports: PodReport) -> list[events.Event]:
    said = bench.do(commands.ReportPods(list(reports)))
    return said + bench.settle()


def checked(healthy: bool, run: PodId = RUN, message: str = "") -> PodReport:
    return PodReport(run, T.RUNNING, message, REASON_HEALTH, healthy=healthy)


def a_checked_pod(count: int = 1) -> Bench:
    bench = Bench()
    bench.running(a_job(count, template=a_template(health_checked=True)))
    return bench


def healths(bench: Bench) -> list[H]:
    return [entry.health for entry in entries(bench.pod(), bench.machine.state.texts)]


@pytest.mark.parametrize(
    ("message", "code", "signal"),
    [
        ("Command exited with status 250", 250, ""),
        ("Command exited with status abc", 0, ""),
        ("Command terminated with signal Segmentation fault", 0, "Segmentation fault"),
        ("Failed to launch container", 0, ""),
    ],
)
def test_how_a_command_ended_is_read_from_the_executor_s_words(message: str, code: int, signal: str) -> None:
    bench = Bench()
    bench.running(a_job())
    said = bench.do(
        commands.ReportPods([PodReport(RUN, T.FAILED, message, "REASON_COMMAND_EXECUTOR_FAILED")])
    )
    assert isinstance(said[0], events.PodsReported)
    ended = bench.pod().termination
    assert ended is not None
    assert (ended.reason, ended.exit_code, ended.signal) == (TerminationReason.FAILED, code, signal)
    assert (bench.pod().message, bench.pod().reason) == (message, "REASON_COMMAND_EXECUTOR_FAILED")


def test_what_an_agent_says_outright_is_not_guessed() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.do(commands.ReportPods([PodReport(RUN, T.FAILED, "Command exited with status 9", exit_code=4)]))
    assert bench.pod().termination == bench.pod().termination.__class__(TerminationReason.FAILED, 4, "")


def test_a_launch_that_was_a_repeat_is_no_failure() -> None:
    bench = Bench()
    bench.running(a_job())
    report = PodReport(RUN, T.FAILED, "Task has duplicate ID: " + RUN, "REASON_TASK_INVALID")
    assert say(bench, report) == []
    assert say(bench, PodReport(RUN, T.FAILED, "Task is wrong", "REASON_TASK_INVALID")) != []


def test_a_lost_pod_says_so_and_one_that_was_to_stop_was_stopped() -> None:
    bench = Bench()
    bench.running(a_job())
    say(bench, PodReport(RUN, T.LOST, "gone", "REASON_AGENT_REMOVED"))
    last = [e for e in entries(bench.pod(), bench.machine.state.texts) if e.run == 1][-1]
    assert (last.state, last.message, last.reason) == (S.LOST, "Task LOST: gone", "REASON_AGENT_REMOVED")

    bench = a_checked_pod()
    bench.stop()
    said = bench.do(commands.ReportPods([PodReport(RUN, T.LOST, "gone", "REASON_RECONCILIATION")]))
    pod = bench.pod()
    assert said[0].state is S.KILLED  # type: ignore[union-attr]  # that one has a state
    assert (pod.state, pod.reason, pod.health) == (S.KILLED, "REASON_RECONCILIATION", H.INVALID)
    assert pod.message == "Stopped task LOST event: gone"
    assert pod.completed_at == bench.at


def test_what_is_over_stays_over_and_runs_that_are_not_current_are_orphans() -> None:
    bench = Bench()
    bench.running(a_job())
    bench.do(commands.ReportPods([PodReport(RUN, T.FAILED)]))
    assert bench.do(commands.ReportPods([PodReport(RUN, T.LOST)])) == []
    assert bench.do(commands.ReportPods([PodReport(RUN, T.FAILED)])) == []
    bench.live(60)
    assert bench.pod().run == 2
    assert say(bench, PodReport(RUN, T.LOST)) == []
    say(bench, PodReport(RUN, T.RUNNING))
    kill = bench.effects[-1]
    assert isinstance(kill, Kill) and kill.pod == RUN


@pytest.mark.parametrize("end", [T.KILLED, T.FAILED, T.FINISHED, T.LOST])
def test_what_is_said_to_run_after_its_end_is_killed_before_the_next_run_could_meet_it(end: T) -> None:
    bench = Bench()
    bench.running(a_job())
    bench.stop()
    say(bench, PodReport(RUN, end))
    before = len(bench.effects)
    say(bench, PodReport(RUN, T.RUNNING))
    assert [effect.pod for effect in bench.effects[before:] if isinstance(effect, Kill)] == [RUN]


@pytest.mark.parametrize("end", [T.KILLED, T.FAILED, T.FINISHED])
def test_an_end_that_nobody_asked_for_counts_and_makes_health_invalid(end: T) -> None:
    bench = a_checked_pod()
    bench.pod().failures = 3
    bench.do(commands.ReportPods([PodReport(RUN, end)]))
    assert (bench.pod().failures, bench.pod().health) == (4, H.INVALID)


def test_health_moves_on_results_of_checks_alone() -> None:
    bench = a_checked_pod()
    assert bench.pod().health is H.UNKNOWN
    for report in (
        PodReport(RUN, T.RUNNING, healthy=True),
        PodReport(RUN, T.RUNNING, "", "REASON_RECONCILIATION", healthy=True),
        PodReport(RUN, T.RUNNING),
    ):
        assert say(bench, report) == []
    bench.at += 10
    since, revision = bench.pod().changed_at, bench.pod().revision
    for result, health in [(True, H.HEALTHY), (False, H.UNHEALTHY), (False, H.UNHEALTHY), (True, H.HEALTHY)]:
        assert say(bench, checked(result)) != []
        assert bench.pod().health is health
    assert say(bench, checked(True)) == [], "well after well"
    assert healths(bench)[-4:] == [H.HEALTHY, H.UNHEALTHY, H.UNHEALTHY, H.HEALTHY]
    assert bench.pod().revision == revision + 4
    assert bench.pod().changed_at == since, "it runs since then"
    assert bench.pod().reason == REASON_HEALTH


def test_health_is_nothing_to_a_pod_without_a_check() -> None:
    bench = Bench()
    bench.running(a_job())
    assert say(bench, checked(False)) == []
    assert bench.pod().health is H.DISABLED


def test_many_results_in_one_batch_stay_in_their_order() -> None:
    bench = Bench()
    bench.running(a_job(2, template=a_template(health_checked=True)))
    other = PodId(f"{JOB}-1-1")
    say(
        bench,
        checked(False),
        checked(True, other),
        checked(False),
        checked(True),
        checked(True),
        checked(False, other),
        checked(False),
    )
    assert healths(bench)[-4:] == [H.UNHEALTHY, H.UNHEALTHY, H.HEALTHY, H.UNHEALTHY]
    assert (bench.pod(0).health, bench.pod(1).health) == (H.UNHEALTHY, H.UNHEALTHY)
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)


def test_a_result_that_is_heard_first_tells_that_it_runs_too() -> None:
    bench = Bench()
    bench.create(a_job(template=a_template(health_checked=True)))
    say(bench, checked(True))
    assert (bench.pod().state, bench.pod().health) == (S.RUNNING, H.HEALTHY)
    bench = Bench()
    bench.create(a_job(template=a_template(health_checked=True)))
    say(
        bench, PodReport(RUN, T.STARTING), PodReport(RUN, T.RUNNING), checked(False), PodReport(RUN, T.FAILED)
    )
    assert [entry.state for entry in entries(bench.pod(), bench.machine.state.texts)][-5:-1] == [
        S.STARTING,
        S.RUNNING,
        S.RUNNING,
        S.FAILED,
    ]


def test_a_new_run_has_its_health_to_prove() -> None:
    bench = a_checked_pod()
    say(bench, checked(True))
    bench.report(T.FAILED, 0)
    bench.live(40)
    assert (bench.pod().run, bench.pod().health) == (2, H.UNKNOWN)


def test_failures_are_not_forgiven_to_a_pod_that_is_not_well() -> None:
    bench = a_checked_pod()
    bench.report(T.FAILED, 0)
    bench.live(40)
    bench.report(T.RUNNING, 0)
    bench.live(5000)
    assert bench.pod().failures == 1
    say(bench, checked(True, PodId(f"{JOB}-0-2")))
    bench.live(5000)
    assert bench.pod().failures == 0


PAIR = PodTemplate(
    a_template().demand,
    containers=(Container("web", check=HealthCheck(CheckKind.HTTP)), Container("log")),
    init_containers=(Container("init"),),
    health_checked=True,
)
WAITS, RUNS, DONE = ContainerReport(T.STAGING), ContainerReport(T.RUNNING), ContainerReport(T.FINISHED)


def test_containers_of_a_pod_are_followed_one_by_one() -> None:
    bench = Bench()
    bench.create(a_job(2, template=PAIR))
    assert bench.pod().containers == ()
    pods = [PodId(f"{JOB}-{instance}-1") for instance in (0, 1)]
    said = say(bench, *(PodReport(pod, T.STARTING, containers=(RUNS, WAITS, WAITS)) for pod in pods))
    assert len([event for event in said if isinstance(event, events.PodsReported)]) == 1
    assert bench.pod(0).containers is bench.pod(1).containers, "what is alike is shared"
    assert say(bench, PodReport(RUN, T.STARTING, containers=(RUNS, WAITS, WAITS))) == []
    bench.live(500)
    assert bench.pod().state is S.STARTING, "an init container takes its time"
    say(bench, PodReport(RUN, T.RUNNING, containers=(DONE, RUNS, RUNS)))
    say(bench, PodReport(RUN, T.RUNNING, containers=(DONE, RUNS, DONE)))
    assert [run.state for run in bench.pod().containers] == [S.SUCCEEDED, S.RUNNING, S.SUCCEEDED]
    assert bench.pod().state is S.RUNNING
    failed = (DONE, ContainerReport(T.FAILED, 3), DONE)
    bench.do(commands.ReportPods([PodReport(RUN, T.FAILED, exit_code=3, containers=failed)]))
    assert [run.state for run in bench.pod().containers] == [S.SUCCEEDED, S.FAILED, S.SUCCEEDED]
    last = list(entries(bench.pod(), bench.machine.state.texts))[-1]
    assert [run.exit_code for run in last.containers] == [0, 3, 0]
    bench.live(40)
    assert [run.state for run in bench.pod().containers] == [S.PENDING] * 3
    assert [run.failures for run in bench.pod().containers] == [0, 1, 0]
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)


def test_a_report_of_other_containers_than_the_pod_has_tells_of_the_pod_alone() -> None:
    bench = Bench()
    bench.create(a_job(template=PAIR))
    say(bench, PodReport(RUN, T.RUNNING, containers=(RUNS,)))
    assert (bench.pod().state, bench.pod().containers) == (S.RUNNING, ())
    assert say(bench, PodReport(RUN, T.RUNNING, containers=(RUNS,))) == []


def test_containers_of_a_pod_that_is_killed_end_with_it() -> None:
    bench = Bench()
    bench.create(a_job(template=PAIR))
    say(bench, PodReport(RUN, T.RUNNING, containers=(DONE, RUNS, RUNS)))
    bench.stop()
    say(bench, PodReport(RUN, T.KILLED))
    assert [run.state for run in bench.pod().containers] == [S.SUCCEEDED, S.KILLED, S.KILLED]


LIVES = [
    [T.STARTING],
    [T.STARTING, T.RUNNING],
    [T.RUNNING, T.RUNNING, T.KILLING],
    [T.STARTING, T.RUNNING, T.FAILED],
    [T.STARTING, T.RUNNING, T.FINISHED],
    [T.STARTING, T.RUNNING, T.LOST],
    [T.STARTING, T.LOST],
    [T.ERROR],
    [T.STAGING, T.KILLED],
]
ENDS = {T.FAILED, T.FINISHED, T.LOST, T.ERROR, T.KILLED}
STRANGERS = [f"{JOB}-0-9", f"{JOB}-77-1", f"{job_id(9)}-0-1", "nonsense"]


def lived(batches: list[list[PodReport]]) -> list[object]:
    """What has become of four pods, once all this has been said of them and a moment has passed."""
    bench = Bench(hosts=2)
    bench.create(a_job(4))
    over: set[str] = set()
    for batch in batches:
        before = len(bench.effects)
        bench.do(commands.ReportPods(batch))
        bench.settle()
        over |= {report.pod for report in batch if report.state in ENDS}
        for effect in bench.effects[before:]:
            if isinstance(effect, Launch):
                job, instance, run = parse_pod_id(effect.pod)
                assert pod_id(job, instance, run - 1) in over, "the run before may still be alive"
    bench.live(5)
    assert fingerprint(bench.replayed().state) == fingerprint(bench.machine.state)
    pods = [(pod.state, pod.run, pod.failures, pod.termination) for pod in bench.job().pods]
    return [pods, bench.machine.state.tree.root.allocation, bench.job().counts]


@settings(max_examples=60, deadline=None)
@given(data=st.data(), lives=st.lists(st.sampled_from(LIVES), min_size=4, max_size=4))
def test_late_repeated_reordered_and_unknown_reports_are_harmless(
    data: st.DataObject, lives: list[list[T]]
) -> None:
    """However they come, in the end it is as if they had come once and in order (behaviour, scheduler
    §8.2)."""
    told = [
        PodReport(pod_id(JOB, instance, 1), state) for instance, life in enumerate(lives) for state in life
    ]
    repeats = data.draw(st.lists(st.sampled_from(told), max_size=8))
    unknown = data.draw(
        st.lists(
            st.builds(PodReport, st.sampled_from(STRANGERS).map(PodId), st.sampled_from(T)),
            max_size=4,
        )
    )
    shuffled = data.draw(st.permutations([*told, *repeats, *unknown]))
    size = data.draw(st.integers(1, len(shuffled)))
    batches = [shuffled[first : first + size] for first in range(0, len(shuffled), size)]
    assert lived(batches) == lived([[report] for report in told])
