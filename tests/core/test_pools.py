"""The life of a pool, and the table of configurations that are refused (behaviour, scheduler §1.3)."""

import msgspec
import pytest

from builders import POOL, Bench, a_job, a_pool, a_template, amounts, pool_id
from derny.core import commands, events
from derny.core.audit import fingerprint
from derny.model.errors import Busy, Exhausted, Exists, Invalid, NotFound, Refusal
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.periods import Limits
from derny.model.specs import PodTemplate, PoolResource, PoolSpec


def cpu_pool(name: str, parent: PoolId, reservation: float, limit: float, share: float = 1.0) -> PoolSpec:
    """A pool that is about cpu alone."""
    kinds = (PoolResource(kind, 0, 0, 1.0) for kind in ("gpu", "memory", "disk"))
    cpu = PoolResource("cpu", round(1000 * reservation), round(1000 * limit), share)
    return PoolSpec(name, parent, b"", (cpu, *kinds))


@pytest.fixture
def family() -> Bench:
    """Pools 1, 2, 3 below the root, 11 and 12 below 1, 21 and 22 below 2, 99 below 21."""
    bench = Bench(hosts=10, cpu=100, part=0.0)
    for number, parent, reservation in (
        (1, ROOT_POOL, 100),
        (2, ROOT_POOL, 100),
        (3, ROOT_POOL, 100),
        (11, pool_id(1), 50),
        (12, pool_id(1), 50),
        (21, pool_id(2), 50),
        (22, pool_id(2), 50),
        (99, pool_id(21), 25),
    ):
        spec = cpu_pool(f"respool{number}", parent, reservation, 1000)
        assert bench.do(commands.CreatePool(pool_id(number), spec)) == [
            events.PoolCreated(pool_id(number), spec)
        ]
    return bench


NEW = pool_id(5)


@pytest.mark.parametrize(
    ("pool", "spec", "words"),
    [
        (ROOT_POOL, cpu_pool("x", ROOT_POOL, 1, 1), "root"),
        (NEW, cpu_pool("x", NEW, 1, 1), "is the pool itself"),
        (NEW, cpu_pool("x", pool_id(77), 1, 1), "does not exist"),
        (NEW, cpu_pool("x", PoolId(""), 1, 1), "does not exist"),
        (NEW, cpu_pool("x", pool_id(11), 1, 99999), "is above 1000, the limit of its parent"),
        (NEW, cpu_pool("x", pool_id(21), 26, 1000), "siblings"),
        (NEW, cpu_pool("x", ROOT_POOL, 701, 701), "siblings"),
        (NEW, cpu_pool("respool1", ROOT_POOL, 1, 1), "taken by another child of /"),
        (NEW, cpu_pool("x", ROOT_POOL, -5, 1), "negative"),
        (NEW, cpu_pool("x", ROOT_POOL, 50, 10), "above its limit"),
        (NEW, cpu_pool("x", ROOT_POOL, 1, 1, share=-1), "share"),
        (NEW, cpu_pool("", ROOT_POOL, 1, 1), "spec.name"),
        (NEW, cpu_pool("a/b", ROOT_POOL, 1, 1), "spec.name"),
        (
            NEW,
            msgspec.structs.replace(cpu_pool("x", ROOT_POOL, 1, 1), controller_percent=200.0),
            "controller",
        ),
        (NEW, msgspec.structs.replace(cpu_pool("x", ROOT_POOL, 1, 1), controller_percent=-1.0), "controller"),
        (NEW, msgspec.structs.replace(cpu_pool("x", ROOT_POOL, 1, 1), slack_percent=100.5), "slack"),
        (NEW, msgspec.structs.replace(cpu_pool("x", ROOT_POOL, 1, 1), slack_percent=float("nan")), "slack"),
    ],
)
def test_what_contradicts_itself_or_the_tree_is_refused(
    family: Bench, pool: PoolId, spec: PoolSpec, words: str
) -> None:
    before = fingerprint(family.machine.state)
    with pytest.raises(Invalid, match=words):
        family.do(commands.CreatePool(pool, spec))
    assert fingerprint(family.machine.state) == before


@pytest.mark.parametrize(
    "spec",
    [
        cpu_pool("x", pool_id(21), 25, 1000),
        cpu_pool("respool1", pool_id(3), 1, 1),
        cpu_pool("x", ROOT_POOL, 700, 1000),
        cpu_pool("x", ROOT_POOL, 0, 0, share=0),
        msgspec.structs.replace(cpu_pool("x", ROOT_POOL, 1, 1), controller_percent=10.0, slack_percent=0.0),
    ],
)
def test_what_just_fits_is_taken(family: Bench, spec: PoolSpec) -> None:
    family.do(commands.CreatePool(NEW, spec))
    assert family.machine.state.tree.pools[spec.parent].children[-1] == NEW


def test_an_id_is_used_once() -> None:
    bench = Bench()
    with pytest.raises(Exists, match=POOL):
        bench.do(commands.CreatePool(POOL, a_pool(amounts(), name="other")))


def test_there_are_no_more_pools_than_the_limit() -> None:
    bench = Bench(limits=Limits(pools_max=3))
    bench.do(commands.CreatePool(NEW, a_pool(amounts(), name="third")))
    before = fingerprint(bench.machine.state)
    with pytest.raises(Exhausted, match="there are 3 resource pools, the most allowed"):
        bench.do(commands.CreatePool(pool_id(6), a_pool(amounts(), name="fourth")))
    assert fingerprint(bench.machine.state) == before
    bench.do(commands.DeletePool(NEW))
    bench.do(commands.CreatePool(pool_id(6), a_pool(amounts(), name="fourth")))


