"""Labels are counted by host, and only those that somebody speaks of."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from derny.model.ids import JobId
from derny.model.specs import Labels
from derny.placement.labels import HostLabels, PodLabels
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
    labels.add(A, WEB, [0, 0, 2])
    labels.add(B, WEB, [5])
    assert labels.counts(WEB[0]) == {}
    assert labels.uncounted(WEB) == (WEB[0], A)
    labels.count(WEB[0], A, [0, 0, 2])
    assert labels.uncounted(WEB) == (WEB[0], B)
    labels.add(B, WEB, [6])  # not counted yet: it will be among those that are
    labels.add(A, WEB, [6])
    labels.count(WEB[0], B, [5, 6])
    assert labels.uncounted(WEB) is None
    assert labels.counts(WEB[0]) == {0: 2, 2: 1, 5: 1, 6: 2}


def test_a_label_that_nobody_carries_any_more_is_forgotten() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1])
    assert labels.uncounted(WEB) is not None
    labels.count(WEB[0], A, [1])
    labels.remove(A, WEB, 1)
    assert (labels.carriers, labels.counted(), labels.raised(WEB)) == ({}, {}, 0)
    assert labels.uncounted(WEB) is None


def test_more_of_a_label_is_noticed_and_less_is_not() -> None:
    labels = PodLabels()
    labels.add(A, WEB, [1])
    labels.uncounted(WEB)
    labels.count(WEB[0], A, [1])
    before = labels.raised(WEB)
    labels.add(A, (("other", "x"),), [1])
    assert labels.raised(WEB) == before
    labels.add(B, WEB, [2])
    raised = labels.raised(WEB)
    assert raised > before
    labels.remove(B, WEB, 2)
    assert labels.raised(WEB) == raised


moves = st.lists(
    st.tuples(st.sampled_from([A, B]), label_lists, st.integers(0, 3), st.booleans()), max_size=30
)


@given(moves)
@settings(deadline=None)
def test_counts_are_those_of_the_pods_that_are_there(moves: list[tuple[JobId, Labels, int, bool]]) -> None:
    labels, there = PodLabels(), []
    for job, own, row, asks in moves:
        if (job, own, row) in there and not asks:
            there.remove((job, own, row))
            labels.remove(job, own, row)
        else:
            there.append((job, own, row))
            labels.add(job, own, [row])
        if asks:
            found = labels.uncounted(own)
            if found is not None:
                label, counted = found
                rows = [at for by, its, at in there if by == counted for _ in range(its.count(label))]
                labels.count(label, counted, rows)
    for label, counts in labels.counted().items():
        assert counts == Counter(at for _, its, at in there for _ in range(its.count(label)))
    assert sum(map(sum, (by.values() for by in labels.carriers.values()))) == sum(
        len(its) for _, its, _ in there
    )
