"""Who goes on and who waits: priority, then first in first out, nobody overtaken."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import JOB, POOL, Bench, a_job, a_pool, a_template, amounts, job_id, pool_id
from derny.capacity.admission import Reason, Rule, admissible, reasons, sentence
from derny.capacity.cycle import Cycle
from derny.core import commands, events
from derny.core.audit import audit
from derny.model.ids import ROOT_POOL, JobId
from derny.model.periods import Periods
from derny.model.records import Pool, Queue
from derny.model.resources import KINDS
from derny.model.specs import PodTemplate, PoolResource
from derny.model.states import PodState, TaskState

S, T = PodState, TaskState


def entitled(bench: Bench) -> None:
    """Let the entitlements follow from what waits."""
    bench.machine.state.cycle.run(bench.machine.state.tree, bench.at, Periods().entitlement_s)


def queued(bench: Bench, *specs: tuple[int, float, int]) -> None:
    """Jobs (priority, cpu, count) whose pods wait in the queue and have not been looked at."""
    for number, (priority, cpu, count) in enumerate(specs, 1):
        spec = a_job(count, priority=priority, template=a_template(cpu=cpu))
        bench.do(commands.CreateJob(job_id(number), spec))
        event = events.PodsCreated(job_id(number), 0, count)
        bench.machine.replay(bench.at, [event])
    entitled(bench)


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


def pool_of(bench: Bench) -> Pool:
    return bench.machine.state.tree.pools[POOL]


def with_resources(bench: Bench, controller: float | None = None, **resources: tuple[float, float]) -> None:
    """Give the pool reservations and limits by kind, and a controller limit."""
    pool = pool_of(bench)
    given = {kind: (round(1000 * r), round(1000 * most)) for kind, (r, most) in resources.items()}
    kinds = tuple(PoolResource(kind, *given.get(kind, (10**9, 10**9))) for kind in KINDS)
    pool.spec = msgspec.structs.replace(pool.spec, resources=kinds, controller_percent=controller)
    bench.machine.state.tree.version += 1
    bench.machine.state.tree.changes += 1
    bench.machine.state.cycle = Cycle()


PLAIN = a_template(preemptible=True)
FIXED = a_template()
CHIEF = a_template(preemptible=True, controller=True)
SLACK = a_template(revocable=True)


def test_what_can_not_be_preempted_stays_within_the_reservation_and_others_borrow() -> None:
    """A full reservation makes others of the kind wait, not the pods that go beyond it; and once the first
    have gone the next go on."""
    bench = Bench(hosts=1, cpu=10)
    with_resources(bench, cpu=(4, 10))
    bench.create(a_job(4, template=FIXED), job_id(1))
    bench.create(a_job(2, template=FIXED), job_id(2))
    bench.create(a_job(3, template=PLAIN), job_id(3))
    states = [bench.states(job_id(n)) for n in (1, 2, 3)]
    assert states == [[S.LAUNCHED] * 4, [S.PENDING] * 2, [S.LAUNCHED] * 3]
    bench.stop(job_id(1))
    bench.obey()
    assert bench.states(job_id(2)) == [S.RUNNING] * 2


def test_without_preemption_nobody_needs_the_reservation() -> None:
    bench = Bench(hosts=1, cpu=10)
    with_resources(bench, cpu=(0, 10))
    bench.machine.state.tree.preemption = False
    bench.create(a_job(3, template=FIXED))
    assert bench.states() == [S.LAUNCHED] * 3


def test_without_preemption_hard_pods_stand_in_one_queue_first_in_first_out() -> None:
    """Behaviour, scheduler §3.5: ten revocable, ten that can't be preempted, ten that can; room for ten."""
    bench = Bench(hosts=1, cpu=10, revocable_cpu=0)
    bench.machine.state.tree.preemption = False
    for number, template in enumerate((SLACK, FIXED, PLAIN), 1):
        bench.do(commands.CreateJob(job_id(number), a_job(10, template=template)))
        bench.machine.replay(bench.at, [events.PodsCreated(job_id(number), 0, 10)])
    entitled(bench)
    assert admitted(bench) == [(job_id(2), list(range(10)))]
    assert {queue: len(line) for queue, line in pool_of(bench).queues.items()} == {
        Queue.REVOCABLE: 10,
        Queue.PENDING: 10,
    }


