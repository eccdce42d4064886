"""Labels are counted by host, and only those that somebody speaks of."""

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import JobId
from derny.model.specs import Labels
from derny.placement.labels import HostLabels, PodLabels, rows_in
from slow_constraints import label_lists

A, B = JobId("a"), JobId("b")
WEB: Labels = (("app", "web"),)


def test_labels_of_hosts_are_found_by_row() -> None:
    labels = HostLabels()
    labels.renew(0, (), (("rack", "r1"), ("ssd", "x"), ("ssd", "x")))
    labels.renew(3, (), (("rack", "r1"),))
    assert labels.counts(("rack", "r1")) == {0: 1, 3: 1}
    assert labels.counts(("ssd", "x")) == {0: 2}
    labels.renew(0, (("rack", "r1"), ("ssd", "x"), ("ssd", "x")), (("rack", "r2"),))
    assert labels.counts(("rack", "r1")) == {3: 1}
    assert labels.counts(("ssd", "x")) == {}


def test_pods_are_counted_by_host_once_somebody_asks() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [0, 0, 2], [0, 1, 2])
    labels.add(B, WEB, [5], [0])
    assert labels.counts(WEB[0]) == {}
    assert labels.uncounted(WEB) == (WEB[0], A, 0)
    labels.count(WEB[0], A, [0, 0, 2])
    assert labels.uncounted(WEB) == (WEB[0], B, 0)
    labels.add(B, WEB, [6], [1])  # not counted yet: it will be among those that are
    labels.add(A, WEB, [6], [3])
    labels.count(WEB[0], B, [5, 6])
    assert labels.uncounted(WEB) is None
    assert labels.counts(WEB[0]) == {0: 2, 2: 1, 5: 1, 6: 2}


def test_a_label_that_nobody_carries_any_more_is_forgotten() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1], [0])
    assert labels.uncounted(WEB) is not None
    labels.count(WEB[0], A, [1])
    labels.remove(A, WEB, 1, 0)
    assert (labels.carriers, labels.counted(), labels.raised(WEB)) == ({}, {}, 0)
    assert labels.uncounted(WEB) is None


def test_a_job_that_goes_before_its_pods_are_counted_is_not_waited_for() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1], [0])
    labels.add(B, WEB, [2], [0])
    assert labels.uncounted(WEB) == (WEB[0], A, 0)
    labels.remove(A, WEB, 1, 0)
    assert labels.uncounted(WEB) == (WEB[0], B, 0)
    labels.count(WEB[0], B, [2])
    assert labels.counted() == {WEB[0]: {2: 1}}


def test_a_job_is_counted_bit_by_bit_while_its_pods_come_and_go() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1, 2, 3], [0, 1, 2])
    assert labels.uncounted(WEB) == (WEB[0], A, 0)
    labels.count(WEB[0], A, [1, 2], 2)
    labels.remove(A, WEB, 2, 1)
    labels.remove(A, WEB, 3, 2)
    labels.add(A, WEB, [5, 6], [1, 7])
    assert labels.uncounted(WEB) == (WEB[0], A, 2)
    labels.count(WEB[0], A, [6])
    assert labels.counted() == {WEB[0]: {1: 1, 5: 1, 6: 1}}


def test_counts_of_many_hosts_are_kept_as_a_column_and_read_alike() -> None:
    labels, hosts = PodLabels(), 300
    labels.add(A, WEB, range(hosts), range(hosts))
    labels.uncounted(WEB)
    labels.count(WEB[0], A, range(hosts))
    labels.add(A, WEB, [7, 7, hosts + 900], [0, 0, 0])
    labels.remove(A, WEB, 9, 9)
    expected = Counter({**dict.fromkeys(range(hosts), 1), 7: 3, hosts + 900: 1})
    del expected[9]
    assert labels.counts(WEB[0]) == expected
    for where in (slice(5, 12), slice(0, 2000), np.array([9, 7, 1999])):
        found = labels.on(WEB[0], where, 2000).tolist()
        assert found == [expected[row] for row in rows_in(where)]


def test_more_of_a_label_is_noticed_and_less_is_not() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1], [0])
    labels.uncounted(WEB)
    labels.count(WEB[0], A, [1])
    before = labels.raised(WEB)
    labels.add(A, (("other", "x"),), [1], [1])
    assert labels.raised(WEB) == before
    labels.add(B, WEB, [2], [0])
    raised = labels.raised(WEB)
    assert raised > before
    labels.remove(B, WEB, 2, 0)
    assert labels.raised(WEB) == raised


moves = st.lists(
    st.tuples(st.sampled_from([A, B]), label_lists, st.integers(0, 3), st.booleans(), st.integers(0, 4)),
    max_size=30,
)


@given(moves)
@settings(deadline=None)
def test_counts_are_those_of_the_pods_that_are_there(
    moves: list[tuple[JobId, Labels, int, bool, int]],
) -> None:
    labels = PodLabels()
    there: list[tuple[JobId, Labels, int, int]] = []
    for instance, (job, own, row, asks, most) in enumerate(moves):
        alike = next((pod for pod in there if pod[:3] == (job, own, row)), None)
        if alike is not None and not asks:
            there.remove(alike)
            labels.remove(*alike)
        else:
            there.append((job, own, row, instance))
            labels.add(job, own, [row], [instance])
        if asks and (found := labels.uncounted(own)) is not None:
            label, counted, first = found
            end = first + most
            rows = [
                at
                for by, its, at, number in there
                if by == counted and first <= number < end
                for _ in range(its.count(label))
            ]
            labels.count(label, counted, rows, end if end <= instance else None)
    for label, counts in labels.counted().items():
        assert counts == Counter(at for _, its, at, _ in there for _ in range(its.count(label)))
    assert sum(map(sum, (by.values() for by in labels.carriers.values()))) == sum(
        len(its) for _, its, _, _ in there
    )
