"""A queue by priority, against the obvious way to do it."""

from hypothesis import given
from hypothesis import strategies as st

from derny.model.fifo import PriorityFifo


def test_higher_priorities_come_first_and_inside_one_whoever_came_first() -> None:
    queue: PriorityFifo[str] = PriorityFifo()
    for priority, item in ((0, "a"), (1, "b"), (2, "c"), (2, "d")):
        queue.add(priority, item)
    assert list(queue) == ["c", "d", "b", "a"]
    priority, line = queue.front()
    assert (priority, list(line)) == (2, ["c", "d"])


def test_an_item_is_found_though_its_priority_was_changed() -> None:
    queue: PriorityFifo[str] = PriorityFifo()
    queue.add(3, "a")
    queue.add(5, "b")
    queue.remove(5, "a")
    assert (list(queue), queue.front()[0]) == (["b"], 5)


@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 9))))
def test_any_comings_and_goings_leave_what_sorting_would(moves: list[tuple[int, int]]) -> None:
    """An item that waits goes, one that does not comes."""
    queue: PriorityFifo[int] = PriorityFifo()
    waiting: dict[int, int] = {}
    for priority, item in moves:
        if item in waiting:
            queue.remove(waiting.pop(item), item)
        else:
            waiting[item] = priority
            queue.add(priority, item)
        expected = sorted(waiting, key=lambda item: -waiting[item])
        assert (list(queue), len(queue), bool(queue)) == (expected, len(waiting), bool(waiting))
        if waiting:
            highest, line = queue.front()
            assert list(line) == [item for item in expected if waiting[item] == highest]
