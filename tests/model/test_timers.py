"""The timing wheel against a sorted list."""

from itertools import pairwise

import hypothesis.strategies as st
from hypothesis import given

from derny.model.timers import SLOTS_PER_S, TimingWheel

times = st.one_of(
    st.floats(0, 100, allow_nan=False),
    st.floats(1.6e9, 1.6e9 + 100, allow_nan=False),
    st.integers(0, 1000).map(lambda hundredths: hundredths / 100),
)


@given(st.lists(times), st.lists(times))
def test_hands_back_what_a_sorted_list_would(dues: list[float], polls: list[float]) -> None:
    """Every item comes once, never early, at most a slot late, in order of slot and then of insertion."""
    wheel: TimingWheel[tuple[float, int]] = TimingWheel()
    waiting = [(due, number) for number, due in enumerate(dues)]
    for item in waiting:
        wheel.add(item[0], item)
    for now in [*sorted(polls), 1e12]:
        taken = wheel.due(now)
        assert all(due <= now for due, _ in taken)
        waiting = [item for item in waiting if item not in taken]
        # A microsecond of slack: at today's epoch a double is exact to a quarter of a microsecond.
        assert all(due + 1 / SLOTS_PER_S >= now - 1e-6 for due, _ in waiting)
        for (due, number), (after, later) in pairwise(taken):
            assert due <= after + 1 / SLOTS_PER_S
            assert due <= after or number < later
    assert waiting == []


@given(st.lists(times, min_size=1))
def test_next_due_is_the_first_moment_with_something_due(dues: list[float]) -> None:
    wheel: TimingWheel[float] = TimingWheel()
    for due in dues:
        wheel.add(due, due)
    seen = 0
    while (now := wheel.next_due) is not None:
        assert wheel.due(now - 1e-3) == []
        taken = wheel.due(now)
        assert taken
        seen += len(taken)
    assert seen == len(dues)


def test_an_empty_wheel_has_nothing_due() -> None:
    wheel: TimingWheel[str] = TimingWheel()
    assert wheel.next_due is None
    assert wheel.due(1e12) == []


def test_items_of_one_slot_come_in_order_of_insertion() -> None:
    wheel: TimingWheel[str] = TimingWheel()
    wheel.add(1.009, "first")
    wheel.add(1.001, "second")
    assert wheel.due(1.009) == []
    assert wheel.due(1.01) == ["first", "second"]


def test_an_item_in_the_past_is_due_at_once() -> None:
    wheel: TimingWheel[str] = TimingWheel()
    wheel.add(5.0, "later")
    assert wheel.due(3.0) == []
    wheel.add(1.0, "late")
    assert wheel.next_due == 1.0
    assert wheel.due(3.0) == ["late"]


def test_all_waiting_items_can_be_listed() -> None:
    wheel: TimingWheel[str] = TimingWheel()
    for due, item in ((2.0, "b"), (1.0, "a"), (2.0, "c")):
        wheel.add(due, item)
    wheel.due(1.5)
    assert sorted(wheel) == ["b", "c"]
