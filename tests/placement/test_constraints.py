"""The evaluator says of all hosts at once what the spec says of each, and how many pods may follow."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import HostName, JobId
from derny.model.resources import NOTHING
from derny.model.specs import Condition, Constraint, LabelKind, Labels
from derny.placement.constraints import (
    asks_for_exclusive,
    clauses,
    described,
    limit,
    passes,
    pod_labels,
    pruned,
)
from derny.placement.hosts import HostTable
from derny.placement.labels import dense
from slow_constraints import constraints, either, every, label_lists, on_host, on_pods, verdict
from slow_constraints import passes as slow_passes

LESS, EQUAL, MORE = Condition.LESS_THAN, Condition.EQUAL, Condition.GREATER_THAN
JOB = JobId("aaaaaaaa-0000-4000-8000-000000000001")
H1 = on_host(EQUAL, "hostname", "h1", 1)
ANTI_H1 = on_host(LESS, "hostname", "h1", 1)
RACK = on_host(MORE, "rack", "r", 0)
POD = on_pods(MORE, "k", "v", 0)
HOST_ALONE = frozenset({LabelKind.HOST})


def a_table(*hosts: tuple[str, Labels, list[Labels]], spoken: Constraint | None = None) -> HostTable:
    """Hosts with their labels, and the labels of each pod on them."""
    table = HostTable()
    for name, labels, _pods in hosts:
        table.add(HostName(name), NOTHING, labels=labels)
    for name, _labels, pods in hosts:
        for labels in pods:
            table.pod_labels.add(JOB, labels, [table.row_of[HostName(name)]], [0])
    while (found := table.pod_labels.uncounted(pod_labels(spoken))) is not None:
        label, job, _first = found
        rows = [
            row
            for row, (_, _, pods) in enumerate(hosts)
            for labels in pods
            for _ in range(labels.count(label))
        ]
        table.pod_labels.count(label, job, rows)
    return table


def everywhere(table: HostTable) -> slice:
    return slice(0, len(table))


# The table of §6.5: labels hostname=h1, rack=r.


@pytest.mark.parametrize(
    ("constraint", "on_h1", "on_h2"),
    [
        (POD, None, None),
        (H1, True, False),
        (RACK, True, True),
        (ANTI_H1, False, True),
        (every(H1, RACK), True, False),
        (every(RACK, ANTI_H1), False, True),
        (either(RACK, ANTI_H1), True, True),
        (either(every(H1, ANTI_H1), ANTI_H1), False, True),
        (every(POD, POD), None, None),
        (either(POD), None, None),
        (every(), None, None),
        (either(), None, None),
        (every(every(), H1), True, False),
        (either(every(), H1), True, False),
    ],
)
def test_host_labels_by_the_table(constraint: Constraint, on_h1: bool | None, on_h2: bool | None) -> None:
    """The slow evaluator, confined to hosts as in the table, says what the table says; and so do we wherever
    no label of a pod decides. (Of pods our one evaluator does not say that they do not apply: it counts.)"""
    hosts: list[Labels] = [(("hostname", name), ("rack", "r")) for name in ("h1", "h2")]
    told = [verdict(constraint, labels, [], HOST_ALONE) for labels in hosts]
    assert told == [on_h1, on_h2]
    if not pod_labels(constraint):
        table = a_table(("h1", hosts[0], []), ("h2", hosts[1], []))
        assert passes(table, constraint, everywhere(table)).tolist() == [said is not False for said in told]


@pytest.mark.parametrize(
    ("condition", "requirement", "pods", "allowed"),
    [
        # "Host limit" cases for (k1, v1).
        (LESS, 1, 0, True),
        (LESS, 1, 1, False),
        (LESS, 2, 1, True),
        (LESS, 2, 2, False),
        # What Peloton's host-limit rule gets wrong.
        (MORE, 0, 1, True),
        (MORE, 0, 0, False),
        (EQUAL, 0, 0, True),
        (EQUAL, 0, 1, False),
        (EQUAL, 1, 1, True),
    ],
)
def test_pod_labels_are_counted_exactly(
    condition: Condition, requirement: int, pods: int, allowed: bool
) -> None:
    constraint = on_pods(condition, "k1", "v1", requirement)
    others: list[Labels] = [(("k1", "v2"), ("k2", "v1"))] * 3
    table = a_table(("h", (("k1", "v1"),), [(("k1", "v1"),)] * pods + others), spoken=constraint)
    assert passes(table, constraint, everywhere(table)).tolist() == [allowed]


def test_a_dot_in_a_key_and_a_star_are_nothing_special() -> None:
    table = a_table(("h", (("a.b", "c"), ("k", "*")), []))
    for wanted in (on_host(MORE, "a", "b.c", 0), on_host(MORE, "k", "v", 0)):
        assert not passes(table, wanted, everywhere(table)).any()


def test_labels_that_occur_twice_count_twice() -> None:
    twice = (("disk", "ssd"), ("disk", "ssd"))
    table = a_table(("h", twice, []))
    assert passes(table, on_host(EQUAL, "disk", "ssd", 2), everywhere(table)).all()
    assert limit(table, on_pods(LESS, "k", "v", 3), (("k", "v"),) * 2, everywhere(table), 9).tolist() == [2]


# How many may follow one another.


@pytest.mark.parametrize(
    ("constraint", "there", "expected"),
    [
        (on_pods(LESS, "k", "v", 1), [0, 1, 2], [1, 0, 0]),
        (on_pods(LESS, "k", "v", 3), [0, 1, 5], [3, 2, 0]),
        (on_pods(EQUAL, "k", "v", 0), [0, 1, 2], [1, 0, 0]),
        (on_pods(EQUAL, "k", "v", 1), [0, 1, 2], [0, 1, 0]),
        (on_pods(MORE, "k", "v", 0), [0, 1, 2], [0, 9, 9]),
        (either(on_pods(EQUAL, "k", "v", 0), on_pods(MORE, "k", "v", 0)), [0, 1, 2], [9, 9, 9]),
        (either(on_pods(LESS, "k", "v", 2), on_pods(EQUAL, "k", "v", 3)), [0, 2, 3], [2, 0, 1]),
        (every(on_pods(LESS, "k", "v", 5), on_pods(MORE, "k", "v", 0)), [0, 1, 4], [0, 4, 1]),
        (on_pods(LESS, "k", "v", 10**9), [0, 1, 2], [9, 9, 9]),
    ],
)
def test_pods_of_a_group_count_for_one_another(
    constraint: Constraint, there: list[int], expected: list[int]
) -> None:
    hosts = [(f"h{number}", (), [(("k", "v"),)] * count) for number, count in enumerate(there)]
    table = a_table(*hosts, spoken=constraint)
    assert limit(table, constraint, (("k", "v"),), everywhere(table), 9).tolist() == expected


def test_the_first_pod_of_a_group_that_wants_its_own_kind_goes_nowhere() -> None:
    """§6.5 knows no exception: there is none of its kind yet."""
    constraint = on_pods(MORE, "app", "web", 0)
    table = a_table(("h", (), []), spoken=constraint)
    assert limit(table, constraint, (("app", "web"),), everywhere(table), 5).tolist() == [0]


hosts = st.lists(st.tuples(label_lists, st.lists(label_lists, max_size=4)), min_size=1, max_size=5)


@given(constraint=constraints, own=label_lists, hosts=hosts, most=st.integers(1, 7))
@settings(max_examples=200, deadline=None)
def test_as_many_follow_as_would_one_by_one(
    constraint: Constraint, own: Labels, hosts: list[tuple[Labels, list[Labels]]], most: int
) -> None:
    named = [(f"h{number}", labels, pods) for number, (labels, pods) in enumerate(hosts)]
    table = a_table(*named, spoken=constraint)
    expected = []
    for name, labels, pods in named:
        placed = 0
        while placed < most and slow_passes(
            constraint, (("hostname", name), *labels), [*pods, *[own] * placed]
        ):
            placed += 1
        expected.append(placed)
    assert limit(table, constraint, own, everywhere(table), most).tolist() == expected
    some = np.arange(0, len(named), 2)
    assert limit(table, constraint, own, some, most).tolist() == expected[::2]
    assert limit(table, constraint, own, slice(1, len(named)), most).tolist() == expected[1:]


def test_any_depth_that_can_be_sent_is_evaluated() -> None:
    deep: Constraint = H1
    for _ in range(50):
        deep = every(either(deep))
    table = a_table(("h1", (), []), ("h2", (), []))
    assert passes(table, deep, everywhere(table)).tolist() == [True, False]
    assert pruned(deep) == H1


# What is read off a constraint.


def test_what_says_nothing_is_left_out() -> None:
    assert pruned(every(either(), every(every()))) is None
    assert pruned(either(every(), H1)) == H1
    assert pruned(every(H1, either(RACK, every()))) == every(H1, RACK)


def test_clauses_are_what_has_to_hold_each_by_itself() -> None:
    assert clauses(None) == clauses(every()) == ()
    assert clauses(every(H1, every(RACK, POD), either(H1, RACK))) == (H1, RACK, POD, either(H1, RACK))


def test_labels_of_pods_that_are_spoken_of() -> None:
    assert pod_labels(None) == ()
    assert pod_labels(every(POD, H1, either(POD, on_pods(LESS, "a", "b", 1)))) == (("k", "v"), ("a", "b"))


def test_exclusive_hosts_are_asked_for_by_a_host_label_with_any_condition() -> None:
    key = "peloton/exclusive"
    assert asks_for_exclusive(every(H1, either(on_host(LESS, key, "gpu", 1))))
    assert not asks_for_exclusive(on_pods(EQUAL, key, "gpu", 1))
    assert not asks_for_exclusive(None)


def test_a_constraint_reads_as_what_it_asks() -> None:
    text = described(every(RACK, either(on_pods(LESS, "app", "web", 2), H1)))
    assert text == "(host label rack=r > 0 and (pod label app=web < 2 or host label hostname=h1 = 1))"


def test_verdicts_on_hosts_are_kept_until_a_label_changes() -> None:
    table = a_table(("h1", (("rack", "r"),), []))
    assert passes(table, RACK, everywhere(table)).tolist() == [True]
    table.add(HostName("h2"), NOTHING, labels=(("rack", "r"),))
    assert passes(table, RACK, everywhere(table)).tolist() == [True, True]
    table.set_labels(0, ())
    assert passes(table, RACK, everywhere(table)).tolist() == [False, True]


def test_counts_of_few_rows_and_of_many_are_the_same() -> None:
    counts = {3: 2, 7: 1, 40: 5}
    for where in (slice(0, 9), slice(3, 5), slice(5, 60), np.array([40, 3])):
        rows = range(where.start, where.stop) if isinstance(where, slice) else where.tolist()
        assert dense(counts, where).tolist() == [counts.get(row, 0) for row in rows]


def test_a_constraint_of_many_turns_is_not_followed_to_its_end_in_one_look() -> None:
    """EQUAL 0 or EQUAL 1 or ...: every further pod is another turn; each look gets on, none takes long."""
    turns = either(*(on_pods(EQUAL, "k", "v", count) for count in range(100)))
    table, placed = a_table(("h", (), []), spoken=turns), 0
    while more := int(limit(table, turns, (("k", "v"),), everywhere(table), 1000)[0]):
        assert 1 <= more < 10
        placed += more
        table = a_table(("h", (), [(("k", "v"),)] * placed), spoken=turns)
    assert placed == 100
