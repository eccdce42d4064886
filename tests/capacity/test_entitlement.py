"""What each pool may hold: vectors of other implementations, and what must hold of any tree."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from derny.capacity.entitlement import Entitlement, by_kind, claims_of, divide, entitle
from derny.capacity.tree import PoolTree
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.resources import KINDS, NOTHING, Resources
from derny.model.specs import PodTemplate, PoolResource, PoolSpec

VECTORS = json.loads((Path(__file__).parent / "entitlement-vectors.json").read_text())["vectors"]


def in_units(amounts: dict[str, float]) -> Resources:
    return Resources(**{kind: round(1000 * amount) for kind, amount in amounts.items()})


def as_slack(amounts: dict[str, float]) -> Resources:
    units = in_units(amounts)
    return units._replace(cpu=0, revocable_cpu=units.cpu)


def tree_of(vector: dict[str, Any], order: int = 1) -> PoolTree:
    tree = PoolTree()
    tree.set_capacity(
        in_units(vector["capacity"])._replace(
            revocable_cpu=round(1000 * vector["slack_capacity"].get("cpu", 0))
        )
    )
    for pool in vector["tree"]:
        resources = tuple(
            PoolResource(
                kind,
                round(1000 * given.get("reservation", 0)),
                round(1000 * given.get("limit", 0)),
                given.get("share", 1),
                given.get("type") == "STATIC",
            )
            for kind in KINDS
            for given in [pool["resources"].get(kind, {})]
        )
        spec = PoolSpec(pool["id"], PoolId(pool["parent"]), b"", resources)
        if pool.get("slack_limit_percent") is not None:
            spec = msgspec.structs.replace(spec, slack_percent=pool["slack_limit_percent"])
        tree.add(PoolId(pool["id"]), spec, 0.0)
    for pool, amounts in vector.get("demand", {}).items():
        tree.pools[pool].demand = in_units(amounts)
    for pool, amounts in vector.get("slack_demand", {}).items():
        tree.pools[pool].slack_demand = as_slack(amounts)
    for pool, dimensions in vector.get("allocation", {}).items():
        tree.charge(pool, PodTemplate(in_units(dimensions.get("non_slack", {}))), 1)
        tree.charge(pool, PodTemplate(as_slack(dimensions.get("slack", {})), revocable=True), 1)
    for pool in tree.pools.values():
        pool.children[:] = pool.children[::order]
    return tree


def entitlements(tree: PoolTree) -> dict[PoolId, Entitlement]:
    claims = claims_of(tree)
    found = entitle(claims, tree.capacity)
    return {claim.pool: entitlement for claim, entitlement in zip(claims, found, strict=True)}


def amount(found: Entitlement, field: str, kind: str) -> float:
    """A field of the vectors, in the wire's units."""
    part = {
        "entitlement": found.total,
        "slack_entitlement": found.slack,
        "non_slack_entitlement": found.non_slack,
    }
    if (field, kind) == ("slack_entitlement", "cpu"):
        return found.slack.revocable_cpu / 1000
    return part[field].of_kind(kind) / 1000


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: str(vector["name"]))
@pytest.mark.parametrize("order", [1, -1])
def test_the_vectors_hold_within_a_hundredth(vector: dict[str, Any], order: int) -> None:
    tree = tree_of(vector, order)
    found = entitlements(tree)
    for pool, fields in vector["computed"].items():
        for field, kinds in fields.items():
            for kind, value in kinds.items():
                assert abs(amount(found[pool], field, kind) - value) <= 0.01, (pool, field, kind)
    root = {resource.kind: resource for resource in tree.resources(tree.root)}
    for case in vector["expected"]:
        pool, field, kind, value = case["pool"], case["field"], case["kind"], case["value"]
        if field in ("reservation", "limit"):
            assert getattr(root[kind], field) == 1000 * value
            continue
        ours = amount(found[pool], field, kind)
        if case["op"] == "trunc":
            assert int(ours + 0.01) == value, case
        elif case["op"] == "round":
            assert round(ours) == value, case
        else:
            assert abs(ours - value) <= 0.01, case


