"""Where the files of a run are."""

import pytest

from builders import JOB, Bench, a_job, a_template
from derny.answers.sandboxes import sandbox
from derny.core import commands
from derny.model.errors import NotFound, WrongState
from derny.model.states import TaskState


def test_a_run_that_runs_has_a_sandbox_on_its_host() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job(template=a_template(run="date")))
    view = sandbox(bench.machine.state, JOB, 0)
    assert (view.pod, view.host, view.ip, view.agent_id) == (f"{JOB}-0-1", "host-0", "10.0.0.0", "agent-0")
    assert view.template.containers[0].command.value == "date"


def test_a_run_keeps_its_sandbox_when_it_has_ended_and_when_others_follow() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job())
    bench.report(TaskState.FAILED, 0)
    assert sandbox(bench.machine.state, JOB, 0).pod == f"{JOB}-0-1"
    bench.after(60)
    assert bench.pod().run == 2
    assert sandbox(bench.machine.state, JOB, 0, 1).pod == f"{JOB}-0-1"
    with pytest.raises(WrongState, match="has not been run"):
        sandbox(bench.machine.state, JOB, 0)


def test_a_running_pod_has_a_sandbox_whose_events_were_deleted() -> None:
    bench = Bench(hosts=1)
    bench.running(a_job())
    bench.do(commands.DeletePodEvents(JOB, 0, 1))
    assert sandbox(bench.machine.state, JOB, 0).host == "host-0"


def test_a_run_that_never_was_is_not_found() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job())
    for instance, run in ((0, 2), (0, 0), (1, None)):
        with pytest.raises(NotFound):
            sandbox(bench.machine.state, JOB, instance, run)
    with pytest.raises(WrongState):
        sandbox(bench.machine.state, JOB, 0, 1)
