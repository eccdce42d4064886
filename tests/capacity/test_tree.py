"""Paths, limits and usage of the pool tree. The table of what is refused is in tests/core/test_pools.py."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import JOB, a_pool, a_template, amounts, pool_id
from derny.capacity.tree import PoolTree
from derny.model.errors import Invalid, NotFound
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.records import Pod, Queue
from derny.model.resources import NOTHING, Resources
from derny.model.specs import PodTemplate, PoolResource, PoolSpec
from derny.model.states import HealthState, PodState


@pytest.fixture
def tree() -> PoolTree:
    """/a/b, /a/c and /d, on a cluster of a hundred of each kind."""
    tree = PoolTree()
    tree.set_capacity(amounts(100, 100, 100, 100, 10))
    for number, parent, name, part in (
        (1, ROOT_POOL, "a", 0.5),
        (2, pool_id(1), "b", 0.4),
        (3, pool_id(1), "c", 0.1),
        (4, ROOT_POOL, "d", 0.5),
    ):
        tree.add(pool_id(number), a_pool(tree.capacity, parent, name, part), 1.0)
    return tree


@pytest.mark.parametrize(
    ("path", "number"), [("/a", 1), ("/a/", 1), ("/a/b", 2), ("/a/b/", 2), ("/a/c", 3), ("/d", 4)]
)
def test_a_pool_is_found_by_its_path_with_or_without_one_trailing_slash(
    tree: PoolTree, path: str, number: int
) -> None:
    assert tree.lookup(path).id == pool_id(number)
    assert tree.path(tree.lookup(path)) == path.rstrip("/")


def test_the_root_is_a_single_slash(tree: PoolTree) -> None:
    assert tree.lookup("/") is tree.root
    assert tree.path(tree.root) == "/"


@pytest.mark.parametrize("path", ["", "a", "a/b", " /a", "root"])
def test_a_path_that_is_not_absolute_is_invalid(tree: PoolTree, path: str) -> None:
    with pytest.raises(Invalid, match="not absolute"):
        tree.lookup(path)


@pytest.mark.parametrize(
    "path", ["//", "/a//b", "/a//", "//a", "/b", "/A", "/a/b/c", "/a /b", "/root", "/a/b//"]
)
def test_an_unknown_or_empty_segment_is_not_found(tree: PoolTree, path: str) -> None:
    with pytest.raises(NotFound, match="path"):
        tree.lookup(path)


def test_pools_are_walked_parents_first_in_order_of_creation(tree: PoolTree) -> None:
    assert [pool.id for pool in tree.walk()] == [ROOT_POOL, *(pool_id(n) for n in (1, 2, 3, 4))]
    assert [pool.id for pool in tree.up(tree.pools[pool_id(2)])] == [pool_id(2), pool_id(1), ROOT_POOL]


def test_an_unknown_pool_is_not_found(tree: PoolTree) -> None:
    with pytest.raises(NotFound):
        tree.get(PoolId("nowhere"))


def test_the_root_reserves_and_limits_the_capacity_without_a_share(tree: PoolTree) -> None:
    assert [(r.kind, r.reservation, r.limit, r.share) for r in tree.resources(tree.root)] == [
        (kind, 100_000, 100_000, 0.0) for kind in ("cpu", "gpu", "memory", "disk")
    ]


def test_a_reservation_can_be_had_in_parts(tree: PoolTree) -> None:
    spec = PoolSpec(
        "x", ROOT_POOL, b"", (PoolResource("cpu", 100_000, 200_000), PoolResource("gpu", 2_000, 2_000))
    )
    tree.add(pool_id(9), spec, 1.0)
    assert tree.reservation(tree.pools[pool_id(9)]) == amounts(cpu=100, gpu=2)
    assert tree.reservation(tree.pools[pool_id(9)], 1) == amounts(cpu=1, gpu=0.02)


def test_every_dimension_is_charged_by_the_template_alone(tree: PoolTree) -> None:
    leaf = tree.pools[pool_id(2)]
    tree.charge(leaf.id, a_template(1, 10, 0, revocable=True), 4)
    assert leaf.slack == leaf.allocation == tree.root.slack == amounts(memory=40, revocable_cpu=4)
    assert leaf.non_preemptible == leaf.controller == NOTHING
    tree.charge(leaf.id, a_template(2, 10, 0, controller=True), 1)
    assert leaf.controller == leaf.non_preemptible == tree.root.controller == amounts(cpu=2, memory=10)
    tree.charge(leaf.id, a_template(5, 0, 0, preemptible=True), 1)
    assert leaf.allocation == amounts(cpu=7, memory=50, revocable_cpu=4)
    assert leaf.non_preemptible == amounts(cpu=2, memory=10)


@pytest.mark.parametrize(
    ("template", "queue", "without_preemption"),
    [
        (a_template(preemptible=True), Queue.PENDING, Queue.PENDING),
        (a_template(), Queue.NON_PREEMPTIBLE, Queue.PENDING),
        (a_template(controller=True), Queue.CONTROLLER, Queue.CONTROLLER),
        (a_template(revocable=True), Queue.REVOCABLE, Queue.REVOCABLE),
    ],
)
def test_where_a_pod_waits_is_for_its_template_to_say(
    tree: PoolTree, template: PodTemplate, queue: Queue, without_preemption: Queue
) -> None:
    assert tree.queue_of(template) is queue
    tree.preemption = False
    assert tree.queue_of(template) is without_preemption


@given(
    st.lists(
        st.tuples(
            st.sampled_from([2, 3, 4]),
            st.builds(
                PodTemplate,
                st.builds(Resources, *[st.integers(0, 10**9)] * 5),
                preemptible=st.booleans(),
                controller=st.booleans(),
                revocable=st.booleans(),
            ),
            st.integers(1, 9),
        )
    )
)
def test_what_is_charged_and_given_back_leaves_exactly_nothing(
    charges: list[tuple[int, PodTemplate, int]],
) -> None:
    tree = PoolTree()
    tree.set_capacity(amounts(100, 100, 100, 100))
    for number, parent in ((1, ROOT_POOL), (2, pool_id(1)), (3, pool_id(1)), (4, ROOT_POOL)):
        tree.add(pool_id(number), a_pool(NOTHING, parent, f"p{number}"), 1.0)
    for number, template, times in charges:
        tree.charge(pool_id(number), template, times)
    total = NOTHING
    for _number, template, times in charges:
        total = total.plus(template.demand, times)
    assert tree.root.allocation == total
    for number, template, times in charges:
        tree.charge(pool_id(number), template, -times)
    for pool in tree.walk():
        assert (pool.allocation, pool.slack, pool.non_preemptible, pool.controller) == (NOTHING,) * 4


def test_more_than_was_charged_can_not_be_given_back(tree: PoolTree) -> None:
    with pytest.raises(AssertionError, match="negative"):
        tree.charge(pool_id(2), a_template(1), -1)


def test_the_version_grows_whenever_room_may_have_grown_and_only_then(tree: PoolTree) -> None:
    versions = [tree.version]
    tree.charge(pool_id(2), a_template(1), 1)
    versions.append(tree.version)
    tree.charge(pool_id(2), a_template(1), -1)
    versions.append(tree.version)
    tree.set_capacity(amounts(200))
    versions.append(tree.version)
    assert versions[0] == versions[1] < versions[2] < versions[3]


def a_waiting_pod(template: PodTemplate, instance: int = 0) -> Pod:
    return Pod(
        JOB, instance, template, PodState.PENDING, PodState.RUNNING, 1, 1, 1, 0.0, HealthState.DISABLED
    )


def test_what_waits_is_the_demand_of_its_own_pool_hard_and_slack_apart(tree: PoolTree) -> None:
    hard = [a_waiting_pod(a_template(cpu=2, memory=7), number) for number in range(2)]
    revocable = a_waiting_pod(a_template(cpu=3, memory=5, revocable=True), 2)
    for pod in hard:
        tree.enqueue(pool_id(2), 0, pod)
    tree.enqueue(pool_id(2), 1, revocable)
    leaf = tree.pools[pool_id(2)]
    assert leaf.demand == amounts(4, 14, 20)
    assert leaf.slack_demand == amounts(memory=5, disk=10, revocable_cpu=3)
    assert tree.pools[pool_id(1)].demand == NOTHING
    for pod in hard:
        tree.dequeue(pool_id(2), 0, pod)
    tree.dequeue(pool_id(2), 1, revocable)
    assert leaf.demand == leaf.slack_demand == NOTHING


def test_a_residual_pool_may_have_all_and_reserves_what_its_siblings_leave(tree: PoolTree) -> None:
    tree.add(pool_id(9), msgspec.structs.replace(a_pool(NOTHING, name="default"), residual=True), 1.0)
    pool = tree.pools[pool_id(9)]

    def cpu() -> tuple[int, int]:
        part = tree.resources(pool)[0]
        assert (tree.reservation(pool).cpu, tree.limit(pool).cpu) == (part.reservation, part.limit)
        return part.reservation, part.limit

    assert cpu() == (0, 100_000), "a and d reserve half of it each"
    tree.remove(pool_id(4))
    assert cpu() == (50_000, 100_000)
    tree.set_capacity(amounts(60, 60, 60, 60))
    assert cpu() == (10_000, 60_000)
    tree.configure(pool_id(9), a_pool(amounts(7), name="default"), 2.0)
    assert cpu() == (7_000, 7_000)