def test_a_controller_limit_is_a_part_of_the_reservation_for_controllers_alone() -> None:
    """Behaviour, scheduler §11.1: 10 % of 100/1000/1000/10 is 10/100/100/1 in total."""
    bench = Bench(hosts=1, cpu=100, memory=1000, disk=1000, gpu=10)
    with_resources(bench, 10, cpu=(100, 100), memory=(1000, 1000), disk=(1000, 1000), gpu=(10, 10))
    for number in (1, 2, 3):
        bench.create(
            a_job(2, template=PLAIN, others={0: a_template(4, 40, 40, 0.4, controller=True)}), job_id(number)
        )
    assert [bench.states(job_id(n))[0] for n in (1, 2, 3)] == [S.LAUNCHED, S.LAUNCHED, S.PENDING]
    assert [bench.states(job_id(n))[1] for n in (1, 2, 3)] == [S.LAUNCHED] * 3
    assert pool_of(bench).controller == amounts(8, 80, 80, 0.8)
    assert [
        reason[1:6] for reason in reasons(bench.machine.state.tree, pool_of(bench), bench.pod(0, job_id(3)))
    ] == [
        (Rule.CONTROLLER_LIMIT, "cpu", 4_000, 2_000, 10_000),
        (Rule.CONTROLLER_LIMIT, "memory", 40_000, 20_000, 100_000),
        (Rule.CONTROLLER_LIMIT, "disk", 40_000, 20_000, 100_000),
        (Rule.CONTROLLER_LIMIT, "gpu", 400, 200, 1_000),
    ]


def test_a_controller_limit_of_nothing_lets_none_go_and_holds_nobody_else_up() -> None:
    bench = Bench(hosts=1, cpu=10)
    with_resources(bench, 0)
    bench.create(a_job(1, template=CHIEF, priority=9), job_id(1))
    bench.create(a_job(1, template=FIXED), job_id(2))
    bench.create(a_job(1, template=PLAIN), job_id(3))
    assert [bench.states(job_id(n)) for n in (1, 2, 3)] == [[S.PENDING], [S.LAUNCHED], [S.LAUNCHED]]
    assert list(pool_of(bench).queues) == [Queue.CONTROLLER]


def test_one_of_each_kind_waits_in_a_queue_of_its_own() -> None:
    bench = Bench(hosts=1, cpu=1, revocable_cpu=0)
    bench.create(a_job(1, template=PLAIN), job_id(9))
    for number, template in enumerate((PLAIN, FIXED, CHIEF, SLACK), 1):
        bench.create(a_job(1, template=template), job_id(number))
    assert {queue: [pod.job for pod in line] for queue, line in pool_of(bench).queues.items()} == {
        Queue.PENDING: [job_id(1)],
        Queue.NON_PREEMPTIBLE: [job_id(2)],
        Queue.CONTROLLER: [job_id(3)],
        Queue.REVOCABLE: [job_id(4)],
    }


def test_a_large_head_is_not_starved_by_small_ones_of_another_queue() -> None:
    """It waits for cpu that all hard pods use; revocable pods, which use none, go on."""
    bench = Bench(hosts=1, cpu=8, revocable_cpu=2)
    bench.create(a_job(1, template=a_template(4, preemptible=True)), job_id(1))
    bench.create(a_job(1, template=a_template(5)), job_id(2))
    bench.at += 1
    bench.create(a_job(1, template=PLAIN), job_id(3))
    bench.create(a_job(1, template=SLACK), job_id(4))
    assert [bench.states(job_id(n)) for n in (2, 3, 4)] == [[S.PENDING], [S.PENDING], [S.LAUNCHED]]
    tree = bench.machine.state.tree
    assert reasons(tree, pool_of(bench), bench.pod(0, job_id(3))) == [
        Reason(POOL, None, behind=bench.pod(0, job_id(2)))
    ]
    bench.stop(job_id(1))
    bench.report(T.KILLED, 0, job=job_id(1))
    assert [bench.states(job_id(n)) for n in (2, 3, 4)] == [[S.LAUNCHED], [S.LAUNCHED], [S.LAUNCHED]]


def test_what_is_larger_than_a_limit_holds_up_nobody_of_another_queue() -> None:
    bench = Bench(hosts=1, cpu=8)
    bench.create(a_job(1, template=a_template(9, preemptible=True), priority=9), job_id(1))
    bench.create(a_job(1, template=PLAIN), job_id(2))
    bench.create(a_job(1, template=FIXED), job_id(3))
    assert [bench.states(job_id(n)) for n in (1, 2, 3)] == [[S.PENDING], [S.PENDING], [S.LAUNCHED]]


