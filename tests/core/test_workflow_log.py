"""What happened in a workflow is read back as it was written, latest first."""

from hypothesis import given
from hypothesis import strategies as st

from derny.core import workflow_log
from derny.core.instances import packed
from derny.model.states import WorkflowState as W


def a_log() -> bytes:
    """The upstream case of 8.10: two batches of two, then the way back of the second."""
    log = bytearray()
    workflow_log.append(log, 1.0, W.INITIALIZED)
    workflow_log.append(log, 2.0, W.ROLLING_FORWARD)
    workflow_log.append(log, 3.0, W.ROLLING_FORWARD, packed([0, 1]))
    workflow_log.append(log, 4.0, W.ROLLING_FORWARD, packed([0, 1]))
    workflow_log.append(log, 5.0, W.SUCCEEDED, packed([0, 1]))
    workflow_log.append(log, 5.0, W.ROLLING_FORWARD, packed([2, 3]))
    workflow_log.append(log, 6.0, W.ROLLING_BACKWARD)
    workflow_log.append(log, 6.0, W.ROLLING_BACKWARD, packed([2, 3]))
    return bytes(log)


def test_the_workflow_has_its_own_events() -> None:
    assert workflow_log.own_events(a_log()) == [
        (6.0, W.ROLLING_BACKWARD),
        (2.0, W.ROLLING_FORWARD),
        (1.0, W.INITIALIZED),
    ]


def test_repetitions_of_an_instance_are_left_out_but_for_the_latest() -> None:
    assert workflow_log.events_of(a_log(), 1) == [(5.0, W.SUCCEEDED), (4.0, W.ROLLING_FORWARD)]
    assert workflow_log.events_of(a_log(), 3) == [(6.0, W.ROLLING_BACKWARD), (5.0, W.ROLLING_FORWARD)]
    assert workflow_log.events_of(a_log(), 4) == []


def test_the_limit_counts_entries_before_repetitions_are_left_out() -> None:
    assert workflow_log.events_of(a_log(), 1, 2) == [(5.0, W.SUCCEEDED), (4.0, W.ROLLING_FORWARD)]
    assert workflow_log.events_of(a_log(), 1, 1) == [(5.0, W.SUCCEEDED)]


def test_all_instances_at_once_tell_the_same() -> None:
    for limit in (0, 1, 2):
        assert list(workflow_log.events_by_range(a_log(), limit)) == [
            ((0, 1), workflow_log.events_of(a_log(), 0, limit)),
            ((2, 3), workflow_log.events_of(a_log(), 2, limit)),
        ]


@given(st.lists(st.sets(st.integers(0, 12)), max_size=6), st.integers(0, 3))
def test_ranges_of_alike_instances_are_what_each_of_them_is_told(sets: list[set[int]], limit: int) -> None:
    log = bytearray()
    for number, some in enumerate(sets):
        workflow_log.append(log, float(number), W.ROLLING_FORWARD, packed(sorted(some)))
    found = {
        instance: moments
        for (first, last), moments in workflow_log.events_by_range(bytes(log), limit)
        for instance in range(first, last + 1)
    }
    assert list(found) == sorted(set().union(*sets))
    assert all(found[i] == workflow_log.events_of(bytes(log), i, limit) for i in found)


def test_an_empty_log_tells_nothing() -> None:
    assert workflow_log.own_events(b"") == []
    assert list(workflow_log.events_by_range(b"")) == []
