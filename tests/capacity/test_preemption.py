"""Whom a pool gives back for what it owes, and who takes the place of whom."""

from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import JOB, a_pool, a_template, amounts, job_id, pool_id
from derny.capacity.preemption import Choice, Claim, Debt, Displacement, Seen, claim_of, owed, owes, pursuits
from derny.capacity.tree import PoolTree
from derny.model.records import Pod, Pool
from derny.model.resources import NOTHING, Resources
from derny.model.specs import PodTemplate
from derny.model.states import HealthState, PodState

S = PodState
LEAF = pool_id(1)
ONE = a_template(1, 100, 9, preemptible=True)


def a_pod(instance: int, state: PodState, template: PodTemplate = ONE, started: float = 0.0) -> Pod:
    return Pod(
        JOB,
        instance,
        template,
        state,
        S.RUNNING,
        1,
        1,
        1,
        0.0,
        HealthState.DISABLED,
        started_at=started,
    )


@pytest.fixture
def tree() -> PoolTree:
    """One leaf, on a cluster of a thousand of each kind."""
    tree = PoolTree()
    tree.set_capacity(amounts(1000, 100_000, 10_000, 100, 1000))
    tree.add(LEAF, a_pool(tree.capacity), 0.0)
    return tree


def with_debt(tree: PoolTree, hard: Resources = NOTHING, slack: Resources = NOTHING) -> Pool:
    """Let the leaf hold so much and be entitled to nothing."""
    pool = tree.pools[LEAF]
    pool.allocation, pool.slack = hard.plus(slack), slack
    return pool


class Cast(NamedTuple):
    """Pods with their priorities."""

    pods: list[tuple[Pod, int]]

    def seen(self) -> list[Seen]:
        return [Seen(pod, priority, False) for pod, priority in self.pods]


PELOTONS = Cast(
    [(a_pod(n, S.READY), n) for n in range(3)]
    + [(a_pod(n, S.RUNNING, started=5.0), n) for n in range(3, 6)]
    + [(a_pod(n, S.RUNNING, started=n), 6) for n in range(6, 9)]
    + [(a_pod(n, S.PLACING), n) for n in range(10, 13)]
)
"""The cast of Peloton's ranker tests (behaviour, scheduler §5), without the pod that is PENDING."""


@pytest.mark.parametrize(
    ("owes_so_much", "order"),
    [
        (amounts(10, 1000, 100), [0, 1, 2, 10, 11, 12, 3, 4, 5, 8, 7, 6]),
        (amounts(5.5, 550, 55), [0, 1, 2, 10, 11, 12, 3]),
        (amounts(), []),
    ],
)
def test_the_order_is_state_then_priority_then_the_most_recent_start(
    tree: PoolTree, owes_so_much: Resources, order: list[int]
) -> None:
    pool = with_debt(tree, hard=owes_so_much)
    debt = Debt(False, pool, 100)
    debt.see(reversed(PELOTONS.seen()))
    assert [pod.instance for pod in debt.taken(tree, pool)] == order


def test_pods_that_have_not_begun_to_run_go_before_those_that_do(tree: PoolTree) -> None:
    pool = with_debt(tree, hard=amounts(3))
    cast = Cast(
        [
            (a_pod(0, S.RUNNING), 0),
            (a_pod(1, S.STARTING), 9),
            (a_pod(2, S.LAUNCHED), 9),
            (a_pod(3, S.PREEMPTING), 9),
        ]
    )
    debt = Debt(False, pool, 100)
    debt.see(cast.seen())
    assert [pod.instance for pod in debt.taken(tree, pool)] == [2, 1, 3]


def test_only_whoever_frees_what_is_owed_is_taken(tree: PoolTree) -> None:
    pool = with_debt(tree, hard=amounts(gpu=3))
    debt = Debt(False, pool, 100)
    debt.see(
        [*PELOTONS.seen(), Seen(a_pod(20, S.RUNNING, a_template(1, gpu=4, preemptible=True)), 99, False)]
    )
    assert [pod.instance for pod in debt.taken(tree, pool)] == [20]


def test_small_pods_are_spared_when_a_large_one_frees_enough_by_itself(tree: PoolTree) -> None:
    pool = with_debt(tree, hard=amounts(10))
    large = Seen(a_pod(20, S.RUNNING, a_template(9, preemptible=True)), 99, False)
    debt = Debt(False, pool, 100)
    debt.see([*PELOTONS.seen()[:3], large])
    assert [pod.instance for pod in debt.taken(tree, pool)] == [0, 20]


