"""What a pool may be configured to. More of the table of what is refused is in tests/core/test_pools.py."""

import msgspec
import pytest

from builders import a_pool, amounts, pool_id
from derny.capacity.configuration import validate
from derny.capacity.tree import PoolTree
from derny.model.errors import Invalid
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.resources import NOTHING
from derny.model.specs import PoolSpec

A, B, C, D = map(pool_id, (1, 2, 3, 4))


@pytest.fixture
def tree() -> PoolTree:
    """/a/b, /a/c and /d, on a cluster of a hundred of each kind: 50, 40, 10 and 50 each, reserved."""
    tree = PoolTree()
    tree.set_capacity(amounts(100, 100, 100, 100, 10))
    for pool, parent, name, part in ((A, ROOT_POOL, "a", 0.5), (B, A, "b", 0.4), (C, A, "c", 0.1)):
        tree.add(pool, a_pool(tree.capacity, parent, name, part), 1.0)
    tree.add(D, a_pool(tree.capacity, ROOT_POOL, "d", 0.5), 1.0)
    return tree


def of(parent: PoolId, name: str, each: float) -> PoolSpec:
    return a_pool(amounts(each, each, each, each), parent, name)


def test_the_first_failure_is_the_one_that_is_told(tree: PoolTree) -> None:
    """Its own amounts come before the parent, the parent before the limit, the limit before the name."""
    with pytest.raises(Invalid, match=r"spec\.parent"):
        validate(tree, pool_id(9), a_pool(amounts(999), PoolId("nowhere"), "b"))
    with pytest.raises(Invalid, match="limit of its parent"):
        validate(tree, pool_id(9), a_pool(amounts(999), A, "b"))
    with pytest.raises(Invalid, match="taken"):
        validate(tree, pool_id(9), a_pool(NOTHING, A, "b"))


@pytest.mark.parametrize(
    ("pool", "spec", "words"),
    [
        (B, of(ROOT_POOL, "b", 1), "a pool stays where it was created"),
        (B, of(A, "c", 1), "taken by another child of /a"),
        (B, of(A, "b", 60), "above 50, the limit of its parent /a"),
        (B, of(A, "b", 41), "the 10 that its siblings reserve are above 50"),
        (A, of(ROOT_POOL, "a", 39), "is below 40, the highest limit of its children"),
        (A, of(ROOT_POOL, "a", 45), "is below 50, the sum of the reservations of its children"),
    ],
)
def test_an_update_that_contradicts_the_tree_is_refused_unless_forced(
    tree: PoolTree, pool: PoolId, spec: PoolSpec, words: str
) -> None:
    with pytest.raises(Invalid, match=words):
        validate(tree, pool, spec)
    if "than" in words or "above" in words or "below" in words:
        validate(tree, pool, spec, force=True)


@pytest.mark.parametrize(
    ("pool", "spec"), [(B, of(A, "b", 40)), (B, of(A, "new name", 0)), (A, of(ROOT_POOL, "a", 50))]
)
def test_what_fits_is_taken_with_its_own_former_part_left_out(
    tree: PoolTree, pool: PoolId, spec: PoolSpec
) -> None:
    validate(tree, pool, spec)


def test_a_pool_may_keep_or_give_up_what_a_smaller_cluster_no_longer_has(tree: PoolTree) -> None:
    tree.set_capacity(amounts(20, 20, 20, 20))
    validate(tree, D, of(ROOT_POOL, "d", 50))
    validate(tree, D, of(ROOT_POOL, "d", 45))
    with pytest.raises(Invalid, match="above 20, the limit of its parent /"):
        validate(tree, D, of(ROOT_POOL, "d", 51))


@pytest.mark.parametrize(
    "spec",
    [
        of(ROOT_POOL, "b", 1),
        of(A, "c", 1),
        of(A, "", 1),
        of(A, "b/c", 1),
        msgspec.structs.replace(of(A, "b", 1), slack_percent=float("nan")),
        msgspec.structs.replace(of(A, "b", 1), controller_percent=101.0),
    ],
)
def test_force_spares_no_tree_from_being_one(tree: PoolTree, spec: PoolSpec) -> None:
    with pytest.raises(Invalid):
        validate(tree, B, spec, force=True)


def test_a_residual_sibling_is_in_nobodys_way(tree: PoolTree) -> None:
    tree.remove(D)
    tree.add(pool_id(9), msgspec.structs.replace(of(ROOT_POOL, "default", 0), residual=True), 1.0)
    validate(tree, D, of(ROOT_POOL, "d", 50))
    with pytest.raises(Invalid, match="the 50 that its siblings reserve"):
        validate(tree, D, of(ROOT_POOL, "d", 51))
    validate(tree, pool_id(9), of(ROOT_POOL, "default", 50))
    with pytest.raises(Invalid, match="the 50 that its siblings reserve"):
        validate(tree, pool_id(9), of(ROOT_POOL, "default", 51))
