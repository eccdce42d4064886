"""When entitlements are calculated: before the first admission, when it may matter, and on a period."""

import msgspec
import pytest

from builders import a_pool, a_template, amounts, pool_id
from derny.capacity.cycle import FEW_POOLS, REST_PER_POOL_S, Cycle
from derny.capacity.tree import PoolTree
from derny.model.ids import ROOT_POOL
from derny.model.records import Pod
from derny.model.resources import NOTHING, Resources
from derny.model.states import HealthState, PodState

A, B = pool_id(1), pool_id(2)
PERIOD = 60.0


def a_pod(cpu: float, revocable: bool = False) -> Pod:
    template = a_template(cpu=cpu, memory=0, disk=0, revocable=revocable)
    return Pod(
        pool_id(9), 0, template, PodState.PENDING, PodState.RUNNING, 1, 1, 1, 0.0, HealthState.DISABLED
    )  # type: ignore[arg-type]  # any id will do


@pytest.fixture
def tree() -> PoolTree:
    """Two pools that reserve half of ten cpus each, and may have all but one."""
    tree = PoolTree()
    tree.set_capacity(amounts(10, revocable_cpu=4))
    for pool in (A, B):
        tree.add(pool, a_pool(amounts(9), name=pool), 0.0)
        first, *others = tree.pools[pool].spec.resources
        resources = (msgspec.structs.replace(first, reservation=5000), *others)
        tree.pools[pool].spec = msgspec.structs.replace(tree.pools[pool].spec, resources=resources)
    return tree


def cpu(tree: PoolTree) -> list[float]:
    return [tree.pools[pool].non_slack_entitlement.cpu / 1000 for pool in (A, B)]


def test_the_first_look_calculates_whatever_the_time(tree: PoolTree) -> None:
    cycle = Cycle()
    assert cycle.next_due(tree, PERIOD) == 0.0
    version = tree.version
    cycle.run(tree, 0.0, PERIOD)
    assert cpu(tree) == [5, 5]
    assert tree.root.entitlement == Resources(cpu=10_000)
    assert tree.root.slack_entitlement == Resources(revocable_cpu=4_000)
    assert tree.version == version + 1
    assert cycle.next_due(tree, PERIOD) is None


def test_what_changes_without_need_waits_for_the_period(tree: PoolTree) -> None:
    cycle = Cycle()
    cycle.run(tree, 100.0, PERIOD)
    tree.charge(A, a_template(cpu=1, memory=0, disk=0), 1)
    assert cycle.next_due(tree, PERIOD) == 160.0
    cycle.run(tree, 159.9, PERIOD)
    assert cycle.at == 100.0
    version = tree.version
    cycle.run(tree, 160.0, PERIOD)
    assert (cycle.at, cycle.next_due(tree, PERIOD)) == (160.0, None)
    assert tree.version == version + 1


def test_whoever_waits_for_more_than_it_may_hold_is_looked_at_at_once(tree: PoolTree) -> None:
    cycle = Cycle()
    cycle.run(tree, 100.0, PERIOD)
    pods = [a_pod(4), a_pod(4)]
    tree.enqueue(A, 0, pods[0])
    assert cycle.next_due(tree, PERIOD) == 160.0, "five are enough for four"
    tree.enqueue(A, 0, pods[1])
    assert cycle.next_due(tree, PERIOD) == 100.0
    cycle.run(tree, 100.1, PERIOD)
    assert cpu(tree) == [9, 1]
    assert cycle.next_due(tree, PERIOD) is None


def test_many_pools_are_given_a_rest(tree: PoolTree) -> None:
    cycle = Cycle()
    for number in range(10, 10 + FEW_POOLS):
        tree.add(pool_id(number), a_pool(NOTHING, name=f"p{number}"), 0.0)
    cycle.run(tree, 100.0, PERIOD)
    tree.enqueue(A, 0, a_pod(40))
    assert cycle.next_due(tree, PERIOD) == 100.0 + 3 * REST_PER_POOL_S


def test_pools_and_hosts_count_at_once(tree: PoolTree) -> None:
    cycle = Cycle()
    cycle.run(tree, 100.0, PERIOD)
    tree.set_capacity(amounts(14))
    assert cycle.next_due(tree, PERIOD) == 100.0
    cycle.run(tree, 100.0, PERIOD)
    assert cpu(tree) == [7, 7]
    tree.remove(B)
    cycle.run(tree, 100.0, PERIOD)
    assert tree.pools[A].entitlement.cpu == 9_000


def test_slack_that_is_lacking_counts_too(tree: PoolTree) -> None:
    cycle = Cycle()
    cycle.run(tree, 100.0, PERIOD)
    tree.enqueue(A, 0, a_pod(3, revocable=True))
    cycle.run(tree, 100.1, PERIOD)
    assert [tree.pools[pool].slack_entitlement.revocable_cpu for pool in (A, B)] == [3500, 500]


def test_a_calculation_that_changes_nothing_wakes_nobody(tree: PoolTree) -> None:
    cycle = Cycle()
    cycle.run(tree, 100.0, PERIOD)
    tree.charge(A, a_template(cpu=1, memory=0, disk=0), 1)
    tree.charge(A, a_template(cpu=1, memory=0, disk=0), -1)
    version = tree.version
    cycle.run(tree, 200.0, PERIOD)
    assert tree.version == version


def test_with_nobody_there_is_nothing() -> None:
    tree = PoolTree()
    Cycle().run(tree, 5.0, PERIOD)
    assert tree.root.entitlement == NOTHING
    assert ROOT_POOL in tree.pools
