"""What is remembered of the containers of a pod that has several."""

from derny.core.commands import ContainerReport as Report
from derny.core.containers import after, ended, is_news, renewed, undated
from derny.model.records import ContainerRun as Run
from derny.model.resources import NOTHING
from derny.model.specs import CheckKind, Container, HealthCheck, PodTemplate
from derny.model.states import HealthState as H
from derny.model.states import PodState as S
from derny.model.states import TaskState as T

CHECK = HealthCheck(CheckKind.HTTP)
POD = PodTemplate(
    NOTHING,
    containers=(Container("web", check=CHECK), Container("log")),
    init_containers=(Container("init"),),
)
WAITS, RUNS = Report(T.STAGING), Report(T.RUNNING)
DONE = Report(T.FINISHED)


def test_a_run_is_told_container_by_container() -> None:
    first = after((), POD, (RUNS, WAITS, WAITS), 10.0)
    assert first == (Run(S.RUNNING, started_at=10.0), Run(health=H.UNKNOWN), Run())
    second = after(first, POD, (DONE, RUNS, RUNS), 20.0)
    assert second == (
        Run(S.SUCCEEDED, started_at=10.0, completed_at=20.0),
        Run(S.RUNNING, H.UNKNOWN, 20.0),
        Run(S.RUNNING, started_at=20.0),
    )
    third = after(second, POD, (DONE, Report(T.RUNNING, healthy=True), Report(T.FAILED, 3, "KILL")), 30.0)
    assert third[0] == second[0]
    assert third[1:] == (Run(S.RUNNING, H.HEALTHY, 20.0), Run(S.FAILED, H.DISABLED, 20.0, 30.0, 3, "KILL", 1))


def test_only_what_changes_is_news() -> None:
    assert is_news((), (WAITS, WAITS, WAITS))
    runs = after((), POD, (DONE, RUNS, RUNS), 20.0)
    assert not is_news(runs, (DONE, RUNS, RUNS))
    assert not is_news(runs, (RUNS, RUNS, RUNS)), "an end is final"
    assert is_news(runs, (DONE, RUNS, DONE))
    assert is_news(runs, (DONE, Report(T.RUNNING, healthy=False), RUNS))
    assert not is_news(runs, (DONE, RUNS, Report(T.RUNNING, healthy=False))), "it has no check"


def test_with_the_pod_everything_ends() -> None:
    runs = after((), POD, (DONE, RUNS, Report(T.FAILED, 1)), 20.0)
    failed = ended(runs, S.FAILED, 25.0)
    assert [run.state for run in failed] == [S.SUCCEEDED, S.KILLED, S.FAILED]
    assert [run.completed_at for run in failed] == [20.0, 25.0, 20.0]
    assert failed[1].health is H.INVALID
    assert [run.state for run in ended(runs, S.LOST, 25.0)] == [S.SUCCEEDED, S.LOST, S.FAILED]
    waiting = after((), POD, (RUNS, WAITS, WAITS), 20.0)
    assert [run.state for run in ended(waiting, S.KILLED, 25.0)] == [S.KILLED, S.PENDING, S.PENDING]


def test_failures_are_counted_over_runs() -> None:
    runs = ended(after((), POD, (DONE, RUNS, Report(T.FAILED, 1)), 20.0), S.FAILED, 20.0)
    assert renewed(runs) == (Run(), Run(health=H.UNKNOWN), Run(failures=1))
    again = after(renewed(runs), POD, (DONE, RUNS, Report(T.FAILED, 1)), 30.0)
    assert [run.failures for run in again] == [0, 0, 2]
    assert renewed(after((), POD, (DONE, RUNS, RUNS), 20.0)) == ()


def test_histories_keep_no_times() -> None:
    one, other = (after((), POD, (DONE, RUNS, Report(T.FAILED, 1)), at) for at in (20.0, 30.0))
    assert one != other
    assert undated(one) == undated(other)
