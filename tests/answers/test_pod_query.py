"""Which pods of a job a query asks for, and in which order."""

import pytest

from builders import JOB, Bench, a_job, a_template
from derny.answers import pod_query
from derny.answers.ordering import OrderBy
from derny.answers.pod_query import PodCriteria
from derny.core import commands
from derny.model.errors import NotFound
from derny.model.ids import PodId
from derny.model.states import PodState, TaskState


@pytest.fixture
def bench() -> Bench:
    """Five pods: 1 runs since 1000, 0 since 1010, 2 has failed, 3 is being started, 4 finds no host."""
    bench = Bench(hosts=2, cpu=4)
    small, huge = a_template(cpu=2), a_template(cpu=1, ports=2000)
    bench.create(a_job(5, template=small, others={4: huge}))
    bench.report(TaskState.RUNNING, 1)
    bench.at = 1010
    bench.report(TaskState.RUNNING, 0, 2)
    failed = commands.PodReport(PodId(f"{JOB}-2-1"), TaskState.FAILED, "said FAILED", "REASON_X")
    bench.do(commands.ReportPods([failed]))
    bench.report(TaskState.STARTING, 3)
    return bench


def ranked(bench: Bench, criteria: PodCriteria, *order: OrderBy, first: int = 0, end: int = 9) -> list[int]:
    rows = pod_query.ranked(bench.machine.state, JOB, criteria, order, first, end)
    return [instance for _key, instance in sorted(rows)]


def test_without_criteria_all_pods_come_ascending(bench: Bench) -> None:
    assert ranked(bench, PodCriteria()) == [0, 1, 2, 3, 4]
    assert ranked(bench, PodCriteria(), first=1, end=3) == [1, 2]


def test_any_of_the_states_will_do(bench: Bench) -> None:
    states = frozenset({PodState.FAILED, PodState.STARTING})
    assert ranked(bench, PodCriteria(states=states)) == [2, 3]


def test_names_are_those_of_pods_or_containers(bench: Bench) -> None:
    assert ranked(bench, PodCriteria(names=frozenset({f"{JOB}-1", f"{JOB}-3", f"{JOB}-99"}))) == [1, 3]
    assert ranked(bench, PodCriteria(names=frozenset({"main"}))) == [0, 1, 2, 3, 4]
    assert ranked(bench, PodCriteria(names=frozenset({JOB}))) == []


def test_hosts_are_those_of_the_current_run(bench: Bench) -> None:
    host = bench.pod(1).host
    assert host is not None
    expected = [pod.instance for pod in bench.job().pods if pod.host == host]
    assert ranked(bench, PodCriteria(hosts=frozenset({host}))) == expected
    assert ranked(bench, PodCriteria(hosts=frozenset({"nowhere"}))) == []


def test_all_criteria_must_be_met(bench: Bench) -> None:
    states = frozenset({PodState.RUNNING})
    assert ranked(bench, PodCriteria(states=states, names=frozenset({f"{JOB}-0", f"{JOB}-2"}))) == [0]


def test_every_field_sorts(bench: Bench) -> None:
    everything = PodCriteria()
    # A failed pod started once; pods that never did come last.
    assert ranked(bench, everything, OrderBy("creation_time")) == [1, 0, 2, 3, 4]
    assert ranked(bench, everything, OrderBy("start_time", True)) == [3, 4, 0, 2, 1]
    assert ranked(bench, everything, OrderBy("instance_id", True)) == [4, 3, 2, 1, 0]
    assert ranked(bench, everything, OrderBy("name", True)) == [4, 3, 2, 1, 0]
    assert ranked(bench, everything, OrderBy("state"), OrderBy("instance_id", True)) == [4, 3, 1, 0, 2]
    assert ranked(bench, everything, OrderBy("host"))[0] == 4
    for field in ("message", "reason"):
        texts = [
            getattr(bench.pod(instance), field) for instance in ranked(bench, everything, OrderBy(field))
        ]
        assert texts == sorted(texts)
        assert len(set(texts)) > 1


def test_a_job_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        pod_query.ranked(Bench().machine.state, JOB, PodCriteria(), (), 0, 1)


def test_pods_that_are_gone_are_left_out() -> None:
    bench = Bench()
    bench.running(a_job(2))
    bench.do(commands.DeleteJob(JOB, "1-1-1", True))
    assert ranked(bench, PodCriteria(), first=1, end=5) == [1]