def test_all_vectors_are_there() -> None:
    assert len(VECTORS) == 22
    assert sum(len(vector["expected"]) for vector in VECTORS) == 145


def part(reservation: int = 0, limit: int = 10**6, share: float = 1.0, static: bool = False) -> PoolResource:
    return PoolResource("cpu", reservation, limit, share, static)


@pytest.mark.parametrize("shares", [(0.0, 1.0), (0.0, 0.0)])
def test_a_pool_without_a_share_gets_its_reservation_and_holds_nobody_up(shares: tuple[float, float]) -> None:
    """Beside a satisfied sibling its unmet want ran Peloton in circles for ever."""
    first, second = (part(10, share=share) for share in shares)
    division = divide(100, [first, second], [50, 20])
    assert division.fills == [0, 10 if shares[1] else 0]
    assert division.totals == [10, 90 if shares[1] else 10]


def test_one_who_is_full_no_longer_thins_the_others() -> None:
    division = divide(100, [part(), part(), part(share=3.0)], [5, 1000, 1000])
    assert division.totals == [5, 23, 71]
    assert division.spares == [0, 0, 0], "what rounding leaves is nobody's"


def test_shares_count_exactly_as_they_are_written() -> None:
    for share in (1e-300, 0.1, 1e300):
        assert divide(300, [part(share=share)] * 3, [999] * 3).totals == [100] * 3
    assert divide(100_000, [part(share=0.1), part(share=0.3)], [99_999] * 2).totals == [25_000, 75_000]
    assert divide(10**15, [part(share=0.1, limit=10**15), part(share=0.3, limit=10**15)], [0, 0]).totals == [
        10**15 // 4,
        10**15 // 4 * 3,
    ]


def test_a_parent_holds_nothing_for_a_child_that_can_not_have_it() -> None:
    """In Peloton a child that may have 10 and asks for 1000 lets its parent have 300, most of them idle."""
    tree = PoolTree()
    tree.set_capacity(Resources(cpu=600))
    for pool, parent, limit in (("p", ROOT_POOL, 600), ("q", ROOT_POOL, 600), ("child", "p", 10)):
        resources = (part(0, limit), *(PoolResource(kind) for kind in KINDS[1:]))
        tree.add(PoolId(pool), PoolSpec(pool, PoolId(parent), b"", resources), 0.0)
    tree.pools[PoolId("child")].demand = Resources(cpu=1000)
    tree.pools[PoolId("q")].demand = Resources(cpu=580)
    found = entitlements(tree)
    assert {pool: found[pool].total.cpu for pool in found} == {ROOT_POOL: 600, "p": 15, "q": 585, "child": 10}


def test_an_entitlement_is_never_above_the_limit_not_even_by_force() -> None:
    assert divide(100, [part(50, 20, static=True), part(50, 20)], [999, 0]).totals == [20, 20]


amount_of = st.integers(0, 1_000_000)


@st.composite
def trees(draw: st.DrawFn) -> PoolTree:
    """Up to a dozen pools in up to four levels, of any configuration, some of which holds and asks."""
    tree = PoolTree()
    tree.set_capacity(Resources(*[draw(amount_of) for _ in range(5)]))
    ids = [ROOT_POOL]
    for number in range(draw(st.integers(1, 11))):
        parent = draw(st.sampled_from(ids[-4:]))
        resources = []
        for kind in KINDS:
            limit = draw(amount_of)
            reservation = draw(st.integers(0, limit))
            share = draw(st.sampled_from([0.0, 0.1, 1.0, 1.0, 2.5, 1e9]))
            resources.append(PoolResource(kind, reservation, limit, share, draw(st.booleans())))
        percent = draw(st.none() | st.floats(0, 100))
        pool = PoolId(f"pool{number:02d}")
        tree.add(pool, PoolSpec(pool, parent, b"", tuple(resources), None, percent), 0.0)
        ids.append(pool)
    for pool in tree.walk():
        if not pool.children:
            demand = Resources(*[draw(amount_of) for _ in range(4)])
            slack = Resources(0, *[draw(amount_of) for _ in range(4)])
            pool.demand, pool.slack_demand = demand, slack
            tree.charge(pool.id, PodTemplate(Resources(*[draw(amount_of) for _ in range(4)])), 1)
            held = Resources(0, *[draw(amount_of) for _ in range(4)])
            tree.charge(pool.id, PodTemplate(held, revocable=True), 1)
    return tree