def test_a_parent_that_was_forced_below_its_children_may_keep_what_it_has_and_not_shrink_on(
    family: Bench,
) -> None:
    family.do(commands.UpdatePool(pool_id(1), cpu_pool("respool1", ROOT_POOL, 60, 500), force=True))
    family.do(commands.UpdatePool(pool_id(1), cpu_pool("renamed", ROOT_POOL, 60, 500)))
    for smaller in (cpu_pool("x", ROOT_POOL, 59, 500), cpu_pool("x", ROOT_POOL, 60, 499)):
        with pytest.raises(Invalid, match="of its children"):
            family.do(commands.UpdatePool(pool_id(1), smaller))


def test_a_pool_with_jobs_gets_no_children_until_they_are_gone() -> None:
    bench = Bench()
    bench.running(a_job())
    child = commands.CreatePool(pool_id(1), a_pool(amounts(), parent=POOL, name="child"))
    with pytest.raises(Busy, match="/pool holds 1 job"):
        bench.do(child)
    bench.delete(force=True)
    bench.obey()
    bench.do(child)
    with pytest.raises(Refusal, match="has children"):
        bench.do(commands.CreateJob(PoolId("x"), a_job()))  # type: ignore[arg-type]  # the pool is refused first


def test_nothing_fits_below_the_root_before_there_are_hosts() -> None:
    bench = Bench(hosts=0)
    with pytest.raises(Invalid, match="the limit of its parent"):
        bench.do(commands.CreatePool(NEW, cpu_pool("x", ROOT_POOL, 1, 1)))


def test_an_update_takes_the_place_of_the_whole_configuration_and_counts(family: Bench) -> None:
    spec = cpu_pool("renamed", ROOT_POOL, 150, 1000)
    family.at += 5
    assert family.do(commands.UpdatePool(pool_id(2), spec)) == [events.PoolUpdated(pool_id(2), spec)]
    tree = family.machine.state.tree
    pool = tree.pools[pool_id(2)]
    assert (pool.spec, pool.version, pool.updated_at) == (spec, 2, family.at)
    assert tree.path(tree.pools[pool_id(99)]) == "/renamed/respool21/respool99", "paths follow at once"
    assert tree.lookup("/renamed/respool21").id == pool_id(21)


@pytest.mark.parametrize(
    ("command", "kind", "words"),
    [
        (commands.UpdatePool(ROOT_POOL, cpu_pool("x", ROOT_POOL, 1, 1)), Invalid, "can't be configured"),
        (commands.UpdatePool(ROOT_POOL, cpu_pool("x", ROOT_POOL, 1, 1), force=True), Invalid, "configured"),
        (commands.UpdatePool(NEW, cpu_pool("x", ROOT_POOL, 1, 1)), NotFound, NEW),
        (commands.UpdatePool(NEW, cpu_pool("x", ROOT_POOL, 9, 1)), Invalid, "above its limit"),
        (commands.UpdatePool(pool_id(1), cpu_pool("respool2", ROOT_POOL, 100, 1000)), Invalid, "taken"),
        (commands.UpdatePool(pool_id(1), cpu_pool("respool1", pool_id(2), 1, 1)), Invalid, "stays where"),
        (commands.DeletePool(ROOT_POOL), Invalid, "root"),
        (commands.DeletePool(NEW), NotFound, NEW),
        (commands.DeletePool(pool_id(2)), Invalid, "/respool2 has 2 children"),
    ],
)
def test_changes_that_can_not_be_are_refused(
    family: Bench, command: commands.Command, kind: type[Refusal], words: str
) -> None:
    before = fingerprint(family.machine.state)
    with pytest.raises(kind, match=words):
        family.do(command)
    assert fingerprint(family.machine.state) == before


def test_a_forced_update_keeps_the_kinds_that_it_leaves_out(family: Bench) -> None:
    cpu, *_others = cpu_pool("respool1", ROOT_POOL, 9000, 5000).resources
    spec = PoolSpec("respool1", ROOT_POOL, b"", (cpu,))
    was = family.machine.state.tree.pools[pool_id(1)].spec.resources
    family.do(commands.UpdatePool(pool_id(1), spec, force=True))
    assert family.machine.state.tree.pools[pool_id(1)].spec.resources == (cpu, *was[1:])


def test_a_leaf_goes_when_nothing_is_in_it_and_its_parent_is_a_leaf_again(family: Bench) -> None:
    family.do(commands.DeletePool(pool_id(99)))
    tree = family.machine.state.tree
    assert pool_id(99) not in tree.pools
    assert tree.pools[pool_id(21)].children == []
    family.do(commands.DeletePool(pool_id(21)))
    family.do(commands.CreatePool(pool_id(21), cpu_pool("respool21", pool_id(3), 1, 1)))
    assert tree.path(tree.pools[pool_id(21)]) == "/respool3/respool21"
    assert fingerprint(family.replayed().state) == fingerprint(family.machine.state)


@pytest.mark.parametrize("template", [a_template(), a_template(cpu=99), a_template(revocable=True)])
def test_a_pool_is_busy_while_pods_run_or_wait_in_it(template: PodTemplate) -> None:
    bench = Bench()
    bench.create(a_job(template=template, revocable=template.preemptible))
    with pytest.raises(Busy, match="/pool holds 1 job"):
        bench.do(commands.DeletePool(POOL))
    bench.delete(force=True)
    bench.obey()
    bench.do(commands.DeletePool(POOL))
    assert list(bench.machine.state.tree.pools) == [ROOT_POOL]
