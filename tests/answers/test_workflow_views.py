"""Workflows as clients read them."""

import pytest

from builders import JOB, Bench, a_job, a_template, job_id
from derny.answers import queries
from derny.answers.workflow_views import CURRENT_MAX, diff, status_of, workflows_of
from derny.core import commands, workflow_log
from derny.model.errors import Invalid, NotFound, WrongVersion
from derny.model.ids import PoolId
from derny.model.periods import Periods
from derny.model.specs import JobSpec
from derny.model.states import PodState
from derny.model.states import WorkflowState as W


def other(count: int) -> JobSpec:
    return a_job(count, template=a_template(run="other"))


def test_the_status_goes_with_the_job() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(3))
    bench.live(2)
    bench.replace(other(5), batch_size=2)
    status = queries.job_info(bench.machine.state, JOB).workflow
    assert (status.version, status.prev_version) == ("2-1-2", "1-1-1")
    assert (status.state, status.prev_state) == (W.ROLLING_FORWARD, W.INITIALIZED)
    assert (status.done, status.remaining, status.failed, status.current) == (0, 5, 0, (3, 4))
    assert (status.created_at, status.updated_at, status.completed_at) == (bench.at, bench.at, 0.0)


def test_a_status_names_some_of_many_instances_and_the_workflow_all() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.do(commands.CreateJob(JOB, a_job(CURRENT_MAX + 10)))
    bench.settle()
    assert status_of(bench.job()).current == tuple(range(CURRENT_MAX))
    (workflow,) = workflows_of(bench.machine.state, JOB)
    assert workflow.status.current == tuple(range(CURRENT_MAX + 10))


def test_workflows_come_newest_first_with_ranges_that_have_both_ends() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(4))
    bench.live(2)
    bench.replace(other(2))
    bench.obey()
    bench.live(2)
    bench.restart((0, 1), batch_size=1)
    restart, update, creation = workflows_of(bench.machine.state, JOB)
    assert (restart.restarted, restart.updated, restart.spec.batch_size) == ([(0, 0)], [], 1)
    assert (update.added, update.updated, update.removed) == ([], [(0, 1)], [(2, 3)])
    assert (creation.added, creation.status.prev_version) == ([(0, 3)], "0-1-1")
    assert workflow_log.own_events(creation.log)[0][1] is W.SUCCEEDED
    assert workflows_of(bench.machine.state, JOB, 1) == [restart]


def test_pods_are_counted_by_configuration() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(3))
    bench.live(2)
    bench.replace(other(3), batch_size=1)
    bench.obey()
    assert queries.job_info(bench.machine.state, JOB).pod_stats_by_version == {
        "1-0-0": {PodState.RUNNING: 2},
        "2-0-0": {PodState.RUNNING: 1},
    }


def test_a_difference_is_told_slice_by_slice() -> None:
    bench = Bench(hosts=8, periods=Periods())
    bench.running(a_job(3))
    spec = a_job(5, others={1: a_template(run="other")})
    state = bench.machine.state
    first = diff(state, JOB, "1-1-1", spec, 0, 2)
    assert (first.added, first.removed, first.updated) == ((3, 4), None, [1])
    assert (first.end, first.complete) == (2, False)
    last = diff(state, JOB, "1-1-1", spec, 2, 2)
    assert (last.updated, last.end, last.complete) == ([], 3, True)
    assert diff(state, JOB, "1-1-1", a_job(1), 0, 9).removed == (1, 2)
    assert diff(state, JOB, "1-1-1", a_job(3), 0, 9).updated == []


def test_a_difference_is_refused_like_the_replace_but_for_the_version_first() -> None:
    bench = Bench(periods=Periods())
    bench.running(a_job(3))
    state = bench.machine.state
    with pytest.raises(NotFound):
        diff(state, job_id(2), "1-1-1", a_job(3), 0, 9)
    with pytest.raises(WrongVersion):
        diff(state, JOB, "9-1-1", a_job(3, pool=PoolId("other")), 0, 9)
    with pytest.raises(Invalid, match="respool_id"):
        diff(state, JOB, "1-1-1", a_job(3, pool=PoolId("other")), 0, 9)
    with pytest.raises(NotFound):
        workflows_of(state, job_id(2))