@given(trees())
def test_nobody_is_above_its_limit_and_slack_is_part_of_the_whole(tree: PoolTree) -> None:
    for pool, found in entitlements(tree).items():
        limits = {resource.kind: resource.limit for resource in tree.resources(tree.pools[pool])}
        assert all(found.total.of_kind(kind) <= limits[kind] for kind in KINDS)
        assert min(*found.total, *found.non_slack, *found.slack) >= 0
        assert found.total == found.non_slack.plus(found.slack._replace(revocable_cpu=0))


@given(trees())
def test_children_are_above_their_parent_only_by_what_is_guaranteed(tree: PoolTree) -> None:
    claims, found = claims_of(tree), entitlements(tree)
    for claim in claims:
        for index, kind in enumerate(KINDS):
            children = [claims[child] for child in claim.children]
            together = sum(found[child.pool].total.of_kind(kind) for child in children)
            guaranteed = sum(child.resources[index].reservation for child in children)
            assert together <= max(found[claim.pool].total.of_kind(kind), guaranteed)
        held = sum(claims[child].slack_cpu_held for child in claim.children)
        slack = sum(found[claims[child].pool].slack.revocable_cpu for child in claim.children)
        assert slack <= max(found[claim.pool].slack.revocable_cpu, held)


@given(trees(), st.randoms(use_true_random=False))
def test_the_order_of_siblings_is_of_no_matter(tree: PoolTree, random: Any) -> None:
    before = entitlements(tree)
    for pool in tree.pools.values():
        random.shuffle(pool.children)
    assert entitlements(tree) == before


@given(trees(), st.data())
def test_more_demand_never_lowers_a_pools_own_entitlement(tree: PoolTree, data: st.DataObject) -> None:
    pool = data.draw(st.sampled_from([pool for pool in tree.walk() if not pool.children]))
    before = entitlements(tree)[pool.id]
    more = Resources(*[data.draw(amount_of) for _ in range(4)])
    pool.demand = pool.demand.plus(more)
    after = entitlements(tree)[pool.id]
    assert before.total.fits(after.total)
    pool.slack_demand = pool.slack_demand.plus(Resources(0, 0, 0, 0, data.draw(amount_of)))
    assert after.slack.fits(entitlements(tree)[pool.id].slack)


@given(trees())
def test_what_is_wanted_is_had_where_there_is_enough_for_all(tree: PoolTree) -> None:
    """Max-min in one sentence: where one with a share lacks something, nobody has more for its share."""
    claims, found = claims_of(tree), entitlements(tree)
    for claim in claims:
        children = [claims[child] for child in claim.children]
        for index, kind in enumerate(KINDS):
            parts = [child.resources[index] for child in children]
            needs = [child.needs[index] for child in children]
            division = divide(found[claim.pool].total.of_kind(kind), parts, needs)
            rests = [max(want - p.reservation, 0) for want, p in zip(division.wants, parts, strict=True)]
            short = [i for i, rest in enumerate(rests) if division.fills[i] < rest and parts[i].share]
            for lacking in short:
                assert not any(division.spares)
                for other, p in enumerate(parts):
                    # Within the rounding of one unit.
                    theirs = (division.fills[other] - 1) * parts[lacking].share
                    assert theirs <= (division.fills[lacking] + 1) * p.share


def test_nothing_comes_of_nothing() -> None:
    tree = PoolTree()
    assert entitlements(tree) == {ROOT_POOL: Entitlement(NOTHING, NOTHING, NOTHING)}
    assert by_kind(Resources(1, 2, 3, 4, 5)) == (1, 4, 2, 3)