def test_revocable_and_hard_pods_pay_for_their_own_and_nobody_who_can_not_be_preempted(
    tree: PoolTree,
) -> None:
    """Behaviour, scheduler §5: first the revocable READY, PLACING, RUNNING, then the hard ones."""
    revocable, fixed = a_template(1, 100, 9, revocable=True), a_template(1, 100, 9)
    pool = with_debt(tree, hard=amounts(2.5, 250, 25), slack=amounts(0, 300, 25, 0, 3))
    states = (S.READY, S.PLACING, S.RUNNING)
    cast = Cast(
        [(a_pod(n, state, revocable), 0) for n, state in enumerate(states)]
        + [(a_pod(n, state), 0) for n, state in enumerate(states, 10)]
        + [(a_pod(n, S.RUNNING, fixed), 0) for n in range(20, 23)]
    )
    found = pursuits(tree, pool, False, 100)
    for pursuit in found:
        pursuit.see(cast.seen())
    assert [[pod.instance for pod in pursuit.taken(tree, pool)] for pursuit in found] == [
        [0, 1, 2],
        [10, 11, 12],
    ]


def test_what_is_on_its_way_out_is_not_taken_a_second_time(tree: PoolTree) -> None:
    pool = with_debt(tree, hard=amounts(3))
    debt = Debt(False, pool, 100)
    debt.see([Seen(a_pod(0, S.KILLING), 0, True), *PELOTONS.seen()])
    assert [pod.instance for pod in debt.taken(tree, pool)] == [0, 1]


def test_what_has_been_paid_since_is_not_taken(tree: PoolTree) -> None:
    pool = with_debt(tree, hard=amounts(3))
    debt = Debt(False, pool, 100)
    debt.see(PELOTONS.seen())
    pool.allocation = amounts(1)
    assert [pod.instance for pod in debt.taken(tree, pool)] == [0]


def test_a_leaf_owes_what_it_holds_beyond_its_entitlements_of_any_kind(tree: PoolTree) -> None:
    pool = with_debt(tree, amounts(10, 100), amounts(0, 50, 0, 0, 4))
    pool.non_slack_entitlement, pool.slack_entitlement = amounts(10, 100), amounts(0, 60, 5, 0, 4)
    assert owed(pool) == (NOTHING, NOTHING) and not owes(pool)
    pool.non_slack_entitlement = amounts(11, 99)
    assert owed(pool) == (NOTHING, amounts(memory=1)) and owes(pool)
    pool.slack_entitlement = amounts(0, 60, 5, 0, 3)
    assert owed(pool)[0] == amounts(revocable_cpu=1)
    tree.root.allocation, tree.root.slack = pool.allocation, pool.slack
    assert not owes(tree.root), "what its leaves owe"


demands = st.builds(
    a_template, st.integers(0, 3), st.sampled_from([0, 100]), st.just(0), preemptible=st.just(True)
)
casts = st.lists(
    st.tuples(
        demands, st.sampled_from([S.READY, S.LAUNCHED, S.RUNNING]), st.integers(0, 3), st.integers(0, 5)
    ),
    max_size=30,
)
targets = st.builds(amounts, st.integers(0, 20), st.sampled_from([0, 100, 500]))


@given(casts, targets, st.integers(1, 7))
def test_slices_choose_whom_one_look_would_and_no_more_than_one_pod_too_many(
    cast: list[tuple[PodTemplate, PodState, int, int]], target: Resources, size: int
) -> None:
    tree = PoolTree()
    tree.add(LEAF, a_pool(NOTHING), 0.0)
    pool = with_debt(tree, hard=target)
    seen = [
        Seen(a_pod(n, state, template, started), priority, False)
        for n, (template, state, priority, started) in enumerate(cast)
    ]
    whole, sliced = Debt(False, pool, 1000), Debt(False, pool, 1000)
    whole.see(seen)
    for first in range(0, len(seen), size):
        sliced.see(seen[first : first + size])
    taken = sliced.taken(tree, pool)
    assert taken == whole.taken(tree, pool)
    freed = NOTHING
    for pod in taken:
        freed = freed.plus(pod.template.demand)
    everything = NOTHING
    for one in seen:
        everything = everything.plus(one.pod.template.demand)
    wanted = Resources(*map(min, target, everything))
    assert wanted.fits(freed), "as much as there is of what is wanted"
    for pod in taken:
        assert not wanted.fits(freed.minus(pod.template.demand)), "and nobody is needless"


@given(casts, targets, st.integers(1, 5))
def test_a_choice_never_holds_more_than_it_may(
    cast: list[tuple[PodTemplate, PodState, int, int]], target: Resources, most: int
) -> None:
    tree = PoolTree()
    tree.add(LEAF, a_pool(NOTHING), 0.0)
    debt = Debt(False, with_debt(tree, hard=target), most)
    for n, (template, state, priority, started) in enumerate(cast):
        debt.see([Seen(a_pod(n, state, template, started), priority, False)])
    assert len(debt.taken(tree, tree.pools[LEAF])) <= most


