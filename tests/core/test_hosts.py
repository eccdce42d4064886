"""The life of a host: seen, lost, seen again."""

import msgspec

from builders import JOB, Bench, a_host, a_job, a_template, amounts, job_id
from derny.core import commands, events
from derny.model.ids import HostName
from derny.model.states import PodState, TaskState

S, T = PodState, TaskState


def lose(bench: Bench, *numbers: int) -> list[events.Event]:
    return bench.do(commands.LoseHosts([HostName(f"host-{n}") for n in numbers])) + bench.settle()


def test_the_roots_capacity_is_that_of_the_hosts_that_are_there() -> None:
    bench = Bench(hosts=3, cpu=8, memory=100, disk=10)
    tree = bench.machine.state.tree
    assert tree.limit(tree.root) == amounts(24, 300, 30)
    lose(bench, 1)
    assert tree.limit(tree.root) == amounts(16, 200, 20)
    bench.do(commands.SeeHosts([a_host(1, cpu=4, memory=100, disk=10)]))
    assert tree.limit(tree.root) == amounts(20, 300, 30)


def test_an_agent_that_registers_again_unchanged_is_no_news() -> None:
    bench = Bench(hosts=2)
    assert bench.do(commands.SeeHosts([a_host(0), a_host(1)])) == []
    changed = msgspec.structs.replace(a_host(1), agent_id="agent-new")
    assert bench.do(commands.SeeHosts([a_host(0), changed])) == [events.HostsSeen([changed])]


def test_a_host_is_lost_once_and_an_unknown_one_never() -> None:
    bench = Bench(hosts=2)
    assert lose(bench, 0, 7) == [events.HostsLost([HostName("host-0")])]
    assert lose(bench, 0) == []
    assert bench.do(commands.SeeHosts([a_host(0)])) == [events.HostsSeen([a_host(0)])]
    assert not bench.machine.state.hosts[HostName("host-0")].lost


def test_nothing_is_placed_on_a_lost_host_until_it_is_back() -> None:
    bench = Bench(hosts=2, cpu=8)
    lose(bench, 0)
    bench.create(a_job(2, template=a_template(cpu=4)))
    assert [pod.host for pod in bench.job().pods] == ["host-1", "host-1"]
    bench.create(a_job(1, template=a_template(cpu=4)), job_id(2))
    assert bench.states(job_id(2)) == [S.PENDING]
    bench.do(commands.SeeHosts([a_host(0)]))
    bench.settle()
    assert bench.pod(job=job_id(2)).host == "host-0"


def test_pods_of_a_lost_host_hold_on_until_they_are_reported_lost_and_then_run_elsewhere() -> None:
    bench = Bench(hosts=2, cpu=8)
    bench.running(a_job(2, template=a_template(cpu=4)))
    lost = bench.pod().host
    assert lost is not None
    lose(bench, int(lost[-1]))
    assert bench.states() == [S.RUNNING] * 2
    bench.report(T.LOST, 0, 1)
    assert {pod.host for pod in bench.job().pods} == {HostName("host-0"), HostName("host-1")} - {lost}
    assert [pod.run for pod in bench.job().pods] == [2, 2]


def test_a_host_may_come_back_smaller_than_its_use() -> None:
    """What runs there stays; nothing more is placed until there is room."""
    bench = Bench(hosts=1, cpu=8)
    bench.running(a_job(6))
    bench.do(commands.SeeHosts([a_host(0, cpu=4)]))
    bench.create(a_job(1), job_id(2))
    assert bench.states(job_id(2)) == [S.PENDING]
    bench.stop()
    bench.obey()
    assert bench.states(job_id(2)) == [S.RUNNING]
    assert bench.states(JOB) == [S.KILLED] * 6