def test_of_equal_priorities_the_longest_waiting_goes_first_whatever_its_queue() -> None:
    bench = Bench(hosts=1, cpu=1)
    bench.create(a_job(1, template=PLAIN), job_id(1))
    for number, template in ((2, PLAIN), (3, FIXED)):
        bench.at += 1
        bench.create(a_job(1, template=template), job_id(number))
    bench.create(a_job(1, template=FIXED, priority=1), job_id(4))
    for number in (4, 2, 3):
        bench.stop(job_id(1))
        bench.obey()
        assert [n for n in (2, 3, 4) if bench.states(job_id(n)) == [S.RUNNING]] == [number]
        bench.stop(job_id(number))
        bench.obey()


def test_the_reasons_are_every_rule_in_the_way_with_its_numbers() -> None:
    bench = Bench(hosts=1, cpu=4, memory=1000, part=0.5)
    bench.create(a_job(1, template=a_template(cpu=5, memory=600, preemptible=True)))
    tree, pool = bench.machine.state.tree, pool_of(bench)
    assert reasons(tree, pool, bench.pod()) == [
        Reason(POOL, Rule.ENTITLEMENT, "cpu", 5_000, 2_000, 2_000),
        Reason(POOL, Rule.ENTITLEMENT, "memory", 600_000, 500_000, 500_000),
        Reason(POOL, Rule.LIMIT, "cpu", 5_000, 2_000, 2_000),
        Reason(POOL, Rule.LIMIT, "memory", 600_000, 500_000, 500_000),
        Reason(ROOT_POOL, Rule.LIMIT, "cpu", 5_000, 4_000, 4_000),
    ]
    assert sentence(tree, pool, bench.pod()) == (
        "/pool has 2 of 2 cpu left, 5 needed (entitlement);"
        " /pool has 500 of 500 memory left, 600 needed (entitlement);"
        " /pool has 2 of 2 cpu left, 5 needed (limit); /pool has 500 of 500 memory left, 600 needed (limit);"
        " / has 4 of 4 cpu left, 5 needed (limit)"
    )
    assert bench.job(JOB).pods[0].state is S.PENDING


def test_a_pool_borrows_what_others_do_not_want_and_no_more() -> None:
    """Two pools that reserve half each and may have all; one asks for all, then the other comes."""
    bench = Bench(hosts=1, cpu=12)
    with_resources(bench, cpu=(6, 12))
    capacity = bench.machine.state.tree.capacity
    other = a_pool(capacity, name="other")
    resources = (PoolResource("cpu", 6_000, 12_000), *other.resources[1:])
    bench.machine.replay(
        bench.at, [events.PoolCreated(pool_id(1), msgspec.structs.replace(other, resources=resources))]
    )
    bench.create(a_job(20, template=a_template(preemptible=True)), job_id(1))
    assert bench.states(job_id(1)).count(S.LAUNCHED) == 12
    bench.create(a_job(20, pool=pool_id(1)), job_id(2))
    assert bench.states(job_id(2)).count(S.LAUNCHED) == 0, "the cluster is full"
    tree = bench.machine.state.tree
    found = reasons(tree, tree.pools[pool_id(1)], bench.pod(0, job_id(2)))
    assert found == [Reason(ROOT_POOL, Rule.LIMIT, "cpu", 1_000, 0, 12_000)], "it is entitled to six"
    assert tree.pools[POOL].non_slack_entitlement.cpu == 6_000


def test_nine_revocable_pods_and_two_hard_ones_of_higher_priority() -> None:
    """Behaviour, scheduler §3.5: ten of eleven go on in one look, the slack of eight."""
    bench = Bench(hosts=1, cpu=100, memory=1000, disk=100, gpu=2, revocable_cpu=80)
    pool = pool_of(bench)
    specs = [
        (9, 0, a_template(10, 10, 2, revocable=True)),
        (1, 1, a_template(1, 100, 10)),
        (1, 2, a_template(1, 100, 10)),
    ]
    for number, (count, priority, template) in enumerate(specs, 1):
        bench.do(commands.CreateJob(job_id(number), a_job(count, priority=priority, template=template)))
        bench.machine.replay(bench.at, [events.PodsCreated(job_id(number), 0, count)])
    pool.non_slack_entitlement = amounts(100, 800, 80, 2)
    pool.slack_entitlement = amounts(0, 200, 20, 0, 80)
    assert [(job, len(pods)) for job, pods in admitted(bench)] == [
        (job_id(3), 1),
        (job_id(2), 1),
        (job_id(1), 8),
    ]
    assert pool.slack == amounts(0, 80, 16, 0, 80)
    assert pool.allocation == amounts(2, 280, 36, 0, 80)
    assert [(queue, len(line)) for queue, line in pool.queues.items()] == [(Queue.REVOCABLE, 1)]


