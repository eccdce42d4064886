"""Who goes on and who waits: priority, then first in first out, nobody overtaken."""

import pytest

from builders import JOB, POOL, Bench, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.capacity.admission import admissible, shortfall
from derny.core import commands, events
from derny.model.ids import JobId
from derny.model.states import PodState, TaskState

S, T = PodState, TaskState


def queued(bench: Bench, *specs: tuple[int, float, int]) -> None:
    """Jobs (priority, cpu, count) whose pods wait in the queue and have not been looked at."""
    for number, (priority, cpu, count) in enumerate(specs, 1):
        spec = a_job(count, priority=priority, template=a_template(cpu=cpu))
        bench.do(commands.CreateJob(job_id(number), spec))
        event = events.PodsCreated(job_id(number), 0, count)
        bench.machine.replay(bench.at, [event])


def admitted(bench: Bench, budget: int = 100) -> list[tuple[JobId, list[int]]]:
    """Whom admission lets go on, batch by batch."""
    tree = bench.machine.state.tree
    found = []
    while (batch := admissible(tree, tree.pools[POOL], budget)) is not None:
        job, pods = batch
        found.append((job, [pod.instance for pod in pods]))
        bench.machine.replay(bench.at, [events.GangsAdmitted(job, found[-1][1])])
    return found


def test_nobody_waits_nobody_goes() -> None:
    bench = Bench()
    assert admissible(bench.machine.state.tree, bench.machine.state.tree.pools[POOL], 10) is None


def test_higher_priorities_go_first_and_inside_one_the_first_come() -> None:
    bench = Bench()
    queued(bench, (0, 1, 1), (1, 1, 1), (2, 1, 2), (2, 1, 1), (-1, 1, 1))
    order = [job for job, _instances in admitted(bench)]
    assert order == [job_id(n) for n in (3, 4, 2, 1, 5)]


def test_pods_of_one_job_and_template_go_together_as_far_as_they_fit() -> None:
    bench = Bench(hosts=1, cpu=8)
    queued(bench, (0, 3, 4))
    assert admitted(bench) == [(job_id(1), [0, 1])]


def test_no_more_are_looked_at_than_the_budget() -> None:
    bench = Bench(hosts=1, cpu=8)
    queued(bench, (0, 1, 8))
    assert admitted(bench, budget=3) == [(job_id(1), [0, 1, 2]), (job_id(1), [3, 4, 5]), (job_id(1), [6, 7])]


def test_a_large_head_is_not_overtaken_by_smaller_ones_behind_it_or_below_it() -> None:
    bench = Bench(hosts=1, cpu=8)
    queued(bench, (1, 5, 2), (1, 1, 1), (0, 1, 1))
    assert admitted(bench) == [(job_id(1), [0])]
    assert bench.states(job_id(2)) == bench.states(job_id(3)) == [S.PENDING]


def test_the_head_goes_as_soon_as_there_is_room_and_the_others_follow() -> None:
    """A pod that needs 200 of 100 waits; when the limit is 500 it goes on."""
    bench = Bench(hosts=10, cpu=10)
    bench.create(a_job(1, template=a_template(cpu=99), priority=3), job_id(1))
    bench.create(a_job(1, template=a_template(cpu=2), priority=3), job_id(2))
    bench.create(a_job(1, template=a_template(cpu=1)), job_id(3))
    assert [bench.states(job_id(n))[0] for n in (1, 2, 3)] == [S.PLACING, S.PENDING, S.PENDING]
    bench.stop(job_id(1))
    assert [bench.states(job_id(n))[0] for n in (1, 2, 3)] == [S.KILLED, S.LAUNCHED, S.LAUNCHED]


def test_a_newcomer_of_higher_priority_goes_before_a_blocked_head() -> None:
    bench = Bench(hosts=1, cpu=8)
    bench.create(a_job(2, template=a_template(cpu=5)), job_id(1))
    assert bench.states(job_id(1)) == [S.LAUNCHED, S.PENDING]
    bench.create(a_job(1, template=a_template(cpu=1), priority=9), job_id(2))
    assert bench.states(job_id(2)) == [S.LAUNCHED]


def test_every_pool_of_the_chain_limits() -> None:
    bench = Bench(hosts=10, cpu=10, part=0.5)
    capacity = bench.machine.state.tree.capacity
    bench.do(commands.CreatePool(pool_id(1), a_pool(capacity, POOL, "one", 0.3)))
    bench.do(commands.CreatePool(pool_id(2), a_pool(capacity, POOL, "two", 0.2)))
    bench.create(a_job(40, pool=pool_id(1)), job_id(1))
    bench.create(a_job(40, pool=pool_id(2)), job_id(2))
    assert bench.states(job_id(1)).count(S.LAUNCHED) == 30
    assert bench.states(job_id(2)).count(S.LAUNCHED) == 20
    assert bench.machine.state.tree.pools[POOL].allocation.cpu == 50_000


def test_ten_pods_fill_a_reservation_that_holds_ten() -> None:
    """Behaviour, scheduler §11.1."""
    bench = Bench(hosts=1, cpu=100, memory=1000, disk=1000, gpu=10)
    bench.create(a_job(11, template=a_template(10, 100, 100, 1)))
    assert [state is S.PENDING for state in bench.states()] == [False] * 10 + [True]


@pytest.mark.parametrize("state", [T.FINISHED, T.FAILED, T.KILLED, T.LOST])
def test_a_share_is_held_until_the_end_of_the_run_and_given_back_then(state: TaskState) -> None:
    bench = Bench(hosts=1, cpu=1)
    bench.running(a_job(1), job_id(1))
    bench.create(a_job(1, priority=5), job_id(2))
    bench.stop(job_id(1))
    assert (bench.states(job_id(1)), bench.states(job_id(2))) == ([S.KILLING], [S.PENDING])
    bench.report(state, 0, job=job_id(1))
    assert bench.states(job_id(2)) == [S.LAUNCHED]


def test_a_revocable_pod_needs_room_in_the_slack_and_does_not_take_ordinary_cpu() -> None:
    bench = Bench(hosts=1, cpu=2, revocable_cpu=3)
    bench.create(a_job(4, revocable=True), job_id(1))
    bench.create(a_job(3, priority=1), job_id(2))
    assert bench.states(job_id(1)).count(S.LAUNCHED) == 3
    assert bench.states(job_id(2)).count(S.LAUNCHED) == 2
    pool = bench.machine.state.tree.pools[POOL]
    assert pool.slack == amounts(memory=300, disk=30, revocable_cpu=3)


def test_the_shortfall_names_each_limit_that_is_in_the_way() -> None:
    bench = Bench(hosts=1, cpu=4, memory=1000, part=0.5)
    bench.create(a_job(1, template=a_template(cpu=5, memory=600)))
    tree = bench.machine.state.tree
    pool = tree.pools[POOL]
    assert shortfall(tree, pool, bench.pod()) == (
        "/pool has 2 of 2 cpu left, 5 needed; /pool has 500 of 500 memory left, 600 needed;"
        " / has 4 of 4 cpu left, 5 needed"
    )
    assert bench.job(JOB).pods[0].state is S.PENDING
