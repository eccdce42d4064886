"""Packed sets of instances against plain ones."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from derny.core import instances

numbers = st.sets(st.integers(0, 60))
asked = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair))))


@given(numbers)
def test_a_packed_set_is_the_set(some: set[int]) -> None:
    data = instances.packed(sorted(some))
    found = [instance for first, last in instances.ranges(data) for instance in range(first, last + 1)]
    assert found == sorted(some)
    assert instances.size(data) == len(some)
    assert all(instances.contains(data, instance) is (instance in some) for instance in range(62))


@given(numbers, st.integers(0, 60))
def test_two_sets_are_joined_by_their_bytes(some: set[int], where: int) -> None:
    low, high = sorted(i for i in some if i < where), sorted(i for i in some if i >= where)
    joined = instances.packed(low) + instances.packed(high)
    assert instances.ranges(joined) == instances.ranges(instances.packed(sorted(some)))


def test_ranges_have_both_ends_and_are_as_few_as_can_be() -> None:
    assert instances.ranges(instances.packed([0, 1, 2, 4, 6, 7])) == [(0, 2), (4, 4), (6, 7)]
    assert len(instances.packed(range(100_000))) == 8


@pytest.mark.parametrize(("first", "end", "found"), [(0, 3, [(0, 2)]), (2, 3, [(2, 2)]), (3, 3, [])])
def test_a_span_leaves_out_its_end(first: int, end: int, found: list[instances.Range]) -> None:
    assert instances.ranges(instances.span(first, end)) == found


@given(asked)
def test_merged_ranges_ask_for_the_same(ranges: list[instances.Range]) -> None:
    wanted = {instance for first, end in ranges for instance in range(first, end)}
    merged = instances.merged(ranges)
    assert {instance for first, end in merged for instance in range(first, end)} == wanted
    assert all(before[1] < after[0] for before, after in pairwise(merged))


@given(asked, st.integers(0, 20), st.integers(0, 20))
def test_what_is_within_a_slice(ranges: list[instances.Range], first: int, end: int) -> None:
    wanted = {instance for low, high in ranges for instance in range(low, high) if first <= instance < end}
    assert instances.within(instances.merged(ranges), first, end) == sorted(wanted)
