"""What happened in a workflow is read back as it was written, latest first."""

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
        found = workflow_log.events_by_instance(a_log(), limit)
        assert found == {instance: workflow_log.events_of(a_log(), instance, limit) for instance in range(4)}


def test_an_empty_log_tells_nothing() -> None:
    assert workflow_log.own_events(b"") == []
    assert workflow_log.events_by_instance(b"") == {}
