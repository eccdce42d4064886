"""Who is interested in a change: the filters' meaning, and an index that finds exactly those."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from builders import JOB, a_job_view, a_pod_view, job_id
from derny.answers.queries import PodView
from derny.model.specs import Labels
from derny.runtime.commits import Change
from derny.runtime.interest import Index, JobFilter, PodFilter, keys_of_job, keys_of_pod

RED, BLUE, BIG = ("color", "red"), ("color", "blue"), ("size", "big")

PODS = [
    a_pod_view(instance, job=job_id(job), labels=labels)
    for job in (1, 2)
    for instance in (0, 1)
    for labels in ((), (RED,), (BIG, RED), (RED, RED))
]

labels = st.sampled_from([(), (RED,), (BLUE,), (RED, BIG), (BIG, RED)])
pod_filters = st.builds(
    PodFilter,
    st.sampled_from([None, job_id(1), job_id(2), job_id(3)]),
    st.frozensets(st.tuples(st.sampled_from([job_id(1), job_id(2)]), st.integers(0, 2)), max_size=3),
    labels,
)


@given(st.lists(pod_filters, max_size=8), st.integers(0, 7))
@settings(deadline=None)
def test_the_index_finds_those_whose_filters_match_and_nobody_else(
    wanted: list[PodFilter], gone: int
) -> None:
    index: Index[PodView, int] = Index(keys_of_pod)
    for reader, its in enumerate(wanted):
        index.add(reader, its)
    if gone < len(wanted):
        index.remove(gone, wanted[gone])
    changes = [Change(view, 0.0) for view in PODS]
    selecting = index.select(changes)
    with pytest.raises(StopIteration) as selected:
        selecting.send(None)
    assert {reader: [id(change) for change in found] for reader, found in selected.value.value.items()} == {
        reader: matching
        for reader, its in enumerate(wanted)
        if reader != gone and (matching := [id(change) for change in changes if its.matches(change.view)])
    }


def test_a_change_meets_only_those_who_look_for_something_that_it_has() -> None:
    """Others' filters are not even asked."""
    index: Index[PodView, int] = Index(keys_of_pod)
    for instance in range(1000):
        index.add(instance, PodFilter(pods=frozenset({(JOB, instance)})))
        index.add(1000 + instance, PodFilter(job_id(1 + instance)))
        index.add(2000 + instance, PodFilter(labels=(("number", str(instance)),)))
    view = a_pod_view(7, job=JOB, labels=(("number", "5"),))
    assert {reader for reader, _ in index.candidates(view)} == {7, 1000, 2005}


@pytest.mark.parametrize(
    "wanted",
    [JobFilter(), JobFilter(frozenset({JOB})), JobFilter(labels=(RED,)), JobFilter(labels=(RED, BIG))],
)
def test_a_reader_that_leaves_leaves_nothing_behind(wanted: JobFilter) -> None:
    index = Index(keys_of_job)
    index.add("reader", wanted)
    index.remove("reader", wanted)
    assert index.is_empty


@pytest.mark.parametrize(
    ("wanted", "has", "matches"),
    [
        ((), (), True),
        ((RED,), (RED,), True),
        ((RED,), (BLUE,), False),
        ((RED, BIG), (RED,), False),
        ((RED,), (BIG, RED), True),
    ],
)
def test_all_labels_must_be_there_by_key_and_value(wanted: Labels, has: Labels, matches: bool) -> None:
    assert JobFilter(labels=wanted).matches(a_job_view(labels=has)) is matches
    assert PodFilter(labels=wanted).matches(a_pod_view(labels=has)) is matches