def test_slack_of_ordinary_kinds_is_limited_too() -> None:
    """Behaviour, scheduler §3.5: memory for five of ten."""
    bench = Bench(hosts=1, cpu=100, memory=1000, disk=100, revocable_cpu=260)
    pool = pool_of(bench)
    held = a_template(100, 100, 10, revocable=True)
    bench.do(commands.CreateJob(JOB, a_job(10, template=a_template(10, 20, 1, revocable=True))))
    bench.machine.replay(bench.at, [events.PodsCreated(JOB, 0, 10)])
    bench.machine.state.tree.charge(POOL, held, 1)
    pool.slack_entitlement = amounts(0, 200, 20, 0, 160)
    assert [len(pods) for _job, pods in admitted(bench)] == [5]
    assert admitted(bench) == []
    assert {reason.kind for reason in reasons(bench.machine.state.tree, pool, bench.pod(5))} == {"memory"}


def test_revocable_pods_may_have_a_fifth_of_the_reservation_unless_the_pool_says_otherwise() -> None:
    """Behaviour, scheduler §3.5 and §11.1: of four pods of 100, two in 20 % of 1000, three in 30 %."""
    for percent, fit in ((None, 2), (30, 3)):
        bench = Bench(hosts=1, cpu=100, memory=1000, disk=1000, gpu=10, revocable_cpu=100)
        pool_of(bench).spec = msgspec.structs.replace(pool_of(bench).spec, slack_percent=percent)
        bench.create(a_job(4, template=a_template(1, 100, 10, revocable=True)))
        assert bench.states().count(S.LAUNCHED) == fit
        left = {reason.rule for reason in reasons(bench.machine.state.tree, pool_of(bench), bench.pod(fit))}
        assert left == {Rule.SLACK_ENTITLEMENT}


def test_those_behind_say_whom_they_wait_behind_and_what_else_is_in_their_way() -> None:
    bench = Bench(hosts=1, cpu=4)
    with_resources(bench, cpu=(1, 4))
    bench.create(a_job(1, template=a_template(cpu=2)), job_id(1))
    bench.create(a_job(1, template=a_template(cpu=3)), job_id(2))
    tree, pool = bench.machine.state.tree, pool_of(bench)
    rule = "(reservation, the most for pods that can't be preempted)"
    assert sentence(tree, pool, bench.pod(0, job_id(2))) == (
        f"waits behind {job_id(1)}-0 in /pool; /pool has 1 of 1 cpu left, 2 needed {rule};"
        f" /pool has 1 of 1 cpu left, 3 needed {rule}"
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([PLAIN, FIXED, CHIEF, SLACK, a_template(3), a_template(3, preemptible=True)]),
            st.integers(0, 2),
            st.integers(1, 4),
        ),
        max_size=12,
    ),
    st.integers(0, 8),
    st.integers(1, 5),
)
def test_no_head_is_ever_overtaken_in_its_own_queue_and_no_bound_is_broken(
    wanted: list[tuple[PodTemplate, int, int]], reserved: int, budget: int
) -> None:
    bench = Bench(hosts=1, cpu=8, revocable_cpu=3)
    with_resources(bench, 50, cpu=(reserved, 8))
    for number, (template, priority, count) in enumerate(wanted, 1):
        bench.do(commands.CreateJob(job_id(number), a_job(count, template=template, priority=priority)))
        bench.machine.replay(bench.at, [events.PodsCreated(job_id(number), 0, count)])
    entitled(bench)
    tree, pool = bench.machine.state.tree, pool_of(bench)
    while (batch := admissible(tree, pool, budget)) is not None:
        job, pods = batch
        assert 1 <= len(pods) <= budget
        line = list(pool.queues[tree.queue_of(pods[0].template)])
        assert pods == line[: len(pods)]
        bench.machine.replay(bench.at, [events.GangsAdmitted(job, [pod.instance for pod in pods])])
        assert pool.allocation.cpu <= 8_000 and pool.allocation.revocable_cpu <= 3_000
        assert pool.non_preemptible.cpu <= reserved * 1000
        assert pool.controller.cpu <= reserved * 500
    assert not audit(bench.machine.state)
    for line in pool.queues.values():
        assert all(reasons(tree, pool, pod) for pod in line)
