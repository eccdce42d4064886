"""Obstacles in words and in parts."""

import pytest

from builders import POOL, Bench, a_job, a_template
from derny.answers.obstacles import Action, Kind, broken_rule, closed_gates, no_host, verdict
from derny.capacity import admission
from derny.capacity.admission import Rule
from derny.model.ids import ROOT_POOL, HostName
from derny.model.states import Gate
from derny.placement.explain import Change, Explanation, Refusal
from derny.placement.filters import Reason


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (Refusal(Reason.STATUS, 2), "MISMATCH_STATUS"),
        (
            Refusal(Reason.RESOURCES, 1, kind="memory", shortfall=1500),
            "INSUFFICIENT_RESOURCES (1.5 memory short)",
        ),
        (Refusal(Reason.RESOURCES, 1, kind="fds", shortfall=7), "INSUFFICIENT_RESOURCES (7 fds short)"),
        (Refusal(Reason.PORTS, 1, kind="ports", shortfall=2), "PORTS (2 ports short)"),
        (Refusal(Reason.CONSTRAINT, 1, clause="rack = 1"), "MISMATCH_CONSTRAINTS (rack = 1)"),
    ],
)
def test_a_verdict_says_what_is_short_or_mismatches(refusal: Refusal, words: str) -> None:
    assert verdict(refusal) == words


def test_where_a_host_fits_there_is_no_obstacle() -> None:
    assert no_host(Explanation(3, 1, (Refusal(Reason.STATUS, 2),), ())) is None


def test_changes_become_remedies_in_their_order() -> None:
    changes = (
        Change(3, "ports", 4),
        Change(2, "cpu", 500),
        Change(1, clause="rack = 1"),
        Change(1, host=HostName("h")),
    )
    obstacle = no_host(Explanation(6, 0, (Refusal(Reason.HELD, 6),), changes))
    assert obstacle is not None
    assert [
        (each.action, each.subject, each.resource, each.amount, each.hosts) for each in obstacle.remedies
    ] == [
        (Action.ASK_LESS, "", "ports", 4, 3),
        (Action.ASK_LESS, "", "cpu", 500, 2),
        (Action.LEAVE_OUT, "rack = 1", "", 0, 1),
        (Action.ADD_HOST, "h", "", 0, 1),
    ]
    assert [each.sentence for each in obstacle.remedies][:2] == [
        "ask for 4 ports at most",
        "ask for 0.5 cpu at most",
    ]


def test_nobody_can_raise_the_limit_of_the_cluster() -> None:
    bench = Bench(hosts=1)
    bench.create(a_job(1, template=a_template(cpu=9)))
    tree = bench.machine.state.tree
    found = [
        broken_rule(bench.machine.state, each)
        for each in admission.reasons(tree, tree.pools[POOL], bench.pod())
    ]
    of_root = [each for each in found if each.pool is not None and each.pool.path == "/"]
    assert [[remedy.action for remedy in each.remedies] for each in of_root] == [[Action.ASK_LESS]]


def test_what_is_beyond_a_limit_already_leaves_nothing_and_needs_more() -> None:
    bench = Bench(hosts=1)
    reason = admission.Reason(POOL, Rule.LIMIT, "cpu", 2_000, -3_000, 10_000)
    obstacle = broken_rule(bench.machine.state, reason)
    assert obstacle.pool is not None
    assert (obstacle.pool.left, [(each.action, each.amount) for each in obstacle.remedies]) == (
        0,
        [(Action.RAISE_LIMIT, 15_000)],
    )
    at_root = broken_rule(bench.machine.state, reason._replace(pool=ROOT_POOL))
    assert at_root.remedies == ()


def test_only_closed_gates_are_in_the_way() -> None:
    bench = Bench(hosts=0)
    state = bench.machine.state
    state.closed = frozenset({Gate.KILL})
    (found,) = closed_gates(state, Gate.LAUNCH, Gate.KILL)
    assert (found.kind, found.remedies[0].subject) == (Kind.GATE, "Kill")
