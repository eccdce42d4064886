"""Explanations of pools by the machine's own calculation."""

import pytest

from builders import POOL, Bench, a_job, a_template, job_id, pool_id
from derny.answers.pool_explanation import KindExplanation, Loan, explained, facts_of
from derny.core import commands, events
from derny.model.errors import NotFound
from derny.model.ids import ROOT_POOL, PoolId
from derny.model.specs import PoolResource, PoolSpec

A, B, LENDER, BORROWER = (pool_id(number) for number in (1, 2, 3, 4))


def cpu_pool(name: str, parent: PoolId, reservation: int) -> PoolSpec:
    resources = [PoolResource("cpu", 1000 * reservation, 32_000)]
    resources += [PoolResource("gpu"), *(PoolResource(kind, 0, 100_000_000) for kind in ("memory", "disk"))]
    return PoolSpec(name, parent, b"", tuple(resources))


@pytest.fixture
def bench() -> Bench:
    """32 cpus: /a reserves 16 of them for /a/lender and /a/borrower, 8 each; /b the others."""
    bench = Bench(part=0.0)
    for pool, name, parent, reservation in (
        (A, "a", ROOT_POOL, 16),
        (B, "b", ROOT_POOL, 16),
        (LENDER, "lender", A, 8),
        (BORROWER, "borrower", A, 8),
    ):
        bench.do(commands.CreatePool(pool, cpu_pool(name, parent, reservation)))
    bench.settle()
    return bench


def cpu_of(bench: Bench, pool: PoolId) -> KindExplanation:
    return explained(facts_of(bench.machine.state, pool)).kinds[0]


def test_a_pool_that_is_not_there_is_not_found(bench: Bench) -> None:
    with pytest.raises(NotFound):
        explained(facts_of(bench.machine.state, PoolId("nowhere")))


def test_what_is_held_is_as_it_is_now_and_the_steps_lead_from_the_root_down(bench: Bench) -> None:
    spec = a_job(30, BORROWER, template=a_template(cpu=1, memory=1, disk=1, preemptible=True))
    bench.create(spec)
    bench.after(5)
    cpu = cpu_of(bench, BORROWER)
    assert (cpu.resource.reservation, cpu.allocation, cpu.demand) == (8_000, 30_000, 0)
    assert (cpu.borrowed, cpu.lent, cpu.entitlement) == (22_000, 0, 30_333)
    assert cpu.steps[1] == "/ may hold 32 cpu, to be divided among 3 pools."
    assert [step for step in cpu.steps if step.startswith("So ")] == [
        "So /a may hold 30.666 cpu.",
        "So /a/borrower may hold 30.333 cpu.",
    ]
    bench.create(a_job(3, LENDER, template=a_template(cpu=1, memory=1, disk=1, preemptible=True)), job_id(2))
    above = cpu_of(bench, A)
    assert above.demand == cpu_of(bench, LENDER).demand == 1_000, "of those below: 32 cpus are in use"
    bench.stop(job_id(2))
    bench.obey()
    above = cpu_of(bench, A)
    assert (above.allocation, above.borrowed) == (30_000, 14_000)


def test_a_borrower_gives_back_to_its_siblings_first_and_then_to_those_of_its_parent(bench: Bench) -> None:
    bench.create(a_job(32, BORROWER, template=a_template(cpu=1, memory=1, disk=1, preemptible=True)))
    bench.after(5)
    assert cpu_of(bench, BORROWER).gives_back_to == (
        Loan("/a/lender", 8_000, "/a/borrower"),
        Loan("/b", 16_000, "/a"),
    )
    assert cpu_of(bench, LENDER).gets_back_from == (Loan("/a/borrower", 8_000, "/a/lender"),)
    assert cpu_of(bench, LENDER).lent == 8_000
    assert cpu_of(bench, B).gets_back_from == (Loan("/a", 16_000, "/b"),)
    assert cpu_of(bench, ROOT_POOL).gives_back_to == ()


def test_slack_is_told_apart(bench: Bench) -> None:
    bench = Bench(revocable_cpu=4)
    bench.create(a_job(3, template=a_template(revocable=True)), job_id(1))
    bench.create(a_job(2), job_id(2))
    bench.after(5)
    cpu, _gpu, memory, _disk = explained(facts_of(bench.machine.state, POOL)).kinds
    assert (cpu.allocation, cpu.slack_allocation, cpu.slack_entitlement) == (2_000, 3_000, 16_000)
    assert (memory.allocation, memory.slack_allocation) == (200_000, 300_000)
    assert (memory.slack_demand, memory.slack_entitlement) == (0, 300_000)
    assert memory.entitlement == memory.non_slack_entitlement + memory.slack_entitlement
    assert memory.steps[-1].endswith("of what hard pods leave, these may hold 300.")


def test_a_pool_of_this_very_moment_has_no_steps_yet(bench: Bench) -> None:
    bench.do(commands.CreatePool(pool_id(9), cpu_pool("new", A, 0)))
    found = explained(facts_of(bench.machine.state, pool_id(9)))
    assert not found.is_current
    assert found.kinds[0].steps == (
        "The pool was not there at the last calculation; the next one is due at once.",
    )
    bench.after(1)
    assert explained(facts_of(bench.machine.state, pool_id(9))).is_current


def test_facts_keep_what_they_were_taken_of_whatever_happens_before_they_are_explained(bench: Bench) -> None:
    bench.create(a_job(32, BORROWER, template=a_template(cpu=1, memory=1, disk=1, preemptible=True)))
    bench.after(5)
    facts = facts_of(bench.machine.state, BORROWER)
    was = explained(facts)
    bench.create(a_job(32, LENDER, template=a_template(cpu=1, memory=1, disk=1)), job_id(2))
    bench.delete(force=True)
    bench.obey()
    bench.do(commands.DeletePool(BORROWER))
    bench.after(60)
    assert explained(facts) == was
    with pytest.raises(NotFound):
        facts_of(bench.machine.state, BORROWER)


def test_a_sibling_that_is_gone_by_now_is_not_named(bench: Bench) -> None:
    bench.create(a_job(32, BORROWER, template=a_template(cpu=1, memory=1, disk=1, preemptible=True)))
    bench.after(5)
    bench.machine.replay(bench.at, [events.PoolRemoved(LENDER)])
    found = cpu_of(bench, BORROWER)
    assert found.gives_back_to == (Loan("/b", 16_000, "/a"),)