def test_a_choice_tells_what_all_of_it_frees() -> None:
    assert Choice(amounts(1), 5).frees == NOTHING


# Inside a pool


def waiting(tree: PoolTree, count: int, template: PodTemplate, priority: int, job: int = 7) -> None:
    for instance in range(count):
        pod = a_pod(instance, S.PENDING, template)
        pod.job = job_id(job)
        tree.enqueue(LEAF, priority, pod)


def full(tree: PoolTree, cpu: float, limit: float = 1000) -> Pool:
    """The leaf holds so much cpu, and that is what it is entitled to."""
    pool = tree.pools[LEAF]
    pool.allocation = amounts(cpu)
    pool.non_slack_entitlement = amounts(cpu, 1000, 1000)
    return pool


CPU = a_template(2, 0, 0, preemptible=True)


def test_the_gangs_in_front_claim_what_they_lack(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 3, CPU, 5)
    waiting(tree, 2, CPU, 1, job=8)
    claim = claim_of(tree, pool, 100)
    assert claim == Claim(5, False, 3, CPU.demand, [amounts(0, 1000, 1000)])
    assert (claim.lack(1), claim.lack(3)) == (amounts(2), amounts(6))
    assert [claim.served(amounts(free)) for free in (1, 2, 5, 99)] == [0, 1, 2, 3]
    assert claim_of(tree, pool, 2) == claim._replace(gangs=2)


def test_nothing_is_claimed_by_whom_no_other_pod_can_help(tree: PoolTree) -> None:
    pool = full(tree, 10)
    assert claim_of(tree, pool, 100) is None, "nobody waits"
    waiting(tree, 1, a_template(2, 0, 0), 9)
    pool.non_preemptible = amounts(1000)
    assert claim_of(tree, pool, 100) is None, "it waits for the reservation"
    waiting(tree, 1, CPU, 5, job=8)
    assert claim_of(tree, pool, 100) is not None, "this one does not"
    pool.non_slack_entitlement = amounts(100)
    assert claim_of(tree, pool, 100) is None, "now it goes on by itself"


def test_a_pool_that_may_grow_has_the_others_give_back_and_not_its_own(tree: PoolTree) -> None:
    pool = full(tree, 10)
    pool.non_slack_entitlement = amounts(100)
    tree.root.allocation = amounts(1000)
    waiting(tree, 1, CPU, 5)
    assert claim_of(tree, pool, 100) is None


def displacing(tree: PoolTree, pool: Pool, *cast: tuple[Pod, int], leaves: bool = False) -> list[int]:
    (displacement,) = pursuits(tree, pool, True, 100)
    assert isinstance(displacement, Displacement)
    displacement.see([Seen(pod, priority, leaves) for pod, priority in cast])
    return [pod.instance for pod in displacement.taken(tree, pool)]


def test_lower_priorities_are_displaced_the_lowest_and_the_most_recent_first(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 1, CPU, 5)
    cast = [
        (a_pod(0, S.READY), 4),
        (a_pod(1, S.RUNNING, started=1.0), 2),
        (a_pod(2, S.RUNNING, started=2.0), 2),
        (a_pod(3, S.RUNNING), 3),
    ]
    assert displacing(tree, pool, *cast) == [2, 1]


def test_nobody_is_displaced_by_its_like_nor_in_vain(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 1, CPU, 5)
    assert displacing(tree, pool, (a_pod(0, S.RUNNING), 5), (a_pod(1, S.RUNNING), 6)) == []
    assert displacing(tree, pool, (a_pod(0, S.RUNNING), 1)) == [], "one of the two that are needed"
    revocable = a_pod(2, S.RUNNING, a_template(9, revocable=True))
    assert displacing(tree, pool, (revocable, 0)) == [], "it holds other cpu"


def test_as_many_are_displaced_as_gangs_can_be_served(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 3, CPU, 5)
    cast = [(a_pod(n, S.RUNNING), 1) for n in range(5)]
    assert displacing(tree, pool, *cast) == [4, 3, 2, 1]


def test_what_leaves_anyway_serves_first(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 1, CPU, 5)
    leaving = (a_pod(9, S.KILLING, a_template(2)), 9)
    assert displacing(tree, pool, leaving, leaves=True) == []


def test_a_pool_that_owes_pays_before_anybody_is_displaced(tree: PoolTree) -> None:
    pool = full(tree, 10)
    waiting(tree, 1, CPU, 5)
    pool.non_slack_entitlement = amounts(9, 1000, 1000)
    assert all(isinstance(pursuit, Debt) for pursuit in pursuits(tree, pool, True, 100))
